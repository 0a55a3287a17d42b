"""``python -m attnlib.beside.worker TESTS``: tests that use ``beside``, served as ``attnlib.live.worker`` serves cases.

Requests, a JSON line each: ``{"list": true}`` answers ``{"tests": [ids]}``; ``{"build": {"test": id}}`` runs pytest on
to this test and answers once its call is checked; ``{"step": n, "iterations": i, "untimed": u}`` then answers
``{"seconds": [n numbers]}`` of the call, not of its reference. Tests are asked for in their order. What tests print
goes nowhere.
"""

import argparse
import contextlib
import json
import os
from collections.abc import Callable, Generator
from typing import Any, TextIO

import pytest
import torch

import attnlib.beside
from attnlib.beside.measuring import SERVER, Two
from attnlib.live.worker import seconds_of
from attnlib.measure import clock, environment
from attnlib.plugin.record import first_line, is_beside
from attnlib.plugin.stash import RECORD

NO_TEST = "no test here uses beside"


class Server:
    """Answers requests from within a session of pytest, as a plugin of it.

    Args:
        requests: lines of JSON.
        answers: where the answers go.
    """

    def __init__(self, requests: TextIO, answers: TextIO) -> None:
        self.requests, self.answers = requests, answers
        self.tests: list[str] = []  # in order
        self.request: dict[str, Any] | None = None  # that is not answered
        self.over: set[str] = set()  # tests that were passed

    def pytest_addhooks(self, pluginmanager: pytest.PytestPluginManager) -> None:
        """Register the fixture where no entry point does, under the entry point's name, which then leaves it alone."""
        if not pluginmanager.has_plugin("attnlib"):
            pluginmanager.register(attnlib.beside, "attnlib")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Serve nothing but tests that use ``beside``."""
        session.items[:] = [item for item in session.items if is_beside(item)]
        self.tests = [item.nodeid for item in session.items]
        session.config.stash[SERVER] = self.serve

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Run a test once it is asked for; pass it where a later one is."""
        self.over.add(item.nodeid)
        return None if self.wanted() == item.nodeid else True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Answer a test that ended before it measured anything."""
        report = yield
        if report.outcome != "passed" and self.request is not None and test_of(self.request) == item.nodeid:
            text = str(call.excinfo.value) if call.excinfo else "its test ended"
            self.answer({"error": first_line(text or "its test ended")})
        elif report.when == "teardown" and self.request is not None and test_of(self.request) == item.nodeid:
            self.answer({"error": "its test did not call beside"})
        return report

    def wanted(self) -> str | None:
        """Return the next test that is asked for and still to come; None where there are no more requests."""
        while (request := self.next()) is not None:
            test = test_of(request)
            if "list" in request:
                self.answer({"tests": self.tests})
            elif test is None:
                self.answer({"error": "step before build"})
            elif test not in self.tests:
                self.answer({"error": NO_TEST if not self.tests else "there is no such test"})
            elif test in self.over - {self.tests[len(self.over) - 1]}:
                self.answer({"error": "this test is over"})
            else:
                return test
        return None

    def next(self) -> dict[str, Any] | None:
        """Return the request that is not answered, or the next one; None where there are no more."""
        if self.request is None:
            line = self.requests.readline()
            self.request = json.loads(line) if line else None
        return self.request

    def answer(self, reply: dict[str, Any]) -> None:
        """Answer the request."""
        self.request = None
        self.answers.write(json.dumps(reply) + "\n")
        self.answers.flush()

    def serve(self, item: pytest.Item, pair: Two) -> None:
        """Check a test's call and answer for it until another test is asked for; then its test is over.

        Raises:
            AssertionError: see ``attnlib.beside.call.Call.check``.
            pytest.skip.Exception: it is over.
        """
        clock.bind(item.config.stash[RECORD].device)
        first = pair.call.check()
        self.answer({"first_call_s": first, "repeatable": pair.call.prepare is None})
        while (request := self.next()) is not None and "step" in request:
            self.answer({"seconds": seconds_of(pair.call, request)})
        pair.call.restore()
        pytest.skip("it was measured")

    def finish(self) -> None:
        """Answer what is asked when the session is over."""
        self.over.update(self.tests)
        while self.next() is not None:
            listing = self.request is not None and "list" in self.request and self.tests
            self.answer(
                {"tests": self.tests} if listing else {"error": "the tests are over" if self.tests else NO_TEST}
            )


def test_of(request: dict[str, Any]) -> str | None:
    """Return the test that a request asks for, None where it asks for none."""
    test = request.get("build", {}).get("test")
    return None if test is None else str(test)


def pipes() -> tuple[TextIO, TextIO]:
    """Take standard input and output for requests and answers; what tests read and print goes nowhere."""
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return requests, answers


def main(run: Callable[..., Any] = pytest.main) -> None:
    """Set what must precede the first torch operation, then serve from within pytest."""
    parser = argparse.ArgumentParser(prog="python -m attnlib.beside.worker", description=__doc__)
    parser.add_argument("tests", nargs="+", help="as pytest takes them")
    parser.add_argument("--denormals", choices=("flush", "keep"), default="flush")
    parser.add_argument("--threads", type=int, help="by default one fewer than there are cores")
    options = parser.parse_args()
    server = Server(*pipes())
    torch.set_flush_denormal(options.denormals == "flush")
    environment.refuse_changed(options.threads, environment.SET_BY_TESTS)
    environment.set_threads(options.threads)
    with contextlib.suppress(KeyboardInterrupt):  # the one who asks hears it too
        run(["-q", "-p", "no:cacheprovider", "--benchmark-disable", *options.tests], plugins=[server])
        server.finish()


if __name__ == "__main__":
    main()
