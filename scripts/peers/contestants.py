"""Who takes part: how each contestant is started, and which of them count as one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

MODELS = {"cnn1": "CNN", "lenet": "LeNet", "mlp": "MLP", "resnet8": "ResNet-8"}
METHODS = {"fedavg": "FedAvg", "fd": "FD"}
CONVOLUTIONAL = ("cnn1", "lenet", "resnet8")

OURS, CANONICAL = "ours", "ours_canonical"

Interpreter = Literal["ours", "torch", "fedjax", "pfl", "flower"]


class Entry(NamedTuple):
    """One contestant.

    Attributes:
        label: what it is called in tables and pictures.
        group: contestants of one group are variants of each other, of which the fastest counts.
        module: under `peers`, what its process runs.
        interpreter: which Python runs it.
        methods: what it can do.
        models: what it is run on.
        options: sent along with every job.
        environment: set for its process.
        sitting: contestants of one sitting take turns; ours is in all of them. Flower sits apart,
            since Ray's daemons never rest.
    """

    label: str
    group: str
    module: str
    interpreter: Interpreter
    methods: tuple[str, ...] = tuple(METHODS)
    models: tuple[str, ...] = tuple(MODELS)
    options: Mapping[str, Any] = MappingProxyType({})
    environment: Mapping[str, str] = MappingProxyType({})
    sitting: int = 1


def _torch(label: str, module: str, form: str = "contiguous", **more: Any) -> Entry:
    settings: dict[str, Any] = {"interpreter": "torch", "group": module} | more
    last = form == "channels_last"
    return Entry(
        label=f"{label}, channels last" if last else label,
        module=module,
        models=CONVOLUTIONAL if last else tuple(MODELS),
        options={"format": form},
        **settings,
    )


_PFL: dict[str, Any] = {"interpreter": "pfl", "methods": ("fedavg",)}
_LAST = "channels_last"

CONTESTANTS: dict[str, Entry] = {
    OURS: Entry(
        "ours, native kernels",
        OURS,
        "ours",
        "ours",
        options={"native": True},
        environment={"FEDJAX_KD_KERNELS": "auto"},
    ),
    CANONICAL: Entry(
        "ours, canonical kernels",
        CANONICAL,
        "ours",
        "ours",
        options={"native": False},
        environment={"FEDJAX_KD_KERNELS": "canonical"},
    ),
    "torch_sequential": _torch("PyTorch, one after another", "torch_sequential"),
    "torch_sequential_channels_last": _torch(
        "PyTorch, one after another", "torch_sequential", _LAST
    ),
    "torch_two_workers": _torch("PyTorch, two workers", "torch_two_workers"),
    "torch_two_workers_channels_last": _torch("PyTorch, two workers", "torch_two_workers", _LAST),
    "torch_vmap": _torch("torch.func vmap", "torch_vmap"),
    "fedjax": Entry("FedJAX", "fedjax", "fedjax_jit", "fedjax"),
    "pfl": _torch("pfl", "pfl_simulation", **_PFL),
    "pfl_channels_last": _torch("pfl", "pfl_simulation", _LAST, **_PFL),
    "flower": Entry(
        "Flower with Ray",
        "flower",
        "flower_ray",
        "flower",
        methods=("fedavg",),
        sitting=2,
    ),
}

GROUP_LABELS = {
    entry.group: entry.label for entry in reversed(CONTESTANTS.values())
}  # of the variants, the first one's label


def options_for(name: str, model: str, threads: int) -> dict[str, Any]:
    """What a contestant is told beside the job.

    Flower's clients have one thread each, with which channels last was the faster format for the
    two networks of 5x5 convolutions, and the slower one for the ResNet. Our canonical convolutions
    are known to be slow for several clients at once: that form is not even tried for them, since
    the trial would take minutes.
    """
    options = {"threads": threads, **CONTESTANTS[name].options}
    if name == "flower":
        options["format"] = "channels_last" if model in ("cnn1", "lenet") else "contiguous"
    if CONTESTANTS[name].interpreter == "ours":
        options["forms"] = ["sequential"] if name == CANONICAL and model != "mlp" else None
    return options
