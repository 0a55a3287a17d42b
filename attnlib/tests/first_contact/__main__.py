"""``python -m attnlib.tests.first_contact``: the steps in processes of their own, then a page of what they found."""

import argparse
import contextlib
import faulthandler
import json
import platform
import re
import sys
import time
import traceback
from pathlib import Path

import pytest
import torch

from attnlib.tests.first_contact import STARTED, process
from attnlib.tests.first_contact.card import Card
from attnlib.tests.first_contact.fake import FakeCard
from attnlib.tests.first_contact.findings import REFUTED, Findings, counts, page, read
from attnlib.tests.first_contact.steps import STEPS

USAGE_ERROR = 4
LEAST = 10.0  # seconds: with less left a step would only be killed
TELLING = 0.85  # of a step's time, after which it says where it is
# the first saved run of a card: 21 cases, less than three minutes by the estimate of attnlib.tests.gpu_preset
GRID = {"preset": "gpu", "seq_lens": "512,4096", "depths": "2,32", "pe": "none,rotary,t5", "batch_size": "4"}
GRID_TESTS = ("bench/test_forward.py", "bench/test_train_step.py")


class Parser(argparse.ArgumentParser):
    """One that says what is wrong in one line."""

    def error(self, message):
        """Say it and end."""
        self.exit(USAGE_ERROR, f"first_contact: {message}\n")


def minutes(text):
    """Read a positive number of minutes."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"takes a positive number of minutes, not {text!r}")
    return found


def parsed(words):
    """Return the options."""
    parser = Parser(prog="python -m attnlib.tests.first_contact", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("first-contact"), help="folder for everything that it writes")
    parser.add_argument("--minutes", type=minutes, default=4.0, help="for all steps together (4)")
    parser.add_argument("--fake", action="store_true", help="against a card that is not there, to try the steps")
    parser.add_argument("--step", choices=list(STEPS), help="run this step alone, in this process")
    return parser.parse_args(words)


def main(words=None):
    """Run one step, or all of them; return the exit code."""
    options = parsed(words)
    if not options.fake and not torch.cuda.is_available():
        print(f"first_contact: torch {torch.__version__} finds no CUDA device; --fake tries the steps without one")
        return USAGE_ERROR
    out = options.out.resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"first_contact: --out {options.out}: {error.strerror}; name a folder that can be written to")
        return USAGE_ERROR
    if options.step is None:
        return run_all(out, 60 * options.minutes, fake=options.fake)
    with contextlib.ExitStack() as stack:
        faulthandler.enable()
        faulthandler.dump_traceback_later(TELLING * STEPS[options.step].limit)
        card = FakeCard(stack.enter_context(pytest.MonkeyPatch.context())) if options.fake else Card()
        return run_step(options.step, card, out)


def run_step(name, card, out):
    """Run one step in this process and write down what it found; return the exit code."""
    step = STEPS[name]
    try:
        step.run(card, Findings(step.claims, path_of(name, out)))
    except Exception:  # noqa: BLE001 - what it found is written down, and the log says the rest
        traceback.print_exc()
        return 1
    return 0


def path_of(name, out, ending="json"):
    """Return the file of a step."""
    return out / f"{list(STEPS).index(name) + 1:02}-{name}.{ending}"


def command_of(name, out, *, fake):
    """Return the command that runs one step."""
    words = [sys.executable, "-m", "attnlib.tests.first_contact", "--out", str(out), "--step", name]
    return [*words, "--fake"] if fake else words


def run_all(out, seconds, *, fake, command=command_of):
    """Run all steps, write the page and print it; return the exit code.

    Args:
        out: folder.
        seconds: from the start of this process on.
        fake: whether the card is the fake.
        command: makes the command of a step.
    """
    found, until = {}, STARTED + seconds
    for name, step in STEPS.items():
        path, left = path_of(name, out), until - time.monotonic()
        path.unlink(missing_ok=True)
        if left < LEAST:
            ended = f"no time left: {max(left, 0.0):.0f} of {seconds:.0f} s"
        else:
            print(f"{name} ...", flush=True)
            limit = min(step.limit, left)
            ended = process.run_limited(command(name, out, fake=fake), limit, path_of(name, out, "log"))
        found[name] = read(path, step.claims, ended)
        path.write_text(json.dumps(found[name] | {"ended": ended}, indent=1) + "\n")
    text = page(found, about(found, fake=fake), time.monotonic() - STARTED)
    (out / "summary.md").write_text(text)
    print(text)
    print(f"All of it is in {out}. Next, a first saved run, of about three minutes by nominal rates:\n")
    print(" ".join(saved_run(found, out)))
    return 1 if counts(found)[REFUTED] else 0


def about(found, *, fake):
    """Return what was looked at, for the page's heading."""
    card = "a fake card" if fake else name_of(found)
    return f"{card}, torch {torch.__version__}, CUDA {torch.version.cuda}, Python {platform.python_version()}"


def name_of(found):
    """Return the card's name, if the first step came to read it."""
    device = next(iter(found.values()))["readings"].get("device") or {}
    return device.get("name") or "card"


def saved_run(found, out):
    """Return the command of the first saved run, named after the card."""
    name = re.sub(r"[^a-z0-9]+", "-", name_of(found).lower()).strip("-")
    options = [word for key, value in GRID.items() for word in (f"--{key.replace('_', '-')}", value)]
    storage = f"--benchmark-storage=file://{out / 'results'}"
    return ["python", "-m", "pytest", *GRID_TESTS, *options, "--device", "cuda", "--run-name", f"{name}-1", storage]


if __name__ == "__main__":
    sys.exit(main())
