"""From settings to methods: every contestant is the method with the options that its name says."""

from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from rounds_tiny import TINY_ROUNDS

from fedjax_kd.methods.dfml_cycle import Schedule
from fedjax_kd.study import contestants as assembly
from fedjax_kd.study.contestant_names import CONTESTANTS
from fedjax_kd.study.load import settings_from_dict
from fedjax_kd.study.plan import make_plan
from fedjax_kd.study.rounds_memory import require_memory
from fedjax_kd.study.rounds_setup import prepare_rounds
from fedjax_kd.training import default_execution

BUILDERS = (
    "on_device_kd",
    "server_ensemble",
    "dfml",
    "decentralised_fedavg",
    "decentralised_fml",
    "def_kt",
    "pfedafm",
    "local",
    "lg_fedavg",
    "fedproto",
)


class Case(NamedTuple):
    """A study with all contestants: `calls` has the builder and the options of each by name."""

    settings: Any
    setup: Any
    players: dict[str, Any]
    calls: dict[str, tuple[str, dict[str, Any]]]


def case_of(method: str) -> Case:
    names = ", ".join(CONTESTANTS[method])
    settings: Any = settings_from_dict(TINY_ROUNDS[method], [f"contestants=[{names}]"])
    execution = default_execution()
    setup = prepare_rounds(settings, execution)
    plan = make_plan(assembly.training_jobs(settings, setup), execution, asked="sequential")
    calls = []
    with pytest.MonkeyPatch.context() as patched:

        def watch(builder):
            build = getattr(assembly, builder)

            def watched(*models, **options):
                calls.append((builder, options))
                return build(*models, **options)

            patched.setattr(assembly, builder, watched)

        for builder in BUILDERS:
            watch(builder)
        players = {each.name: each for each in assembly.contestants(settings, setup, plan)}
    first = calls[:: setup.points.count]  # each is built once a point, for its numbers
    return Case(settings, setup, players, dict(zip(players, first, strict=True)))


@pytest.fixture(scope="module")
def case():
    return cache(case_of)


@pytest.mark.parametrize("method", TINY_ROUNDS)
def test_every_contestant_can_be_built_and_is_another_method_or_other_numbers(method, case):
    _, setup, players, _ = case(method)
    assert list(players) == list(CONTESTANTS[method])
    first, *others = players.values()
    assert first.role == "proposed"
    for player in others:
        variant = CONTESTANTS[method][player.name].variant
        assert player.role == ("variant" if variant else "baseline")
    told = {(p.method, tuple(map(float, jax.tree.leaves(p.hparams)))) for p in players.values()}
    assert len(told) == len(players)
    for player in players.values():
        assert player.views
        require_memory(player, setup, player.execution)


def test_variants_of_on_device_kd(case):
    settings, _, players, calls = case("on_device_kd")
    for name, schedule, kd_only, weight in (
        ("on_device_kd", "ramp", False, 0.5),
        ("constant_weight", "constant", False, 1.0),
        ("kd_only", "constant", True, 1.0),
    ):
        builder, options = calls[name]
        assert (builder, options["kd_weight"]) == ("on_device_kd", schedule)
        assert options["kd_only"] is kd_only
        assert float(players[name].hparams.weight) == weight
    assert settings.distillation.variant_weight == 1.0
    for name in ("target_only", "auxiliary_only"):
        assert calls[name][1]["contestant"] == name
    assert calls["server_ensemble"][0] == "server_ensemble"
    assert calls["server_ensemble"][1]["server_steps"] == 2
    for _, options in calls.values():  # equal steps under the same draws
        wanted = {"strong": 2, "cohort": 3, "steps": 3, "batch_size": 8}
        assert wanted.items() <= options.items()
    assert players["on_device_kd"].views == ("target", "auxiliary")


def test_variants_and_baselines_of_dfml(case):
    _, _, players, calls = case("dfml")
    cyclic, constant = Schedule("cosine", 2, 0), Schedule("constant", 2, 0)
    for name, schedule, supervision, maximum in (
        ("dfml", cyclic, "weighted_softmax", 1.0),
        ("dfml_constant_alpha", constant, "weighted_softmax", 0.5),
        ("dfml_cross_entropy", cyclic, "cross_entropy", 1.0),
    ):
        builder, options = calls[name]
        assert (builder, options["supervision"]) == ("dfml", supervision)
        assert options["schedule"] == schedule
        assert float(players[name].hparams.alpha_max) == maximum
    assert calls["decentralised_fedavg_wsm"][1]["supervision"] == "weighted_softmax"
    assert "supervision" not in calls["decentralised_fedavg"][1]
    for _, options in calls.values():
        assert {"senders": 3, "epochs": 1, "batch_size": 8}.items() <= options.items()
    assert players["dfml"].views == ("peak", "regular")


def test_variants_of_pfedafm(case):
    settings, _, players, calls = case("pfedafm")
    for name, mode, joint in (
        ("pfedafm", "paper", False),
        ("pfedafm_released_code", "released_code", False),
        ("pfedafm_joint", "paper", True),
    ):
        builder, options = calls[name]
        assert (builder, options["mode"], options["joint"]) == ("pfedafm", mode, joint)
    for _, options in calls.values():
        assert {"epochs": 1, "batch_size": 8}.items() <= options.items()
    rates = players["pfedafm"].hparams
    assert rates.mixing.learning_rate == np.float32(settings.mixing_learning_rate)
    assert rates.mixing.gradient_clip is None
    assert float(rates.local.gradient_clip) == settings.training.gradient_clip == 50


def test_jobs_of_trials_are_the_dearest_models_with_their_users_examples(case):
    settings, setup, _, _ = case("on_device_kd")
    jobs = {job.label: job for job in assembly.training_jobs(settings, setup)}
    assert list(jobs) == ["target mlp-24", "auxiliary mlp-8"]
    assert len(jobs["target mlp-24"].counts) == 2 * 2  # seeds and strong users
    assert len(jobs["auxiliary mlp-8"].counts) == 2 * 4
    settings, setup, _, _ = case("dfml")
    (job,) = assembly.training_jobs(settings, setup)
    assert job.label == "user mlp-16"
    assert len(job.counts) == 2 * 2
