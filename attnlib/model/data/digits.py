"""Handwritten digits as sequences: what is drawn depends on where each grey level stands, and on nothing else."""

import numpy as np

from attnlib.model.data.labelled import Labelled, shuffled


def digits() -> Labelled:
    """1,797 images of 8 x 8 pixels, row by row, as 64 tokens of 17 grey levels; 10 classes (scikit-learn's digits).

    1,000 to learn from, 297 for validation, 500 for the test.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    import sklearn
    from sklearn.datasets import load_digits

    found = load_digits()
    order = shuffled(len(found.data))
    return Labelled(
        name="digits",
        source=f"sklearn.datasets.load_digits of scikit-learn {sklearn.__version__}: UCI optical digits, test part",
        licence="CC BY 4.0 (UCI), as shipped with scikit-learn (BSD-3-Clause)",
        tokens=found.data.astype(np.int64)[order],
        labels=found.target.astype(np.int64)[order],
        vocab_size=17,
        n_classes=10,
        sizes=(1000, 297, 500),
    )
