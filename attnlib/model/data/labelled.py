"""The class of a data set: tokens with labels, in a fixed order, in disjoint parts."""

import hashlib
from dataclasses import dataclass

import numpy as np

from attnlib.errors import message

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Labelled:
    """Sequences with labels: first the training part, then validation, then test.

    Raises:
        ValueError: the parts' sizes do not add up to the number of examples, **or** a class has no training example.
    """

    name: str
    source: str  # a package or a file, with its version
    licence: str
    tokens: np.ndarray  # int64 [N, T], in [0, vocab_size)
    labels: np.ndarray  # int64 [N], in [0, n_classes)
    vocab_size: int
    n_classes: int
    sizes: tuple[int, int, int]  # numbers of examples in PARTS
    notes: tuple[str, ...] = ()  # examples that were left out, padded or cut
    letters: np.ndarray | None = None  # of each text, int64 [N], where shorter ones are padded; None: all are as long

    def __post_init__(self) -> None:
        if sum(self.sizes) != len(self.tokens) or min(self.sizes) < 1:
            wrong = f"{self.name}: the sizes of the parts must be at least 1 and add up to {len(self.tokens)} examples"
            raise ValueError(message(wrong, self.sizes))
        if absent := set(range(self.n_classes)) - set(self.part("train")[1].tolist()):
            wrong = f"{self.name}: class {min(absent)} has no training example"
            raise ValueError(message(wrong, do="give more of each class"))

    def part(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the tokens ``[n, T]`` and labels ``[n]`` of one of ``PARTS``."""
        place = PARTS.index(name)
        start = sum(self.sizes[:place])
        span = slice(start, start + self.sizes[place])
        return self.tokens[span], self.labels[span]

    @property
    def checksum(self) -> str:
        """SHA-256 of the tokens and labels in order, as little-endian int64."""
        return hashlib.sha256(self.tokens.astype("<i8").tobytes() + self.labels.astype("<i8").tobytes()).hexdigest()

    def as_json(self) -> dict[str, object]:
        """Return the description that a run saves."""
        sizes = dict(zip(PARTS, self.sizes, strict=True))
        said = {"source": self.source, "licence": self.licence, "checksum": self.checksum, "notes": list(self.notes)}
        return said | sizes | {"length": self.tokens.shape[1], "tokens": self.vocab_size, "classes": self.n_classes}


def shuffled(count: int) -> np.ndarray:
    """Return a fixed random order of ``count`` examples, by numpy's PCG64 with seed 0."""
    return np.random.Generator(np.random.PCG64(0)).random(count).argsort(kind="stable")
