"""Named arrays and a JSON through orbax, in one process and without a word on the terminal.

Orbax's plain saves are used, without its manager: that one wants every process of a study to take
part in each save, and its keep policy knows nothing of parts that end.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

_STATE, _ABOUT = "state", "about"
ABOUT_FILE = Path(_ABOUT, "metadata")  # where orbax puts the JSON


class OrbaxError(ValueError):
    """Arrays that orbax cannot read; the text names the kind of its own error."""


def save(path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Saves arrays and a JSON into a new folder.

    Args:
      path: the folder, absolute; orbax writes into one of a longer name and renames it.
      arrays: by any names; none may be without elements.
      about: the JSON.

    Raises:
      Exception: whatever orbax raises.
    """
    ocp = _orbax()
    items = {_ABOUT: ocp.args.JsonSave(about)}
    if arrays:
        items[_STATE] = ocp.args.PyTreeSave(dict(arrays))
    alone = _this_process(ocp)
    with ocp.Checkpointer(_handler(ocp, alone), multiprocessing_options=alone) as checkpointer:
        checkpointer.save(path, args=ocp.args.Composite(**items))


def load(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Reads all arrays that `save` wrote.

    Args:
      path: the folder.
      names: of the arrays.

    Raises:
      OrbaxError: they cannot be read.
    """
    if not names:
        return {}
    ocp = _orbax()
    alone = _this_process(ocp)
    wanted = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
    arguments = ocp.args.Composite(**{_STATE: ocp.args.PyTreeRestore(restore_args=wanted)})

    def read() -> dict[str, np.ndarray]:
        with ocp.Checkpointer(_handler(ocp, alone), multiprocessing_options=alone) as checkpointer:
            found = checkpointer.restore(path.resolve(), args=arguments)[_STATE]
        return {name: np.asarray(array) for name, array in found.items()}

    try:
        # Orbax takes a thread's event loop for its own: not that of whoever calls.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(read).result()
    except MemoryError:
        raise
    except Exception as error:  # it says so in any way
        raise OrbaxError(type(error).__name__) from error


def _orbax() -> Any:
    import orbax.checkpoint as ocp

    # Errors that orbax raises it also logs, with tracebacks; and what it had begun elsewhere when
    # it failed complains, later, that nobody waits for it any more.
    logging.getLogger("absl").addFilter(_not_from_orbax)
    if sys.unraisablehook is not _unraisable:
        _unraisable.others = sys.unraisablehook
        sys.unraisablehook = _unraisable
    return ocp


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in Path(record.pathname).parts


class _Unraisable:
    """Leaves what no code could catch to whoever was asked before, but for orbax's late callers."""

    others: Any = staticmethod(sys.__unraisablehook__)

    def __call__(self, unraisable: Any) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            self.others(unraisable)


_unraisable = _Unraisable()


def _this_process(ocp: Any) -> Any:
    """Options with which orbax waits for no other process."""
    index = jax.process_index()
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    return ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process-{index}"
    )


def _handler(ocp: Any, alone: Any) -> Any:
    # Parameters hardly shrink: compressing them costs time that the study needs.
    return ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=alone),
        **{
            _STATE: ocp.PyTreeCheckpointHandler(
                use_compression=False, multiprocessing_options=alone
            ),
            _ABOUT: ocp.JsonCheckpointHandler(multiprocessing_options=alone),
        },
    )
