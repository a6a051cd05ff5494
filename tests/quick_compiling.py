"""Compiling the programs of tests quickly rather than well, which is most of the time they take.

With few of LLVM's passes, each program in one piece, and loops by XLA's older emitters, a program
compiles in a quarter of the time. `FEDJAX_KD_TESTS_COMPILE=shipped` compiles as users do.
"""

import os

FLAGS = ("--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1")
WAYS = ("quick", "shipped")


def compiling() -> dict[str, str]:
    """What a process needs in its environment, before it imports JAX, to compile as tests do."""
    way = os.environ.get("FEDJAX_KD_TESTS_COMPILE", WAYS[0])
    if way not in WAYS:
        raise ValueError(
            f"FEDJAX_KD_TESTS_COMPILE: found {way!r}; allowed: {', '.join(map(repr, WAYS))}"
        )
    if way == "shipped":
        return {}
    return {"XLA_FLAGS": " ".join(FLAGS), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
