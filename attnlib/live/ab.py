"""The strong comparison: two live workers take turns, so that whatever slows the machine down slows both."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from attnlib.compare.intervals import count_needed
from attnlib.compare.verdicts import Verdict, of_pairs
from attnlib.errors import message
from attnlib.live.process import Worker, WorkerDied, WorkerError
from attnlib.measure import heap
from attnlib.measure.cores import cores_of, default_threads, quiet_cpus, usable_cores
from attnlib.measure.rounds import rounds, turns
from attnlib.measure.sampling import TURN, log_ratio, untimed_steps

FIRST, GROWTH = 6, 1.5  # pairs of workers at the first look at the data, and between one look and the next
ERROR = 0.05  # chance of any false verdict in a suite, over all its cases and looks
# Times that a pair of workers builds a case anew, with the other cases between, so that its memory lies elsewhere.
# Measured on identical code, 10 blocks a build: ratios of a case spread by 0.8 to 1.5 % from build to build within a
# pair of workers, and by 0 to 0.3 % more from pair to pair.
VISITS = 3
BLOCKS, FEWEST = 10, 2  # ABBA blocks of a visit, and the least number of them, for steps that take long
STRETCH = 10  # rounds of a side of which the faster half counts: ratios spread by a tenth less than with 4
SECONDS = 1.5  # of a visit, beyond which there are fewer blocks; of a build, beyond which there is one visit a pair
# A worker that waits must not spin on the other's core for long. Measured on 2 cores, against libgomp's default: steps
# take 0.9 of the time, and the spread of a pair's ratio is a half to a third.
SPIN = {"GOMP_SPINCOUNT": "10000"}
# The load of the machine's cores is read for this time before a pair's workers are put on the least busy ones. Measured
# with one thread each on 2 cores, in turns within a quarter of an hour, ratios spread from build to build by 0.7 to
# 1.0 % with both workers on one core, 1.5 to 3 % wherever the system puts them, 4 to 9 % with each on its own core.
# Later the same day it was 0.9 to 2.8 % on one core.
LISTEN = 0.2
BINDING = {"GOMP_CPU_AFFINITY", "KMP_AFFINITY", "OMP_PLACES"}  # a user's choice of cores
MOST_LOST = 3  # pairs in a row without a result: it will not get better

OF_TESTS = "attnlib.beside.worker"  # the module that serves tests

Fields = Mapping[str, Any]
Say = Callable[[str], None]
SUITE: tuple[Fields, ...] = tuple(
    {"phase": phase, "pe": pe, "seq_len": 256, "depth": 4}
    for phase in ("forward", "train_step")
    for pe in ("none", "rotary")
)


def error_spent(share: float) -> float:
    """Return the chance of a false verdict that all looks at the data may have had by this share of the budget.

    It is ``ERROR`` times the squared share (Kim and DeMets, doi 10.1093/biomet/74.1.149): large changes are found early
    all the same, and the last look, with the most pairs, has the most of it.
    """
    return ERROR * share**2


@dataclass(frozen=True)
class Contender:
    """One side of a comparison: its checkout, its interpreter, and its own fields of every case.

    With ``tests`` the checkout is any repository, whose tests that use ``beside`` are served in place of cases.
    """

    checkout: Path
    python: str
    fields: Fields = field(default_factory=dict)
    threads: int | None = None  # of its own, instead of the match's
    tests: tuple[str, ...] = ()  # as pytest takes them

    def start(self, denormals: str, threads: int | None) -> Worker:
        """Start a fresh worker; the user's own variables on how threads wait are kept.

        Raises:
            ValueError: no checkout or no interpreter there.
        """
        chosen = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys()
        options = ["--denormals", self.fields.get("denormals", denormals)]
        # said to both sides: an older checkout takes every core by itself, and lets its heap give memory back
        options += ["--threads", str(self.threads_of(threads))]
        surroundings = {**({} if chosen else SPIN), **heap.variables(self.fields.get("heap", "kept"))}
        if not self.tests:
            return Worker(self.checkout, *options, python=self.python, environment=surroundings)
        # its own code, and not what is installed of another checkout
        places = [str(self.checkout / "src"), str(self.checkout), os.environ.get("PYTHONPATH", "")]
        surroundings["PYTHONPATH"] = os.pathsep.join(place for place in places if place)
        options += ["--", *self.tests]
        return Worker(self.checkout, *options, python=self.python, environment=surroundings, module=OF_TESTS)

    def threads_of(self, threads: int | None) -> int:
        """Return the threads of a worker: the side's own, else ``threads``, else the number that leaves a core free."""
        most = int(os.environ.get("OMP_NUM_THREADS") or usable_cores())
        return self.threads or threads or default_threads(most)


def suite_of(sides: Sequence[Contender], denormals: str = "flush", threads: int | None = None) -> list[Fields]:
    """Return the suite of the tests that use ``beside`` on both sides, in the order of the new side.

    Raises:
        ValueError: a side cannot be asked, **or** the two have no test in common; the message says why.
    """
    found = []
    for name, side in zip(("base", "new"), sides, strict=True):
        try:
            with side.start(denormals, threads) as worker:
                found.append(list(worker.ask(list=True)["tests"]))
        except (WorkerDied, WorkerError) as error:
            raise ValueError(message(f"{name}: {error}")) from None
    base, new = found
    if not (shared := [test for test in new if test in set(base)]):
        wrong = f"no test in common: base has {', '.join(base[:3])}, new has {', '.join(new[:3])}"
        raise ValueError(message(wrong))
    return [{"test": test} for test in shared]


@dataclass
class Contest:
    """One case on both sides: log ratios new / base, one a pair of workers, and what may be said about them so far."""

    case: Fields
    logs: list[float] = field(default_factory=list)
    visits: list[float] = field(default_factory=list)  # log ratios of the present pair, one a build
    verdict: Verdict = field(default_factory=lambda: Verdict("undecided", None, reason="no pair of workers yet"))
    failed: bool = False
    deaths: int = 0  # of workers in it, one after another
    once: bool = False  # True if its build takes too long for more than one visit a pair

    @property
    def open(self) -> bool:
        """Return True if more pairs could decide it."""
        return not self.failed and self.verdict.word == "undecided"

    @property
    def label(self) -> str:
        """The case in words."""
        return " ".join(str(value) if key == "test" else f"{key}={value}" for key, value in self.case.items())


@dataclass
class Match:
    """Contests of a suite between two sides.

    Args:
        sides: base and new.
        suite: cases, as fields of ``attnlib.cases.case.Case``; fields left out are each checkout's own defaults.
        threshold: the smallest change of time that matters.
        denormals: ``flush`` or ``keep``, of every worker.
        threads: of every worker.
        say: receives messages on the progress.
    """

    sides: tuple[Contender, Contender]
    suite: Sequence[Fields]
    threshold: float
    denormals: str = "flush"
    threads: int | None = None
    say: Say = print
    contests: list[Contest] = field(init=False)
    dropped: list[str] = field(default_factory=list)  # why, for each pair that was lost
    lost: int = 0  # of them in a row
    pairs: int = 0
    looks: int = 0
    share: float = 0.0  # of the budget that was spent at the last look
    budget: float = 0.0  # seconds that the pairs may take

    def __post_init__(self) -> None:
        self.contests = [Contest(case) for case in self.suite]

    def play(self, budget: float) -> None:
        """Add pairs of workers until every case is decided or another would not fit in ``budget`` seconds.

        The first pair is always played. Three lost pairs in a row end it.
        """
        started, longest, self.lost, self.budget = time.monotonic(), 0.0, 0, budget
        look_at, looked_at = FIRST, 0
        while any(contest.open for contest in self.contests) and self.lost < MOST_LOST:
            begun = time.monotonic()
            if longest and begun - started + longest > budget:
                break
            try:
                self.pair()
                self.lost = 0
            except WorkerDied as error:
                self.lost += 1
                self.dropped.append(str(error))
                self.say(f"a pair was dropped: {error}")
                continue
            took = time.monotonic() - begun
            longest = max(longest, took)
            if self.pairs == look_at:
                self.look((time.monotonic() - started) / budget)
                look_at, looked_at = math.ceil(GROWTH * look_at), self.pairs
            undecided = sum(contest.open for contest in self.contests)
            self.say(f"pair {self.pairs}: {took:.0f} s, {undecided} of {len(self.contests)} undecided")
        if self.pairs != looked_at or not self.pairs:
            self.look(1.0)

    def pair(self) -> None:
        """Start a worker a side and let them take turns on every open case; where a case kills one, it alone is lost.

        Raises:
            WorkerDied: nothing came of it.
        """
        left = [contest for _ in range(VISITS) for contest in self.contests if contest.open]
        died = None
        while left:
            try:
                with ExitStack() as stack:
                    workers = [stack.enter_context(side.start(self.denormals, self.threads)) for side in self.sides]
                    self.put_on_same_cores(workers)
                    while left:
                        self.visit(left[0], workers)
                        left.pop(0)
            except WorkerDied as error:
                died, lost = error, left[0]
                left = [contest for contest in left if contest is not lost]
        played = [contest for contest in self.contests if contest.visits]
        if not played and died is not None:
            raise died
        for contest in played:
            # of three visits the middle one: other work that met one side of a visit alone does not count
            contest.logs.append(median(contest.visits))
            contest.visits, contest.deaths = [], 0
        self.pairs += 1

    def put_on_same_cores(self, workers: Sequence[Worker]) -> None:
        """Put all workers on the same cores, those that others use least, unless they need all of them.

        They never run at the same time, and ratios of times on the same core spread less, see ``LISTEN``.
        """
        cases = [{**case, **side.fields} for case in self.suite for side in self.sides]
        elsewhere = any(not str(case.get("device", "cpu")).startswith("cpu") for case in cases)
        if elsewhere or BINDING & os.environ.keys() or not hasattr(os, "sched_setaffinity"):
            return
        cores = cores_of(os.sched_getaffinity(0))
        threads = max(side.threads_of(self.threads) for side in self.sides)
        if threads >= len(cores):
            return
        for worker in workers:
            with contextlib.suppress(WorkerError):  # it has no case yet; its answer says that it has started
                worker.ask()
        cpus = quiet_cpus(threads, cores, psutil.cpu_percent(LISTEN, percpu=True))
        for worker in workers:
            worker.pin(cpus)

    def visit(self, contest: Contest, workers: Sequence[Worker]) -> None:
        """Let workers take turns on one case, unless it failed or has been visited often enough in this pair.

        Raises:
            WorkerDied: one of them is gone; after ``MOST_LOST`` of them the case is given up.
        """
        if contest.failed or (contest.once and contest.visits):
            return
        try:
            contest.visits.append(self.turns(contest, workers))
        except WorkerError as error:
            contest.failed, contest.visits = True, []
            contest.verdict = Verdict("undecided", None, reason=str(error))
        except WorkerDied as error:
            contest.deaths += 1
            contest.visits = []
            self.say(f"a worker was lost in {contest.label}: {error}")
            if contest.deaths == MOST_LOST and len(self.contests) > 1:
                contest.failed = True
                contest.verdict = Verdict("undecided", None, reason=f"it killed {MOST_LOST} workers: {error}")
            raise

    def turns(self, contest: Contest, workers: Sequence[Worker]) -> float:
        """Return the log ratio of one case, new over base, see ``attnlib.measure.sampling.log_ratio``.

        Raises:
            WorkerError: a side cannot run it; the message names the side.
        """

        def ask(which: int, **request: Any) -> dict[str, Any]:
            try:
                return workers[which].ask(**request)
            except WorkerError as error:
                raise WorkerError(message(f"{('base', 'new')[which]}: {error}")) from None

        begun, case = time.monotonic(), contest.case
        built = [ask(i, build={"denormals": self.denormals, **case, **self.sides[i].fields}) for i in (0, 1)]
        # pytest runs a test once, and compiling takes many seconds
        contest.once = "test" in case or time.monotonic() - begun > SECONDS
        visits = VISITS if contest.once else 1
        for i in (0, 1):
            if "repeatable" not in built[i]:
                wrong = f"{('base', 'new')[i]}: this checkout's worker is too old to take turns"
                raise WorkerError(message(wrong, do="name a newer checkout"))
        once = max(ask(i, step=3)["seconds"][-1] for i in (0, 1))
        repeatable = built[0]["repeatable"] and built[1]["repeatable"]
        iterations = max(1, math.ceil(TURN / once)) if repeatable else 1
        untimed = untimed_steps(once)
        block = once * (4 * iterations + 3 * untimed)  # three of a block's four turns follow a change of side
        blocks = visits * min(BLOCKS, max(FEWEST, math.ceil(SECONDS / block)))

        def turn(which: int, changed: bool) -> float:
            return float(ask(which, step=1, iterations=iterations, untimed=untimed if changed else 0)["seconds"][0])

        base, new = rounds([partial(turn, 0), partial(turn, 1)], turns(blocks, 1))
        return log_ratio(base, new, stretch=STRETCH)

    def look(self, share: float) -> None:
        """Judge every open case, at this share of the budget.

        The cases divide among them what ``error_spent`` allows since the last look.
        """
        self.looks += 1
        share = max(self.share, min(share, 1.0))
        confidence = 1 - (error_spent(share) - error_spent(self.share)) / len(self.contests)
        self.share = share
        for contest in self.contests:
            if contest.open:
                short = None if len(contest.logs) >= FIRST else f"{len(contest.logs)} pairs, {FIRST} are needed"
                contest.verdict = of_pairs(
                    contest.logs,
                    confidence=confidence,
                    threshold=self.threshold,
                    reason=short,
                    trim=contest.once,  # without visits whose middle one could be taken
                )

    def budget_needed(self) -> float | None:
        """Return the seconds that would decide each undecided case, if its mean and spread stay as they are.

        None if there are too few pairs to say, if the intervals are not those of a plain mean (cases that are built
        once a pair), if a case cannot be decided so, if lost pairs ended the match, or if nothing is undecided.
        """
        left = [contest for contest in self.contests if contest.open]
        if not left or self.lost == MOST_LOST or any(contest.once or len(contest.logs) < FIRST for contest in left):
            return None
        # what the last look has to itself, if the one before it came after 1 / GROWTH of the budget
        confidence = 1 - (ERROR - error_spent(1 / GROWTH)) / len(self.contests)
        counts = [count_needed(contest.logs, math.log1p(self.threshold), confidence) for contest in left]
        times = [count / len(contest.logs) for count, contest in zip(counts, left, strict=True) if count]
        return self.budget * max(times) if len(times) == len(left) else None

    def exit_code(self, *, allow_undecided: bool = False) -> int:
        """0 nothing slower, 1 something slower, 2 nothing decided or a case that one side cannot run."""
        words = [contest.verdict.word for contest in self.contests]
        if "slower" in words:
            return 1
        if any(contest.failed for contest in self.contests):
            return 2
        return 0 if allow_undecided or set(words) != {"undecided"} else 2

    def as_json(self) -> dict[str, Any]:
        """Everything, with the log ratio of every pair."""
        return {
            "threshold": self.threshold,
            "pairs": self.pairs,
            "dropped": self.dropped,
            "looks": self.looks,
            "budget_needed": self.budget_needed(),
            "sides": [
                {"checkout": side.checkout.name, "python": Path(side.python).name, "fields": dict(side.fields)}
                for side in self.sides
            ],
            "cases": [
                {"case": dict(c.case), "log_ratios": c.logs, "verdict": asdict(c.verdict)} for c in self.contests
            ],
        }
