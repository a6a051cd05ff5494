"""One of the processes of `test_catalog_hosts.py`: the references of methods, kept as arrays.

Words: coordinator, number of processes, index, file to write.
"""

import sys

import catalog_cases as cases
import numpy as np

from fedjax_kd.study.host_options import HostOptions
from fedjax_kd.study.hosts import join, leave
from fedjax_kd.training import default_execution
from fedjax_kd.training.processes import meet


def main(coordinator: str, processes: str, process: str, path: str) -> int:
    hosts = join(HostOptions(coordinator, int(processes), int(process)))
    execution = default_execution()
    meet(execution)
    found = {"devices": np.asarray([device.process_index for device in execution.devices])}
    for name in cases.ON_SEVERAL_HOSTS:
        for where, array in cases.run_reference(name, execution).items():
            found[name + where] = array
    np.savez(path, allow_pickle=False, **found)
    return leave(hosts, 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
