"""Live comparisons with fake workers of known speed, and with real ones that do more work."""

import json
import os
import random
from statistics import median
from typing import ClassVar

import pytest

from attnlib.cases.text import fields_of
from attnlib.commands.__main__ import main
from attnlib.live import ab
from attnlib.live.ab import FIRST, Contender, Match
from attnlib.live.process import WorkerDied, WorkerError
from attnlib.measure import heap
from attnlib.measure.cores import default_threads, usable_cores
from attnlib.measure.rounds import abba
from attnlib.show.comparison import contested
from attnlib.tests import ROOT

CASE = {"phase": "forward", "pe": "none"}


class Fake:
    """A worker whose step takes ``base`` seconds times a drift that all share and a spread of its own."""

    log: ClassVar = []
    drift = 1.0

    def __init__(self, step, random_, dies=False, killing=None):
        self.step, self.random, self.dies, self.killing = step, random_, dies, killing

    def ask(self, **request):
        Fake.log.append((self.step, request))
        if self.dies:
            raise WorkerDied("the worker died with exit code -9")
        if "build" in request:
            if request["build"].get("pe") == self.killing:
                self.dies = True
                raise WorkerDied("the worker died with exit code -9")
            if request["build"].get("pe") == "ropee":
                raise WorkerError("the worker failed: unknown pe 'ropee'")
            return {"first_call_s": 1.0, "repeatable": request["build"]["phase"] != "backward"}
        if "step" not in request:
            raise WorkerError("the worker failed: step before build")
        Fake.drift *= 1.003  # the machine gets slower and slower
        rounds = [self.step * Fake.drift * self.random.lognormvariate(0, 0.02) for _ in range(request["step"])]
        return {"seconds": rounds}

    def pin(self, cpus):
        Fake.log.append((self.step, {"cpus": cpus}))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@pytest.fixture(name="match")
def _match(monkeypatch):
    """Make a match in which the new side takes ``ratio`` times as long, and pairs named in ``dying`` lose a worker."""
    monkeypatch.setattr(ab, "BLOCKS", 2)
    monkeypatch.setattr(ab.psutil, "cpu_percent", lambda *_, **__: [0.0] * (os.cpu_count() or 1))

    def make(ratio=1.0, suite=(CASE,), dying=(), seed=0, spread=0.003, threshold=0.02, killing=None):
        numbers, started = random.Random(seed), []

        def start(side, denormals, threads):
            started.append(side)
            pair = (len(started) - 1) // 2
            step = 1e-3 * (1.0 if side.python == "base" else ratio) * numbers.lognormvariate(0, spread)
            return Fake(step, numbers, dies=pair in dying, killing=killing)

        monkeypatch.setattr(Contender, "start", start)
        Fake.log, Fake.drift, said = [], 1.0, []
        return Match((Contender(ROOT, "base"), Contender(ROOT, "new")), suite, threshold, say=said.append), said

    return make


def test_orders_favour_neither_side():
    """Every block has each side twice, and both sides have the same mean place, so that a drift cancels."""
    turns = list(abba(4))
    for order in (turns[i : i + 4] for i in range(0, 16, 4)):
        places = [[i for i, side in enumerate(order) if side == which] for which in (0, 1)]
        assert sum(places[0]) == sum(places[1]) == 3
    assert {turns[0], turns[4]} == {0, 1}


@pytest.mark.parametrize(("ratio", "word", "code"), [(1.1, "slower", 1), (0.9, "faster", 0), (1.0, "same", 0)])
def test_a_change_is_decided(match, ratio, word, code):
    """10 % more, 10 % less and nothing are told apart on a machine that drifts by far more."""
    played, _ = match(ratio)
    played.play(60.0)
    (contest,) = played.contests

    assert contest.verdict.word == word
    assert contest.verdict.ratio == pytest.approx(ratio, rel=0.02)
    assert played.exit_code() == code


@pytest.mark.parametrize("error", [ab.ERROR, 1.0])
def test_equal_sides_are_rarely_called_different(match, monkeypatch, error):
    """Among 150 cases of equal sides, judged without a threshold, 5 % are faster or slower after three looks.

    That is what the shared error makes of it: without it (an error of 1) it would be a third of them or more.
    """
    monkeypatch.setattr(ab, "ERROR", error)
    words = []
    for seed in range(150 if error < 1 else 60):
        played, _ = match(seed=seed, spread=0.02, threshold=1e-9)
        while played.pairs < 13 and played.contests[0].open:
            played.pair()
            if played.pairs in (6, 9, 13):
                played.look(played.pairs / 13)
        words.append(played.contests[0].verdict.word)

    wrong = words.count("slower") + words.count("faster")
    assert wrong <= 7.5 + 2.33 * 7.5**0.5 if error < 1 else wrong > 20


def test_only_the_case_that_kills_a_worker_is_lost(match):
    """The others go on with fresh workers; after three deaths the case is given up."""
    played, _ = match(1.2, suite=(CASE, CASE | {"pe": "killer"}, CASE | {"pe": "rotary"}), killing="killer")
    played.play(60.0)
    first, killer, last = played.contests

    assert (first.verdict.word, last.verdict.word) == ("slower", "slower")
    assert killer.verdict.reason == "it killed 3 workers: the worker died with exit code -9"
    assert not killer.logs
    assert played.exit_code() == 1


def test_looks_share_the_error(match, monkeypatch):
    """By the squared share of the budget, divided by the cases: 0.05 in all, and most of it at the last look."""
    played, _ = match(suite=(CASE, CASE | {"pe": "rotary"}), spread=0.2)
    asked = []
    real = ab.of_pairs
    monkeypatch.setattr(
        ab, "of_pairs", lambda *a, confidence, **k: asked.append(confidence) or real(*a, confidence=confidence, **k)
    )
    for _ in range(FIRST):
        played.pair()
    for share in (0.2, 0.5, 1.5):  # the last pair took longer than the budget had left
        played.look(share)
    errors = [0.05 * 0.04, 0.05 * (0.25 - 0.04), 0.05 * (1 - 0.25)]

    assert asked == [pytest.approx(1 - error / 2) for error in errors for _ in range(2)]
    assert sum(errors) == pytest.approx(0.05)


def builds():
    """Return the encodings that the base's workers built, in order."""
    return [request["build"]["pe"] for _, request in Fake.log if "build" in request][::2]


def test_a_pair_builds_each_case_several_times(match):
    """With the others between, so that its memory lies elsewhere; the pair's log ratio is the middle of the visits'."""
    played, _ = match(1.1, suite=(CASE, CASE | {"pe": "rotary"}))
    real, measured = Match.turns, []

    def turns(self, contest, workers):
        measured.append(real(self, contest, workers))
        return measured[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Match, "turns", turns)
        played.pair()

    assert [contest.logs for contest in played.contests] == [[median(measured[n::2])] for n in (0, 1)]
    assert builds() == ["none", "rotary"] * ab.VISITS
    assert [len(contest.logs) for contest in played.contests] == [1, 1]


def test_a_long_build_is_made_once_a_pair(match, monkeypatch):
    """Compiling takes many seconds; the case has all of its blocks in one visit then."""
    played, _ = match()
    played.pair()
    several = sum("iterations" in request for _, request in Fake.log)
    monkeypatch.setattr(ab, "SECONDS", 0.0)
    again, _ = match()
    again.pair()

    assert builds() == ["none"]
    # a block has four turns, and a visit without time the least number of blocks
    assert several == 4 * ab.VISITS * ab.BLOCKS
    assert sum("iterations" in request for _, request in Fake.log) == 4 * ab.VISITS * ab.FEWEST


def test_a_death_costs_the_case_its_pair(match, monkeypatch):
    """A case that dies in its second visit has no ratio of this pair, the others have theirs."""
    played, _ = match(suite=(CASE, CASE | {"pe": "rotary"}))
    real, asked = Fake.ask, []

    def ask(self, **request):
        if request.get("build", {}).get("pe") == "rotary":
            asked.append(request)
            if len(asked) == 3:  # both sides' first visit, and the base's second one
                raise WorkerDied("the worker died with exit code -9")
        return real(self, **request)

    monkeypatch.setattr(Fake, "ask", ask)
    played.pair()

    assert [len(contest.logs) for contest in played.contests] == [1, 0]
    assert len(asked) == 3


def pinned():
    """Return the CPUs of every worker that was put on some."""
    return [request["cpus"] for _, request in Fake.log if "cpus" in request]


@pytest.mark.skipif(usable_cores() < 2, reason="one core")
def test_both_sides_run_on_the_same_core(match, monkeypatch):
    """On the one that others use least, and on one that the process may use."""
    monkeypatch.delenv("GOMP_CPU_AFFINITY", raising=False)
    first, second, *_ = sorted(os.sched_getaffinity(0))
    for busy, quiet in ((first, second), (second, first)):
        loads = [100.0 if cpu not in (first, second) or cpu == busy else 1.0 for cpu in range(os.cpu_count())]
        monkeypatch.setattr(ab.psutil, "cpu_percent", lambda *_, _loads=loads, **__: _loads)
        played, _ = match()
        played.pair()
        assert pinned() == [{quiet}, {quiet}]


@pytest.mark.parametrize(
    ("suite", "threads", "variables"),
    [
        ([CASE | {"device": "cuda"}], 1, {}),
        ([CASE], usable_cores(), {}),
        ([CASE], 1, {"GOMP_CPU_AFFINITY": "0"}),
    ],
    ids=["a card", "all cores", "a user's choice"],
)
def test_cores_are_left_to_the_system(match, monkeypatch, suite, threads, variables):
    """They are if the time is a card's, if every core is needed, and if the user has bound the threads."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    played, _ = match(suite=suite)
    played.threads = threads
    played.pair()

    assert pinned() == []


def test_a_decided_case_is_left_alone(match):
    """Later pairs spend their time on what is open."""
    played, _ = match(1.2, suite=(CASE, CASE | {"pe": "rotary"}))
    played.play(60.0)
    asked = len(Fake.log)
    played.pair()

    assert len(Fake.log) == asked


def test_rounds_are_long_enough_and_warmed(match):
    """Steps of a millisecond are repeated for 6 ms a round, and 4 ms are untimed after the other side's turn."""
    played, _ = match(suite=(CASE, CASE | {"phase": "backward"}))
    played.pair()
    asked = {(r["iterations"], r["untimed"]) for _, r in Fake.log if "iterations" in r}

    assert {untimed for _, untimed in asked if untimed < 4} == {0}  # after a turn of its own
    assert {untimed for _, untimed in asked} - {0}
    assert 1 in {iterations for iterations, _ in asked}
    assert max(iterations for iterations, _ in asked) >= 6


def test_a_dead_worker_costs_its_pair(match):
    """Its pair is dropped with a count and a line, and the match goes on."""
    played, said = match(1.1, dying=(0, 3))
    played.play(60.0)

    assert len(played.dropped) == 2
    assert played.contests[0].verdict.word == "slower"
    assert "a pair was dropped: the worker died with exit code -9" in said


def test_workers_that_always_die_end_the_match(match):
    """Three lost pairs in a row are enough; nothing is decided, exit code 2."""
    played, _ = match(dying=range(100))
    played.play(60.0)

    assert len(played.dropped) == ab.MOST_LOST
    assert played.exit_code() == 2
    assert played.contests[0].verdict.reason == f"0 pairs, {FIRST} are needed"


def test_a_case_that_a_side_cannot_run(match):
    """It is undecided with the side's own words, the other case is decided, and the exit code is 2."""
    played, _ = match(suite=(CASE | {"pe": "ropee"}, CASE))
    played.play(60.0)
    bad, good = played.contests

    assert bad.verdict.reason == "base: the worker failed: unknown pe 'ropee'"
    assert good.verdict.word == "same"
    assert played.exit_code(allow_undecided=True) == 2


def test_an_error_in_a_step_names_its_side(match, monkeypatch):
    """Out of memory in the new side's steps is the case's reason, not the end of the match."""
    played, _ = match()
    real = Fake.ask

    def ask(self, **request):
        if "step" in request and Fake.log[-1][0] != self.step and len(Fake.log) % 2 == 0:
            raise WorkerError("the worker failed: out of memory")
        return real(self, **request)

    monkeypatch.setattr(Fake, "ask", ask)
    played.play(60.0)

    assert played.contests[0].verdict.reason.endswith(": the worker failed: out of memory")
    assert played.contests[0].verdict.reason.split(":")[0] in ("base", "new")
    assert played.exit_code() == 2


def test_an_old_worker_is_refused(match, monkeypatch):
    """A checkout whose worker knows no untimed steps would be measured cold, so it is not measured."""
    played, _ = match()
    monkeypatch.setattr(Fake, "ask", lambda self, **request: {"first_call_s": 1.0})
    played.play(60.0)

    said = "base: this checkout's worker is too old to take turns; name a newer checkout"
    assert played.contests[0].verdict.reason == said


def test_a_side_has_its_own_denormals(monkeypatch):
    """The policy must be set before a worker's first operation, so a side's field becomes its worker's option."""
    started = []
    monkeypatch.setattr(ab, "Worker", lambda checkout, *options, **rest: started.append(options))
    Contender(ROOT, "python", {"denormals": "keep"}).start("flush", 2)
    Contender(ROOT, "python").start("flush", None)

    usual = str(default_threads(usable_cores()))
    assert started == [("--denormals", "keep", "--threads", "2"), ("--denormals", "flush", "--threads", usual)]


def test_both_sides_keep_freed_memory(monkeypatch):
    """By their environment, since an older checkout knows nothing of it; a side that asks for the system's does not."""
    given = []
    monkeypatch.setattr(ab, "Worker", lambda checkout, *options, **rest: given.append(rest["environment"]))
    monkeypatch.setattr(heap, "chosen_outside", lambda *_: None)
    for fields in ({}, {"heap": "kept"}, {"heap": "system"}):
        Contender(ROOT, "python", fields).start("flush", None)

    assert [heap.KEPT.items() <= environment.items() for environment in given] == [True, True, False]


def test_a_spent_budget_is_undecided(match):
    """Without time for six pairs there is no verdict, and it says how many there were."""
    played, _ = match(1.5)
    played.play(0.0)

    assert played.contests[0].verdict.reason == f"1 pairs, {FIRST} are needed"
    assert played.contests[0].verdict.word == "undecided"
    assert played.exit_code() == 2
    assert played.exit_code(allow_undecided=True) == 0


def test_the_budget_that_would_decide_is_said(match):
    """It is more for a smaller threshold; without enough pairs, or with every case decided, there is none."""
    budgets = []
    for threshold in (0.02, 0.01):
        played, _ = match(1.0, spread=0.02, threshold=threshold)
        for _ in range(FIRST):
            assert played.budget_needed() is None
            played.pair()
        played.budget = 60.0
        played.look(1.0)
        assert played.contests[0].verdict.word == "undecided"
        budgets.append(played.budget_needed())
        (line,) = [line for line in contested(played).after if "--budget" in line]
        assert f"--budget {float(f'{budgets[-1]:.2g}'):.0f} would decide" in line
    assert 60 < budgets[0] < budgets[1]

    played.lost = ab.MOST_LOST
    assert played.budget_needed() is None

    decided, _ = match(1.5)
    decided.play(60.0)
    assert decided.budget_needed() is None


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("attention=math", {"attention": "math"}),
        (
            "seq_len=512,pe=rotary,causal=true,dropout=0.1",
            {"seq_len": 512, "pe": "rotary", "causal": True, "dropout": 0.1},
        ),
    ],
)
def test_fields_from_text(text, fields):
    """Numbers and truth values as in JSON, anything else a word."""
    assert fields_of(text) == fields


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["attention=math"], "ab takes no fields, or those of base and of new, not 1"),
        (["attention", "attention=math"], "fields have the form phase=train_step,seq_len=512,pe=rotary, not"),
        (["--base", "/nowhere"], "/nowhere is neither a folder nor a commit of a git repository here"),
        (["--base", str(ROOT), "--new", str(ROOT), "--new-python", "/no/python"], "cannot start /no/python"),
        (["attention=math", "attention=bogus"], "attention"),
        (["attention=math", "attention=sdpa", "--case", "bogus=1"], "bogus"),
        (["--threads", "4096"], "4096 threads, but this process may use"),
        (["--threads", "4096", str(ROOT / "attnlib" / "tests" / "live")], "4096 threads, but this process may use"),
    ],
)
def test_bad_sides_are_one_line(options, message, capsys):
    """Exit code 4, before any worker starts, and the value is named."""
    assert main(["ab", *options]) == 4
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_live_workers_take_turns(monkeypatch, capsys):
    """Two real workers: the written-out attention's step and the fused one's are compared; the JSON has every pair."""
    monkeypatch.setattr(ab, "BLOCKS", 2)
    monkeypatch.setattr(ab, "TURN", 1e-3)
    here = ["--base", str(ROOT), "--new", str(ROOT), "--case", "phase=forward,seq_len=16,depth=1", "--budget", "1"]
    main(["ab", "attention=math", "attention=sdpa", *here, "--json"])
    data = json.loads(capsys.readouterr().out)

    assert data["sides"][0]["fields"] == {"attention": "math"}
    assert len(data["cases"][0]["log_ratios"]) == data["pairs"] >= 1
    assert data["sides"][0]["checkout"] == ROOT.name
