"""Strict numerics and two host devices for every test; how tests are shared out over processes.

A group of tests runs in one process: those of a file, so that its fixtures are made once, or, of
the laws that every method of the catalog obeys, those of one method. After each group the programs
that it compiled are dropped. They are memory maps, a few for each program, of which Linux allows a
process 65,530: past them XLA ends it with a segmentation fault.
"""

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

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


def group_of(item: pytest.Item) -> str:
    """The name of the group of tests that a test belongs to."""
    method = getattr(item, "callspec", None) if item.path.name == BY_METHOD else None
    return f"{item.path.name} {method.params.get('name', '') if method else ''}".strip()


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None):
    yield
    if nextitem is None or group_of(nextitem) != group_of(item):
        jax.clear_caches()
