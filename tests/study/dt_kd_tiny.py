"""Settings of a DT-KD study that takes seconds."""

TINY = {
    "method": "dt_kd",
    "title": "tiny",
    "seeds": [0, 1],
    "data": {
        "source": "digits",
        "users": 4,
        "partition": {"kind": "dirichlet", "alpha": 0.5, "min_examples": 40},
        "max_train": 60,
        "common_test": 100,
    },
    "students": [{"name": "mlp", "hidden": [16]}, {"name": "mlp", "hidden": [64]}],
    "teacher": {
        "model": {"name": "mlp", "hidden": [128]},
        "rounds": 5,
        "training": {"epochs": 4},
    },
    "distillation": {"training": {"epochs": 8}},
    "twin": {"synchronised": 0.5},
    "objective": {"frontier_weights": [0.0, 0.5], "reference_draws": 32},
    "fedavg": {"rounds": 3},
    "policy": {"episodes": 400, "frontier_episodes": 100},
}
