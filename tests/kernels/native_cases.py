"""Shapes, arrays and an oracle in double precision, for the tests of the native kernels."""

import numpy as np

SAME3, SAME5 = ((1, 1), (1, 1)), ((2, 2), (2, 2))
VALID = ((0, 0), (0, 0))

# images, kernel, stride, padding
CONVOLUTIONS = [
    ((2, 28, 28, 1), (5, 5, 1, 6), (1, 1), SAME5),  # LeNet
    ((2, 14, 14, 6), (5, 5, 6, 16), (1, 1), VALID),
    ((2, 32, 32, 3), (5, 5, 3, 16), (1, 1), VALID),  # the CNN
    ((2, 14, 14, 16), (5, 5, 16, 32), (1, 1), VALID),
    ((2, 32, 32, 3), (3, 3, 3, 16), (1, 1), SAME3),  # ResNet
    ((2, 16, 16, 16), (3, 3, 16, 32), (2, 2), ((0, 1), (0, 1))),
    ((2, 8, 8, 64), (3, 3, 64, 64), (1, 1), SAME3),
    ((2, 16, 16, 16), (1, 1, 16, 32), (2, 2), VALID),
    ((2, 1, 50, 6), (1, 5, 6, 32), (1, 1), ((0, 0), (2, 2))),  # a sequence
    ((3, 7, 9, 5), (3, 4, 5, 7), (1, 2), ((3, 1), (0, 4))),  # nothing is a multiple of anything
    ((1, 6, 5, 33), (2, 2, 33, 17), (3, 1), ((0, 2), (1, 0))),
    ((2, 5, 7, 3), (3, 3, 3, 3), (1, 1), ((4, 0), (0, 5))),  # wider than the kernel
    ((2, 7, 7, 2), (1, 2, 2, 5), (3, 3), VALID),  # pixels that no tap reaches
]


def arrays(images, kernel, stride, pads, seed=0):
    """x, w and dy, standard normal."""
    rng = np.random.default_rng(seed)
    sizes = [
        (size + sum(pad) - taps) // step + 1
        for size, pad, taps, step in zip(images[1:3], pads, kernel[:2], stride, strict=True)
    ]
    shapes = (images, kernel, (images[0], *sizes, kernel[3]))
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def oracle(x, w, dy, stride, pads):
    """The convolution and its gradients in x and w, straight from the definition, in float64."""
    x, w, dy = (a.astype(np.float64) for a in (x, w, dy))
    padded = np.pad(x, ((0, 0), *pads, (0, 0)))
    y, dw, d_padded = np.zeros_like(dy), np.zeros_like(w), np.zeros_like(padded)
    for i, j in np.ndindex(w.shape[:2]):
        seen = tuple(
            slice(tap, tap + (out - 1) * step + 1, step)
            for tap, out, step in zip((i, j), dy.shape[1:3], stride, strict=True)
        )
        at = (slice(None), *seen)
        y += padded[at] @ w[i, j]
        dw[i, j] = np.einsum("bpqi,bpqo->io", padded[at], dy)
        d_padded[at] += dy @ w[i, j].T
    (top, _), (left, _) = pads
    dx = d_padded[:, top : top + x.shape[1], left : left + x.shape[2]]
    return y, dx, dw


def relative_error(got, expected):
    """Largest deviation, relative to the largest value (or to 1, if that is smaller)."""
    return np.max(np.abs(got - expected)) / max(1.0, np.max(np.abs(expected)))
