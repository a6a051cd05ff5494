"""Methods of every kind over two processes give what they give over one.

Two processes of one device each run the same programs as one process of two devices, so they differ
from one device only as two devices do: float32 sums over clients are taken in another order, 1e-7
per step, which stays below 2e-6 over three rounds; the tolerance leaves that a factor of five.
(The processes also compile with fewer optimisations, to be fast, which moves sums as little.)
"""

from pathlib import Path

import catalog_cases as cases
import numpy as np
import pytest
from process_pair import run_pair

RELATIVE, ABSOLUTE = 1e-5, 1e-5


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The arrays of each of the two processes."""
    folder = tmp_path_factory.mktemp("processes")
    script = Path(__file__).with_name("catalog_process.py")
    ended = run_pair(script, str(folder / "{process}.npz"))
    assert [process.code for process in ended] == [0, 0], ended
    return [dict(np.load(folder / f"{process}.npz")) for process in (0, 1)]


def test_the_clients_were_divided_between_the_processes(found):
    assert found[0]["devices"].tolist() == [0, 1]


@pytest.mark.parametrize("name", cases.ON_SEVERAL_HOSTS)
def test_two_processes_agree_with_one(name, found):
    want = cases.run_reference(name, cases.reference_execution())
    assert want
    for path, array in want.items():
        np.testing.assert_allclose(found[0][name + path], array, RELATIVE, ABSOLUTE, err_msg=path)


def test_both_processes_read_the_same_bits(found):
    assert found[0].keys() == found[1].keys()
    for path, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][path], err_msg=path)
