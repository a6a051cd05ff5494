from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import weak_and_strong_cases as cases
from weak_and_strong_cases import EVERYBODY, N_CLIENTS, ByHand, Net, logits, net, plus

from fedjax_kd.clients import Purpose, draw_key, select
from fedjax_kd.data import IndexTable
from fedjax_kd.methods.contract import Federation, State
from fedjax_kd.methods.server_ensemble import SERVER, ServerEnsembleRates, server_ensemble
from fedjax_kd.models import profile
from fedjax_kd.training import Execution, rates

SMALL, LARGE = cases.models()
SOME = np.array([1, 0, 1, 1, 1, 1], bool)
PLAIN = {"momentum": 0.0, "weight_decay": 0.0}
RAW_BITS = 512
ENSEMBLE = {"build": server_ensemble, "server_steps": 4, "raw_bits_per_example": RAW_BITS}


def hparams(server=None, **changes):
    values = cases.hparams(**changes)
    return ServerEnsembleRates(
        values.auxiliary,
        values.target,
        server or rates(0.2, 0.5, 0.02),
        values.temperature,
        values.weight,
        values.ramp_rounds,
    )


def run(actives, values=None, **options):
    return cases.run(actives, hparams() if values is None else values, **(ENSEMBLE | options))


class ServerByHand(ByHand):
    """The ensemble in Python loops; `teacher="average"` plants the mean model as the teacher."""

    def round(self, point, small, large, index, active):
        people = self.whole.people
        new_small, members = self.auxiliary_step(point, small, index, active)
        large = self.target_step(point, large, None, index, active)
        strong = [k for k in np.flatnonzero(active & (self.point == point)) if self.user[k] < 2]
        strong.sort(key=self.user.__getitem__)
        pool = [self.rows(people.unlabelled, k) for k in strong]
        if not (pool and members):
            return new_small, large
        capacity = 2 * people.unlabelled.indices.shape[1]
        root = people.roots[point]
        key = jax.random.fold_in(draw_key(root, index, Purpose.DISTIL_ORDER), SERVER)
        batches = self.batches_of(key, np.concatenate(pool), capacity, 4)

        def teach(x):
            if self.options["teacher"] == "average":
                return logits(new_small, x)
            return np.mean([logits(member, x) for member in members], axis=0)

        still = Net(*(np.zeros_like(leaf) for leaf in large))
        values, omega = self.values.server, self.omega(index)
        return new_small, self.by_teacher(large, still, teach, batches, values, omega)[0]


def assert_nets_close(got, want):
    for name, a, b in zip(want._fields, got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=3e-4, atol=3e-5, err_msg=name)


def of_point(tree, point):
    return jax.tree.map(lambda leaf: leaf[point], tree)


@pytest.mark.parametrize("options", [{}, {"cohort": None, "kd_weight": "constant"}], ids=str)
def test_rounds_equal_the_algorithm_in_numpy(options):
    actives = [EVERYBODY, SOME, np.array([1, 1, 0, 0, 0, 0], bool)]
    states, _ = run(actives, **options)
    for point in (0, 1):
        byhand = ServerByHand(hparams(), **options)
        small, large = (net(models, point) for models in states[0].server)
        for index, active in enumerate(actives):
            small, large = byhand.round(point, small, large, index, active)
        assert_nets_close(net(states[-1].server.auxiliary, point), small)
        assert_nets_close(net(states[-1].server.target, point), large)


def test_the_comparison_would_show_the_average_model_as_the_teacher():
    values, options = hparams(weight=5.0), {"cohort": None, "kd_weight": "constant"}
    states, _ = run([EVERYBODY], values, **options)
    small, large = (net(models, 0) for models in states[0].server)
    got = net(states[1].server.target, 0)
    assert_nets_close(got, ServerByHand(values, **options).round(0, small, large, 0, EVERYBODY)[1])
    planted = ServerByHand(values, teacher="average", **options)
    wrong = planted.round(0, small, large, 0, EVERYBODY)[1]
    assert max(np.abs(a - b).max() for a, b in zip(got, wrong, strict=True)) > 1e-3


def test_clients_do_what_they_do_in_the_baselines():
    values = hparams(server=rates(0.2), weight=0.0)
    ensemble, _ = run([EVERYBODY, SOME], values)
    small, _ = cases.run([EVERYBODY, SOME], contestant="auxiliary_only")
    large, _ = cases.run([EVERYBODY, SOME], contestant="target_only")
    chex.assert_trees_all_equal(ensemble[-1].server.auxiliary, small[-1].server.auxiliary)
    chex.assert_trees_all_equal(ensemble[-1].server.target, large[-1].server.target)
    taught, _ = run([EVERYBODY, SOME])
    chex.assert_trees_all_equal(taught[-1].server.auxiliary, small[-1].server.auxiliary)
    head = [each[-1].server.target["params"]["head"]["bias"] for each in (taught, large)]
    assert (head[0] != head[1]).all()


def test_unlabelled_rows_are_handed_over_once_and_when_their_holder_comes():
    states, reports = run([SOME, EVERYBODY, EVERYBODY])
    raw = [report.phases[1].uplink_bits for report in reports]
    target = np.array([1, 1, 0, 1, 1, 0]) * profile(LARGE).bits
    np.testing.assert_array_equal(raw[0], target * SOME + RAW_BITS * np.array([7, 0, 0, 3, 6, 0]))
    np.testing.assert_array_equal(raw[1], target + RAW_BITS * np.array([0, 5, 0, 0, 0, 0]))
    np.testing.assert_array_equal(raw[2], target)
    np.testing.assert_array_equal(states[1].clients, [7, 0, 0, 3, 6, 0])
    np.testing.assert_array_equal(states[2].clients, [7, 5, 0, 3, 6, 0])
    states, (report,) = run([EVERYBODY], upload="never")
    np.testing.assert_array_equal(report.phases[1].uplink_bits, target)
    assert not states[1].clients.any()


def test_what_servers_and_clients_work():
    small, large = profile(SMALL), profile(LARGE)
    (report,) = run([SOME])[1]
    first, second, third = report.phases
    labelled, strong = np.array([9, 12, 10, 10, 9, 12]), np.array([1, 0, 0, 1, 1, 0])
    np.testing.assert_allclose(second.work_flops, strong * labelled * large.training_flops)
    np.testing.assert_array_equal(second.downlink_bits, strong * large.bits)
    # Four steps over 7 rows (user 1 is away), 4 + 3 + 4 + 3, and over 3 + 6 rows, 4 + 4 + 1 + 4.
    of_two = large.training_flops + 2 * small.forward_flops
    np.testing.assert_allclose(third.server_flops, [14 * of_two, 13 * of_two], rtol=1e-6)
    for name in ("work_flops", "uplink_bits", "downlink_bits"):
        assert not getattr(third, name).any()
        total = getattr(first, name) + getattr(second, name)
        np.testing.assert_allclose(getattr(report, name), total)
    for phase in (first, second):
        assert not phase.server_flops.any()
    method = cases.compiled(cases.solo(), **ENSEMBLE)[0]
    assert method.phases == ("auxiliary", "target", "ensemble")
    state = method.init(cases.federation())
    assert list(method.predict(state, cases.federation())) == ["target", "auxiliary"]


def test_a_point_without_participants_stays():
    only = np.array([1, 1, 0, 0, 0, 0], bool)
    states, (report,) = run([only])
    chex.assert_trees_all_equal(of_point(states[1].server, 1), of_point(states[0].server, 1))
    assert report.phases[2].server_flops[0] > 0 == report.phases[2].server_flops[1]
    assert not report.loss[2:].any()


@pytest.mark.parametrize(("form", "devices"), [("sequential", 2), ("vmap", 1), ("chunked", 2)])
def test_every_form_of_execution_gives_the_same_rounds(form, devices):
    execution = Execution(form, tuple(jax.devices()[:devices]), width=2)
    actives = [EVERYBODY, SOME]
    want, want_reports = run(actives)
    got, reports = run(actives, execution=execution)
    chex.assert_trees_all_close(got[-1], want[-1], rtol=5e-6, atol=5e-6)
    blank = [replace(report, executed_flops=0) for report in reports]
    expected = [replace(report, executed_flops=0) for report in want_reports]
    chex.assert_trees_all_close(blank, expected, rtol=5e-6, atol=5e-6)


def test_order_company_and_padding_do_not_matter():
    """Clients in another order; inactive ones left out; rows that end in strangers' examples."""
    whole = cases.federation()
    states, _ = run([EVERYBODY])
    start, active = states[1], SOME
    (_, want), (want_report,) = run([active], state=start, first=1)

    order = np.array([2, 0, 1, 4, 5, 3])
    shuffled = Federation(whole.table, select(whole.people, jnp.asarray(order)))
    mixed = State(start.server, start.clients[order])
    (_, got), _ = run([active[order]], state=mixed, first=1, of=shuffled)
    chex.assert_trees_all_close(got.server, want.server, rtol=5e-6, atol=5e-6)
    chex.assert_trees_all_equal(got.clients, want.clients[order])

    members = np.array([0, 2, 3, 4])
    few = np.isin(np.arange(N_CLIENTS), members)
    (_, expected), (expected_report,) = run([few], state=start, first=1)
    part = Federation(whole.table, select(whole.people, jnp.asarray(members)))
    own = State(start.server, start.clients[members])
    (_, got), (report,) = run([np.ones(4, bool)], state=own, first=1, of=part)
    chex.assert_trees_all_close(got.server, expected.server, rtol=5e-6, atol=5e-6)
    np.testing.assert_allclose(report.work_flops, expected_report.work_flops[members])

    def longer(table):
        indices = jnp.pad(table.indices, ((0, 0), (0, 3)))
        inside = jnp.arange(indices.shape[1])[None, :] < table.counts[:, None]
        return IndexTable(jnp.where(inside, indices, 1700), table.counts)

    people = whole.people
    people = replace(people, train=longer(people.train), unlabelled=longer(people.unlabelled))
    (_, got), (report,) = run([active], state=start, first=1, of=replace(whole, people=people))
    chex.assert_trees_all_close(got, want, rtol=5e-6, atol=5e-6)
    chex.assert_trees_all_close(report, want_report, rtol=5e-6, atol=5e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upload": "twice"}, "upload must be once or never; got 'twice'"),
        ({"server_steps": 0}, "server_steps must be an integer of at least 1; got 0"),
        ({"raw_bits_per_example": 0}, "raw_bits_per_example must be an integer of at least 1"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    given = {"strong": 2, "cohort": 2, "steps": 3, "batch_size": 4, "server_steps": 4}
    given |= {"raw_bits_per_example": RAW_BITS} | options
    with pytest.raises(ValueError, match=message):
        server_ensemble(SMALL, LARGE, execution=cases.solo(), **given)


def test_the_helper_above_is_the_mean():
    a = Net(*(np.full((2, 2), 1.0) for _ in range(4)))
    b = Net(*(np.full((2, 2), 4.0) for _ in range(4)))
    mean = ByHand(hparams()).mean(a, [b, b, a], [3, 1, 0])
    assert_nets_close(mean, plus(a, a, 3.0))
