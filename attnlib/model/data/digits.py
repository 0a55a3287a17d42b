"""Handwritten digits as sequences of grey levels, whose positions decide what is drawn."""

import numpy as np

from attnlib.model.data.labelled import Labelled, shuffled


def digits() -> Labelled:
    """Return scikit-learn's digits: 1,797 images of 8 x 8 pixels as 64 tokens of 17 grey levels, in 10 classes.

    Parts: 1,000 for training, 297 for validation, 500 for the test. Pixels are in row order.

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
