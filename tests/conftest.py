"""Strict numerics, two host devices and quick compiling; how tests are shared out over processes.

Programs are compiled quickly rather than well, and no tolerance is wider for it. Tests that are
marked `shipped`, which are about the bits of results, belong to a run with
`FEDJAX_KD_TESTS_COMPILE=shipped`, which compiles as users do.

A group of tests runs in one process: those of a file, so that its fixtures are made once, or, of
the laws that every method of the catalog obeys, those of one method. Compiled programs serve the
groups that follow in the same process, up to a limit: they are memory maps, a few for each program,
of which Linux allows a process 65,530, and past them XLA ends it with a segmentation fault.
"""

import gc
import os
from pathlib import Path

from quick_compiling import compiling

os.environ |= compiling()  # processes that a test starts inherit it

import jax
import pytest

gc.set_threshold(50_000)  # tracing makes many objects, few of them in cycles
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

MOST_MAPS = 8_000  # after a group; at 20,000 a process has grown to 6 GB
BY_METHOD = "test_catalog_laws.py"
LONG = {  # groups of a minute or so begin first, so that no process is left alone with one
    "test_catalog_hosts.py",
    "test_dt_kd_stages.py",
    "test_family_study.py",
    "test_hosts.py",
    "test_rounds_paper.py",
    "test_run_dt_kd.py",
    "test_run_rounds_study.py",
}


def memory_maps() -> int:
    """Of this process; where nobody counts them, one more than the limit."""
    try:
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:
        return MOST_MAPS + 1


def group_of(item: pytest.Item) -> str:
    """The name of the group of tests that a test belongs to."""
    method = getattr(item, "callspec", None) if item.path.name == BY_METHOD else None
    return f"{item.path.name} {method.params.get('name', '') if method else ''}".strip()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "shipped: about bits, so also run compiled as users do")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {group: i for i, group in enumerate(dict.fromkeys(map(group_of, items)))}
    items.sort(key=lambda item: (item.path.name not in LONG, place[group_of(item)]))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None):
    yield
    ends = nextitem is None or group_of(nextitem) != group_of(item)
    if ends and memory_maps() > MOST_MAPS:
        jax.clear_caches()
