"""Tasks made on the fly, whose right answer is known: copying, sorting, majority and parity (arXiv 2410.02140)."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from attnlib.errors import message
from attnlib.model.config import choose

IGNORED = -100  # target of a position that is not judged; torch's cross-entropy leaves it out by default
SPECIAL = 4  # tokens beside a task's symbols: beginning, separator, end, padding
TESTED = 20  # examples of each length that a training is judged on
TEST_STREAM = 2**32  # first number of the seed of test examples; seeds of trainings are smaller
Lengths = np.ndarray  # int64 [n]
Draw = Callable[[np.random.Generator, Lengths, int], np.ndarray]


class Sequences(NamedTuple):
    """Examples for a stack.

    Args:
        tokens: int64 ``[n, T]``.
        targets: of next-token prediction ``[n, T]``, ``IGNORED`` where nothing is asked; of classification ``[n]``.
    """

    tokens: np.ndarray
    targets: np.ndarray


def distinct(rng: np.random.Generator, lengths: Lengths, symbols: int) -> np.ndarray:
    """Return questions in which no symbol comes twice: ``[n, W]``, W the longest length, the rest of a row unused."""
    return rng.random((len(lengths), symbols)).argsort(1)[:, : lengths.max()]


def repeating(rng: np.random.Generator, lengths: Lengths, symbols: int) -> np.ndarray:
    """Return questions of independent uniform symbols: ``[n, W]``."""
    return (rng.random((len(lengths), lengths.max())) * symbols).astype(np.int64)


def bits(rng: np.random.Generator, lengths: Lengths, _symbols: int) -> np.ndarray:
    """Return bits in random order, whose number of ones is uniform from 0 to the length: ``[n, W]``."""
    return ordered_at_random(rng, lengths, (rng.random(len(lengths)) * (lengths + 1)).astype(np.int64))


def untied_bits(rng: np.random.Generator, lengths: Lengths, _symbols: int) -> np.ndarray:
    """Return bits as ``bits`` does, of which one value is in the majority: ``[n, W]``."""
    even = lengths % 2 == 0
    ones = (rng.random(len(lengths)) * (lengths + 1 - even)).astype(np.int64)
    return ordered_at_random(rng, lengths, ones + (even & (ones >= lengths // 2)))  # skips the tie


def ordered_at_random(rng: np.random.Generator, lengths: Lengths, ones: np.ndarray) -> np.ndarray:
    """Return bits with a given number of ones in each row, in random order: ``[n, W]``."""
    keys = rng.random((len(lengths), lengths.max()))
    keys[np.arange(lengths.max()) >= lengths[:, None]] = 2.0  # behind the end: last in order, so never a one
    return (keys.argsort(1).argsort(1) < ones[:, None]).astype(np.int64)


def majority(question: np.ndarray) -> np.ndarray:
    """Return the bit of which there are more: ``[1]``."""
    return np.array([2 * question.sum() > len(question)], dtype=np.int64)


def parity(question: np.ndarray) -> np.ndarray:
    """Return 2 for an even number of ones and 3 for an odd one, symbols that no question has: ``[1]``."""
    return np.array([2 + question.sum() % 2], dtype=np.int64)


class Kind(NamedTuple):
    """Definition of a task.

    Args:
        draw: function from a generator, lengths and the number of symbols to questions.
        answer: function from one question ``[L]`` to its answer, as long as the question or of one symbol.
        symbols: number of symbols; None: as many as the longest test question has.
        whole: whether the answer is as long as the question.
    """

    draw: Draw
    answer: Callable[[np.ndarray], np.ndarray]
    symbols: int | None
    whole: bool


TASKS = {
    "unique_copy": Kind(distinct, np.copy, None, True),
    "sort": Kind(distinct, np.sort, None, True),
    "bin_majority": Kind(untied_bits, majority, 2, False),
    "parity": Kind(bits, parity, 4, False),
    "repeat_copy": Kind(repeating, np.copy, 2, True),
}


@dataclass(frozen=True)
class Task:
    """A task whose examples are made when they are asked for: short ones to train on, longer ones to test.

    A sequence is: beginning, question, separator, answer, end; shorter ones are padded behind. What is judged is the
    answer and the end, each predicted from the token before it.

    Args:
        name: one of ``TASKS``.
        train_length: symbols of the longest question to train on, N.
        test_length: symbols of the longest question of the test, M.

    Raises:
        ValueError: the name is not registered, **or** M does not exceed N.
    """

    name: str
    train_length: int
    test_length: int
    pooling = "none"
    causal = True

    def __post_init__(self) -> None:
        choose("task", self.name, TASKS)
        if self.test_length <= self.train_length:
            wrong = f"{self.name}: test_length must exceed train_length={self.train_length}"
            raise ValueError(message(wrong, self.test_length))

    @property
    def symbols(self) -> int:
        """Number of symbols that questions and answers consist of."""
        return TASKS[self.name].symbols or self.test_length

    @property
    def vocab_size(self) -> int:
        """Number of tokens: the symbols, then beginning, separator, end and padding."""
        return self.symbols + SPECIAL

    @property
    def n_classes(self) -> int:
        """Number of tokens that are told apart: all of them."""
        return self.vocab_size

    @property
    def lengths(self) -> range:
        """Lengths of the test's questions."""
        return range(1, self.test_length + 1)

    def tokens_in(self, length: int) -> int:
        """Return T of a question of this length with its answer."""
        return length + (length if TASKS[self.name].whole else 1) + 3

    def made(self, rng: np.random.Generator, lengths: Lengths) -> Sequences:
        """Return one example of each of these lengths, padded to the longest; T = 2 W + 3, or W + 4."""
        kind, (begin, separator, end, padding) = TASKS[self.name], range(self.symbols, self.vocab_size)
        questions = kind.draw(rng, lengths, self.symbols)
        tokens = np.full((len(lengths), self.tokens_in(int(lengths.max()))), padding, dtype=np.int64)
        targets = np.full_like(tokens, IGNORED)
        for row, target, length, whole in zip(tokens, targets, lengths, questions, strict=True):
            question = whole[:length]
            answer = kind.answer(question)
            sequence = np.concatenate([[begin], question, [separator], answer, [end]])
            row[: len(sequence)] = sequence
            target[length + 1 : len(sequence) - 1] = sequence[length + 2 :]  # each from the token before it
        return Sequences(tokens, targets)

    def batch(self, rng: np.random.Generator, size: int) -> Sequences:
        """Return a batch to train on, of independent lengths that are uniform from 1 to N."""
        return self.made(rng, 1 + (rng.random(size) * self.train_length).astype(np.int64))

    def short(self, rng: np.random.Generator) -> Sequences:
        """Return new examples of the training lengths, ``TESTED`` of each."""
        return self.made(rng, np.repeat(np.arange(1, self.train_length + 1), TESTED))

    def tested(self, length: int) -> Sequences:
        """Return the test examples of a length, the same for every training."""
        rng = np.random.Generator(np.random.PCG64([TEST_STREAM, length]))
        return self.made(rng, np.full(TESTED, length))

    def as_json(self) -> dict[str, object]:
        """Return the description that a run saves."""
        whole = hashlib.sha256()
        for length in self.lengths:
            for part in self.tested(length):
                whole.update(part.astype("<i8").tobytes())
        return {
            "source": "made on the fly, as in arXiv 2410.02140",
            "licence": "none: no text of anybody",
            "checksum": whole.hexdigest(),  # of the test examples
            "notes": [f"{TESTED} test examples of each length"],
            "train_length": self.train_length,
            "length": self.test_length,
            "tokens": self.vocab_size,
            "classes": self.n_classes,
        }
