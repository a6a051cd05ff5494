"""DFML against a round written out model by model and pair by pair, and what it must not do."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dfml_oracle import round_by_hand

from fedjax_kd.clients import groups_by_turns
from fedjax_kd.data import gather
from fedjax_kd.methods.contract import Federation, Round
from fedjax_kd.methods.dfml import DfmlRates, dfml
from fedjax_kd.methods.dfml_cycle import Schedule
from fedjax_kd.models import build_model, profile
from fedjax_kd.training import Execution, everywhere, rates

TOLERANCE = {"rtol": 5e-6, "atol": 5e-6}
MODELS = (
    build_model("mlp", input_shape=(6,), n_classes=3, hidden=(8,)),
    build_model("mlp", input_shape=(6,), n_classes=3, hidden=(5,)),
)
HALF = Schedule("constant")
ONE = Execution("sequential", tuple(jax.local_devices()[:1]))


def hparams(alpha=0.6, temperature=2.0, **optimiser) -> DfmlRates:
    options = {"learning_rate": 0.3, "momentum": 0.9, "weight_decay": 0.01} | optimiser
    return DfmlRates(
        rates(**options), jnp.float32(alpha), jnp.float32(temperature), jnp.float32(0.9)
    )


@pytest.fixture(scope="session")
def whole(federation) -> Federation:
    groups = groups_by_turns(federation.people, 2)
    return Federation(federation.table, federation.people, groups)


def method(execution=ONE, **options):
    given = {"senders": 2, "epochs": 2, "batch_size": 4, "schedule": HALF} | options
    return dfml(MODELS, execution=execution, **given)


def run(whole, execution=ONE, values=None, active=None, index=3, state=None, **options):
    """One round; returns the state before it, the state after it and the report."""
    made, placed = method(execution, **options), everywhere(whole, execution)
    state = jax.device_get(jax.jit(method().init)(whole)) if state is None else state
    active = np.ones(whole.people.n_clients, bool) if active is None else np.asarray(active)
    this = Round(jnp.int32(index), jnp.asarray(active))
    given = everywhere((state, hparams() if values is None else values, this), execution)
    after, report = jax.jit(made.round)(given[0], placed, *given[1:])
    return jax.device_get((state, after, report))


def models_of(state, whole):
    """Every client's variables, by its position."""
    return {
        int(k): jax.tree.map(lambda leaf, row=row: leaf[row], clients.models)
        for clients, members in zip(state.clients, whole.groups, strict=True)
        for row, k in enumerate(np.asarray(members))
    }


def members_of(report):
    return set(np.flatnonzero(np.asarray(report.loss)).tolist())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"supervision": "cross_entropy", "peer_weight": "num_params", "senders": 4},
        {"peer_weight": "num_samples", "local_epochs": 1, "intra_architecture_average": True},
    ],
    ids=lambda options: "+".join(options) or "default",
)
def test_a_round_equals_the_one_written_out(whole, options):
    before, after, report = run(whole, **options)
    given = {"senders": 2, "epochs": 2, "batch_size": 4, "index": 3} | options
    want, losses = round_by_hand(MODELS, models_of(before, whole), whole, hparams(), **given)
    assert members_of(report) == set(losses)
    got = models_of(after, whole)
    for k in range(whole.people.n_clients):
        chex.assert_trees_all_close(got[k]["params"], want[k]["params"], **TOLERANCE)
    for k, value in losses.items():
        np.testing.assert_allclose(report.loss[k], value, rtol=2e-5, atol=2e-6)


OTHERS = {
    f"{execution.label} on {execution.n_devices}": execution
    for execution in (
        ONE._replace(form="vmap"),
        ONE._replace(form="chunked", width=2),
        ONE._replace(devices=tuple(jax.local_devices()[:2])),
        Execution("chunked", tuple(jax.local_devices()[:2]), width=2),
    )
}


def test_all_forms_and_devices_agree(whole):
    want = run(whole)
    for execution in OTHERS.values():
        got = run(whole, execution)
        chex.assert_trees_all_close(got[1], want[1], **TOLERANCE)
        same = replace(got[2], executed_flops=want[2].executed_flops)
        chex.assert_trees_all_close(same, want[2], **TOLERANCE)
        assert got[2].executed_flops.sum() >= want[2].executed_flops.sum()


def test_executed_operations_by_hand(whole):
    """Two points, three members each; examples 9, 4, 7, 12, 5; batches of 4; two epochs."""
    for execution in (ONE, *OTHERS.values()):
        report = run(whole, execution)[2]
        if execution.form == "vmap":
            # room for 2 x 3 and 2 x 2 members (over two devices as many), all wait for the longest
            longest = max(steps_of(report, whole))
            training = [profile(model).training_flops for model in MODELS]
            want = 2 * longest * 4 * (6 * training[0] + 4 * training[1])
            np.testing.assert_allclose(report.executed_flops.sum(), want, rtol=1e-6)
        elif execution.form == "sequential":
            work = report.work_flops / np.maximum(whole.people.train.counts, 1)
            padded = -(-np.asarray(whole.people.train.counts) // 4) * 4
            np.testing.assert_allclose(report.executed_flops, work * padded, rtol=1e-6)


def steps_of(report, whole):
    aggregators = np.flatnonzero(report.work_flops)
    return [-(-int(whole.people.train.counts[k]) // 4) for k in aggregators]


@pytest.mark.parametrize("active", [[1] * 10, [1, 0, 1, 1, 0, 0, 0, 1, 0, 0], [0] * 10])
def test_who_does_not_meet_keeps_every_bit(whole, active):
    active = np.asarray(active, bool)
    before, after, report = run(whole, active=active)
    members = members_of(report)
    per_point = [min(3, int(part.sum())) for part in np.split(active, 2)]
    assert len(members) == sum(per_point)
    assert members <= set(np.flatnonzero(active).tolist())
    for clients, old, group in zip(after.clients, before.clients, whole.groups, strict=True):
        away = ~np.isin(np.asarray(group), list(members))
        chex.assert_trees_all_equal(
            jax.tree.map(lambda leaf, away=away: leaf[away], clients),
            jax.tree.map(lambda leaf, away=away: leaf[away], old),
        )
    idle = ~np.isin(np.arange(10), list(members))
    per_client = (report.loss, report.work_flops, report.executed_flops, report.uplink_bits)
    assert not any(leaf[idle].any() for leaf in (*per_client, report.downlink_bits))


def test_one_client_learns_alone_from_its_labels(whole):
    """Nobody else active: L_KL = 0, nothing is sent, and what is left is plain local SGD."""
    active = np.arange(10) == 3
    before, after, report = run(whole, active=active)
    assert members_of(report) == {3}
    assert not report.uplink_bits.any()
    assert not report.downlink_bits.any()
    np.testing.assert_array_equal(report.extra["aggregator"], [3, -1])
    alone = {"senders": 2, "epochs": 2, "batch_size": 4, "index": 3, "active": active}
    want, _ = round_by_hand(MODELS, models_of(before, whole), whole, hparams(), **alone)
    chex.assert_trees_all_close(models_of(after, whole)[3], want[3], **TOLERANCE)


def test_without_distillation_the_models_of_a_pool_do_not_matter_to_each_other(whole):
    before, after, report = run(whole, values=hparams(alpha=0.0))
    (moved, *_) = sorted(members_of(report))
    others = [
        replace(part, models=jax.tree.map(lambda leaf: leaf + np.float32(0.3), part.models))
        for part in before.clients
    ]
    group = next(g for g, members in enumerate(whole.groups) if moved in np.asarray(members))
    row = int(np.flatnonzero(np.asarray(whole.groups[group]) == moved)[0])
    mine = before.clients[group].models
    swapped = jax.tree.map(
        lambda new, own: np.concatenate([new[:row], own[row : row + 1], new[row + 1 :]]),
        others[group].models,
        mine,
    )
    strange = list(others)
    strange[group] = replace(others[group], models=swapped)
    again = run(whole, values=hparams(alpha=0.0), state=replace(before, clients=tuple(strange)))
    chex.assert_trees_all_equal(models_of(again[1], whole)[moved], models_of(after, whole)[moved])


def test_with_distillation_alone_labels_do_not_matter(whole):
    values = hparams(alpha=1.0)
    labels = jnp.zeros_like(whole.table.labels)
    mislabelled = replace(whole, table=replace(whole.table, labels=labels))
    chex.assert_trees_all_equal(
        run(whole, values=values)[1].clients, run(mislabelled, values=values)[1].clients
    )
    before, after, _ = run(whole, values=values)
    assert not np.array_equal(
        before.clients[0].models["params"]["head"]["kernel"],
        after.clients[0].models["params"]["head"]["kernel"],
    )


def test_bits_and_work_by_hand(whole):
    _, _, report = run(whole)
    costs = [profile(model) for model in MODELS]
    people = whole.people
    counts = np.asarray(people.train.counts)
    for s in range(2):
        members = [k for k in members_of(report) if int(people.point[k]) == s]
        assert len(members) == 3
        chief = 5 * s + int(report.extra["aggregator"][s])
        assert chief in members
        others = [k for k in members if k != chief]
        cost = [costs[int(people.user[k]) % 2] for k in members]
        travelling = sum(costs[int(people.user[k]) % 2].bits for k in others)
        send, learn, back = report.phases
        assert send.downlink_bits[chief] == back.uplink_bits[chief] == travelling
        for k in others:
            own = costs[int(people.user[k]) % 2].bits
            assert send.uplink_bits[k] == back.downlink_bits[k] == own
        work = 2 * counts[chief] * sum(one.training_flops for one in cost)
        np.testing.assert_allclose(learn.work_flops[chief], work, rtol=1e-6)
    for name in ("work_flops", "uplink_bits", "downlink_bits"):
        total = sum(getattr(phase, name) for phase in report.phases)
        np.testing.assert_allclose(getattr(report, name), total)
    assert all(phase.peer for phase in report.phases)
    assert method().phases == ("send", "learn", "return")
    assert method(local_epochs=1).phases == ("local", "send", "learn", "return")


def test_alpha_follows_the_schedule_and_peaks_follow_the_rule(whole):
    """alpha over two cycles of four rounds; after each round, whose peak is whose model."""
    made = method(schedule=Schedule("cosine", first_period=4, growth=0), senders=1)
    round_ = jax.jit(made.round)
    state, everybody = jax.jit(made.init)(whole), jnp.ones(10, bool)
    seen: set[int] = set()
    for index, alpha in enumerate([0.0, 0.4, 0.8, 0.4, 0.0, 0.4, 0.8, 0.4]):
        old = state
        state, report = round_(state, whole, hparams(alpha=0.8), Round(jnp.int32(index), everybody))
        np.testing.assert_allclose(report.extra["alpha"], alpha, atol=1e-6)
        members = members_of(jax.device_get(report))
        for clients, before, group in zip(state.clients, old.clients, whole.groups, strict=True):
            for row, k in enumerate(np.asarray(group).tolist()):
                copied = same(clients.peaks, clients.models, row)
                kept = same(clients.peaks, before.peaks, row)
                if k not in members:
                    assert kept
                elif index <= 2 or index == 6 or k not in seen:
                    assert copied
                    assert not kept
                elif index != 3:  # in round 3 it depends on where the client was before
                    assert kept
                    assert not copied
        seen |= members


def same(tree, other, row) -> bool:
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
    return all(bool((a[row] == b[row]).all()) for a, b in pairs)


def test_views(whole):
    made = method()
    views = made.predict(made.init(whole), whole)
    assert list(views) == ["peak", "regular"]
    inputs, _ = gather(whole.table, jnp.arange(3))
    for predictors in views.values():
        assert len(predictors) == 2
        for predictor, members in zip(predictors, whole.groups, strict=True):
            np.testing.assert_array_equal(predictor.clients, members)
            np.testing.assert_array_equal(predictor.row, np.arange(len(members)))
            assert predictor.logits is not None
            first = jax.tree.map(lambda leaf: leaf[0], predictor.stack)
            assert predictor.logits(first, inputs).shape == (3, 3)


def test_one_architecture_needs_no_groups(federation):
    made = dfml(MODELS[:1], senders=2, epochs=1, batch_size=4, execution=ONE)
    state = jax.eval_shape(made.init, federation)
    this = Round(jnp.int32(0), jnp.ones(10, bool))
    after, report = jax.eval_shape(made.round, state, federation, hparams(), this)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert report.loss.shape == (10,)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"senders": 0}, "senders"),
        ({"epochs": 0}, "epochs"),
        ({"local_epochs": -1}, "local_epochs"),
        ({"peer_weight": "size"}, "peer_weight"),
        ({"supervision": "none"}, "supervision"),
        ({"schedule": Schedule("square")}, "schedule.shape"),  # pyright: ignore[reportArgumentType]
        ({"schedule": Schedule(first_period=1)}, "schedule.first_period"),
        ({"schedule": Schedule(growth=-1)}, "schedule.growth"),
    ],
)
def test_options_out_of_range_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        method(**options)


def test_as_many_models_as_groups(federation):
    with pytest.raises(ValueError, match="groups"):
        method().init(federation)
