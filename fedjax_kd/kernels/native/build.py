"""Compiles the C++ files of this folder into one shared library, once for a machine and version.

The library's name tells all that it depends on: the sources, jaxlib (whose headers it includes),
the compiler and the processor. A library of that name is therefore never rebuilt or changed, and
any number of processes may build at once: each compiles in a folder of its own and moves the
finished library into place in one step, where it replaces at most its equal.

`-ffast-math` must never be among the flags: code so linked switches the whole process to flushing
denormal numbers to zero when it is loaded, and NaN no longer propagates.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import jax
import jaxlib.version

from fedjax_kd.kernels.native.errors import NativeUnavailable
from fedjax_kd.kernels.native.private_folder import check_private, make_private
from fedjax_kd.kernels.native.targets import SOURCE_FOLDER, present_sources
from fedjax_kd.kernels.native.toolchain import INSTRUCTION_SETS, Toolchain

FLAGS = ("-std=c++17", "-O3", "-fPIC", "-ffp-contract=fast", "-Wall", "-Wextra")
_LIMIT_S = 300.0

_log = logging.getLogger(__name__)


class Built(NamedTuple):
    """A library that is ready to be loaded."""

    path: Path
    fresh: bool  # whether it was compiled just now


def build_library(toolchain: Toolchain, folder: Path, sources: Path = SOURCE_FOLDER) -> Built:
    """Finds the library in the folder, or compiles it.

    Args:
        toolchain: as `find_toolchain` returns.
        folder: where libraries are kept; made private to the user.
        sources: the folder of the C++ files and headers.

    Returns:
        The library.

    Raises:
        NativeUnavailable: if the folder is not the user's alone, or the compiler fails.
    """
    make_private(folder)
    library = folder / f"kernels-{toolchain.instruction_set}-{_key(toolchain, sources)}.so"
    if library.exists():
        check_private(library)
        return Built(library, fresh=False)
    _log.info(
        "compiling the native kernels for %s with %s (some seconds, once)",
        toolchain.instruction_set,
        toolchain.command[0],
    )
    start_s = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as scratch:
            linked = _compile(toolchain, present_sources(sources), Path(scratch))
            linked.chmod(0o700)
            os.replace(linked, library)
    except OSError as error:
        raise NativeUnavailable(f"the library cannot be written ({error})") from error
    _log.info("compiled the native kernels in %.1f s: %s", time.monotonic() - start_s, library)
    return Built(library, fresh=True)


def _flags(toolchain: Toolchain) -> tuple[str, ...]:
    return FLAGS + INSTRUCTION_SETS[toolchain.instruction_set][1]


def _key(toolchain: Toolchain, sources: Path) -> str:
    digest = hashlib.sha256()
    told = (*toolchain.command, *_flags(toolchain), toolchain.fingerprint)
    digest.update("\0".join((jaxlib.version.__version__, *told)).encode())
    headers = sorted(sources.glob("*.h"))
    for path in (*present_sources(sources), *headers):
        digest.update(f"\0{path.name}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:20]


def _compile(toolchain: Toolchain, sources: tuple[Path, ...], scratch: Path) -> Path:
    """Compiles all files at the same time, one process each, and links them."""
    if not sources:
        raise NativeUnavailable("the package has come without its C++ files")
    include = ("-isystem", jax.ffi.include_dir())
    objects = [scratch / f"{source.stem}.o" for source in sources]
    library = scratch / "kernels.so"
    compiler = (*toolchain.command, *_flags(toolchain))
    deadline_s = time.monotonic() + _LIMIT_S
    with ExitStack() as stack:
        running = []
        for source, made in zip(sources, objects, strict=True):
            process = _start((*compiler, *include, "-c", str(source), "-o", str(made)))
            running.append(stack.enter_context(process))
            stack.callback(process.kill)  # before it is waited for; does nothing if it has ended
        for process in running:
            _finish(process, deadline_s)
        linker = (*compiler, "-shared", *map(str, objects), "-o", str(library))
        linking = stack.enter_context(_start(linker))
        stack.callback(linking.kill)
        _finish(linking, deadline_s)
    return library


def _start(command: tuple[str, ...]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    except OSError as error:
        raise NativeUnavailable(f"{command[0]} cannot be run ({error.strerror})") from error


def _finish(process: subprocess.Popen[str], deadline_s: float) -> None:
    try:
        _, said = process.communicate(timeout=max(0.0, deadline_s - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise NativeUnavailable(f"the compiler took more than {_LIMIT_S:.0f} s") from error
    if process.returncode != 0:
        lines = [line for line in said.splitlines() if "error" in line] or said.splitlines()
        why = lines[0].strip() if lines else f"exit status {process.returncode}"
        raise NativeUnavailable(f"the compiler failed: {why}")
