"""What every data set is: tokens with labels, in a fixed order, cut into parts that share nothing."""

import hashlib
from dataclasses import dataclass

import numpy as np

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Labelled:
    """Sequences with labels, training ones first, then those for validation, then those for the test.

    Raises:
        ValueError: the parts are not all examples, **or** a class has no example to learn from.
    """

    name: str
    source: str  # a package or a file, with its version
    licence: str
    tokens: np.ndarray  # int64 [N, T], in [0, vocab_size)
    labels: np.ndarray  # int64 [N], in [0, n_classes)
    vocab_size: int
    n_classes: int
    sizes: tuple[int, int, int]  # of PARTS
    notes: tuple[str, ...] = ()  # what was left out, padded or cut

    def __post_init__(self) -> None:
        if sum(self.sizes) != len(self.tokens) or min(self.sizes) < 1:
            raise ValueError(f"{self.name}: {len(self.tokens)} examples do not make parts of {self.sizes}")
        if absent := set(range(self.n_classes)) - set(self.part("train")[1].tolist()):
            raise ValueError(f"{self.name}: no example to learn class {min(absent)} from; give more of each class")

    def part(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Tokens ``[n, T]`` and labels ``[n]`` of one of ``PARTS``."""
        place = PARTS.index(name)
        start = sum(self.sizes[:place])
        span = slice(start, start + self.sizes[place])
        return self.tokens[span], self.labels[span]

    @property
    def checksum(self) -> str:
        """SHA-256 of tokens and labels, in their order, as little-endian int64."""
        return hashlib.sha256(self.tokens.astype("<i8").tobytes() + self.labels.astype("<i8").tobytes()).hexdigest()

    def as_json(self) -> dict[str, object]:
        """What a run says of it."""
        sizes = dict(zip(PARTS, self.sizes, strict=True))
        said = {"source": self.source, "licence": self.licence, "checksum": self.checksum, "notes": list(self.notes)}
        return said | sizes | {"length": self.tokens.shape[1], "tokens": self.vocab_size, "classes": self.n_classes}


def shuffled(count: int) -> np.ndarray:
    """The fixed order of so many examples, by numpy's PCG64: a test would notice another one."""
    return np.random.Generator(np.random.PCG64(0)).random(count).argsort(kind="stable")
