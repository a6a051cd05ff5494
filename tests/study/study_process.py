"""One of the processes of `test_hosts.py`: a whole small study, started as the command starts it.

Words: coordinator, number of processes, index, folder.
"""

import sys
from typing import Any

from fedjax_kd.study.environment import prepare_backend
from fedjax_kd.study.folder import open_folder_together
from fedjax_kd.study.host_options import HostOptions
from fedjax_kd.study.hosts import agree, join, leave
from fedjax_kd.study.load import settings_from_dict, settings_hash
from fedjax_kd.study.progress import Progress, plain_lines, quiet
from fedjax_kd.study.run_dt_kd import run_study

TRAINING = {"epochs": 2}
SMALL = {
    "method": "dt_kd",
    "title": "two processes",
    "seeds": [0, 1],
    "data": {
        "source": "digits",
        "users": 3,
        "partition": {"kind": "iid"},
        "max_train": 40,
        "max_validation": 10,
        "max_test": 10,
        "common_validation": 40,
        "common_test": 40,
    },
    "students": [{"name": "mlp", "hidden": [8]}],
    "teacher": {"model": {"name": "mlp", "hidden": [8]}, "rounds": 3, "training": TRAINING},
    "distillation": {"training": TRAINING},
    "objective": {"frontier_weights": [0.5], "reference_draws": 8},
    "fedavg": {"rounds": 3, "training": TRAINING},
    "allocation": {"method": "closed_form"},
    "policy": {"episodes": 50, "frontier_episodes": 50, "exhaustive_limit": 0},
}


def main(coordinator: str, processes: str, process: str, path: str) -> int:
    several = int(processes) > 1
    prepare_backend(1 if several else 2)
    hosts = join(
        HostOptions(coordinator, int(processes), int(process)) if several else HostOptions()
    )
    settings: Any = settings_from_dict(SMALL)
    agree("settings", settings_hash(settings))
    folder = open_folder_together(hosts, path, settings)
    show = plain_lines(sys.stdout) if hosts.first else quiet()
    run_study(settings, folder, progress=Progress(show), form="sequential")
    folder.close()
    return leave(hosts, 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
