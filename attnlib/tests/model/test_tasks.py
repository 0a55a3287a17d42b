"""Tasks made on the fly: every answer against its definition in words, the form of a sequence, and what is judged."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlib.model.data import TASKS, by_length
from attnlib.model.data.tasks import IGNORED, TESTED, Task

SEEDS = st.integers(0, 2**31)
LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=6)
DEFINITIONS = {  # of the answer to a question, in plain Python
    "unique_copy": list,
    "repeat_copy": list,
    "sort": sorted,
    "bin_majority": lambda question: [Counter(question).most_common(1)[0][0]],
    "parity": lambda question: [3 if question.count(1) % 2 else 2],
}


def generator(seed):
    return np.random.Generator(np.random.PCG64(seed))


def read(task, row):
    """The question and the answer of a sequence, by its marks."""
    begin, separator, end, padding = range(task.vocab_size - 4, task.vocab_size)
    tokens = row.tolist()
    stop = tokens.index(end)
    assert tokens[0] == begin
    assert set(tokens[stop + 1 :]) <= {padding}
    middle = tokens.index(separator)
    question, answer = tokens[1:middle], tokens[middle + 1 : stop]
    assert all(0 <= token < begin for token in question + answer)
    return question, answer


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(list(TASKS)), lengths=LENGTHS, seed=SEEDS)
def test_every_answer_is_right(name, lengths, seed):
    """It is what the definition in words gives for the question, whose length is the one that was asked for."""
    task = Task(name, 4, 12)
    tokens, _ = task.made(generator(seed), np.array(lengths))

    assert tokens.shape == (len(lengths), task.tokens_in(max(lengths)))
    for row, length in zip(tokens, lengths, strict=True):
        question, answer = read(task, row)
        assert len(question) == length
        assert answer == DEFINITIONS[name](question)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(list(TASKS)), lengths=LENGTHS, seed=SEEDS)
def test_the_answer_and_the_end_are_judged_and_nothing_else(name, lengths, seed):
    """A target is the next token, from the separator on to the end."""
    task = Task(name, 4, 12)
    for row, target in zip(*task.made(generator(seed), np.array(lengths)), strict=True):
        question, answer = read(task, row)
        judged = np.flatnonzero(target != IGNORED)

        assert judged.tolist() == list(range(len(question) + 1, len(question) + len(answer) + 2))
        assert target[judged].tolist() == row[judged + 1].tolist()


@settings(max_examples=30, deadline=None)
@given(length=st.integers(1, 12), seed=SEEDS)
def test_questions_are_what_their_task_asks_for(length, seed):
    """No symbol twice where copies are unique or sorted, and never a tie of bits."""
    for name in ("unique_copy", "sort", "bin_majority"):
        task = Task(name, 4, 12)
        for row in task.made(generator(seed), np.full(8, length)).tokens:
            question, _ = read(task, row)
            if name == "bin_majority":
                assert 2 * sum(question) != length
            else:
                assert len(set(question)) == length


@pytest.mark.parametrize(("name", "counts"), [("parity", {0, 1, 2, 3, 4}), ("bin_majority", {0, 1, 3, 4})])
def test_every_number_of_ones_is_as_likely(name, counts):
    """In 4,000 draws of 4 bits none is further from its share than five standard deviations."""
    task = Task(name, 4, 12)
    rows = task.made(generator(0), np.full(4000, 4)).tokens
    found = Counter(sum(read(task, row)[0]) for row in rows)

    assert set(found) == counts
    share = 1 / len(counts)
    assert max(abs(count - 4000 * share) for count in found.values()) < 5 * (4000 * share * (1 - share)) ** 0.5


def test_batches_have_all_training_lengths_and_no_longer_ones():
    """Uniformly, drawn from the generator alone."""
    task = Task("unique_copy", 4, 12)
    first, again = (task.batch(generator(7), 400) for _ in range(2))
    lengths = Counter(len(read(task, row)[0]) for row in first.tokens)

    assert set(lengths) == {1, 2, 3, 4}
    assert min(lengths.values()) > 60
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert not np.array_equal(first.tokens, task.batch(generator(8), 400).tokens)


def test_test_examples_are_the_same_for_every_training():
    """So many of each length, whatever was drawn before; and a checksum of them is saved."""
    task, other = Task("sort", 4, 12), Task("sort", 4, 12)
    task.batch(generator(0), 10)

    assert np.array_equal(task.tested(9).tokens, other.tested(9).tokens)
    assert len(task.tested(9).tokens) == TESTED
    assert task.as_json() == other.as_json()
    assert task.as_json()["checksum"] != Task("sort", 4, 13).as_json()["checksum"]


def test_four_times_the_training_length_is_tested_unless_said_otherwise():
    """20 symbols make 80; tables and symbols are for the longest test question."""
    assert by_length("unique_copy", 20) == Task("unique_copy", 20, 80)
    assert by_length("bin_majority", 50, 150) == Task("bin_majority", 50, 150)
    assert (Task("unique_copy", 20, 80).vocab_size, Task("bin_majority", 20, 80).vocab_size) == (84, 6)
    assert (Task("unique_copy", 20, 80).tokens_in(80), Task("bin_majority", 20, 80).tokens_in(80)) == (163, 84)


def test_a_test_must_be_longer_than_the_training():
    """The message names both; and an unknown task the choices."""
    with pytest.raises(ValueError, match="sort: test_length must exceed train_length=20, not 20"):
        Task("sort", 20, 20)
    with pytest.raises(ValueError, match="unknown task 'reverse'; choose from unique_copy, sort"):
        Task("reverse", 20, 80)
