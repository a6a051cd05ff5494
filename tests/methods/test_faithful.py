"""The HtFLlib forms on the embedded digits against loops that share no code with the package."""

import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from fedjax_kd.data import load_source
from fedjax_kd.models import build_model

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from faithful import loop, ours
from faithful.differences import curves, largest, lines_of, norm
from faithful.job import Terms, load_job, load_outcome, save_job, save_outcome
from faithful.numpy_network import NumpyNetwork
from faithful.setting import Clients, job_of, setting, split_of

CLIENTS = Clients(clients=4, alpha=0.5, min_examples=40)
TERMS = Terms("fd", "mlp", rounds=4, checked=3, n_classes=10, learning_rate=0.05)
WEIGHTS = {"fedavg": 0.0, "fd": 1.0, "fedproto": 10.0}


@pytest.fixture(scope="module")
def digits():
    return load_source("digits")


@pytest.fixture(scope="module")
def split(digits):
    return split_of(digits, CLIENTS)


def both(terms, digits, split, solo):
    """The job, our outcome and NumPy's."""
    case = setting(terms, digits, split, solo)
    job = job_of(case, digits, split)
    return job, ours.run(case), loop.run(job, NumpyNetwork(terms))


@pytest.mark.parametrize("method", list(WEIGHTS))
def test_every_round_leaves_the_parameters_of_a_loop_in_numpy(method, digits, split, solo):
    """Ours in single, the loop in double precision, from the same weights on the same batches."""
    terms = replace(TERMS, method=method, weight=WEIGHTS[method])
    job, mine, other = both(terms, digits, split, solo)
    lines = lines_of(job, mine, other)
    for line in lines[1:4]:
        assert line.largest < 1e-5
        assert line.relative < 1e-5
    assert np.isnan([lines[0].largest, lines[4].largest]).all()
    _, my_curve, other_curve = curves(lines, method)
    np.testing.assert_allclose(my_curve, other_curve, atol=1e-12)
    assert my_curve[-1] > 0.5 > my_curve[0]
    assert (my_curve[0] == 0.0) == (method == "fedproto")
    assert norm(other.parameters[-1], job.weights) > 1.0


@pytest.mark.parametrize("method", ["fd", "fedproto"])
def test_what_is_exchanged_shows_in_the_comparison(method, digits, split, solo):
    """The comparison would notice a loop that exchanges nothing, from the second round on."""
    terms = replace(TERMS, method=method, weight=WEIGHTS[method], rounds=2, checked=2)
    job, mine, _ = both(terms, digits, split, solo)
    alone = loop.run(job, NumpyNetwork(replace(terms, weight=0.0)))
    assert largest(mine.parameters[0], alone.parameters[0]) < 1e-5
    assert largest(mine.parameters[1], alone.parameters[1]) > 1e-3


def test_examples_that_fill_no_batch_are_left_out(digits, split, solo):
    case = setting(TERMS, digits, split, solo)
    job = job_of(case, digits, split)
    for k, rows in enumerate(job.train):
        seen = np.concatenate([labels for _, labels in loop.batches(job, k)])
        assert len(seen) == len(rows) // 10 * 10
        np.testing.assert_array_equal(seen, job.labels[rows[: len(seen)]])
    assert any(len(rows) % 10 for rows in job.train)


def test_jobs_and_outcomes_are_read_as_they_were_written(tmp_path, digits, split, solo):
    case = setting(TERMS, digits, split, solo)
    job = job_of(case, digits, split)
    save_job(tmp_path / "job.npz", job)
    again = load_job(tmp_path / "job.npz")
    assert again.terms == job.terms
    for first, second in zip(jax.tree.leaves(job[1:]), jax.tree.leaves(again[1:]), strict=True):
        np.testing.assert_array_equal(first, second)
    found = loop.Outcome(np.array([0.1, 0.5]), [job.weights])
    save_outcome(tmp_path / "found.npz", found)
    back = load_outcome(tmp_path / "found.npz")
    np.testing.assert_array_equal(back.accuracy, found.accuracy)
    assert largest(back.parameters[0], job.weights) == 0.0
    with pytest.raises(ValueError, match="not of one network"):
        largest(back.parameters[0], {"head/bias": np.zeros(10)})


@pytest.mark.parametrize(
    ("shape", "n_classes", "size"),
    [((32, 32, 3), 10, 878_538), ((32, 32, 3), 100, 924_708), ((28, 28, 1), 10, 582_026)],
)
def test_the_cnn_of_htfllib_has_its_number_of_parameters(shape, n_classes, size):
    model = build_model("fedavg_cnn", input_shape=shape, n_classes=n_classes)
    params = jax.eval_shape(model.init, jax.random.key(0))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == size


@pytest.mark.parametrize("method", list(WEIGHTS))
def test_every_round_leaves_the_parameters_of_a_loop_in_pytorch(method, digits, split, solo):
    pytest.importorskip("torch")
    from faithful.torch_loop import TorchNetwork

    learning_rate = 0.05
    terms = Terms(method, "fedavg_cnn", 2, 2, 10, 10, learning_rate, WEIGHTS[method])
    few = replace(split, train=tuple(rows[:60] for rows in split.train))
    case = setting(terms, digits, few, solo)
    job = job_of(case, digits, few)
    lines = lines_of(job, ours.run(case), loop.run(job, TorchNetwork(job)))
    assert max(line.largest for line in lines[1:]) < 1e-5
    assert max(line.relative for line in lines[1:]) < 1e-4
    assert all(abs(line.ours - line.theirs) < 0.01 for line in lines)
