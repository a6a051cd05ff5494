"""The C++ compiler of the machine, and the widest vector instructions that it may be told to use.

One call of the compiler answers all: asked for the machine it runs on (`-march=native`), it lists
its predefined macros, among them one for every instruction set that the processor has, and its own
version. What it lists is also what a library built with it depends on.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from fedjax_kd.kernels.native.errors import NativeUnavailable

COMPILERS = ("g++", "c++")  # the sources use vector shuffles that GCC alone has

# From the widest to none: the macros that must be defined, and the flags that allow their use.
INSTRUCTION_SETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "avx512": (
        ("__AVX512F__", "__AVX512BW__", "__AVX512DQ__", "__AVX512VL__", "__FMA__"),
        (
            "-mavx512f",
            "-mavx512bw",
            "-mavx512dq",
            "-mavx512vl",
            "-mavx2",
            "-mfma",
            "-mprefer-vector-width=512",
        ),
    ),
    "avx2": (("__AVX2__", "__FMA__"), ("-mavx2", "-mfma")),
    "plain": ((), ()),
}

_PROBE_LIMIT_S = 30.0


class Toolchain(NamedTuple):
    """A compiler and what it may be told."""

    command: tuple[str, ...]  # the compiler and the words that the user put behind it
    version: str  # as the compiler names itself
    instruction_set: str  # a key of INSTRUCTION_SETS
    fingerprint: str  # hex digest of the compiler's macros: its version and the processor's flags


def find_toolchain(environment: Mapping[str, str]) -> Toolchain:
    """Finds the compiler and asks it for the processor's instruction sets.

    Args:
        environment: `CXX` names the compiler (by default the first of `COMPILERS` on `PATH`);
            `FEDJAX_KD_INSTRUCTION_SET` narrows the instructions to one of `INSTRUCTION_SETS`.

    Returns:
        The toolchain.

    Raises:
        NativeUnavailable: if there is no compiler or it does not answer, or the instruction set is
            unknown or not one of this processor.
    """
    command = _compiler(environment)
    macros = _macros(command, ("-march=native",)) or _macros(command, ())
    if macros is None:
        raise NativeUnavailable(f"the compiler {shlex.join(command)!r} does not work")
    defined = set(re.findall(r"^#define (\w+)", macros, re.MULTILINE))
    able = [name for name, (needed, _) in INSTRUCTION_SETS.items() if defined.issuperset(needed)]
    chosen = environment.get("FEDJAX_KD_INSTRUCTION_SET") or able[0]
    if chosen not in able:
        raise NativeUnavailable(
            f"FEDJAX_KD_INSTRUCTION_SET={chosen!r}: this processor has {', '.join(able)}"
        )
    named = re.search(r'^#define __VERSION__ "(.*)"', macros, re.MULTILINE)
    version = named[1] if named else "unknown version"
    return Toolchain(command, version, chosen, hashlib.sha256(macros.encode()).hexdigest())


def _compiler(environment: Mapping[str, str]) -> tuple[str, ...]:
    path = environment.get("PATH", "")
    wanted = environment.get("CXX")
    if wanted:
        words = shlex.split(wanted)
        found = shutil.which(words[0], path=path)
        if found is None:
            raise NativeUnavailable(f"there is no compiler CXX={wanted!r}")
        return (found, *words[1:])
    for name in COMPILERS:
        found = shutil.which(name, path=path)
        if found is not None:
            return (found,)
    raise NativeUnavailable(f"there is no C++ compiler ({', '.join(COMPILERS)}) on PATH")


def _macros(command: tuple[str, ...], flags: tuple[str, ...]) -> str | None:
    """The compiler's predefined macros under some flags; None if it refuses."""
    try:
        answer = subprocess.run(
            [*command, *flags, "-dM", "-E", "-x", "c++", "-"],
            input="",
            capture_output=True,
            text=True,
            timeout=_PROBE_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout if answer.returncode == 0 else None
