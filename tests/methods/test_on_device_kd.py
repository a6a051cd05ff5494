from dataclasses import replace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import weak_and_strong_cases as cases
from weak_and_strong_cases import EVERYBODY, N_CLIENTS, ByHand, hparams, net, run

from fedjax_kd.clients import select
from fedjax_kd.data import IndexTable
from fedjax_kd.methods.contract import Federation, Round
from fedjax_kd.methods.on_device_kd import on_device_kd
from fedjax_kd.models import profile
from fedjax_kd.training import Execution, rates

SMALL, LARGE = cases.models()
SOME = np.array([1, 0, 1, 1, 1, 1], bool)
PLAIN = {"momentum": 0.0, "weight_decay": 0.0}


def of_point(tree, point):
    return jax.tree.map(lambda leaf: leaf[point], tree)


def assert_nets_close(got, want):
    for name, a, b in zip(want._fields, got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=3e-4, atol=3e-5, err_msg=name)


def by_hand_and_engine(actives, values, **options):
    """Both models of both points: what the engine has after the rounds, and the algorithm."""
    states, reports = run(actives, values, **options)
    pairs = []
    for point in (0, 1):
        byhand = ByHand(values, **options)
        small, large = (net(models, point) for models in states[0].server)
        for index, active in enumerate(actives):
            small, large = byhand.round(point, small, large, index, np.asarray(active))
        got = states[-1].server
        pairs += [(net(got.auxiliary, point), small), (net(got.target, point), large)]
    return pairs, reports


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kd_only": True, "kd_weight": "constant"},
        {"weighting": "examples", "cohort": None},
        {"batch_size": 16, "steps": 2, "cohort": 1},
    ],
    ids=str,
)
def test_rounds_equal_the_algorithm_in_numpy(options):
    pairs, reports = by_hand_and_engine([EVERYBODY, SOME, EVERYBODY], hparams(), **options)
    for got, want in pairs:
        assert_nets_close(got, want)
    omega = [ByHand(hparams(), **options).omega(index) for index in range(3)]
    weights = np.stack([report.extra["distillation_weight"] for report in reports])
    np.testing.assert_allclose(weights, np.tile(np.array(omega)[:, None], 2), rtol=1e-5)


@pytest.mark.parametrize(
    "planted", [{"fresh_velocity": True}, {"teacher": "before aggregation"}], ids=str
)
def test_the_comparison_would_show_a_second_optimiser_or_an_older_teacher(planted):
    values = hparams(weight=5.0)
    states, _ = run([EVERYBODY], values)
    small, large = (net(models, 0) for models in states[0].server)
    got = net(states[1].server.target, 0)
    assert_nets_close(got, ByHand(values).round(0, small, large, 0, EVERYBODY)[1])
    _, wrong = ByHand(values, **planted).round(0, small, large, 0, EVERYBODY)
    assert max(np.abs(a - b).max() for a, b in zip(got, wrong, strict=True)) > 1e-3


def test_one_client_and_one_step_are_plain_gradient_descent():
    """With all rows in the batch there is no order: w - lr * gradient, by the chain rule."""
    only = np.arange(N_CLIENTS) == 0
    values = hparams(**PLAIN)
    options = {"steps": 1, "batch_size": 16}
    states, _ = run([only], values, contestant="auxiliary_only", cohort=None, **options)
    byhand = ByHand(values)
    small = net(states[0].server.auxiliary, 0)
    x, y = byhand.examples(byhand.rows(cases.federation().people.train, 0))
    dz = (cases.softmax(cases.logits(small, x)) - np.eye(10)[y]) / len(y)
    want = cases.plus(small, cases.backward(small, x, dz), -0.1)
    assert_nets_close(net(states[1].server.auxiliary, 0), want)
    chex.assert_trees_all_equal(
        of_point(states[1].server.auxiliary, 1), of_point(states[0].server.auxiliary, 1)
    )


def test_the_teacher_is_trained_without_regard_to_the_second_step():
    both, _ = run([EVERYBODY, SOME])
    alone, _ = run([EVERYBODY, SOME], contestant="auxiliary_only")
    chex.assert_trees_all_equal(both[-1].server.auxiliary, alone[-1].server.auxiliary)
    assert alone[-1].server.target == ()


def test_without_weight_or_decay_the_second_phase_changes_nothing():
    values = hparams(weight=0.0, **PLAIN)
    both, _ = run([EVERYBODY, SOME], values)
    alone, _ = run([EVERYBODY, SOME], values, contestant="target_only")
    chex.assert_trees_all_equal(both[-1].server.target, alone[-1].server.target)
    assert alone[-1].server.auxiliary == ()


def test_without_weight_the_second_phase_is_weight_decay_on_the_same_velocity():
    """Against the method's own first half: one client, and its velocity from the last step."""
    values = hparams(weight=0.0, momentum=0.5, weight_decay=0.1)
    only = np.arange(N_CLIENTS) == 1
    options = {"steps": 2, "batch_size": 16}
    both, _ = run([only], values, **options)
    half, _ = run([only], values, contestant="target_only", **options)
    byhand = ByHand(values, **options)
    start = net(both[0].server.target, 0)
    x, y = byhand.examples(byhand.rows(cases.federation().people.train, 1))
    still = cases.Net(*(np.zeros_like(leaf) for leaf in start))
    own, velocity = byhand.by_labels(start, still, 2 * [(x, y)], byhand.values.target)
    assert_nets_close(net(half[1].server.target, 0), own)
    for _ in range(2):
        velocity = cases.Net(*(0.5 * v + 0.1 * w for v, w in zip(velocity, own, strict=True)))
        own = cases.plus(own, velocity, -0.15)
    assert_nets_close(net(both[1].server.target, 0), own)


def test_a_student_that_equals_its_teacher_stays():
    """Divergence and gradient are zero; the auxiliary model does not move at rate zero."""
    method = on_device_kd(
        SMALL,
        SMALL,
        strong=2,
        cohort=None,
        steps=3,
        batch_size=4,
        execution=cases.solo(),
        kd_only=True,
        kd_weight="constant",
    )
    values = hparams(**PLAIN, auxiliary=rates(0.0))
    state = method.init(cases.federation())
    same = state.server.auxiliary
    state = replace(state, server=state.server._replace(target=same))
    everybody = Round(jnp.int32(0), jnp.asarray(EVERYBODY))
    new, report = jax.jit(method.round)(state, cases.federation(), values, everybody)
    chex.assert_trees_all_close(new.server.target, same, rtol=0, atol=1e-7)
    np.testing.assert_allclose(report.loss[np.array([0, 1, 3, 4])], 0.0, atol=1e-6)


def test_the_mean_over_clients_is_not_weighted():
    """9 and 4 labelled rows; together they move the models by the mean of their own moves."""
    alone = [run([np.arange(N_CLIENTS) == k])[0] for k in (0, 1)]
    (start, both), _ = run([np.arange(N_CLIENTS) < 2])
    want = jax.tree.map(
        lambda old, a, b: old + ((a - old) + (b - old)) / 2,
        start.server.auxiliary,
        *(states[1].server.auxiliary for states in alone),
    )
    chex.assert_trees_all_close(both.server.auxiliary, want, rtol=1e-5, atol=1e-6)
    weighted, _ = run([np.arange(N_CLIENTS) < 2], weighting="examples")
    want = jax.tree.map(
        lambda old, a, b: old + (9 * (a - old) + 4 * (b - old)) / 13,
        start.server.auxiliary,
        *(states[1].server.auxiliary for states in alone),
    )
    chex.assert_trees_all_close(weighted[1].server.auxiliary, want, rtol=1e-5, atol=1e-6)


def with_rows(people, name, k, row):
    table = getattr(people, name)
    indices = table.indices.at[k].set(row)
    return replace(people, **{name: replace(table, indices=indices)})


def test_weak_clients_never_train_the_target_nor_lend_their_unlabelled_rows():
    whole = cases.federation()
    strange = with_rows(with_rows(whole.people, "train", 2, 9), "unlabelled", 2, 9)
    other = replace(whole, people=strange)
    values = hparams(auxiliary=rates(0.0))  # so that nothing comes by way of the teacher
    want, _ = run([EVERYBODY, EVERYBODY], values)
    got, _ = run([EVERYBODY, EVERYBODY], values, of=other)
    chex.assert_trees_all_equal(got[-1].server.target, want[-1].server.target)
    moved, _ = run(
        [EVERYBODY, EVERYBODY],
        values,
        of=replace(whole, people=with_rows(whole.people, "unlabelled", 1, 9)),
    )
    assert (
        moved[-1].server.target["params"]["head"]["bias"][0]
        != want[-1].server.target["params"]["head"]["bias"][0]
    ).any()


def test_strong_clients_that_are_away_do_not_count():
    away = np.array([1, 0, 1, 0, 0, 1], bool)
    states, reports = run([away])
    alone, _ = run(
        [np.array([1, 0, 0, 0, 0, 0], bool)], hparams(), cohort=None, contestant="target_only"
    )
    only_labels, _ = run([away], contestant="target_only")
    chex.assert_trees_all_equal(of_point(only_labels[1].server, 0), of_point(alone[1].server, 0))
    chex.assert_trees_all_equal(
        of_point(states[1].server.target, 1), of_point(states[0].server.target, 1)
    )
    target = reports[0].phases[1]
    np.testing.assert_array_equal(target.uplink_bits > 0, [1, 0, 0, 0, 0, 0])


def test_clients_without_rows_do_not_count():
    """Point 0: user 0 has no labelled rows, user 1 no unlabelled ones."""
    thin = cases.federation_of(((0, 4, 6), (6, 9, 4)), ((7, 0, 3), (3, 6, 2)))
    values = hparams()
    options: dict[str, Any] = {"cohort": None}
    actives = [EVERYBODY, EVERYBODY]
    states, reports = run(actives, values, of=thin, **options)
    byhand = ByHand(values, thin, **options)
    small, large = (net(models, 0) for models in states[0].server)
    for index in range(2):
        small, large = byhand.round(0, small, large, index, EVERYBODY)
    assert_nets_close(net(states[-1].server.auxiliary, 0), small)
    assert_nets_close(net(states[-1].server.target, 0), large)
    work = reports[0].phases[1].work_flops
    student, teacher = profile(LARGE), profile(SMALL)
    # three steps of batches of four, over seven rows 4 + 3 + 4 and over four rows 4 + 4 + 4
    distilled = student.training_flops + teacher.forward_flops
    np.testing.assert_allclose(work[:3], [11 * distilled, 12 * student.training_flops, 0])


def test_bits_and_operations_of_the_phases():
    small, large = profile(SMALL), profile(LARGE)
    assert small.bits == 32 * small.parameters < large.bits
    everyone, strong = np.ones(6), np.array([1, 1, 0, 1, 1, 0])
    (report,) = run([EVERYBODY], cohort=None)[1]
    auxiliary, target = report.phases
    np.testing.assert_array_equal(auxiliary.downlink_bits, everyone * small.bits)
    np.testing.assert_array_equal(auxiliary.uplink_bits, everyone * small.bits)
    np.testing.assert_array_equal(target.downlink_bits, strong * (large.bits + small.bits))
    np.testing.assert_array_equal(target.uplink_bits, strong * large.bits)
    # batches of three steps, of 9, 4, 6 and 6, 9, 4 labelled rows: 4+4+1, 4+4+4, 4+2+4, ...
    labelled = np.array([9, 12, 10, 10, 9, 12])
    soft = np.array([11, 9, 0, 9, 10, 0])  # 7, 5, -, 3, 6, -: 4+3+4, 4+1+4, 3+3+3, 4+2+4
    np.testing.assert_allclose(auxiliary.work_flops, labelled * small.training_flops)
    wanted = strong * labelled * large.training_flops
    wanted += soft * (large.training_flops + small.forward_flops)
    np.testing.assert_allclose(target.work_flops, wanted, rtol=1e-6)
    for name in ("work_flops", "uplink_bits", "downlink_bits"):
        total = getattr(auxiliary, name) + getattr(target, name)
        np.testing.assert_allclose(getattr(report, name), total)
    padded = 12 * (small.training_flops + strong * (2 * large.training_flops + small.forward_flops))
    np.testing.assert_allclose(report.executed_flops, padded, rtol=1e-6)
    assert not auxiliary.peer
    assert not auxiliary.server_flops.any()
    assert (report.loss > 0).all()


def test_the_baselines_send_what_they_train():
    (report,) = run([EVERYBODY], contestant="target_only")[1]
    strong = np.array([1, 1, 0, 1, 1, 0])
    (phase,) = report.phases
    np.testing.assert_array_equal(phase.downlink_bits, strong * profile(LARGE).bits)
    np.testing.assert_array_equal(report.loss > 0, strong > 0)
    assert report.extra == {}
    methods = {
        name: cases.compiled(cases.solo(), contestant=name)[0]
        for name in ("on_device_kd", "auxiliary_only", "target_only")
    }
    assert methods["on_device_kd"].phases == ("auxiliary", "target")
    assert methods["auxiliary_only"].phases == ("auxiliary",)
    assert methods["target_only"].phases == ("target",)
    for name, views in (
        ("on_device_kd", ["target", "auxiliary"]),
        ("auxiliary_only", ["auxiliary"]),
        ("target_only", ["target"]),
    ):
        state = methods[name].init(cases.federation())
        predictors = methods[name].predict(state, cases.federation())
        assert list(predictors) == views
        for (predictor,) in predictors.values():
            np.testing.assert_array_equal(predictor.row, [0, 0, 0, 1, 1, 1])


def test_those_who_were_not_drawn_cost_nothing_and_all_get_their_turn():
    actives = [EVERYBODY] * 24
    _, reports = run(actives, cohort=1, contestant="auxiliary_only")
    took_part = np.stack([report.uplink_bits > 0 for report in reports])
    np.testing.assert_array_equal(took_part[:, :3].sum(axis=1), 1)
    np.testing.assert_array_equal(took_part[:, 3:].sum(axis=1), 1)
    assert took_part.any(axis=0).all()
    for name in ("loss", "work_flops", "executed_flops", "downlink_bits"):
        rows = np.stack([getattr(report, name) for report in reports])
        np.testing.assert_array_equal(rows > 0, took_part)


@pytest.mark.parametrize(("form", "devices"), [("sequential", 2), ("vmap", 1), ("chunked", 2)])
def test_every_form_of_execution_gives_the_same_rounds(form, devices):
    execution = Execution(form, tuple(jax.devices()[:devices]), width=2)
    actives = [EVERYBODY, SOME, np.array([1, 1, 0, 0, 0, 0], bool)]
    want, want_reports = run(actives)
    got, reports = run(actives, execution=execution)
    chex.assert_trees_all_close(got[-1], want[-1], rtol=5e-6, atol=5e-6)
    blank = [replace(report, executed_flops=0) for report in reports]
    expected = [replace(report, executed_flops=0) for report in want_reports]
    chex.assert_trees_all_close(blank, expected, rtol=5e-6, atol=5e-6)


def test_the_order_of_clients_does_not_matter():
    order = np.array([2, 0, 1, 4, 5, 3])
    whole = cases.federation()
    shuffled = Federation(whole.table, select(whole.people, jnp.asarray(order)))
    want, want_reports = run([EVERYBODY, SOME])
    got, reports = run([EVERYBODY, SOME[order]], of=shuffled)
    chex.assert_trees_all_equal(got[-1], want[-1])
    moved = jax.tree.map(lambda leaf: leaf[order] if leaf.shape == (6,) else leaf, want_reports)
    chex.assert_trees_all_equal(reports, moved)


def test_a_cohort_on_its_own_equals_the_round_in_which_the_others_are_inactive():
    """Of point 0 the strong user 1 is away, of point 1 the weak one."""
    members = np.array([0, 2, 3, 4])
    active = np.isin(np.arange(N_CLIENTS), members)
    whole = cases.federation()
    part = Federation(whole.table, select(whole.people, jnp.asarray(members)))
    want, (want_report,) = run([active])
    got, (report,) = run([np.ones(4, bool)], of=part)
    chex.assert_trees_all_close(got[-1], want[-1], rtol=5e-6, atol=5e-6)
    np.testing.assert_allclose(report.loss, want_report.loss[members], rtol=1e-5)
    np.testing.assert_array_equal(report.uplink_bits, want_report.uplink_bits[members])


def test_what_stands_past_a_clients_count_is_never_read():
    whole = cases.federation()

    def longer(table):
        indices = jnp.pad(table.indices, ((0, 0), (0, 3)))
        own = jnp.arange(indices.shape[1])[None, :] < table.counts[:, None]
        return IndexTable(jnp.where(own, indices, 1700), table.counts)

    people = whole.people
    people = replace(people, train=longer(people.train), unlabelled=longer(people.unlabelled))
    want, _ = run([EVERYBODY, SOME])
    got, _ = run([EVERYBODY, SOME], of=replace(whole, people=people))
    chex.assert_trees_all_close(got[-1], want[-1], rtol=5e-6, atol=5e-6)
    twice = replace(
        people, train=replace(people.train, indices=people.train.indices.at[1, -1].set(3))
    )
    again, _ = run([EVERYBODY, SOME], of=replace(whole, people=twice))
    chex.assert_trees_all_equal(again[-1], got[-1])


def test_hyper_parameters_stacked_over_points_equal_separate_runs():
    def scaled(*factors):
        return jax.tree.map(lambda leaf: leaf * jnp.asarray(factors, jnp.float32), hparams())

    both, _ = run([EVERYBODY, EVERYBODY], scaled(1.0, 0.5))
    for point, factor in enumerate((1.0, 0.5)):
        alone, _ = run([EVERYBODY, EVERYBODY], scaled(factor, factor))
        chex.assert_trees_all_equal(
            of_point(both[-1].server, point), of_point(alone[-1].server, point)
        )
