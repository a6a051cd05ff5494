"""Normalisation, weight decay, refusals, and what the method is worth on digits."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import weak_and_strong_cases as cases
from flax import linen as nn
from weak_and_strong_cases import EVERYBODY, N_CLIENTS, hparams, run

from fedjax_kd import kernels
from fedjax_kd.clients import population
from fedjax_kd.data import Dirichlet, build_split, example_table, load_source
from fedjax_kd.data.partition_specs import UnlabelledShards
from fedjax_kd.methods.contract import Federation, Round
from fedjax_kd.methods.on_device_kd import on_device_kd
from fedjax_kd.methods.rounds import run_rounds
from fedjax_kd.methods.scores import client_accuracies
from fedjax_kd.methods.weak_and_strong import decayed_sgd
from fedjax_kd.models import build_model
from fedjax_kd.models.layers import Conv, Dense, Norm
from fedjax_kd.models.model import Model, Network
from fedjax_kd.training import rates, sgd

SMALL, LARGE = cases.models()


def of_point(tree, point):
    return jax.tree.map(lambda leaf: leaf[point], tree)


class Normalised(nn.Module):
    """One convolution with batch normalisation."""

    @nn.compact
    def __call__(self, x, train, mask):
        y = Conv(4, (3, 3), use_bias=False)(x)
        return kernels.global_average_pool(nn.relu(Norm("batch")(y, train, mask)))


def normalised() -> Model:
    return Model("normalised", (8, 8, 1), 10, Network(extractor=Normalised(), head=Dense(10)))


def run_normalised(values, active=EVERYBODY, **options):
    method = on_device_kd(
        normalised(),
        normalised(),
        strong=2,
        cohort=None,
        steps=2,
        batch_size=4,
        execution=cases.solo(),
        **options,
    )
    start = method.init(cases.federation())
    this = Round(jnp.int32(0), jnp.asarray(active))
    new, _ = jax.jit(method.round)(start, cases.federation(), values, this)
    return start.server, new.server


def test_statistics_of_the_teacher_are_the_batchs_or_its_own():
    values = hparams(weight=5.0)
    start, by_batch = run_normalised(values, kd_weight="constant")
    _, by_running = run_normalised(values, kd_weight="constant", teacher_statistics="running")
    chex.assert_trees_all_equal(by_batch.auxiliary, by_running.auxiliary)
    _, alone = run_normalised(values, contestant="auxiliary_only")
    chex.assert_trees_all_equal(by_batch.auxiliary, alone.auxiliary)  # no statistics of step 2
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), by_batch, start)
    assert min(jax.tree.leaves((moved.auxiliary["stats"], moved.target["stats"]))) > 0
    head = [models.target["params"]["head"]["kernel"] for models in (by_batch, by_running)]
    assert float(jnp.abs(head[0] - head[1]).max()) > 1e-3
    without, _ = run([EVERYBODY], teacher_statistics="running")
    chex.assert_trees_all_equal(without[-1], run([EVERYBODY])[0][-1])  # no normalisation there


def test_running_statistics_are_averaged_like_parameters():
    values = hparams()
    start, both = run_normalised(values, np.arange(N_CLIENTS) < 2)
    alone = [run_normalised(values, np.arange(N_CLIENTS) == k)[1] for k in (0, 1)]
    want = jax.tree.map(lambda a, b: (a + b) / 2, *(models.auxiliary["stats"] for models in alone))
    chex.assert_trees_all_close(of_point(both.auxiliary["stats"], 0), of_point(want, 0), rtol=1e-5)
    chex.assert_trees_all_equal(of_point(both, 1), of_point(start, 1))


def test_weight_decay_spares_normalisation_and_nothing_else():
    params = normalised().init(jax.random.key(0))["params"]
    params = jax.tree.map(jnp.ones_like, params)
    optimiser = decayed_sgd(rates(0.5, 0.9, 0.2, 10.0), params)
    updates, _ = optimiser.update(
        jax.tree.map(jnp.zeros_like, params), optimiser.init(params), params
    )
    flat = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(updates)}
    spared = {path for path, leaf in flat.items() if not leaf.any()}
    assert {path.rsplit("'", 2)[1] for path in spared} == {"scale", "offset"}
    assert len(spared) == 2
    for path in flat.keys() - spared:
        np.testing.assert_allclose(flat[path], -0.1, rtol=1e-6)
    small = SMALL.init(jax.random.key(0))["params"]
    assert decayed_sgd(rates(0.5, 0.0, 0.2), small).plain
    assert decayed_sgd(rates(0.5), params).plain
    assert isinstance(decayed_sgd(rates(0.5, 0.9), params), type(sgd(rates(0.5))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contestant": "both"}, "contestant must be on_device_kd or auxiliary_only or"),
        ({"kd_weight": "linear"}, "kd_weight must be ramp or constant; got 'linear'"),
        ({"teacher_statistics": "none"}, "teacher_statistics must be batch or running"),
        ({"weighting": "size"}, "weighting must be uniform or examples"),
        ({"strong": 0}, "strong must be an integer of at least 1; got 0"),
        ({"cohort": 0}, "cohort must be an integer of at least 1; got 0"),
        ({"steps": 1.5}, "steps must be an integer of at least 1; got 1.5"),
        ({"contestant": "target_only", "kd_only": True}, "kd_only must be False where contestant"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    given = {"strong": 2, "cohort": 2, "steps": 3, "batch_size": 4} | options
    with pytest.raises(ValueError, match=message):
        on_device_kd(SMALL, LARGE, execution=cases.solo(), **given)


def test_models_that_do_not_fit_are_refused():
    other = build_model("mlp", input_shape=(8, 8, 1), n_classes=9, hidden=(6,))
    with pytest.raises(ValueError, match="must agree in n_classes; got 9 and 10"):
        on_device_kd(
            other, LARGE, strong=2, cohort=2, steps=3, batch_size=4, execution=cases.solo()
        )


def test_unlabelled_data_and_weak_clients_help_the_target_on_digits():
    """12 users, 3 of them strong, Dirichlet 0.1; means over two seeds."""
    source, seeds, execution = load_source("digits"), (0, 1), cases.solo()
    splits = [
        build_split(
            source,
            Dirichlet(alpha=0.1, min_examples=5),
            12,
            rng=np.random.default_rng(seed),
            common_validation=50,
            unlabelled=UnlabelledShards(strong=3, shards_per_strong=4),
        )
        for seed in seeds
    ]
    federation = Federation(example_table(source), population(seeds, splits))
    shape = {"input_shape": (8, 8, 1), "n_classes": 10}
    networks = [build_model("mlp", hidden=(n,), **shape) for n in (12, 64)]
    optimiser = rates(0.05, 0.9, 2e-4)
    values = hparams(weight=0.5, ramp_rounds=20.0, auxiliary=optimiser, target=optimiser)

    def after_40_rounds(contestant):
        method = on_device_kd(
            *networks,
            strong=3,
            cohort=8,
            steps=5,
            batch_size=16,
            execution=execution,
            contestant=contestant,
        )

        def observe(state, federation):
            views = method.predict(state, federation).items()
            return {
                view: client_accuracies(predictors, federation, execution)[1].mean()
                for view, predictors in views
            }

        start = method.init(federation)
        options = {"rounds": 40, "execution": execution, "observe": observe, "observe_every": 40}
        _, history = run_rounds(method, start, federation, values, **options)
        return {view: float(scores[-1]) for view, scores in history.observed.items()}

    both, alone = after_40_rounds("on_device_kd"), after_40_rounds("target_only")
    assert both["target"] > 0.75
    assert both["auxiliary"] > 0.75
    assert 0.4 < alone["target"] < 0.6
