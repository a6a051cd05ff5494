from dataclasses import replace
from functools import cache

import chex
import jax
import jax.numpy as jnp
import mixture_cases as cases
import numpy as np
import pytest
from mixture_cases import EVERYBODY, MODELS, C, D, N, grouped

from fedjax_kd.clients import Purpose
from fedjax_kd.data import gather
from fedjax_kd.exchange.class_table import means
from fedjax_kd.methods.fedproto import FedProtoRates, fedproto
from fedjax_kd.methods.local import local
from fedjax_kd.models import build_model
from fedjax_kd.training import rates

LOCAL = {"epochs": cases.EPOCHS, "batch_size": cases.BATCH_SIZE}
OPTIONS = [
    {},
    {"average": "examples", "distance": "sum", "collect": "last_epoch"},
    {"form": "htfllib"},
]
IDS = ["default", "other", "htfllib"]


def hparams(weight=0.6):
    return FedProtoRates(rates(0.05, 0.5, 0.02), jnp.float32(weight))


@cache
def method(execution, **options):
    return fedproto(MODELS, execution=execution, **{**LOCAL, **options})


@pytest.fixture(scope="module")
def whole(federation):
    """User 0 of the first point holds one class only, and nobody of the second holds class 2."""
    people, labels = federation.people, np.asarray(federation.table.labels)
    indices = np.array(people.train.indices)
    counts = np.asarray(people.train.counts)
    indices[0] = np.flatnonzero(labels == 1)[: indices.shape[1]]
    allowed = np.flatnonzero(labels != 2)
    for k in range(5, N):
        row = indices[k, : counts[k]]
        indices[k, : counts[k]] = np.where(labels[row] == 2, allowed[k], row)
    train = replace(people.train, indices=jnp.asarray(indices))
    return grouped(replace(federation, people=replace(people, train=train)))


def models_of(whole, state, k):
    return cases.of_client(whole, [group.models for group in state.clients], k)


class ByHand:
    """Algorithm 1 in Python loops; prototypes are dictionaries class -> (vector, weight)."""

    def __init__(
        self, whole, state, values, average="clients", distance="mean", collect="", form="paper"
    ):
        self.whole, self.values = whole, values
        self.average, self.scale = average, 1 / D if distance == "mean" else 1.0
        self.epochs = {"last_epoch": 1}.get(collect, 0 if form == "paper" else cases.EPOCHS)
        self.keep = form == "paper"
        self.batches = cases.Batches(whole)
        self.clients, self.table = {}, [{}, {}]
        for k in range(N):
            params = models_of(whole, state, k)["params"]
            self.clients[k] = (cases.layers_of(params), cases.head_of(params))

    def train(self, k, index, prototypes):
        extractor, head = self.clients[k]
        n = 2 * len(extractor)
        sgd = cases.Sgd(self.values.optimiser, cases.flat(extractor + head))
        batches = list(self.batches.of(k, index, Purpose.BATCH_ORDER))
        seen = []
        for number, (x, y) in enumerate(batches):
            outputs = cases.features(extractor, x)
            head_grad, slope = cases.at_head(head, outputs[-1], y)
            pull = np.zeros_like(slope)
            for i, label in enumerate(y):
                if label in prototypes:
                    pull[i] = 2 * self.scale * (outputs[-1][i] - prototypes[label]) / len(y)
            slope = slope + float(self.values.weight) * pull
            if number >= len(batches) // cases.EPOCHS * (cases.EPOCHS - self.epochs):
                seen += list(zip(y, outputs[-1], strict=True))
            grads = cases.flat(cases.back(extractor, outputs, slope) + head_grad)
            parts = sgd.step(cases.flat(extractor + head), grads)
            extractor, head = cases.layered(parts[:n]), cases.layered(parts[n:])
        self.clients[k] = (extractor, head)
        if not self.epochs:
            people = self.whole.people
            rows = people.train.indices[k, : int(people.train.counts[k])]
            x, y = gather(self.whole.table, rows)
            seen = list(
                zip(np.asarray(y), cases.features(extractor, np.asarray(x))[-1], strict=True)
            )
        sent = {}
        for label in {int(label) for label, _ in seen}:
            own = [vector for other, vector in seen if other == label]
            weight = 1.0 if self.average == "clients" else len(own)
            sent[label] = (np.mean(own, axis=0), weight)
        return sent

    def round(self, index, active):
        for s in (0, 1):
            members = [k for k in np.flatnonzero(active) if k // 5 == s]
            sent = [self.train(int(k), index, self.table[s]) for k in members]
            if members:
                kept = self.table[s] if self.keep else {}
                self.table[s] = kept | {
                    c: np.average(
                        [one[c][0] for one in sent if c in one],
                        axis=0,
                        weights=[one[c][1] for one in sent if c in one],
                    )
                    for c in set().union(*sent)
                }

    def compare(self, state):
        for k in range(N):
            params = models_of(self.whole, state, k)["params"]
            got = cases.flat(cases.layers_of(params) + cases.head_of(params))
            extractor, head = self.clients[k]
            for mine, theirs in zip(got, cases.flat(extractor + head), strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-5, err_msg=str(k))
        mean, present = means(jax.tree.map(jnp.asarray, state.server))
        for s, table in enumerate(self.table):
            assert np.flatnonzero(present[s]).tolist() == sorted(table)
            for c, vector in table.items():
                np.testing.assert_allclose(mean[s, c], vector, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=IDS)
def test_three_rounds_equal_the_algorithm_written_by_hand(whole, solo, options):
    actives = [EVERYBODY, np.isin(np.arange(N), [0, 1, 5]), np.arange(N) < 5]
    states, _ = cases.run(method(solo, **options), whole, solo, actives, hparams())
    byhand = ByHand(whole, states[0], hparams(), **options)
    for index, active in enumerate(actives):
        byhand.round(index, active)
        byhand.compare(states[index + 1]) if index < 2 else None
    byhand.compare(states[-1])
    assert sorted(byhand.table[1]) != [0, 1, 2]


@pytest.mark.parametrize("options", OPTIONS, ids=IDS)
def test_without_weight_it_is_local_training(whole, solo, options):
    actives = [EVERYBODY, EVERYBODY]
    values = hparams(weight=0.0)
    states, _ = cases.run(method(solo, **options), whole, solo, actives, values)
    alone = local(MODELS, execution=solo, **LOCAL)
    trained, _ = cases.run(alone, whole, solo, actives, values.optimiser)
    own = tuple(group.models for group in states[2].clients)
    chex.assert_trees_all_close(own, trained[2].clients, rtol=1e-5, atol=1e-6)
    weighted, _ = cases.run(method(solo, **options), whole, solo, actives, hparams())
    chex.assert_trees_all_equal(weighted[1].clients, states[1].clients)  # no prototypes yet
    kernel = weighted[2].clients[0].models["params"]["extractor"]["Dense_0"]["kernel"]
    plain = states[2].clients[0].models["params"]["extractor"]["Dense_0"]["kernel"]
    assert np.abs(kernel - plain).max() > 1e-3


def test_the_nearest_prototype_is_predicted(whole, solo):
    states, _ = cases.run(method(solo), whole, solo, [EVERYBODY], hparams())
    byhand = ByHand(whole, states[0], hparams())
    byhand.round(0, EVERYBODY)
    views = method(solo).predict(jax.tree.map(jnp.asarray, states[1]), whole)
    assert list(views) == ["prototype", "head"]
    x = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    predictor = views["prototype"][1]
    for place, k in ((0, 1), (2, 6)):
        assert int(whole.groups[1][place]) == k
        got = cases.logits_of(predictor, place, x)
        features = cases.features(byhand.clients[k][0], x)[-1]
        for c in range(C):
            if c in byhand.table[k // 5]:
                want = -np.sum((features - byhand.table[k // 5][c]) ** 2, axis=1)
                np.testing.assert_allclose(got[:, c], want, rtol=1e-3, atol=1e-4)
            else:
                assert (got[:, c] == -np.inf).all()
    chex.assert_trees_all_equal(views["head"][0].stack, states[1].clients[0].models)


def test_bits_are_those_of_the_prototypes_that_exist(whole, solo):
    some = np.isin(np.arange(N), [0, 5, 6])
    states, reports = cases.run(method(solo), whole, solo, [some, EVERYBODY], hparams())
    labels = np.asarray(whole.table.labels)
    counts = np.asarray(whole.people.train.counts)
    held = np.array(
        [
            len(set(labels[np.asarray(whole.people.train.indices[k, : counts[k]])].tolist()))
            for k in range(N)
        ]
    )
    row_bits = 32 * D
    np.testing.assert_array_equal(reports[0].uplink_bits, some * held * row_bits)
    assert not reports[0].downlink_bits.any()  # there are no prototypes yet
    known = (states[1].server.counts > 0).sum(axis=1)
    assert known.tolist() == [1, 2]
    np.testing.assert_array_equal(reports[1].downlink_bits, np.repeat(known, 5) * row_bits)
    second = np.isin(np.arange(N), np.asarray(whole.groups[1]))
    extractor = np.where(second, 6 * D, 6 * 6 + 6 * D)
    flops = 2.0 * (cases.EPOCHS * 3 * (extractor + D * C) + extractor)
    np.testing.assert_allclose(reports[0].work_flops, some * counts * flops)
    _, (cheaper,) = cases.run(method(solo, collect="last_epoch"), whole, solo, [some], hparams())
    np.testing.assert_allclose(
        cheaper.work_flops, some * counts * (flops - 2.0 * extractor), rtol=1e-6
    )


def test_a_server_that_hears_nobody_keeps_its_prototypes(whole, solo):
    first = np.arange(N) < 5
    states, _ = cases.run(method(solo), whole, solo, [EVERYBODY, first], hparams())
    before, after = (jax.tree.map(lambda leaf: leaf[1], state.server) for state in states[1:])
    chex.assert_trees_all_equal(before, after)
    assert states[2].server.round.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"average": "users"}, "average must be clients or examples; got 'users'"),
        ({"distance": "l1"}, "distance must be mean or sum; got 'l1'"),
        ({"form": "paper2"}, "form must be paper or htfllib; got 'paper2'"),
        (
            {"collect": "never"},
            "collect must be after_training or last_epoch or every_epoch; got 'never'",
        ),
    ],
)
def test_unknown_options_are_refused(solo, options, message):
    with pytest.raises(ValueError, match=message):
        fedproto(MODELS, execution=solo, **LOCAL, **options)


def test_features_of_different_sizes_are_refused(solo):
    other = build_model("mlp", hidden=(7,), **cases.TASK)
    with pytest.raises(ValueError, match="features of size mlp 5, mlp 5, mlp 7"):
        fedproto((*MODELS, other), execution=solo, **LOCAL)
