"""The examples of a data set on the host."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Source:
    """A data set as NumPy arrays; E training and F test examples.

    Attributes:
      name: its name in the catalog.
      train_inputs: [E, *shape], uint8 pictures (channels last) or float32.
      train_labels: int32 [E].
      test_inputs: [F, *shape]; F = 0 where there is no stock test split.
      test_labels: int32 [F].
      n_classes: number of classes, C.
      class_names: C names.
      train_users: int32 [E], the user that made each training example, or None. Users are 0, 1, ...
      train_groups: int32 [E], the recording that each training example was cut from, or None. The
        examples of a recording are in the order in which they were cut, have one label and one
        user, and share raw samples, so a recording is not to be divided between train and test.
      group_overlap: how many of the following examples of its recording an example shares raw
        samples with.
      extra_inputs: [X, *shape], examples of another data set whose labels do not count, or None.
        They belong to nobody and to no split; see `with_extra`.
    """

    name: str
    train_inputs: np.ndarray
    train_labels: np.ndarray
    test_inputs: np.ndarray
    test_labels: np.ndarray
    n_classes: int
    class_names: tuple[str, ...]
    train_users: np.ndarray | None = None
    train_groups: np.ndarray | None = None
    group_overlap: int = 0
    extra_inputs: np.ndarray | None = None

    @property
    def labels(self) -> np.ndarray:
        """Labels of the concatenation [train; test; extra], int32 [E + F + X]; extra ones are 0."""
        n_extra = 0 if self.extra_inputs is None else len(self.extra_inputs)
        return np.concatenate(
            [self.train_labels, self.test_labels, np.zeros(n_extra, self.train_labels.dtype)]
        )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.train_inputs.shape[1:]

    @property
    def raw_bits_per_example(self) -> int:
        """Bits of one raw example, from its type and shape (labels are not counted)."""
        return 8 * self.train_inputs.dtype.itemsize * int(np.prod(self.input_shape))

    @property
    def n_natural_users(self) -> int:
        """Number of users that the data set names; 0 if it names none."""
        return 0 if self.train_users is None else int(self.train_users.max()) + 1


def with_extra(source: Source, inputs: np.ndarray) -> Source:
    """The same data set with further examples behind its own, of which no label is known.

    In a table of all examples they are rows E + F to E + F + X - 1. They are normalised by the
    statistics of the data set's own training examples, not by theirs.

    Args:
      source: the examples.
      inputs: [X, *shape], of the source's shape and type.

    Raises:
      ValueError: the shapes or types differ.
    """
    own = source.train_inputs
    if inputs.shape[1:] != own.shape[1:] or inputs.dtype != own.dtype:
        raise ValueError(
            f"extra examples: found {inputs.dtype}{list(inputs.shape[1:])}; allowed: those of"
            f" {source.name}, {own.dtype}{list(own.shape[1:])}"
        )
    if source.extra_inputs is not None:
        inputs = np.concatenate([source.extra_inputs, inputs])
    return replace(source, extra_inputs=inputs)
