from dataclasses import replace
from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_kd.clients import Purpose, client_keys, every_group, groups_by_turns
from fedjax_kd.data import IndexTable, gather
from fedjax_kd.exchange import uniform
from fedjax_kd.exchange.class_table import ClassTable, add_by_class, bits, means, renewed, without
from fedjax_kd.methods.contract import Round
from fedjax_kd.methods.fd import FdRates, fd
from fedjax_kd.models import build_model, profile
from fedjax_kd.training import epoch_order, everywhere, rates

N, C = 10, 3
EPOCHS, BATCH_SIZE = 2, 4
EVERYBODY = np.ones(N, bool)


def hparams(weight=0.8, temperature=2.0, momentum=0.5):
    optimiser = replace(rates(0.1), momentum=jnp.float32(momentum))
    return FdRates(optimiser, jnp.float32(weight), jnp.float32(temperature))


@cache
def compiled(model, execution, epochs=EPOCHS, **options):
    method = fd(model, epochs=epochs, batch_size=BATCH_SIZE, execution=execution, **options)
    return jax.jit(method.init), jax.jit(method.round)


def run(model, federation, execution, actives, values=None, **options):
    """States after every round (the first is the start) and the reports."""
    federation = everywhere(federation, execution)
    init, step = compiled(model, execution, **options)
    state = init(federation)
    values = everywhere(hparams() if values is None else values, execution)
    states, reports = [jax.device_get(state)], []
    for index, active in enumerate(actives):
        this = everywhere(Round(jnp.int32(index), jnp.asarray(active, bool)), execution)
        state, report = step(state, federation, values, this)
        states.append(jax.device_get(state))
        reports.append(jax.device_get(report))
    return states, reports


class ByHand:
    """Algorithm 1 in Python loops, on lists and dictionaries; HtFLlib's forms likewise."""

    def __init__(self, models, federation, values, form="paper"):
        self.people, self.table, self.values = federation.people, federation.table, values
        self.form, self.groups = form, federation.groups
        self.gradients = [jax.jit(jax.grad(self.loss_of(model), has_aux=True)) for model in models]
        self.key = jax.jit(lambda index: client_keys(self.people, index, Purpose.BATCH_ORDER))
        capacity = self.people.train.indices.shape[1]
        self.order = jax.jit(
            lambda key, epoch, count: epoch_order(
                jax.random.fold_in(key, epoch), count, capacity, BATCH_SIZE
            )
        )

    def loss_of(self, model):
        t, weight = self.values.temperature, self.values.weight

        def loss(params, inputs, labels, means, known, any_table, mask):
            logits, _ = model.apply({"params": params, "stats": {}}, inputs, train=True)
            hard = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
            if self.form == "htfllib_raw_targets":
                target = jnp.where(known[:, None] > 0, means, jax.lax.stop_gradient(logits))
                soft = -any_table * jnp.sum(target * jax.nn.log_softmax(logits), axis=1)
            else:
                q = jax.nn.softmax((jnp.log(means) if self.form == "paper" else means) / t)
                soft = t**2 * jnp.sum(q * (jnp.log(q) - jax.nn.log_softmax(logits / t)), axis=1)
                soft = known * soft
            total = (hard + weight * soft) * mask
            sent = jax.nn.softmax(logits) if self.form == "paper" else logits
            return jnp.sum(total) / jnp.sum(mask), sent

        return loss

    def group(self, k):
        return next((g for g, members in enumerate(self.groups) if k in np.asarray(members)), 0)

    def train(self, index, k, params, targets, any_table):
        """`targets`: class -> vector; returns the parameters and class -> mean output."""
        count = int(self.people.train.counts[k])
        rows = np.asarray(self.people.train.indices[k])
        table = np.full((C, C), 1 / C, np.float32)
        for c, target in targets.items():
            table[c] = target
        known = np.array([c in targets for c in range(C)], np.float32)
        outputs = {c: [] for c in range(C)}
        velocity = jax.tree.map(jnp.zeros_like, params)
        key = self.key(jnp.int32(index))[k]
        for epoch in range(EPOCHS):
            order = np.asarray(self.order(key, epoch, jnp.int32(count)))
            for start in range(0, count, BATCH_SIZE):
                taken = order[start : start + BATCH_SIZE]
                mask = (np.arange(start, start + BATCH_SIZE) < count).astype(np.float32)
                inputs, labels = gather(self.table, jnp.asarray(rows[taken]))
                y = np.asarray(labels)
                grads, p = self.gradients[self.group(k)](
                    params, inputs, labels, table[y], known[y], float(any_table), mask
                )
                for place in np.flatnonzero(mask):
                    outputs[y[place]].append(np.asarray(p[place]))
                momentum, rate = self.values.optimiser.momentum, self.values.optimiser.learning_rate
                velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, grads)  # noqa: B023
                params = jax.tree.map(lambda w, v: w - rate * v, params, velocity)  # noqa: B023
        return params, {c: np.mean(given, axis=0) for c, given in outputs.items() if given}


def leave_one_out(sent, k):
    """Class -> mean of the others' means, for those classes that another one sent."""
    found = {}
    for c in range(C):
        others = [means[c] for other, means in sent.items() if other != k and c in means]
        if others:
            found[c] = np.mean(others, axis=0)
    return found


def of_client(k, state, groups=()):
    for members, own in zip(every_group(groups, N), state.clients, strict=True):
        for place in np.flatnonzero(np.asarray(members) == k):
            return jax.tree.map(lambda leaf: leaf[place], own.models["params"])  # noqa: B023
    raise KeyError(k)


@pytest.fixture(scope="module")
def mixed(federation):
    """Two architectures by turns, and client 0 without class 2."""
    people, labels = federation.people, np.asarray(federation.table.labels)
    indices = np.array(people.train.indices)
    allowed = np.flatnonzero(labels != 2)[: indices.shape[1]]
    indices[0] = np.where(labels[indices[0]] == 2, allowed, indices[0])
    people = replace(people, train=replace(people.train, indices=jnp.asarray(indices)))
    return replace(federation, people=people, groups=groups_by_turns(people, 2))


@pytest.mark.parametrize("form", ["paper", "htfllib", "htfllib_raw_targets"])
def test_three_rounds_equal_the_algorithm_written_by_hand(mixed, model, solo, form):
    """Clients 0, 1, 2 belong to one server, 6 to the other; client 1 misses the second round."""
    models = (model, build_model("mlp", input_shape=(6,), n_classes=C, hidden=(5, 4)))
    who = [[0, 1, 2, 6], [0, 2, 6], [0, 1, 2]]
    actives = [np.isin(np.arange(N), members) for members in who]
    states, _ = run(models, mixed, solo, actives, form=form)
    byhand = ByHand(models, mixed, hparams(), form)
    params = {k: of_client(k, states[0], mixed.groups) for k in (0, 1, 2, 6)}
    point = np.asarray(mixed.people.point)
    heard = [{}, {}]  # what the participants of a server's last round sent
    for index, members in enumerate(who):
        sent = [{}, {}]
        for k in members:
            last = heard[point[k]]
            seen = leave_one_out(last, k if form == "paper" else None)
            params[k], sent[point[k]][k] = byhand.train(index, k, params[k], seen, bool(last))
        heard = [new or old for new, old in zip(sent, heard, strict=True)]
    for k in (0, 1, 2, 6):
        got = of_client(k, states[-1], mixed.groups)
        chex.assert_trees_all_close(got, params[k], rtol=2e-4, atol=2e-5)
    held = [heard[0][k][c] for k in (0, 1, 2) for c in heard[0][k] if c == 1]
    np.testing.assert_allclose(states[-1].server.totals[0, 1], np.sum(held, axis=0), rtol=1e-4)
    assert states[-1].server.counts[0, 1] == len(held)


def test_the_paper_s_form_of_one_architecture_equals_it_too(model, federation, solo):
    states, _ = run(model, federation, solo, [EVERYBODY] * 2)
    byhand = ByHand([model], federation, hparams())
    sent, params = {}, {k: of_client(k, states[0]) for k in range(5)}
    for index in range(2):
        new = {}
        for k in range(5):
            seen = leave_one_out(sent, k)
            params[k], new[k] = byhand.train(index, k, params[k], seen, index > 0)
        sent = new
    for k in range(5):
        chex.assert_trees_all_close(of_client(k, states[-1]), params[k], rtol=2e-4, atol=2e-5)


def test_the_second_round_learns_from_the_others_and_the_first_does_not(model, federation, solo):
    actives = [EVERYBODY, EVERYBODY]
    with_weight, _ = run(model, federation, solo, actives)
    without_weight, _ = run(model, federation, solo, actives, hparams(weight=0.0))
    chex.assert_trees_all_equal(with_weight[1].clients, without_weight[1].clients)
    moved = jax.tree.map(
        lambda a, b: np.abs(a - b).max(), with_weight[2].clients, without_weight[2].clients
    )
    assert max(jax.tree.leaves(moved[0].models)) > 1e-3


def test_plain_sgd_equals_sgd_with_momentum_zero(model, federation, solo):
    """The two take different ways through the local update."""
    plain = replace(hparams(), optimiser=rates(0.1))
    one, _ = run(model, federation, solo, [EVERYBODY] * 2, plain)
    other, _ = run(model, federation, solo, [EVERYBODY] * 2, hparams(momentum=0.0))
    chex.assert_trees_all_close(one[-1], other[-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("collect", ["every_epoch", "last_epoch"])
def test_outputs_are_collected_once_per_example_and_epoch(model, federation, solo, collect):
    states, _ = run(model, federation, solo, [EVERYBODY], average="examples", collect=collect)
    people = federation.people
    times = EPOCHS if collect == "every_epoch" else 1
    for k in range(N):
        rows = np.asarray(people.train.indices[k])[: int(people.train.counts[k])]
        held = np.bincount(np.asarray(federation.table.labels)[rows], minlength=C)
        np.testing.assert_array_equal(states[1].clients[0].sent.counts[k], times * held)
    totals = states[1].clients[0].sent.totals
    np.testing.assert_allclose(totals.sum(-1), states[1].clients[0].sent.counts, rtol=1e-5)
    for point in (0, 1):
        own = slice(5 * point, 5 * point + 5)
        np.testing.assert_allclose(states[1].server.totals[point], totals[own].sum(0), rtol=1e-5)


def test_the_last_epochs_outputs_are_those_of_the_last_epoch(model, federation, solo):
    """Sums over two epochs less sums over the first alone: the first epoch does not know of it."""
    options = {"average": "examples", "collect": "last_epoch"}
    last, _ = run(model, federation, solo, [EVERYBODY], **options)
    both, _ = run(model, federation, solo, [EVERYBODY], average="examples")
    first, _ = run(model, federation, solo, [EVERYBODY], average="examples", epochs=1)
    chex.assert_trees_all_close(
        last[1].clients[0].sent.totals,
        both[1].clients[0].sent.totals - first[1].clients[0].sent.totals,
        rtol=1e-4,
        atol=1e-5,
    )


def test_including_oneself_learns_from_the_servers_whole_table(model, federation, solo):
    """A client that is alone with its class learns from itself then, and from nobody otherwise."""
    alone = np.arange(N) == 3
    actives = [alone, alone]
    nobody, _ = run(model, federation, solo, actives)
    itself, _ = run(model, federation, solo, actives, include_self=True)
    local, _ = run(model, federation, solo, actives, hparams(weight=0.0))
    chex.assert_trees_all_close(nobody[2].clients[0].models, local[2].clients[0].models, rtol=1e-6)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(
            itself[2].clients[0].models, local[2].clients[0].models, rtol=1e-3, atol=1e-3
        )


def test_nobody_taking_part_changes_nothing_and_costs_nothing(model, federation, solo):
    states, reports = run(model, federation, solo, [EVERYBODY, ~EVERYBODY])
    chex.assert_trees_all_equal(states[1], states[2])
    assert not any(leaf.any() for leaf in jax.tree.leaves(reports[1]))


def test_bits_and_work_are_the_closed_forms(model, federation, solo):
    half = np.array([1] * 5 + [0] * 5, bool)
    one_class = federation.people.train.indices[0][:1]
    indices = federation.people.train.indices.at[2].set(one_class[0])  # client 2: one class only
    people = replace(federation.people, train=IndexTable(indices, federation.people.train.counts))
    states, reports = run(model, replace(federation, people=people), solo, [half, EVERYBODY])
    row_bits = 32 * C  # all classes count one
    held = (states[1].clients[0].sent.counts > 0).sum(axis=1)
    assert held[2] == 1
    np.testing.assert_array_equal(reports[0].uplink_bits, half * held * row_bits)
    np.testing.assert_array_equal(reports[0].downlink_bits, np.zeros(N))  # there is no table yet
    known = (states[1].server.counts > 0).sum(axis=1)
    assert known.tolist() == [C, 0]
    want = np.repeat(known, 5) * row_bits
    np.testing.assert_array_equal(reports[1].downlink_bits, want)
    counts = np.asarray(people.train.counts)
    flops = counts * EPOCHS * profile(model).training_flops
    np.testing.assert_allclose(reports[0].work_flops, half * flops)
    assert (reports[1].executed_flops >= reports[1].work_flops).all()
    _, counted = run(model, replace(federation, people=people), solo, [half], average="examples")
    np.testing.assert_array_equal(counted[0].uplink_bits, half * held * 32 * (C + 1))


def test_a_client_without_examples_sends_nothing(model, federation, solo):
    counts = federation.people.train.counts.at[4].set(0)
    people = replace(federation.people, train=replace(federation.people.train, counts=counts))
    states, reports = run(model, replace(federation, people=people), solo, [EVERYBODY] * 2)
    assert reports[0].uplink_bits[4] == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(states[2]))
    own = partial(jax.tree.map, lambda leaf: leaf[4])
    chex.assert_trees_all_equal(own(states[0].clients[0].models), own(states[2].clients[0].models))


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_the_state_keeps_its_shape_with_and_without_running_statistics(federation, solo, norm):
    model = build_model("resnet8", input_shape=(8, 8, 1), n_classes=C, width=0.25, norm=norm)
    method = fd(model, epochs=1, batch_size=2, execution=solo)
    pictures = replace(federation.table, inputs=jnp.zeros((200, 8, 8, 1)))
    there = replace(
        federation, table=replace(pictures, mean=jnp.zeros((1, 1, 1)), std=jnp.ones((1, 1, 1)))
    )
    before = jax.eval_shape(method.init, there)
    this = Round(jnp.int32(0), jnp.ones(N, bool))
    after, _ = jax.eval_shape(method.round, before, there, hparams(), this)
    chex.assert_trees_all_equal_shapes_and_dtypes(before, after)


def test_own_share_is_what_the_server_has_of_it(model, federation, solo):
    """Coarse scores go up; what a client takes out again is coarse too, to the last digit."""
    alone = np.arange(N) == 3
    coarse, reports = run(model, federation, solo, [alone] * 2, upload=uniform(2))
    local, _ = run(model, federation, solo, [alone] * 2, hparams(weight=0.0))
    chex.assert_trees_all_close(coarse[2].clients[0].models, local[2].clients[0].models, rtol=1e-6)
    sent = coarse[1].clients[0].sent
    chex.assert_trees_all_equal(sent.totals[3], coarse[1].server.totals[0])
    assert len(np.unique(sent.totals[3, 1])) <= 4
    held = (sent.counts[3] > 0).sum()
    assert reports[0].uplink_bits[3] == held * (2 * C + 64)


def test_the_order_as_stored_counts_whole_batches_only(model, federation, solo):
    options = {"order": "as_stored", "average": "examples"}
    both, _ = run(model, federation, solo, [EVERYBODY], **options)
    last, _ = run(model, federation, solo, [EVERYBODY], collect="last_epoch", **options)
    people, labels = federation.people, np.asarray(federation.table.labels)
    for k in range(N):
        whole = int(people.train.counts[k]) // BATCH_SIZE * BATCH_SIZE
        held = np.bincount(labels[np.asarray(people.train.indices[k])[:whole]], minlength=C)
        np.testing.assert_array_equal(both[1].clients[0].sent.counts[k], EPOCHS * held)
        np.testing.assert_array_equal(last[1].clients[0].sent.counts[k], held)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "code"}, "form must be paper or htfllib or htfllib_raw_targets; got 'code'"),
        ({"average": "users"}, "average must be clients or examples; got 'users'"),
        ({"collect": "first_epoch"}, "collect must be every_epoch or last_epoch"),
    ],
)
def test_unknown_options_are_refused(model, solo, options, message):
    with pytest.raises(ValueError, match=message):
        fd(model, epochs=1, batch_size=4, execution=solo, **options)


def random_tables(seed, n, round_index=3):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 3, (n, C)).astype(np.float32)
    totals = rng.random((n, C, C)).astype(np.float32) * counts[..., None]
    return ClassTable(jnp.asarray(totals), jnp.asarray(counts), jnp.full(n, round_index))


@pytest.mark.parametrize("seed", range(5))
def test_total_minus_own_is_the_sum_over_the_others(seed):
    n = 6
    sent = random_tables(seed, n)
    active = np.random.default_rng(seed).random(n) < 0.7
    active[0] = True
    summed = [jnp.sum(leaf[active], axis=0) for leaf in (sent.totals, sent.counts)]
    whole = ClassTable(*summed, round=jnp.int32(3))
    for k in range(n):
        own = jax.tree.map(lambda leaf: leaf[k], sent)  # noqa: B023
        own = own if active[k] else replace(own, round=jnp.int32(2))  # sent in an earlier round
        got, present = means(without(whole, own))
        for c in range(C):
            others = [j for j in range(n) if active[j] and j != k]
            count = sum(float(sent.counts[j, c]) for j in others)
            assert bool(present[c]) == (count > 0)
            total = np.sum([np.asarray(sent.totals[j, c]) for j in others], axis=0)
            np.testing.assert_allclose(got[c], total / max(count, 1), rtol=1e-5, atol=1e-6)


def test_a_server_that_hears_nobody_keeps_its_table():
    sums, old = random_tables(0, 2), random_tables(1, 2, 5)
    server = renewed(old, sums.totals, sums.counts, jnp.asarray([2, 0]), jnp.int32(7))
    assert server.round.tolist() == [7, 5]
    kept = jax.tree.map(lambda leaf: leaf[1], (server, old))
    chex.assert_trees_all_equal(kept[0], kept[1])


@pytest.mark.parametrize("keep_absent", [True, False])
def test_a_class_that_nobody_sent_is_kept_or_forgotten(keep_absent):
    sums, old = random_tables(0, 1), random_tables(1, 1, 5)
    counts = jnp.asarray([[2.0, 0.0, 1.0]])
    totals = jnp.where(counts[..., None] > 0, sums.totals, 0.0)
    old = replace(old, counts=jnp.full((1, C), 4.0))
    one = jnp.ones(1, jnp.int32)
    server = renewed(old, totals, counts, one, jnp.int32(7), keep_absent=keep_absent)
    assert server.counts[0].tolist() == [2.0, 4.0 if keep_absent else 0.0, 1.0]
    np.testing.assert_array_equal(server.totals[0, [0, 2]], totals[0, [0, 2]])
    want = old.totals[0, 1] if keep_absent else np.zeros(C)
    np.testing.assert_array_equal(server.totals[0, 1], want)


def test_batches_add_up_by_class_and_masked_examples_do_not():
    vectors = jnp.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
    labels = jnp.asarray([2, 0, 2, 1])
    mask = jnp.asarray([True, True, True, False])
    totals, counts = add_by_class(jnp.ones((3, 2)), jnp.zeros(3), vectors, labels, mask)
    assert totals.tolist() == [[4.0, 5.0], [1.0, 1.0], [7.0, 9.0]]
    assert counts.tolist() == [1.0, 0.0, 2.0]


def test_a_table_costs_its_present_rows():
    table = ClassTable(jnp.zeros((2, 3, 5)), jnp.asarray([[1.0, 0, 2], [0, 0, 0]]), jnp.zeros(2))
    assert bits(table).tolist() == [2 * 32 * 6, 0]
