"""Def-KT: clients meet in pairs, one brings its model, and both models learn on the other's data.

Li, Li, Varshney 2021, "Decentralized Federated Learning via Mutual Knowledge Transfer",
arXiv:2012.13063, as an opponent of DFML (Khalil et al. 2024, arXiv:2402.01863). The paper's listing
was not at hand: the order of steps is that of two public re-implementations.

State: each client's own model.
Round: drawn clients form pairs (i, j) in the order of their draws; i sends, j receives.

    theta_i <- local SGD on CE(y, p_i) over i's own examples
    i sends theta_i to j, which then trains both models on its own examples,
        L_i = CE(y, p_i) + w KL(sg[p_j] || p_i)
        L_j = CE(y, p_j) + w KL(sg[p_i] || p_j)
    theta_j <- the received model, as trained last

w = 1 stands for deep mutual learning (one re-implementation takes 0.3 and 0.5). One of the two
replaces j's model by the received one and says that the paper does; the other keeps j's own:
`keep="own"`.

Deviations. Who meets is drawn as for DFML, senders + 1 clients, of whom an odd last one goes home;
the paper draws the two halves apart. Both models of a pair move at once, not in turn. The paper has
one architecture. Where a pair has two, nobody can take over the other's model: j keeps its own, and
the received one goes back to its owner, who would otherwise never learn from anybody.

Steps: with Q = (senders + 1) // 2 pairs a round takes epochs * ceil(n_i / B) steps in each of Q
models and epochs * ceil(n_j / B) steps in each of 2 Q: on average 3 Q against DFML's senders + 1,
about one and a half times as many.

Expected on the embedded digits (8 users of 2 small MLPs, Dirichlet 0.5, 3 senders, 4 epochs, rate
0.01 with momentum 0.9): 0.69 on the common test set after 25 rounds and 0.90 after 100; alone 0.62.
With rate 0.05 it gets worse with every round: nothing averages a bad step away.
"""

from functools import lru_cache, partial
from itertools import combinations_with_replacement
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from fedjax_kd.clients import (
    Population,
    Purpose,
    client_keys,
    draw_roles,
    per_client,
    put_rows,
    select,
    take_rows,
    whole_axis,
)
from fedjax_kd.methods.architectures import by_architecture, check_tasks, groups_of
from fedjax_kd.methods.contract import (
    Federation,
    Method,
    PhaseReport,
    Predictors,
    Round,
    RoundReport,
    State,
)
from fedjax_kd.methods.decentralised import initial_models
from fedjax_kd.methods.local import cross_entropy, own_models
from fedjax_kd.methods.pool import checked_senders
from fedjax_kd.methods.two_models import learn_together
from fedjax_kd.models import Model, profile
from fedjax_kd.training import (
    Execution,
    Rates,
    executed_examples,
    local_update,
    run_clients,
    settled,
    sgd,
)


@struct.dataclass
class DefKtRates:
    """Traced hyper-parameters of Def-KT.

    Attributes:
        optimiser: rates of SGD, of local and of mutual learning.
        weight: w >= 0 of the divergence.
    """

    optimiser: Rates
    weight: jax.Array


class Pairs(NamedTuple):
    """Who meets whom: P places for pairs, equally many of each study point.

    Attributes:
        sender: int32 [P], position on the client axis.
        receiver: int32 [P].
        present: bool [P], False for places without a pair.
    """

    sender: jax.Array
    receiver: jax.Array
    present: jax.Array


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def def_kt(
    models: tuple[Model, ...],
    *,
    senders: int,
    epochs: int,
    batch_size: int,
    execution: Execution,
    keep: Literal["received", "own"] = "received",
) -> Method:
    """Def-KT; its hyper-parameters are `DefKtRates`.

    `State.clients` holds the models, one tree [K_g, ...] per architecture. Every two architectures
    that may meet are a program of their own, G (G + 1) / 2 of them.

    Args:
        models: the architectures, as many as the federation has groups.
        senders: with the one that would aggregate in DFML, the clients per study point that meet.
        epochs: local epochs of the senders, and epochs of mutual learning of the receivers.
        batch_size: examples per step.
        execution: how the client axis is run.
        keep: which model a receiver keeps where both have one architecture. With `own` the received
            model is dropped, whatever its architecture.

    Returns:
        A method.

    Raises:
        ValueError: if `keep` is none of the above, `senders` is not an integer of at least 1, or
            the models differ in their inputs or classes.
    """
    if keep not in ("received", "own"):
        raise ValueError(f"keep must be received or own; got {keep!r}")
    check_tasks(models)
    checked_senders(senders)
    flops = tuple(float(epochs * profile(model).training_flops) for model in models)
    bits = tuple(profile(model).bits for model in models)

    def init(federation: Federation) -> State:
        return State(server=(), clients=initial_models(models, federation, execution, "own"))

    def learn_alone(model, variables, inputs, shared):
        (table,), (key, rows, count, hparams) = shared, inputs
        return local_update(
            key,
            variables,
            count,
            cross_entropy(model, table, rows),
            sgd(hparams.optimiser),
            capacity=rows.shape[0],
            epochs=epochs,
            batch_size=batch_size,
        )

    def learn_in_pair(networks, pair, inputs, shared):
        (table,), (key, rows, count, hparams) = shared, inputs
        weights = (jnp.float32(1), hparams.weight)
        return learn_together(
            networks,
            pair,
            (weights, weights),
            hparams.optimiser,
            table,
            key,
            rows,
            count,
            epochs=epochs,
            batch_size=batch_size,
        )

    def round_(
        state: State, federation: Federation, hparams: DefKtRates, round_: Round
    ) -> tuple[State, RoundReport]:
        people, n_clients = federation.people, federation.people.n_clients
        shared, groups = (federation.table,), groups_of(models, federation)
        pairs = draw_pairs(people, round_.index, senders, round_.active)
        sends = marked(pairs.sender, pairs.present, n_clients)

        def work_of(group: Population, purpose: Purpose) -> tuple[Any, ...]:
            keys = client_keys(group, round_.index, purpose)
            return keys, group.train.indices, group.train.counts, per_client(hparams, group)

        trees, losses, executed = [], [], []
        for model, cost, members, own in zip(models, flops, groups, state.clients, strict=True):
            group, here = select(people, members), sends[members]
            inputs, counts = work_of(group, Purpose.BATCH_ORDER), group.train.counts
            tree, loss = run_clients(
                partial(learn_alone, model), own, inputs, shared, here, execution, work=counts
            )
            trees.append(tree)
            losses.append(loss)
            executed.append(cost * executed_examples(counts, here, batch_size, execution))
        loss = whole_axis(tuple(losses), groups, n_clients)
        executed_flops = whole_axis(tuple(executed), groups, n_clients)

        architecture, place = seats(groups, n_clients)
        hosts = select(people, pairs.receiver)
        inputs, counts = work_of(hosts, Purpose.DISTIL_ORDER), hosts.train.counts
        for a, b in combinations_with_replacement(range(len(models)), 2):
            swapped = (architecture[pairs.sender] == b) & (a != b)  # then the receiver is of a
            first = jnp.where(swapped, pairs.receiver, pairs.sender)
            second = jnp.where(swapped, pairs.sender, pairs.receiver)
            here = pairs.present & (architecture[first] == a) & (architecture[second] == b)
            seat_a, seat_b = jnp.where(here, place[first], 0), jnp.where(here, place[second], 0)
            met = take_rows(trees[a], seat_a), take_rows(trees[b], seat_b)
            met, pair_loss = run_clients(
                partial(learn_in_pair, (models[a], models[b])),
                met,
                inputs,
                shared,
                here,
                execution,
                work=counts,
            )
            if a == b:
                kept = met[0] if keep == "received" else met[1]
                trees[a] = put_rows(trees[a], seat_b, kept, here)
            else:
                both = here & (keep == "received")
                trees[a] = put_rows(trees[a], seat_a, met[0], both | (here & swapped))
                trees[b] = put_rows(trees[b], seat_b, met[1], both | (here & ~swapped))
            loss = loss.at[pairs.receiver].add(pair_loss)
            spent = executed_examples(counts, here, batch_size, execution) * (flops[a] + flops[b])
            executed_flops = executed_flops.at[pairs.receiver].add(spent)

        phases = phases_of(
            pairs,
            people,
            flops=by_architecture(flops, groups, n_clients),
            bits=by_architecture(bits, groups, n_clients),
            goes_back=architecture[pairs.sender] != architecture[pairs.receiver]
            if keep == "received"
            else jnp.zeros_like(pairs.present),
        )
        report = RoundReport(
            loss=loss,
            work_flops=phases[0].work_flops + phases[2].work_flops,
            executed_flops=executed_flops,
            uplink_bits=phases[1].uplink_bits + phases[3].uplink_bits,
            downlink_bits=phases[1].downlink_bits + phases[3].downlink_bits,
            phases=phases,
        )
        return State(server=(), clients=settled(tuple(trees), execution, axis="clients")), report

    def predict(state: State, federation: Federation) -> Predictors:
        return {"regular": own_models(models, state.clients, federation)}

    phases = ("learn", "send", "fuse", "return")
    return Method(init, round_, predict, phases, has_roles=True)


def draw_pairs(
    people: Population, index: jax.typing.ArrayLike, senders: int, active: jax.Array
) -> Pairs:
    """Pairs up the clients whom DFML would draw as aggregator and senders, in the order drawn."""
    drawn, filled = draw_roles(people, index, senders + 1, active)
    n_pairs = (senders + 1) // 2
    by_pair = drawn.reshape(people.n_points, senders + 1)[:, : 2 * n_pairs].reshape(-1, 2)
    there = filled.reshape(people.n_points, senders + 1)[:, : 2 * n_pairs].reshape(-1, 2)
    return Pairs(by_pair[:, 0], by_pair[:, 1], jnp.all(there, axis=1))


def marked(positions: jax.Array, present: jax.Array, n_clients: int) -> jax.Array:
    """Bool [K], True at the positions that are present."""
    return jnp.zeros(n_clients, bool).at[positions].max(present)


def seats(groups: tuple[jax.Array, ...], n_clients: int) -> tuple[jax.Array, jax.Array]:
    """Each client's architecture and its row in that architecture's stack, int32 [K] each."""
    rows = [jnp.arange(members.shape[0], dtype=jnp.int32) for members in groups]
    which = [jnp.full_like(row, g) for g, row in enumerate(rows)]
    return whole_axis(tuple(which), groups, n_clients), whole_axis(tuple(rows), groups, n_clients)


def phases_of(
    pairs: Pairs, people: Population, *, flops: jax.Array, bits: jax.Array, goes_back: jax.Array
) -> tuple[PhaseReport, ...]:
    """What the clients do: senders learn and send, receivers train both models and may send back.

    Args:
        pairs: who meets.
        people: K clients.
        flops: float32 [K], of training each client's model on one example, all epochs together.
        bits: float32 [K], of each client's model.
        goes_back: bool [P], whether the received model goes back to its owner.

    Returns:
        Four phases.
    """
    sender, receiver, present = pairs
    blank = jnp.zeros(people.n_clients, jnp.float32)
    counts = people.train.counts.astype(jnp.float32)
    alone = jnp.where(present, counts[sender] * flops[sender], 0.0)
    together = jnp.where(present, counts[receiver] * (flops[sender] + flops[receiver]), 0.0)
    there = jnp.where(present, bits[sender], 0.0)
    back = jnp.where(goes_back, there, 0.0)
    phase = partial(PhaseReport, server_flops=jnp.zeros(people.n_points, jnp.float32), peer=True)
    to_sender, to_receiver = blank.at[sender], blank.at[receiver]

    def partners(of: jax.Array, other: jax.Array, sends: jax.Array) -> jax.Array:
        named = jnp.where(sends, people.user[other], 0)
        return jnp.zeros(people.n_clients, jnp.int32).at[of].add(named)

    goes = present & goes_back
    return (
        phase(to_sender.add(alone), blank, blank),
        phase(
            blank,
            to_sender.add(there),
            to_receiver.add(there),
            partner=partners(sender, receiver, present),
        ),
        phase(to_receiver.add(together), blank, blank),
        phase(
            blank,
            to_receiver.add(back),
            to_sender.add(back),
            partner=partners(receiver, sender, goes),
        ),
    )
