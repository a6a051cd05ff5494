"""The contestants of made-up studies in rounds, and the models of their users."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Made:
    """One made-up contestant: where its views end, how fast they rise, and what its phases cost."""

    name: str
    title: str
    views: tuple[tuple[str, float, float], ...]  # name, final common and personal accuracy
    speed: float = 8.0
    phases: tuple[tuple[str, float, float], ...] = (("round", 1.0, 1.0),)  # name, work, bits
    peer: bool = False
    server: float = 0.0


METHODS: dict[str, tuple[Made, ...]] = {
    "family": (
        Made("fedavg", "FedAvg", (("model", 0.71, 0.66),), 9, (("round", 1.0, 4.0),)),
        Made("local", "Local", (("own", 0.42, 0.80),), 5, (("round", 1.0, 0.0),)),
        Made(
            "fedproto",
            "FedProto",
            (("prototype", 0.45, 0.84), ("head", 0.41, 0.81)),
            6,
            (("round", 1.1, 0.2),),
        ),
        Made(
            "feddf",
            "FedDF",
            (("model", 0.78, 0.70),),
            8,
            (("train", 1.0, 4.0), ("distil", 0.0, 0.0)),
            server=5.0,
        ),
    ),
    "on_device_kd": (
        Made(
            "on_device_kd",
            "On-device KD",
            (("target", 0.78, 0.74), ("auxiliary", 0.70, 0.66)),
            10,
            (("auxiliary", 1.0, 1.0), ("target", 6.0, 4.0)),
        ),
        Made("target_only", "Target only", (("target", 0.72, 0.70),), 9, (("target", 4.0, 4.0),)),
        Made(
            "auxiliary_only",
            "Auxiliary only",
            (("auxiliary", 0.70, 0.66),),
            6,
            (("auxiliary", 1.0, 1.0),),
        ),
        Made(
            "server_ensemble",
            "Server-side logit ensemble",
            (("target", 0.776, 0.735), ("auxiliary", 0.70, 0.66)),
            12,
            (("auxiliary", 1.0, 1.0), ("logits", 0.4, 2.0)),
            server=9.0,
        ),
        Made(
            "kd_only",
            "Distillation only",
            (("target", 0.69, 0.64), ("auxiliary", 0.70, 0.66)),
            9,
            (("auxiliary", 1.0, 1.0), ("target", 3.0, 4.0)),
        ),
    ),
    "dfml": (
        Made(
            "dfml",
            "DFML",
            (("peak", 0.70, 0.66), ("regular", 0.62, 0.60)),
            12,
            (("gather", 0.0, 2.0), ("mutual_learning", 5.0, 2.0)),
            peer=True,
        ),
        Made(
            "decentralised_fedavg",
            "Decentralised FedAvg",
            (("model", 0.42, 0.5),),
            8,
            (("train", 5.0, 2.0), ("average", 0.1, 2.0)),
            peer=True,
        ),
        Made(
            "decentralised_fedavg_wsm",
            "Decentralised FedAvg, weighted softmax",
            (("model", 0.55, 0.54),),
            9,
            (("train", 5.0, 2.0), ("average", 0.1, 2.0)),
            peer=True,
        ),
        Made(
            "def_kt",
            "Def-KT",
            (("model", 0.48, 0.57),),
            14,
            (("train", 4.0, 1.0), ("transfer", 2.0, 0.0)),
            peer=True,
        ),
        Made(
            "dfml_constant_alpha",
            "DFML, constant α",
            (("peak", 0.60, 0.58), ("regular", 0.60, 0.58)),
            14,
            (("gather", 0.0, 2.0), ("mutual_learning", 5.0, 2.0)),
            peer=True,
        ),
    ),
    "pfedafm": (
        Made(
            "pfedafm",
            "pFedAFM",
            (("model", 0.30, 0.90),),
            9,
            (("stage_1", 3.0, 1.0), ("stage_2", 1.0, 1.0)),
        ),
        Made("local", "Local training", (("model", 0.26, 0.885),), 5, (("round", 3.0, 0.0),)),
        Made(
            "lg_fedavg",
            "LG-FedAvg",
            (("averaged", 0.33, 0.87), ("trained", 0.30, 0.88)),
            7,
            (("round", 3.0, 0.1),),
        ),
        Made("fedproto", "FedProto", (("model", 0.27, 0.889),), 6, (("round", 3.3, 0.05),)),
        Made(
            "pfedafm_released_code",
            "pFedAFM, released code",
            (("model", 0.28, 0.88),),
            9,
            (("stage_1", 3.0, 1.0), ("stage_2", 1.0, 1.0)),
        ),
    ),
}

MODELS = (
    ("mlp-64", 5.1e4),
    ("lenet", 6.2e4),
    ("cnn5-x0.5", 2.0e5),
    ("cnn5", 5.3e5),
    ("cnn1", 2.0e6),
)
