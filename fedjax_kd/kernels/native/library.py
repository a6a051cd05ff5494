"""Loads the native library, once in a process, and makes its entry points known to JAX."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax

from fedjax_kd.kernels.native.build import build_library
from fedjax_kd.kernels.native.errors import NativeUnavailable
from fedjax_kd.kernels.native.private_folder import library_folder
from fedjax_kd.kernels.native.targets import present_targets
from fedjax_kd.kernels.native.toolchain import find_toolchain

_log = logging.getLogger(__name__)
_one_at_a_time = threading.Lock()


class NativeStatus(NamedTuple):
    """Whether this process has the native kernels, and why or why not."""

    available: bool
    reason: str  # one line: what was loaded, or what is missing
    instruction_set: str | None = None  # "avx512", "avx2" or "plain"
    library: Path | None = None
    compiler: str | None = None  # path and version
    built_now: bool = False  # by this process, rather than found in the cache


def native_status() -> NativeStatus:
    """Loads the native kernels if that has not been tried yet, and says what came of it.

    The first call in a process starts JAX's backend and may compile for some seconds; a failure is
    not tried again. Set `FEDJAX_KD_CACHE_DIR` to keep the library elsewhere than in the user's
    cache folder, `CXX` to name the compiler, `FEDJAX_KD_INSTRUCTION_SET` to narrow the
    instructions; all are read at the first call.

    Returns:
        The status.
    """
    with _one_at_a_time:
        return _status()


@cache
def _status() -> NativeStatus:
    platform = jax.default_backend()
    if platform != "cpu":
        reason = f"the platform is {platform}; native kernels are for the CPU"
        _log.info("canonical kernels are used: %s", reason)
        return NativeStatus(False, reason)
    try:
        toolchain = find_toolchain(os.environ)
        built = build_library(toolchain, library_folder(os.environ))
        register(built.path)
    except NativeUnavailable as error:
        _log.warning("canonical kernels are used, which are slower: %s", error)
        return NativeStatus(False, str(error))
    return NativeStatus(
        available=True,
        reason="compiled just now" if built.fresh else "found in the cache",
        instruction_set=toolchain.instruction_set,
        library=built.path,
        compiler=f"{toolchain.command[0]} {toolchain.version}",
        built_now=built.fresh,
    )


def register(library: Path, targets: tuple[str, ...] | None = None) -> None:
    """Loads a library and registers its entry points as FFI targets of the CPU.

    Args:
        library: a built library.
        targets: names of the entry points; None takes all that the sources have.

    Raises:
        NativeUnavailable: if it cannot be loaded or lacks an entry point.
    """
    names = present_targets() if targets is None else targets
    try:
        loaded = ctypes.CDLL(str(library))
        for name in names:
            capsule = jax.ffi.pycapsule(getattr(loaded, name))
            jax.ffi.register_ffi_target(name, capsule, platform="cpu")
    except (OSError, AttributeError) as error:
        raise NativeUnavailable(f"the library cannot be loaded ({error})") from error
