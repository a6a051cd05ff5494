"""Who takes part, what the methods are called, and how much work each is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from .job import Terms

METHODS = {"on_device_kd": "on-device KD", "dfml": "DFML", "pfedafm": "pFedAFM"}
OURS, CANONICAL, JAX_LOOP = "ours", "ours_canonical", "jax_loop"


class Entry(NamedTuple):
    """One contestant.

    Attributes:
        label: what it is called in tables and pictures.
        group: contestants of one group are variants of each other, of which the fastest counts.
        module: under `method_rounds`, what its process runs.
        interpreter: which Python runs it.
        options: sent along with every job.
        environment: set for its process.
    """

    label: str
    group: str
    module: str
    interpreter: Literal["ours", "torch"]
    options: Mapping[str, Any] = MappingProxyType({})
    environment: Mapping[str, str] = MappingProxyType({})


CONTESTANTS: dict[str, Entry] = {
    OURS: Entry(
        "ours, native kernels",
        OURS,
        "ours",
        "ours",
        {"native": True},
        {"FEDJAX_KD_KERNELS": "auto"},
    ),
    CANONICAL: Entry(
        "ours, canonical kernels",
        CANONICAL,
        "ours",
        "ours",
        {"native": False},
        {"FEDJAX_KD_KERNELS": "canonical"},
    ),
    JAX_LOOP: Entry("JAX, a loop over clients", JAX_LOOP, "jax_loop", "ours"),
    "torch_loop": Entry(
        "PyTorch, a loop over clients",
        "torch_loop",
        "torch_loop",
        "torch",
        {"format": "contiguous"},
    ),
    "torch_loop_channels_last": Entry(
        "PyTorch, a loop over clients, channels last",
        "torch_loop",
        "torch_loop",
        "torch",
        {"format": "channels_last"},
    ),
}
GROUP_LABELS = {
    entry.group: entry.label for entry in reversed(CONTESTANTS.values())
}  # of the variants, the first one's label

_CNNS = tuple((f"cnn{number}", 1.0) for number in range(1, 6))
_SMALL = (("lenet", 0.5), ("lenet", 1.0), ("lenet", 1.5), ("cnn5", 0.25), ("cnn5", 0.5))

SIZES: dict[str, Terms] = {
    "on_device_kd": Terms(
        method="on_device_kd",
        architectures=(("lenet", 0.5), ("resnet8", 1.0)),
        shared=(),
        clients=20,
        examples=160,
        batch_size=32,
        passes=30,
        strong=4,
        soft_examples=320,
        chosen=10,
        learning_rate=0.005,
        momentum=0.9,
        weight_decay=2e-4,
        gradient_clip=0.0,
        temperature=3.0,
        n_classes=10,
        seed=1,
        first_round=150,
    ),
    "dfml": Terms(
        method="dfml",
        architectures=_SMALL,
        shared=(),
        clients=20,
        examples=320,
        batch_size=64,
        passes=10,
        strong=0,
        soft_examples=0,
        chosen=10,
        learning_rate=0.01,
        momentum=0.9,
        weight_decay=5e-4,
        gradient_clip=0.0,
        temperature=1.0,
        n_classes=10,
        seed=1,
        first_round=3,
    ),
    "pfedafm": Terms(
        method="pfedafm",
        architectures=_CNNS,
        shared=("cnn5", 1.0),
        clients=20,
        examples=192,
        batch_size=64,
        passes=2,
        strong=0,
        soft_examples=0,
        chosen=20,
        learning_rate=0.01,
        momentum=0.9,
        weight_decay=1e-3,
        gradient_clip=50.0,
        temperature=1.0,
        n_classes=10,
        seed=1,
        first_round=0,
    ),
}
"""How much work a round is. As the papers' code has it: on-device KD's batches, steps, momentum,
decay and temperature; pFedAFM's architectures, momentum, decay and clipping. DFML has no code, and
batches, epochs, momentum and decay are remembered, not confirmed. All else is ours: numbers of
clients and examples, pFedAFM's smaller batches and fewer epochs, for rounds of about a second, and
learning rates small enough for rounding errors not to grow much within a round.
"""


def quick(terms: Terms) -> Terms:
    """Small sizes, to see that all works."""
    small = replace(terms, clients=4, examples=2 * terms.batch_size, passes=1)
    if terms.method == "on_device_kd":
        return replace(small, chosen=2, strong=2, soft_examples=terms.batch_size, passes=2)
    chosen = 4 if terms.method == "pfedafm" else 3
    return replace(small, chosen=chosen, architectures=terms.architectures[-2:])
