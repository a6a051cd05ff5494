"""What a made-up study is called, how big it is, and its manifest."""

from __future__ import annotations

from dataclasses import dataclass

STUDENTS = ("mlp-32", "mlp-128", "lenet", "cnn5", "cnn1-x0.5")
PARAMETERS = (25_450, 101_770, 44_426, 62_346, 410_218)
FORWARD_FLOPS = (5.1e4, 2.0e5, 5.6e5, 2.4e6, 1.4e7)
POLICIES = (
    "q_learning",
    "q_learning_equal_split",
    "greedy",
    "all_device",
    "all_server",
    "random",
    "smallest",
    "largest",
    "no_distillation",
    "fedavg_smallest",
    "exhaustive",
)
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
EPOCHS = 20
RAW_BITS = 28 * 28 * 8


@dataclass(frozen=True)
class Size:
    """How big the made-up study is."""

    seeds: tuple[int, ...] = (0, 1, 2)
    users: int = 20
    students: tuple[str, ...] = STUDENTS
    policies: tuple[str, ...] = POLICIES
    classes: tuple[str, ...] = FASHION
    title: str = "DT-KD on Fashion-MNIST, 20 users"
    synchronised: float = 0.5


def _profile(label: str, parameters: int, forward_flops: float) -> dict:
    return {
        "label": label,
        "parameters": parameters,
        "forward_flops": forward_flops,
        "training_flops": 3 * forward_flops,
        "bits": 32 * parameters,
    }


def manifest_of(size: Size, per_seed: list[dict]) -> dict:
    return {
        "format": 1,
        "method": "dt_kd",
        "title": size.title,
        "settings": {
            "method": "dt_kd",
            "title": size.title,
            "seeds": list(size.seeds),
            "data": {
                "source": "fashion_mnist",
                "users": size.users,
                "partition": {"kind": "dirichlet", "alpha": 0.5, "min_examples": 10},
                "max_train": 300,
            },
            "students": [{"name": name, "width": None} for name in size.students],
            "teacher": {"model": {"name": "cnn1"}, "mode": "federated", "rounds": 20},
            "distillation": {"temperature": 3.0, "weight": 0.7, "training": {"epochs": EPOCHS}},
            "twin": {"synchronised": size.synchronised, "unsynchronised_labels": "none"},
            "objective": {"delay_weight": 0.5, "delay": "sum", "accuracy": "personal"},
            "policy": {"episodes": 20_000, "learning_rate": 0.1, "discount": 1.0},
            "allocation": {"method": "projected_gradient"},
        },
        "settings_hash": "6d0c3f9a51be77e2",
        "status": "complete",
        "versions": {"fedjax_kd": "0.1.0", "jax": "0.10.2", "python": "3.11.7"},
        "machine": {"platform": "Linux", "cpu_count": 2, "devices": ["cpu"]},
        "execution": {"form": "loop", "devices": 2},
        "started": "2026-01-12T09:30:00+00:00",
        "elapsed_s": {"data": 3.1, "teacher": 212.4, "profile": 540.2, "policies": 31.0},
        "seeds": list(size.seeds),
        "students": [
            _profile(*row) for row in zip(size.students, PARAMETERS, FORWARD_FLOPS, strict=False)
        ],
        "teacher": _profile("cnn1", 582_026, 2.8e7),
        "classes": len(size.classes),
        "class_names": list(size.classes),
        "raw_bits_per_example": RAW_BITS,
        "system": {"constants": {"uplink_hz": 2e7, "downlink_hz": 2e7}, "per_seed": per_seed},
    }
