"""Laws of stackable settings: other values give the same methods, whose programs take them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dt_kd_tiny import TINY
from family_tiny import ALL, FAMILY
from rounds_tiny import DFML, ON_DEVICE_KD, PFEDAFM

from fedjax_kd.methods.contract import Round
from fedjax_kd.study import contestants as contestants_module
from fedjax_kd.study import dt_kd_assemble, dt_kd_outcomes
from fedjax_kd.study.contestant_names import CONTESTANTS
from fedjax_kd.study.dt_kd_setup import prepare
from fedjax_kd.study.grid.stackable import STACKABLE, group_key
from fedjax_kd.study.load import changed, settings_from_dict
from fedjax_kd.study.points import Labels, Points, stacked
from fedjax_kd.study.rounds_setup import prepare_rounds
from fedjax_kd.study.studies import STUDIES
from fedjax_kd.training import default_execution, for_points

UPLOAD = [{"kind": "clip_and_noise", "clip": 9.0, "multiplier": 0.5, "noise": "each"}]
STUDIES_BY_NAME = {
    "family": {**FAMILY, "contestants": list(ALL), "upload": UPLOAD},
    "on_device_kd": {**ON_DEVICE_KD, "contestants": list(CONTESTANTS["on_device_kd"])},
    "dfml": {**DFML, "contestants": list(CONTESTANTS["dfml"])},
    "pfedafm": {**PFEDAFM, "contestants": list(CONTESTANTS["pfedafm"])},
    "dt_kd": TINY,
}
ROUNDS_STUDIES = [name for name in STUDIES_BY_NAME if name != "dt_kd"]

EVERYWHERE = {
    "title": ("a", "b"),
    "system.uplink_hz": (None, 1e6),
    "system.downlink_hz": (2e6, 1e6),
    "data.partition": (
        {"kind": "iid"},
        {"kind": "dirichlet", "alpha": 1.0, "min_examples": 20},
    ),
}
IN_ROUNDS = {
    **EVERYWHERE,
    "training.learning_rate": (0.05, 1e9),
    "training.momentum": (0.9, 0.1),
    "training.weight_decay": (1e-3, 1e-4),
    "training.gradient_clip": (50.0, 1.0),
}
VALUES = {
    "family": {
        **IN_ROUNDS,
        "learning_rates": ({}, {"fd": 0.1}),
        "proximal": (0.0, 0.1),
        "fd_weight": (0.0, 2.0),
        "fd_temperature": (1.0, 3.0),
        "prototype_weight": (0.0, 1.0),
        "fml_hard": (0.0, 1.0),
        "fml_meme_hard": (0.0, 1.0),
        "public_set.digest_learning_rate": (0.1, 0.2),
        "public_set.server_learning_rate": (0.1, 0.2),
        "public_set.sharpen.strength": (None, 0.2),
        "upload.0.clip": (9.0, 8.0),
        "upload.0.multiplier": (0.5, 0.1),
    },
    "on_device_kd": {
        **IN_ROUNDS,
        "learning_rates": ({}, {"on_device_kd": 0.1}),
        "distillation.temperature": (1.0, 3.0),
        "distillation.weight": (0.0, 0.5),
        "distillation.variant_weight": (0.0, 0.5),
        "distillation.ramp_rounds": (None, 2),
    },
    "dfml": {
        **IN_ROUNDS,
        "learning_rates": ({}, {"dfml": 0.1}),
        "alpha.maximum": (0.0, 1.0),
        "temperature": (1.0, 2.0),
        "peak_floor": (0.0, 1.0),
        "constant_alpha": (0.0, 0.5),
        "fml_hard": (0.0, 1.0),
        "def_kt_weight": (0.0, 1.0),
    },
    "pfedafm": {
        **IN_ROUNDS,
        "learning_rates": ({}, {"pfedafm": 0.1}),
        "mixing_learning_rate": (0.01, 0.1),
        "prototype_weight": (0.0, 1.0),
    },
    "dt_kd": {
        **EVERYWHERE,
        **{
            f"{part}.training.{name}": values
            for part in ("teacher", "distillation", "fedavg")
            for name, values in {
                "learning_rate": (0.1, 0.2),
                "momentum": (0.9, 0.5),
                "weight_decay": (0.1, 0.01),
                "gradient_clip": (1.0, 2.0),
            }.items()
        },
        "twin.synchronised": (0.5, 0.8),
        "distillation.temperature": (1.0, 2.0),
        "distillation.weight": (0.0, 1.0),
        "objective.delay_weight": (0.0, 1.0),
        "policy.learning_rate": (0.1, 1.0),
        "policy.discount": (0.5, 1.0),
        "policy.epsilon_start": (0.5, 1.0),
        "policy.epsilon_end": (0.0, 0.1),
        "policy.epsilon_decay": (0.5, 1.0),
    },
}
STATIC = {
    "training.epochs": 3,
    "training.steps": 4,
    "training.batch_size": 4,
    "data.users": 6,
    "data.max_train": 30,
    "data.source": "mnist",
    "rounds": 5,
    "models": [{"name": "mlp", "hidden": [5]}],
    "students": [{"name": "mlp", "hidden": [5]}],
    "contestants": ["local"],
    "participation.cohort": 2,
    "learning_rate_drop.rounds": [2],
    "evaluation.every": 3,
    "distillation.training.epochs": 3,
    "policy.episodes": 17,
    "distillation.schedule": "constant",
    "public_set.sharpen.kind": "power",
    "alpha.shape": "constant",
    "upload.0.noise": "share",
    "twin.unsynchronised_labels": "free",
    "system.profile": "other.yaml",
}


def with_value(name, path, value, seed=0) -> Any:
    return settings_with(name, {path: value}, seed)


def settings_with(name, changes, seed=0) -> Any:
    said = changed(STUDIES_BY_NAME[name], {**changes, "seeds": [seed]}, name)
    return settings_from_dict(said)


PAIRS = [(name, path, pair) for name, paths in VALUES.items() for path, pair in paths.items()]


@pytest.mark.parametrize("name", VALUES)
def test_every_stackable_setting_has_its_values_here(name):
    stackable = set(STACKABLE[STUDIES[name]]) - {"seeds"}
    spelled = {path.replace("upload.0.", "upload.*.") for path in VALUES[name]}
    elsewhere = {"upload.*.epsilon", "upload.*.delta", "upload.*.largest"}
    assert spelled == stackable - elsewhere


@pytest.mark.parametrize(("name", "path", "pair"), PAIRS, ids=[f"{n} {p}" for n, p, _ in PAIRS])
def test_values_of_a_stackable_setting_are_one_group(name, path, pair):
    first, second = (
        group_key(with_value(name, path, value, seed)) for seed, value in enumerate(pair)
    )
    assert first == second


@pytest.mark.parametrize("name", VALUES)
def test_static_settings_make_another_group(name):
    usual = group_key(settings_with(name, {}))
    tried = 0
    for path, value in STATIC.items():
        try:
            other = group_key(with_value(name, path, value))
        except ValueError:  # another study's
            continue
        assert other != usual, path
        tried += 1
    assert tried >= 6


@pytest.mark.parametrize("name", ["momentum", "weight_decay", "gradient_clip"])
def test_a_part_that_is_absent_makes_another_group(name):
    keys = [group_key(with_value("dfml", f"training.{name}", v)) for v in (0.0, 0.5, 0.25)]
    assert keys[0] != keys[1] == keys[2]


def test_all_of_the_twins_data_makes_another_group():
    keys = [group_key(with_value("dt_kd", "twin.synchronised", v)) for v in (1.0, 0.5)]
    assert keys[0] != keys[1]


def test_the_numbers_of_a_channel_are_one_group():
    def key(*upload):
        return group_key(settings_with("family", {"upload": list(upload)}))

    noise = {"kind": "clip_and_noise", "clip": 4.0}
    assert key({**noise, "multiplier": 1.0}) == key({**noise, "epsilon": 3.0, "delta": 1e-3})
    assert key({"kind": "secure_sum", "largest": 4.0}) == key({"kind": "secure_sum"})
    assert key({"kind": "secure_sum"}) != key({"kind": "secure_sum", "bits": 8})
    assert key() != key({"kind": "quantise"})


@pytest.fixture(scope="module")
def execution():
    return for_points(default_execution(), 1)


@pytest.fixture(scope="module")
def setups(execution):
    """One setup a study; methods are the same for any number of points."""
    return {name: prepare_rounds(settings_with(name, {}), execution) for name in ROUNDS_STUDIES}


@pytest.mark.parametrize("name", ROUNDS_STUDIES)
def test_values_of_a_stackable_setting_give_the_same_methods(name, setups, execution):
    """The same function with numbers of the same structure is the same program."""
    for path, (first, second) in VALUES[name].items():
        pair = [with_value(name, path, value) for value in (first, second)]
        for contestant in pair[0].contestants:
            built = [
                contestants_module._built(point, setups[name], contestant, execution)
                for point in pair
            ]
            (one, numbers), (other, more) = built
            assert one == other, (contestant, path)
            shapes = [
                jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), n) for n in (numbers, more)
            ]
            assert shapes[0] == shapes[1], (contestant, path)


@pytest.mark.parametrize("name", ROUNDS_STUDIES)
def test_programs_take_numbers_of_several_points(name, execution):
    """Two pairs of points that differ in every stackable number are one traced program."""
    numeric = {
        path: pair
        for path, pair in VALUES[name].items()
        if isinstance(pair[1], float) and pair[0] is not None
    }
    values = [{path: pair[place] for path, pair in numeric.items()} for place in (0, 1)]
    points = tuple(settings_with(name, change, seed) for seed, change in enumerate(values))
    setup = prepare_rounds(points[0], execution, points=Points(points, Labels((0, 1), (0, 1))))
    everybody = Round(jnp.int32(1), jnp.ones(setup.federation.people.n_clients, bool))
    for place, contestant in enumerate(points[0].contestants):
        built = [contestants_module._built(p, setup, contestant, execution) for p in points]
        method, start = built[0][0], jax.eval_shape(built[0][0].init, setup.federation)
        programs = []
        for first, second in ((0, 1), (1, 0))[: 1 if place else 2]:
            numbers = stacked([built[first][1], built[second][1]])
            assert any(leaf.shape == (2,) for leaf in jax.tree.leaves(numbers)), contestant
            traced = jax.make_jaxpr(method.round)(start, setup.federation, numbers, everybody)
            programs.append(str(traced))
        assert len(set(programs)) == 1, contestant


def test_decisions_of_dt_kd_are_each_points_own(execution):
    """Decided side by side as alone, with other weights, rates and bands."""
    changes = [
        {"objective.delay_weight": 0.1, "policy.epsilon_decay": 0.5, "system.uplink_hz": 1e6},
        {"objective.delay_weight": 2.0, "policy.learning_rate": 0.9, "twin.synchronised": 0.8},
    ]
    short = {"policy.episodes": 50, "policy.exhaustive_limit": 0, "objective.reference_draws": 8}
    points = tuple(settings_with("dt_kd", {**short, **change}, seed=3) for change in changes)
    assert len({group_key(point) for point in points}) == 1
    assert len({dt_kd_assemble.kind_at(point) for point in points}) == 1
    assert len({dt_kd_outcomes.sharing_of(point) for point in points}) == 1
    accuracy = np.random.default_rng(0).uniform(size=(1, 4, 4)).astype(np.float32)

    def decided(members):
        labels = Labels(tuple(range(len(members))), (3,) * len(members))
        setup = prepare(members[0], execution, points=Points(tuple(members), labels))
        table = np.repeat(accuracy, len(members), axis=0)
        problems = dt_kd_outcomes.decision_problems(members[0], setup, table)
        decisions = dt_kd_outcomes.all_decisions(members[0], setup, problems)
        return jax.tree.map(np.asarray, (decisions.actions, problems.reference_delay_s))

    together, alone = decided(points), decided(points[1:])
    jax.tree.map(
        lambda whole, own: np.testing.assert_allclose(whole[1], own[0], rtol=1e-5), together, alone
    )
    assert any((chosen[0] != chosen[1]).any() for chosen in together[0].values())
