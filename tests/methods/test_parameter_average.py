"""FedAvg inside each architecture and through channels, against models that `local` trains."""

from functools import cache

import chex
import jax
import jax.numpy as jnp
import mixture_cases as cases
import numpy as np
import pytest
from mixture_cases import EVERYBODY, MODELS, N, grouped

from fedjax_kd.exchange import clip_and_noise, delta, secure_sum, traced_numbers, uniform
from fedjax_kd.methods.client_work import Training
from fedjax_kd.methods.contract import Round, State
from fedjax_kd.methods.fedavg import fedavg
from fedjax_kd.methods.local import label_loss, local
from fedjax_kd.methods.parameter_average import start_averages, train_and_average
from fedjax_kd.methods.parameter_upload import SendingRates
from fedjax_kd.models import profile
from fedjax_kd.training import rates

LOCAL = {"epochs": cases.EPOCHS, "batch_size": cases.BATCH_SIZE}
VALUES = rates(0.1, 0.5, 0.02)
SOME = np.array([1, 0, 1, 1, 1, 0, 0, 1, 0, 0], bool)  # nobody of the second group at point 1
BITS = [profile(model).bits for model in MODELS]
ARRAYS = [6, 4]


@cache
def method(execution, **options):
    return fedavg(MODELS, execution=execution, **LOCAL, **options)


@pytest.fixture(scope="module")
def whole(federation):
    return grouped(federation)


@pytest.fixture(scope="module")
def group(whole):
    return np.where(np.isin(np.arange(N), np.asarray(whole.groups[1])), 1, 0)


def trained_alone(whole, solo, averages, index=0):
    """What every client makes of its architecture's average: variables by client."""
    point = np.asarray(whole.people.point)
    start = tuple(
        jax.tree.map(lambda leaf: leaf[point[np.asarray(members)]], average)  # noqa: B023
        for average, members in zip(averages, whole.groups, strict=True)
    )
    alone = local(MODELS, execution=solo, **LOCAL)
    states, _ = cases.run(
        alone, whole, solo, [EVERYBODY], VALUES, first=index, state=State((), start)
    )
    return [cases.of_client(whole, states[1].clients, k) for k in range(N)]


def averaged(before, arrived, weights, active, group):
    """The mean of what arrived, by a loop over groups and points."""
    found = []
    for g, old in enumerate(before):
        points = []
        for s in (0, 1):
            members = [k for k in np.flatnonzero(active) if group[k] == g and k // 5 == s]
            here = jax.tree.map(lambda leaf: leaf[s], old)  # noqa: B023
            if members:
                here = jax.tree.map(
                    lambda *leaves: np.average(leaves, axis=0, weights=weights[members]),  # noqa: B023
                    *[arrived[k] for k in members],
                )
            points.append(here)
        found.append(jax.tree.map(lambda *leaves: np.stack(leaves), *points))
    return tuple(found)


def changed(trained, received, change):
    """The received model and what `change` makes of the difference, array by array."""
    return jax.tree.map(lambda new, old: old + change(new - old), trained, received)


def received(before, group):
    return [jax.tree.map(lambda leaf: leaf[k // 5], before[group[k]]) for k in range(N)]  # noqa: B023


def test_each_architecture_is_averaged_by_itself(whole, solo, group):
    states, reports = cases.run(method(solo), whole, solo, [EVERYBODY, SOME], VALUES)
    counts = np.asarray(whole.people.train.counts)
    for index, active in enumerate([EVERYBODY, SOME]):
        before = states[index].server
        models = trained_alone(whole, solo, before, index)
        want = averaged(before, models, counts, active, group)
        chex.assert_trees_all_close(states[index + 1].server, want, rtol=1e-5, atol=1e-6)
    assert states[2].clients == ((), ())
    bits = np.asarray(BITS)[group]
    np.testing.assert_array_equal(reports[1].uplink_bits, SOME * bits)
    np.testing.assert_array_equal(reports[1].downlink_bits, SOME * bits)
    away = [jax.tree.map(lambda leaf: leaf[1], state.server[1]) for state in states[1:]]
    chex.assert_trees_all_equal(*away)


def test_clients_start_as_those_of_local_and_predict_with_their_average(whole, solo):
    states, _ = cases.run(method(solo), whole, solo, [], VALUES)
    alone, _ = cases.run(local(MODELS, execution=solo, **LOCAL), whole, solo, [], VALUES)
    predictors = method(solo).predict(states[0], whole)["model"]
    for predictor, theirs, members in zip(predictors, alone[0].clients, whole.groups, strict=True):
        mine = jax.tree.map(lambda leaf: leaf[np.asarray(predictor.row)], predictor.stack)  # noqa: B023
        chex.assert_trees_all_equal(mine, theirs)
        np.testing.assert_array_equal(predictor.clients, members)


def test_a_quantised_upload_is_the_change_on_a_grid(whole, solo, group):
    states, (report,) = cases.run(method(solo, upload=uniform(3)), whole, solo, [SOME], VALUES)

    def on_grid(change):
        step = (change.max() - change.min()) / 7
        return change.min() + step * np.round((change - change.min()) / step)

    before = states[0].server
    models = trained_alone(whole, solo, before)
    arrived = [
        changed(*pair, on_grid) for pair in zip(models, received(before, group), strict=True)
    ]
    counts = np.asarray(whole.people.train.counts)
    want = averaged(before, arrived, counts, SOME, group)
    chex.assert_trees_all_close(states[1].server, want, rtol=1e-4, atol=1e-5)
    side = 64 * np.asarray(ARRAYS)[group]
    np.testing.assert_array_equal(
        report.uplink_bits, SOME * (3 * np.asarray(BITS)[group] // 32 + side)
    )
    np.testing.assert_array_equal(report.downlink_bits, SOME * np.asarray(BITS)[group])


def test_clipping_bounds_the_update_and_its_numbers_are_traced(whole, solo, group):
    """Each point with a bound of its own, in one program."""
    bounds = np.array([0.05, 1e6], np.float32)
    upload = clip_and_noise(clip=1.0)
    numbers = traced_numbers(upload)._replace(clip=jnp.asarray(bounds))
    values = SendingRates(VALUES, numbers)
    states, (report,) = cases.run(method(solo, upload=upload), whole, solo, [EVERYBODY], values)
    before, arrived = states[0].server, []
    models = trained_alone(whole, solo, before)
    for k, (new, old) in enumerate(zip(models, received(before, group), strict=True)):
        squares = jax.tree.map(lambda a, b: np.sum((a - b) ** 2), new, old)
        norm = np.sqrt(sum(jax.tree.leaves(squares)))
        scale = min(1.0, bounds[k // 5] / norm)
        assert (scale < 1) == (k < 5)
        arrived.append(changed(new, old, lambda change, scale=scale: scale * change))
    counts = np.asarray(whole.people.train.counts)
    want = averaged(before, arrived, counts, EVERYBODY, group)
    chex.assert_trees_all_close(states[1].server, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(report.uplink_bits, np.asarray(BITS)[group])


def test_noise_is_another_one_for_every_client_and_round(whole, solo):
    """Without training nothing but noise of deviation 0.2 moves the average of one client each."""
    upload = clip_and_noise(clip=0.1, multiplier=2.0)
    values = SendingRates(rates(0.0), traced_numbers(upload))
    one_each = np.array([1, 1, 0, 0, 0, 1, 1, 0, 0, 0], bool)
    states, _ = cases.run(method(solo, upload=upload), whole, solo, [one_each, one_each], values)
    steps = [
        [
            np.concatenate(
                [np.ravel((b - a)[s]) for a, b in zip(*map(jax.tree.leaves, pair), strict=True)]
            )
            for pair in zip(states[i].server, states[i + 1].server, strict=True)
            for s in (0, 1)
        ]
        for i in (0, 1)
    ]
    drawn = [step for each in steps for step in each]
    everything = np.concatenate(drawn)
    assert np.std(everything) == pytest.approx(0.2, rel=0.1)
    assert abs(np.mean(everything)) < 0.03
    shortest = min(map(len, drawn))
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            assert not np.isclose(one[:shortest], other[:shortest]).any()


def test_unchanged_arrays_cost_a_flag_once_the_server_has_them(whole, solo, group):
    """Nothing moves: after a client's first upload its change is zero again and again."""
    still = rates(0.0)
    actives = [SOME, EVERYBODY, SOME]
    program = method(solo, upload=delta())
    states, reports = cases.run(program, whole, solo, actives, still)
    flags, bits = np.asarray(ARRAYS)[group], np.asarray(BITS)[group]
    np.testing.assert_array_equal(reports[0].uplink_bits, SOME * (bits + flags))
    np.testing.assert_array_equal(reports[1].uplink_bits, ~SOME * bits + flags)
    np.testing.assert_array_equal(reports[2].uplink_bits, SOME * flags)
    chex.assert_trees_all_close(states[3].server, states[0].server, rtol=1e-6)


def test_a_secure_sum_of_weighted_changes_gives_the_mean(whole, solo, group):
    """20 bits for values up to n_k = 12 times a change: the grid's step is 2e-5 and less."""
    upload = secure_sum(20, 5, largest=12.0)
    values = SendingRates(VALUES, traced_numbers(upload))
    states, (report,) = cases.run(method(solo, upload=upload), whole, solo, [SOME], values)
    exact, _ = cases.run(method(solo), whole, solo, [SOME], VALUES)
    chex.assert_trees_all_close(states[1].server, exact[1].server, rtol=0, atol=2e-5)
    modulus = int(np.ceil(np.log2(5 * (2**20 - 1) + 1)))
    numbers = np.asarray(BITS)[group] // 32
    np.testing.assert_array_equal(report.uplink_bits, SOME * modulus * numbers)


def test_what_the_server_makes_of_each_model_is_summed_over_architectures(whole, solo):
    """As FedDF's teachers: logits of all participants, two architectures together."""
    training = Training(cases.EPOCHS, cases.BATCH_SIZE, solo)
    inputs = np.random.default_rng(3).normal(size=(4, 6)).astype(np.float32)
    start = start_averages(MODELS, whole, training)

    def logits(model, variables, at):
        return model.apply(variables, at.shared, train=False)[0], jnp.float32(1)

    @jax.jit
    def run(state, federation, active):
        return train_and_average(
            lambda model, at: label_loss(model),
            MODELS,
            state.server,
            state.clients,
            federation,
            Round(jnp.int32(0), active),
            training,
            hparams=VALUES,
            also=logits,
            shared=jnp.asarray(inputs),
        )

    totals, heard = run(start, whole, jnp.asarray(SOME)).sums
    np.testing.assert_array_equal(heard, [4, 1])
    models = trained_alone(whole, solo, jax.device_get(start.server))
    for s in (0, 1):
        want = np.zeros((4, 3))
        for k in np.flatnonzero(SOME):
            if k // 5 == s:
                g = int(np.isin(k, np.asarray(whole.groups[1])))
                variables = jax.tree.map(jnp.asarray, models[k])
                want += np.asarray(MODELS[g].apply(variables, jnp.asarray(inputs), False)[0])
        np.testing.assert_allclose(totals[s], want, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_refused(whole, solo):
    upload = clip_and_noise(clip=1.0)
    program = method(solo, upload=upload)
    with pytest.raises(ValueError, match=r"hparams\.upload: found no numbers"):
        cases.run(program, whole, solo, [EVERYBODY], VALUES)
    training = Training(cases.EPOCHS, cases.BATCH_SIZE, solo)
    blind = secure_sum(8, 5)
    start = start_averages(MODELS, whole, training, blind)
    with pytest.raises(ValueError, match="upload: found a secure sum; allowed"):
        train_and_average(
            lambda model, at: label_loss(model),
            MODELS,
            start.server,
            start.clients,
            whole,
            Round(jnp.int32(0), jnp.asarray(EVERYBODY)),
            training,
            hparams=SendingRates(VALUES, traced_numbers(blind)),
            upload=blind,
            also=lambda model, variables, at: (),
        )
