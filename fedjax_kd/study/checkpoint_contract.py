"""What a study asks of whoever keeps its checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fedjax_kd.study.checkpoint_tree import Tree
from fedjax_kd.training.processes import gathered

MakeTree = Callable[[], Tree]


class Stopped(BaseException):
    """The study was asked to stop; the state that was offered last is saved.

    It is no `Exception`, as `KeyboardInterrupt` is none: code that goes on after failures must not
    take it for one.

    Attributes:
      signal: number of the signal that asked.
      part: the part of the study that was under way.
      step: how far it is, and will be after a resumption.
    """

    def __init__(self, signal: int, part: str, step: int):
        super().__init__(f"stopped by signal {signal} after round {step} of {part}")
        self.signal, self.part, self.step = signal, part, step

    @property
    def exit_code(self) -> int:
        """What a program that ends by this signal returns by custom: 130 or 143."""
        return 128 + self.signal


class Part(NamedTuple):
    """A part of a study, for saving it and for taking it up again.

    Attributes:
      align: chunks should end at multiples of this many steps, or None.
      restore: `(like) -> (step, tree) | None`: the last sound checkpoint. `like` is a pytree of
        arrays or `jax.ShapeDtypeStruct`s, or a function that makes it, which is called if there is
        a checkpoint; a leading length of -1 stands for any. Arrays come back as NumPy's, random
        keys typed on the default device. Raises `CheckpointError` for a checkpoint of other
        settings or of another tree, naming the leaf.
      offer: `(step, make_tree) -> None`: saves the tree if that is due, if `step` is the last, or
        if a stop was asked for, in which case it raises `Stopped` once the checkpoint is whole. The
        tree may be given away as soon as it returns. Raises `CheckpointError` if this checkpoint or
        the one before cannot be written.
    """

    align: int | None
    restore: Callable[[Any], tuple[int, Tree] | None]
    offer: Callable[[int, MakeTree], None]


class Keeper(NamedTuple):
    """Where the parts of a study are kept.

    Attributes:
      part: `(name, total) -> Part` of `total` steps.
      drop: `(name) -> None`: removes what was kept of a part.
      finish: removes all but the final state of each finished part, once results are written.
      close: waits for what is being written; raises `CheckpointError` if it cannot be.
    """

    part: Callable[[str, int], Part]
    drop: Callable[[str], None]
    finish: Callable[[], None]
    close: Callable[[], None]


def nobody() -> int | None:
    """Nobody has asked for a stop."""
    return None


def no_keeper(requested: Callable[[], int | None] = nobody) -> Keeper:
    """A keeper that keeps nothing.

    Args:
      requested: returns the number of the signal that asked for a stop, or None.
    """

    def part(name: str, total: int) -> Part:
        def offer(step: int, make_tree: MakeTree) -> None:
            signal = int(gathered(np.int32(requested() or 0)).max())
            if signal:
                raise Stopped(signal, name, step)

        return Part(None, lambda like: None, offer)

    return Keeper(part, lambda name: None, lambda: None, lambda: None)
