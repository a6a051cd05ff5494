"""The embedded data set: 1,797 handwritten digits of 8 x 8 pixels.

scikit-learn carries it: the test part of the UCI set "Optical Recognition of Handwritten Digits"
(Alpaydin and Kaynak 1998), grey values 0..16. There is no stock test split.
"""

from __future__ import annotations

import numpy as np

from fedjax_kd.data.source import Source


def read_digits() -> Source:
    """The digits as uint8 [1797, 8, 8, 1]."""
    from sklearn.datasets import load_digits

    pictures, labels = load_digits(return_X_y=True)
    inputs = np.asarray(pictures).reshape(-1, 8, 8, 1).astype(np.uint8)
    return Source(
        name="digits",
        train_inputs=inputs,
        train_labels=np.asarray(labels, np.int32),
        test_inputs=inputs[:0],
        test_labels=np.zeros(0, np.int32),
        n_classes=10,
        class_names=tuple("0123456789"),
    )
