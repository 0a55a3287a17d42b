"""Trainings on short sequences: judged on answers alone, the same to the bit in any process; the study as a session."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from attnlib.cases.case import Case, unsupported
from attnlib.cases.settings import Settings, sizes_of
from attnlib.commands.__main__ import main
from attnlib.compare.cells import read_cells
from attnlib.learning.lengths import Score, in_ranges, judged, loss_of, train
from attnlib.learning.trainers import Trainers, trained
from attnlib.learning.training import seeded_model
from attnlib.model.classifier import build_model
from attnlib.model.data import by_length
from attnlib.model.data.tasks import IGNORED, Sequences, Task
from attnlib.model.data.texts import Texts
from attnlib.runs.schema import probe_problems
from attnlib.show.figures import find_figure
from attnlib.tests.plugin.sessions import files, saved, skeleton

SIZES = {"d_model": 16, "n_heads": 2, "depth": 1, "block": "pre_ln", "ffn_mult": 2}
RECIPE = {"phase": "lengths", "batch_size": 16, "steps": 20, "learning_rate": 0.003}
ENCODINGS = ("none", "sinusoidal", "learned", "learned_offset", "rotary", "alibi", "t5", "kerple", "fire")
STUDY = {"tests": ["bench/test_lengths.py"], "small": ["--preset", "smoke", "--budget", "0.02", "--visits", "1"]}


def case_of(data="unique_copy", pe="learned", train_length=3, **fields):
    """A small training, with the fields that follow from its task."""
    case = Case(**SIZES | RECIPE | {"data": data, "pe": pe, "train_length": train_length} | fields)
    return replace(case, **sizes_of(case, data))


def task_of(case):
    return by_length(case.data, case.train_length, case.test_length)


def generator(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


@pytest.fixture(name="one_thread", autouse=True)
def _one_thread():
    """Set one thread, as in processes that train; keep subnormals again afterwards, which a training may flush."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("pe", ENCODINGS)
def test_logits_at_every_position(pe):
    """With pooling ``none`` there are logits of every token, and a later one changes none before it."""
    case = case_of(pe=pe)
    model = seeded_model(case).eval()
    tokens = torch.from_numpy(task_of(case).tested(4).tokens)
    logits = model(tokens)
    changed = tokens.clone()
    changed[:, 6:] = 0

    assert logits.shape == (*tokens.shape, case.n_classes)
    torch.testing.assert_close(model(changed)[:, :6], logits[:, :6])
    assert not torch.allclose(model(changed)[:, 6:], logits[:, 6:])


@pytest.mark.parametrize("pe", ENCODINGS)
def test_padding_behind_an_answer_changes_nothing(pe):
    """Logits and the loss of a sequence are the same in a batch with longer ones."""
    case = case_of(pe=pe)
    model = seeded_model(case).eval()
    both = task_of(case).made(generator(), np.array([2, 5]))
    alone = Sequences(both.tokens[:1, :7], both.targets[:1, :7])
    padded = Sequences(both.tokens[:1], both.targets[:1])

    assert alone.tokens.shape < padded.tokens.shape
    torch.testing.assert_close(loss_of(model, alone), loss_of(model, padded))


def test_the_loss_sees_answers_only():
    """Its gradient is 0 at every logit whose target is none, and at no other position."""
    logits = torch.randn(2, 13, 84, requires_grad=True)
    _, targets = Task("unique_copy", 20, 80).made(generator(), np.array([3, 5]))

    class Given(torch.nn.Module):
        head = torch.nn.Linear(1, 1)

        def forward(self, _tokens):
            return logits

    loss_of(Given(), Sequences(targets, targets)).backward()

    assert (logits.grad.abs().sum(-1) > 0).tolist() == (targets != IGNORED).tolist()


class Answering(torch.nn.Module):
    """A stack that answers what it is told, and nothing else."""

    head = torch.nn.Linear(1, 1)

    def __init__(self, answers, count):
        super().__init__()
        self.answers, self.count = torch.from_numpy(answers), count

    def forward(self, _tokens):
        return torch.nn.functional.one_hot(self.answers.clamp(min=0), self.count).float()


def test_an_answer_is_right_if_every_token_of_it_is():
    """One wrong token of four makes it wrong; a wrong guess where nothing is asked does not."""
    found = Task("unique_copy", 3, 12).made(generator(), np.array([3, 3]))
    answers = found.targets.copy()
    answers[0, 0] = 1  # not asked
    answers[1, 5] = (answers[1, 5] + 1) % 12

    assert judged(Answering(answers, 16), found) == Score(examples=2, exact=1, tokens=8, right=7)
    assert judged(Answering(found.targets, 16), found) == Score(examples=2, exact=2, tokens=8, right=8)


def test_a_text_is_right_if_its_label_is():
    """Each text has one class."""
    labels = np.array([0, 1, 1])

    found = Sequences(np.zeros((3, 4), dtype=np.int64), labels)
    assert judged(Answering(np.array([0, 1, 0]), 2), found) == Score(examples=3, exact=2, tokens=3, right=2)


def test_ranges_are_the_training_lengths_twice_them_and_the_rest():
    """Weighted by examples; two ranges where nothing is longer than twice the training, as of stress."""
    scores = {length: Score(10, length, 20, 20) for length in range(1, 13)}
    three = in_ranges(Task("sort", 3, 12), scores)
    two = in_ranges(Task("sort", 7, 12), scores)

    assert [(one["low"], one["high"], one["examples"]) for one in three] == [(1, 3, 30), (4, 6, 30), (7, 12, 60)]
    assert [one["exact"] for one in three] == pytest.approx([0.2, 0.5, 0.95])
    assert [(one["low"], one["high"]) for one in two] == [(1, 7), (8, 12)]


def test_always_the_commonest_label_is_no_chance():
    """Its share is that of the label among the test texts, range by range; a task has none."""
    labels = np.array([1, 1, 1, 0] * 25 + [1, 0, 0, 0] * 25)
    letters = np.array([2] * 100 + [4] * 100)
    data = Texts("words", "drawn", "none", np.ones((200, 4), dtype=np.int64), labels, letters, 2, 2, train_length=2)
    scores = {length: Score(10, 5, 10, 5) for length in data.lengths}
    first, longer = in_ranges(data, scores)

    assert data.commonest == 1
    assert first["commonest"] == pytest.approx(np.mean(data.tested(2).targets == 1))
    assert longer["commonest"] == pytest.approx(0.25)
    assert "commonest" not in in_ranges(Task("sort", 3, 12), {2: Score(1, 1, 1, 1)})[0]


def test_offsets_reach_every_row_of_the_table():
    """In training, and only there: a stack that is judged adds the first rows, as without offsets."""
    torch.manual_seed(0)
    case = case_of(pe="learned_offset")
    encoding = build_model(case).stack.encoding
    x = torch.zeros(200, 7, case.d_model)
    shifted = encoding.train().embed(x)
    places = [int((encoding.table.weight == row[0]).all(1).nonzero()) for row in shifted]

    assert set(places) == set(range(case.seq_len - 7 + 1))
    assert torch.equal(shifted[0], encoding.table.weight[places[0] : places[0] + 7])
    assert torch.equal(encoding.eval().embed(x), encoding.table.weight[:7].expand_as(x))
    assert torch.equal(encoding.train().embed(torch.zeros(2, case.seq_len, 16))[0], encoding.table.weight)


def rows_moved(pe):
    """How far a training moved each row of a learned table, in units of the first weights."""
    case = case_of(pe=pe, steps=30)
    before = seeded_model(case).stack.encoding.table.weight
    trained_table = []

    def keep(model):
        trained_table.append(model.stack.encoding.table.weight)
        return "digest"

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("attnlib.learning.lengths.digest", keep)
        train(case, task_of(case))
    return ((trained_table[0] - before).norm(dim=1) / before.norm(dim=1)).tolist()


def test_rows_that_training_never_reaches_stay_as_they_were_drawn():
    """But for weight decay; with offsets every row is trained."""
    plain, shifted = rows_moved("learned"), rows_moved("learned_offset")
    seen = Task("unique_copy", 3, 12).tokens_in(3)

    assert min(plain[: seen - 1]) > 1e-2  # the last token predicts nothing
    assert max(plain[seen:]) < 1e-3
    assert min(shifted[:-1]) > 3e-3


def test_a_training_says_how_it_went():
    """Accuracy at every length and in three ranges, of as many examples; a good row of a run."""
    case = case_of("bin_majority", steps=200, learning_rate=0.01)
    probe = train(case, task_of(case))
    found, curves = probe["lengths"], probe["curves"]

    assert probe_problems(vars(case), probe) == []
    assert curves["length"] == list(range(1, 13))
    assert [(one["low"], one["high"], one["examples"]) for one in found["ranges"]] == [
        (1, 3, 60),
        (4, 6, 60),
        (7, 12, 120),
    ]
    assert found["ranges"][0]["exact"] == pytest.approx(np.mean(curves["exact"][:3]))
    assert found["fits"] == (found["ranges"][0]["exact"] >= 0.99)
    assert found["losses"][-1] < found["losses"][0]


def test_a_training_that_is_right_everywhere_ends_early():
    """After the first tenth of its steps at which every new example is; texts train to the end."""
    case = case_of("bin_majority", train_length=1, steps=400, learning_rate=0.01)
    found = train(case, task_of(case))["lengths"]

    assert found["ended_early"]
    assert found["fits"]
    assert found["steps"] < 400
    assert found["steps"] % 40 == 0


def test_a_loss_that_is_not_finite_has_a_reason_and_no_numbers():
    """Null, never NaN."""
    case = case_of(learning_rate=1e11)
    probe = train(case, task_of(case))

    assert "not finite" in probe["lengths"]["reason"]
    assert "ranges" not in probe["lengths"]
    assert probe["curves"] == {}
    assert probe_problems(vars(case), probe) == []


def test_a_training_needs_steps():
    """It says so."""
    with pytest.raises(ValueError, match=r"needs steps and a learning rate, not \(None, 0\.003\)"):
        train(replace(case_of(), steps=None), Task("unique_copy", 3, 12))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": None}, "probe has no lengths"),
        ({"ranges": []}, "no range of longer examples"),
        ({"ranges": [(1, 3), (3, 12)]}, "overlap"),
        ({"ranges": [(1, 4), (5, 12)]}, "do not begin with the training lengths"),
        ({"curves": {"length": [1.0], "exact": [1.0]}}, "no per_token"),
    ],
)
def test_what_breaks_the_contract_is_said(change, message):
    """A row without its numbers is none."""
    case = case_of(steps=2)
    probe = train(case, task_of(case))
    if "ranges" in change:
        ends = change["ranges"]
        own = {"examples": 9, "exact": 0.5, "per_token": 0.5}
        probe["lengths"]["ranges"] = [{"low": low, "high": high} | own for low, high in ends]
    else:
        probe |= change
    (problem,) = probe_problems(vars(case), probe)

    assert message in problem


@pytest.fixture(name="trainers", scope="module")
def _trainers():
    own = Trainers()
    yield own
    own.close()


@pytest.mark.parametrize("pe", ["learned_offset", "fire"])
def test_a_second_process_repeats_it_to_the_bit(trainers, pe):
    """Weights, losses and every accuracy; but not where the seed is another."""
    case = case_of(pe=pe)
    first, other = (trained(one, task_of(one)) for one in (case, replace(case, seed=1)))
    second = trainers.train(case, [])

    for found in (first, second):
        found["lengths"].pop("seconds")
    assert first == second
    assert other["lengths"]["weights"] != first["lengths"]["weights"]


def test_encodings_of_a_seed_see_the_same_batches():
    """So that their accuracies can be subtracted; random offsets do not shift what comes next."""
    seen = {}
    for pe in ("none", "learned_offset"):
        case = case_of(pe=pe, steps=3)
        task = task_of(case)
        batches = seen[pe] = []

        class Watched(Task):
            def batch(self, rng, size, batches=batches):
                found = super().batch(rng, size)
                batches.append(found.tokens)
                return found

        train(case, Watched(task.name, task.train_length, task.test_length))

    assert len(seen["none"]) == 3
    assert all(np.array_equal(*pair) for pair in zip(*seen.values(), strict=True))


@pytest.mark.parametrize("phase", ["forward", "train_step"])
def test_logits_of_every_token_are_not_timed(phase):
    """One line says so, and what to choose."""
    assert unsupported(Case(pooling="none", phase=phase)) == (
        "pooling none gives logits at every token, which are trained and not timed; choose mean, last or attention"
    )
    assert unsupported(case_of()) is None


def test_a_step_is_timed_as_long_as_it_is_trained():
    """At the longest training sequence, with one output; tables of the training are for the longest test sequence."""
    settings = Settings.from_options({"device": "cpu", "preset": "smoke"})
    fields = {"data": "unique_copy", "train_length": 20}
    timed, whole = (settings.case(phase=phase, **fields) for phase in ("train_step", "lengths"))

    assert (timed.seq_len, timed.pooling, timed.causal) == (43, "mean", True)
    assert (whole.seq_len, whole.pooling, whole.causal) == (163, "none", True)
    assert timed.vocab_size == whole.vocab_size == whole.n_classes == 84


@pytest.fixture(name="study", scope="module")
def _study(sessions, tmp_path_factory):
    """The study at its smallest."""
    folder = tmp_path_factory.mktemp("study")
    done = sessions("--benchmark-autosave", "--data", "unique_copy,stress", folder=folder, **STUDY)
    assert done.code == 0, done.out
    return saved(folder), files(folder, ".json")[0]


def test_the_study_is_a_run(study):
    """Every case is ok; the published row comes first, then one data set after another."""
    run, _ = study
    rows = run["attnlib"]["cases"]
    trained_rows = [row["case"] for row in rows if row["case"]["phase"] == "lengths"]

    assert {row["status"] for row in rows} == {"ok"}
    assert len(rows) == 4 + 1 + 4
    assert [case["data"] for case in trained_rows] == ["bin_majority", *["unique_copy"] * 2, *["stress"] * 2]
    assert set(run["attnlib"]["data"]) == {"bin_majority up to 5", "unique_copy up to 3", "stress up to 8"}


@pytest.mark.faults
def test_a_study_that_is_killed_goes_on(sessions, study, tmp_path):
    """Finished trainings stay, and the whole is what one session would have trained."""
    data = ("--data", "unique_copy,stress")
    killed = sessions("--benchmark-autosave", *data, folder=tmp_path, fault="visit finished", **STUDY)
    done = sessions("--resume", *data, folder=tmp_path, **STUDY)

    assert (killed.code, done.code) == (137, 0), done.out
    assert "5 tests are done" in done.out  # four times, and the first of five trainings
    assert skeleton(saved(tmp_path)) == skeleton(study[0])


def test_the_study_is_shown(study, capsys):
    """A table of tiers, one of accuracies for each task, and a figure."""
    _, path = study
    cells, _ = read_cells([path])

    assert main(["findings", str(path)]) == 0
    out = capsys.readouterr().out
    assert "unique_copy 1 to 3" in out
    assert "right, 4 to 6" in out
    assert "right, 9 to 14" in out
    assert "0.9999 in arXiv 2410.02140" not in out  # the smallest of it is no repetition
    assert find_figure("length_accuracy")(cells) is not None


def test_a_table_of_ones_own_is_trained_up_to_its_length(sessions, tmp_path):
    """Its short texts are learned, its longer ones tested, and the run says of which file."""
    path = tmp_path / "own.csv"
    with path.open("w", newline="") as file:
        rows = [(letter * length + str(n), letter) for n in range(40) for length in (1, 2, 5, 6) for letter in "ab"]
        csv.writer(file).writerows([("text", "label"), *rows])
    options = ("--data", str(path), "--train-length", "4", "--pe", "learned")
    tests = STUDY | {"tests": ["bench/test_lengths.py::test_lengths"]}
    done = sessions("--benchmark-autosave", *options, folder=tmp_path / "results", **tests)
    (row,) = saved(tmp_path / "results")["attnlib"]["cases"]

    assert done.code == 0, done.out
    assert row["case"]["data"].startswith("own.")
    assert (row["case"]["train_length"], row["case"]["test_length"], row["case"]["pooling"]) == (4, 8, "mean")
    assert [(one["low"], one["high"]) for one in row["probe"]["lengths"]["ranges"]] == [(1, 4), (5, 8)]


def test_a_table_without_its_length_ends_the_session_in_one_line(sessions, tmp_path):
    """Before anything runs; and one with too few longer texts when the options are read, with exit code 4."""
    path = tmp_path / "own.csv"
    letters = "abcdefghijklmnopqrst"
    with path.open("w", newline="") as file:
        rows = [(a + b, "xy"[place % 2]) for place, (a, b) in enumerate((a, b) for a in letters for b in letters)]
        csv.writer(file).writerows([("text", "label"), *rows])
    results = tmp_path / "results"
    without = sessions("--benchmark-autosave", "--data", str(path), folder=results, **STUDY)
    short = sessions("--benchmark-autosave", "--data", str(path), "--train-length", "2", folder=results, **STUDY)

    assert without.code == 2, without.out
    assert "needs --train-length, the letters of the longest texts to train on" in without.out
    assert short.code == 4, short.out
    assert "0 texts with more letters are fewer than 50 (its texts have 2 to 2); choose another" in short.out
    assert files(results, "") == []


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        (
            "test_learning.py",
            "sort",
            "sort is a task with questions of many lengths; train on it with bench/test_lengths.py",
        ),
        ("test_lengths.py", "digits", "sequences of digits are all of one length"),
    ],
)
def test_data_of_the_other_study_is_one_line(sessions, tmp_path, file, data, message):
    """Nothing runs and nothing is written."""
    other = STUDY | {"tests": [f"bench/{file}"]}
    done = sessions("--benchmark-autosave", "--data", data, folder=tmp_path, **other)

    assert done.code == 2, done.out
    assert message in done.out
    assert "conftest.py" not in done.out  # no traceback
    assert files(tmp_path, "") == []
