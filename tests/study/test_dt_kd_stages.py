"""How the stages of a study cut the clients up, and the study's other forms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from dt_kd_tiny import TINY

from fedjax_kd.study.check import check_study
from fedjax_kd.study.dt_kd_assemble import NO_LABELS, SoftLabels, kind_at, wanted_students
from fedjax_kd.study.dt_kd_setup import prepare
from fedjax_kd.study.dt_kd_students import CLIENTS_PER_CHUNK, chunks
from fedjax_kd.study.folder import open_folder
from fedjax_kd.study.load import settings_from_dict
from fedjax_kd.study.progress import Progress, quiet
from fedjax_kd.study.run_dt_kd import run_study
from fedjax_kd.training import Execution, default_execution


@pytest.mark.parametrize("n_devices", [1, 2])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_chunks_divide_the_wanted_clients_evenly_over_devices(n_devices, share):
    execution = Execution("sequential", tuple(jax.local_devices()[:n_devices]))
    wanted = np.random.default_rng(0).random(41) < share
    parts = list(chunks(wanted, execution))
    covered = np.zeros(41, int)
    for part in parts:
        covered += part
        blocks = np.array_split(np.pad(part, (0, -41 % n_devices)), n_devices)
        assert all(block.sum() <= CLIENTS_PER_CHUNK for block in blocks)
    np.testing.assert_array_equal(covered, wanted)


def test_vmapped_clients_make_one_chunk():
    execution = Execution("vmap", tuple(jax.local_devices()[:1]))
    assert len(list(chunks(np.ones(100, bool), execution))) == 1


def test_wanted_students_are_those_that_some_policy_chose_and_their_undistilled_twins():
    # Two students; actions 0, 1 on the device and 2, 3 at the server.
    actions = {"q_learning": jnp.array([[0, 3]]), "random": jnp.array([[2, 3]])}
    kinds = {name: SoftLabels(name, jnp.zeros(2)) for name in (NO_LABELS, "synchronised", "all")}
    wanted = wanted_students(actions, kinds, ("synchronised", "all"), 2)
    assert wanted["synchronised"].tolist() == [[True, False], [False, False]]
    assert wanted["all"].tolist() == [[True, False], [False, True]]
    assert wanted[NO_LABELS].tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize(
    ("twin", "want"),
    [
        ({"synchronised": 1.0}, ("all", "all")),
        ({"synchronised": 0.5}, ("synchronised", "all")),
        ({"synchronised": 0.5, "unsynchronised_labels": "free"}, ("all", "all")),
    ],
)
def test_a_device_gets_soft_labels_for_what_the_twin_holds(twin, want):
    settings: Any = settings_from_dict({**TINY, "twin": twin})
    assert kind_at(settings) == want


def test_a_share_that_leaves_the_teacher_nothing_is_refused():
    settings: Any = settings_from_dict(TINY, ["twin.synchronised=0.005"])
    with pytest.raises(ValueError, match=r"twin.synchronised: found 0.005.*seed 0"):
        prepare(settings, default_execution(1))


def test_a_model_that_does_not_fit_the_examples_is_refused_by_its_path():
    settings: Any = settings_from_dict(TINY, ["students.1={name: cnn1d}"])
    check_study(settings)
    with pytest.raises(ValueError, match=r"^students.1: .*cnn1d"):
        prepare(settings, default_execution(1))


def test_a_pooled_teacher_and_a_makespan_study_run_from_end_to_end(tmp_path):
    """The other branches: everything synchronised, both accuracies, the slowest user's delay."""
    settings: Any = settings_from_dict(
        TINY,
        [
            "seeds=[0]",
            "twin.synchronised=1.0",
            "teacher.mode=pooled",
            "objective.delay=makespan",
            "objective.accuracy=both",
            "policy.exhaustive_limit=0",
            "policy.episodes=100",
        ],
    )
    folder = open_folder(tmp_path / "other", settings)
    try:
        run_study(settings, folder, progress=Progress(quiet()))
    finally:
        folder.close()
    decisions = pd.read_parquet(tmp_path / "other/decisions.parquet")
    metrics = pd.read_parquet(tmp_path / "other/metrics.parquet")
    assert "exhaustive" not in set(decisions.policy)
    assert set(decisions.synchronised - decisions.samples) == {0}
    values = metrics.set_index(["scope", "metric"]).value
    reference_s = values[("study", "reference_delay_s")]
    for policy, rows in decisions.groupby("policy"):
        accuracy = (rows.accuracy_personal + rows.accuracy_common).mean() / 2
        want = accuracy - 0.5 * rows.delay_s.max() / reference_s
        assert values[(f"policy/{policy}", "utility")] == pytest.approx(want, rel=1e-3)
