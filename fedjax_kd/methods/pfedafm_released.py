"""What the authors' code of pFedAFM computes in place of the paper's algorithm, for comparison.

Yi et al. 2024, arXiv:2404.17847; the code for heterogeneous models. It trains the participants of a
round one after the other on shared objects, and so computes a chain over clients:

1. every client's theta_k is kept as a reference to one module, which the next client overwrites, so
   the average of the references is the last client's theta_k;
2. a client's mixing vector is kept as a reference to one parameter, so that on every visit but its
   first (from ones) a client starts from what the client trained just before left, be it in this
   round or the last one;
3. theta and alpha have one optimiser for everybody, whose momentum goes on from client to client
   and from round to round; the optimiser of a client's own model is made afresh.

Participants are visited in a random order, drawn by name, as the code samples them in one. A client
without examples is passed over. Scores: own model and mixing of the last visit, with the newest
theta that was sent, over all clients; the code prints the mean over a round's participants only.
Weights in the average by training, validation and test examples, as the code has them, have no
effect where the average is one client's.

The chain is one loop over the clients of all points, whatever form of execution is asked for; the
points do not meet. It is here to be right, not to be fast.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import PartitionSpec

from fedjax_kd.clients import Purpose, client_keys, per_client
from fedjax_kd.methods.architectures import groups_of
from fedjax_kd.methods.contract import Federation, Round
from fedjax_kd.methods.pfedafm_stages import (
    Client,
    PFedAfmRates,
    Theta,
    personal_loss,
    personal_optimiser,
    shared_loss,
)
from fedjax_kd.models import Model
from fedjax_kd.training import Batch, Execution, Rates, epoch_order, sgd
from fedjax_kd.training.execution import mesh_of
from fedjax_kd.training.local_update import batch_keys


class Loop(NamedTuple):
    """The static choices of `fedjax_kd.methods.pfedafm.pfedafm`."""

    models: tuple[Model, ...]
    shared: Model
    epochs: int
    batch_size: int
    execution: Execution


@struct.dataclass
class Chain:
    """What goes on from client to client, one of each per study point.

    Attributes:
        mixing: float32 [S, d], the mixing vector that the last client left.
        mixing_velocity: float32 [S, d], its momentum.
        theta_velocity: momentum of theta's parameters, [S, ...].
    """

    mixing: jax.Array
    mixing_velocity: jax.Array
    theta_velocity: Any


@struct.dataclass
class ReleasedClient:
    """As `Client`, and how often it was visited.

    Attributes:
        model: its own model's variables.
        mixing: float32 [d], what the last visit left; scored with, but never started from.
        visits: int32.
    """

    model: Any
    mixing: jax.Array
    visits: jax.Array


def start(theta: Theta, n_points: int, size: int) -> Chain:
    """The chains before the first visit; theta [S, ...] gives the shapes."""
    ones = jnp.ones((n_points, size), jnp.float32)
    return Chain(ones, jnp.zeros_like(ones), jax.tree.map(jnp.zeros_like, theta["params"]))


def not_visited(clients: Client) -> ReleasedClient:
    """Clients [K_g] that were never visited."""
    return ReleasedClient(clients.model, clients.mixing, jnp.zeros(len(clients.mixing), jnp.int32))


def one_by_one(execution: Execution) -> Execution:
    """How the chain is run: client after client on one device."""
    return execution._replace(form="sequential", devices=execution.devices[:1], study_rows=1)


def visit_all(
    loop: Loop,
    clients: tuple[ReleasedClient, ...],
    server: Any,
    federation: Federation,
    inputs: Any,
    hparams: PFedAfmRates,
    round_: Round,
) -> tuple[tuple[ReleasedClient, ...], Theta, Chain, dict[str, jax.Array]]:
    """Visits the active clients of every point, one after the other.

    Args:
        loop: the static choices.
        clients: one stack [K_g, ...] per group.
        server: `theta` [S, ...] that everybody starts from, and the `chain`.
        federation: K clients.
        inputs: `((keys of stage 1, keys of stage 2), rows, counts)`, arrays [K, ...].
        hparams: scalars or [S].
        round_: who is active.

    Returns:
        The clients, the new theta [S, ...], the chains, and the outputs [K].
    """
    people, groups = federation.people, groups_of(loop.models, federation)
    n_clients = people.n_clients
    group = jnp.zeros(n_clients, jnp.int32)
    place = jnp.zeros(n_clients, jnp.int32)
    for number, members in enumerate(groups):
        group = group.at[members].set(number)
        place = place.at[members].set(jnp.arange(len(members), dtype=jnp.int32))
    live = round_.active & (people.train.counts > 0)
    order = visiting_order(federation, round_, live)
    blank = {
        name: jnp.zeros(n_clients, jnp.float32) for name in ("loss", "shared_loss", "mixing_mean")
    }
    fixed = (order, group, place, people.point, inputs, per_client(hparams, people))

    def run(clients, old_theta, chain, table, fixed, n_live):
        order, group, place, point, inputs, rates = fixed

        def visit(index, carry):
            k = order[index]
            branches = [
                _visit_of(loop, number, old_theta, table) for number in range(len(loop.models))
            ]
            given = (place[k], point[k], _row(inputs, k), _row(rates, k), k)
            return jax.lax.switch(group[k], branches, carry, given)

        carry = (clients, old_theta, chain, blank)
        return jax.lax.fori_loop(0, n_live, visit, carry)

    if loop.execution.n_devices > 1:  # every device goes the whole way by itself
        whole = PartitionSpec()
        mesh = mesh_of(loop.execution)
        run = jax.shard_map(run, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False)
    n_live = jnp.sum(live, dtype=jnp.int32)
    return run(clients, server.theta, server.chain, federation.table, fixed, n_live)


def visiting_order(federation: Federation, round_: Round, live: jax.Array) -> jax.Array:
    """int32 [K]: the clients to visit first, point by point, in the order of their draws."""
    people = federation.people
    keys = client_keys(people, round_.index, Purpose.ROLE)
    draws = jax.vmap(jax.random.bits)(keys)
    return jnp.lexsort((people.user, draws, people.point, jnp.logical_not(live)))


def _visit_of(loop: Loop, number: int, old_theta: Theta, table):
    """`(carry, given) -> carry`: the visit of one client of one architecture."""
    model, shared = loop.models[number], loop.shared

    def visit(carry, given):
        clients, new_theta, chain, outputs = carry
        place, point, ((first_key, second_key), rows, count), hparams, k = given
        client, link = _row(clients[number], place), _row(chain, point)
        theta = _row(old_theta, point)
        mixing = jnp.where(client.visits > 0, link.mixing, jnp.ones_like(link.mixing))

        params = {"model": client.model["params"], "mixing": mixing}
        optimiser = personal_optimiser(hparams)
        state: Any = optimiser.init(params)
        state["mixing"] = _with_velocity(state["mixing"], link.mixing_velocity, hparams.mixing)
        params, stats, state, loss = _train(
            loop,
            first_key,
            (params, client.model["stats"], state),
            count,
            personal_loss(model, shared, theta, table, rows),
            optimiser,
            rows.shape[0],
        )
        variables = {"params": params["model"], "stats": stats}
        client = ReleasedClient(variables, params["mixing"], client.visits + 1)
        mixing_velocity = _velocity(state["mixing"], link.mixing_velocity, hparams.mixing)

        optimiser = sgd(hparams.shared)
        state = optimiser.init(theta["params"])
        state = _with_velocity(state, link.theta_velocity, hparams.shared)
        params, stats, state, loss_shared = _train(
            loop,
            second_key,
            (theta["params"], theta["stats"], state),
            count,
            shared_loss(model, shared, variables, table, rows),
            optimiser,
            rows.shape[0],
        )
        theta = {"params": params, "stats": stats}
        theta_velocity = _velocity(state, link.theta_velocity, hparams.shared)

        kept = (*clients[:number], _set_row(clients[number], place, client), *clients[number + 1 :])
        link = Chain(client.mixing, mixing_velocity, theta_velocity)
        said = {
            "loss": loss,
            "shared_loss": loss_shared,
            "mixing_mean": jnp.mean(client.mixing),
        }
        return (
            kept,
            _set_row(new_theta, point, theta),
            _set_row(chain, point, link),
            _set_row(outputs, k, said),
        )

    return visit


def _train(loop, key, start, count, batch_loss, optimiser, capacity):
    """As `local_update`, batch by batch, from a given state of the optimiser, which is returned."""
    gradient = jax.value_and_grad(batch_loss, has_aux=True)
    steps = (count + loop.batch_size - 1) // loop.batch_size

    def epoch(index, carry):
        own = jax.random.fold_in(key, index)
        in_epoch = batch_keys(key, index)
        order = epoch_order(own, count, capacity, loop.batch_size)

        def step(index, carry):
            params, stats, state, total = carry
            first = index * loop.batch_size
            positions = jax.lax.dynamic_slice(order, (first,), (loop.batch_size,))
            mask = first + jnp.arange(loop.batch_size) < count
            batch = Batch(positions, mask, jax.random.fold_in(in_epoch, index))
            (loss, stats), gradients = gradient(params, stats, batch)
            updates, state = optimiser.update(gradients, state, params)
            return optax.apply_updates(params, updates), stats, state, total + loss

        return jax.lax.fori_loop(0, steps, step, (*carry[:3], jnp.float32(0)))

    params, stats, state, total = jax.lax.fori_loop(0, loop.epochs, epoch, (*start, jnp.float32(0)))
    return params, stats, state, total / jnp.maximum(steps, 1).astype(jnp.float32)


def _with_velocity(state, velocity, values: Rates):
    return state if values.momentum is None else optax.tree.set(state, trace=velocity)


def _velocity(state, old, values: Rates):
    return old if values.momentum is None else optax.tree.get(state, "trace")


def _row(tree, k):
    return jax.tree.map(lambda leaf: leaf[k], tree)


def _set_row(tree, k, row):
    return jax.tree.map(lambda leaf, new: leaf.at[k].set(new), tree, row)
