"""Labelled texts by their length: short ones to train on, a held-out fifth of them and all longer ones to test."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from attnlib.errors import message
from attnlib.model.data.tasks import Sequences

FEWEST = 50  # texts to train on, and longer ones
TESTED = 200  # most test texts of a length
HELD_OUT = 5  # one in so many short texts is not trained on


@dataclass(frozen=True)
class Texts:
    """Texts with labels, of many lengths, in a fixed order. Batches are of one length, so that none has padding.

    Args:
        name: name of the data set.
        source: a package or a file, with its version.
        licence: of the texts.
        tokens: int64 ``[N, W]``, in [0, vocab_size), the rest of a shorter text unused.
        labels: int64 ``[N]``, in [0, n_classes).
        letters: of each text, int64 ``[N]``.
        vocab_size: number of tokens.
        n_classes: number of labels.
        train_length: letters of the longest text to train on.
        notes: texts that were left out or cut.

    Raises:
        ValueError: there are too few texts to train on or too few longer ones, **or** a label has no text to train on.
    """

    name: str
    source: str
    licence: str
    tokens: np.ndarray
    labels: np.ndarray
    letters: np.ndarray
    vocab_size: int
    n_classes: int
    train_length: int
    notes: tuple[str, ...] = ()
    pooling = "mean"
    causal = False

    def __post_init__(self) -> None:
        train, longer = len(self.train), int((self.letters > self.train_length).sum())
        for count, what in ((train, f"to train on with up to {self.train_length}"), (longer, "with more")):
            if count < FEWEST:
                lengths = f"its texts have {self.letters.min()} to {self.letters.max()}"
                wrong = f"{self.name}: {count} texts {what} letters are fewer than {FEWEST} ({lengths})"
                raise ValueError(message(wrong, do="choose another --train-length"))
        if absent := set(range(self.n_classes)) - set(self.labels[self.train].tolist()):
            short = f"no text of up to {self.train_length} letters to train on"
            wrong = f"{self.name}: label number {min(absent)} has {short}"
            raise ValueError(message(wrong, do="choose another --train-length"))

    @cached_property
    def rows(self) -> Mapping[int, np.ndarray]:
        """Rows of the texts of each length, in order."""
        return {int(length): np.flatnonzero(self.letters == length) for length in np.unique(self.letters)}

    def held_out(self, length: int) -> int:
        """Return the number of texts of a length that are not trained on: they stand first among their rows."""
        count = len(self.rows[length])
        return count // HELD_OUT if length <= self.train_length else count

    @cached_property
    def train(self) -> np.ndarray:
        """Rows that are trained on, by length."""
        return np.concatenate([rows[self.held_out(length) :] for length, rows in self.rows.items()])

    @property
    def test_length(self) -> int:
        """Letters of the longest text."""
        return int(self.letters.max())

    @property
    def lengths(self) -> list[int]:
        """Lengths of the test's texts."""
        return [length for length in self.rows if self.held_out(length)]

    def tokens_in(self, length: int) -> int:
        """Return T of a text of this length, which is the length."""
        return length

    def of(self, rows: np.ndarray, length: int) -> Sequences:
        """Return texts of one length: tokens ``[n, length]`` and labels ``[n]``."""
        return Sequences(self.tokens[rows, :length], self.labels[rows])

    def batch(self, rng: np.random.Generator, size: int) -> Sequences:
        """Return a batch to train on, of one length, drawn as often as there are texts of it; texts may repeat."""
        length = int(self.letters[self.train[int(rng.random() * len(self.train))]])
        own = self.rows[length][self.held_out(length) :]
        return self.of(own[(rng.random(size) * len(own)).astype(np.int64)], length)

    def tested(self, length: int) -> Sequences:
        """Return the test's texts of a length, at most ``TESTED``, the same for every training."""
        return self.of(self.rows[length][: min(TESTED, self.held_out(length))], length)

    @cached_property
    def commonest(self) -> int:
        """Label that most texts to train on have."""
        return int(np.bincount(self.labels[self.train]).argmax())

    def as_json(self) -> dict[str, object]:
        """Return the description that a run saves."""
        parts = (self.tokens, self.labels, self.letters)
        whole = hashlib.sha256(b"".join(part.astype("<i8").tobytes() for part in parts))
        return {
            "source": self.source,
            "licence": self.licence,
            "checksum": whole.hexdigest(),
            "notes": [*self.notes, f"at most {TESTED} test texts of each length"],
            "train": len(self.train),
            "test": sum(len(self.tested(length).targets) for length in self.lengths),
            "train_length": self.train_length,
            "length": self.test_length,
            "tokens": self.vocab_size,
            "classes": self.n_classes,
        }
