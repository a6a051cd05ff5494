"""Pools of models that learn together from the same batches, in step with each other.

A pool meets at one client of a study point, which teaches all of its members, whatever their
architectures, with its own examples. In every step each member answers the batch, what the answers
say is added up over the pool, and then each member takes a gradient step on a loss of its own
answer and of those sums. So no member sees another one that has moved already.

The pools of all study points take their steps together, for as many steps as the pool with most
examples needs; members of a pool that is through cost nothing in the form `sequential`. A member's
forward pass runs once a step: what its backward pass needs is kept for the moment between the two,
except for what is at hand anyway, its parameters and the batch. The forms and the devices are those
of `client_loop`: members are copied out of their stacks and dealt to the devices like cards, and
the sums of a step are added up over the devices.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from fedjax_kd.clients import put_rows, take_rows
from fedjax_kd.data import ExampleTable, training_batch
from fedjax_kd.models import Model
from fedjax_kd.training.client_loop import run_clients, sum_over_clients
from fedjax_kd.training.execution import CLIENTS, STUDY, Execution, Tree, mesh_of
from fedjax_kd.training.local_update import batch_keys, epoch_order
from fedjax_kd.training.optimiser import Rates, sgd

BLOCKS, WHOLE = PartitionSpec((STUDY, CLIENTS)), PartitionSpec()


class Seats(NamedTuple):
    """The clients of one architecture, K_g of them, and whether each is in the pool of its point.

    Attributes:
        point: int32 [K_g], the study point.
        user: int32 [K_g], the user number, which fixes the order in which answers are added up.
        member: bool [K_g].
        weight: float32 [K_g], the member's weight in the sums.
    """

    point: jax.Array
    user: jax.Array
    member: jax.Array
    weight: jax.Array


class Lessons(NamedTuple):
    """What each of S pools learns from.

    Attributes:
        keys: typed keys [S], of the batches' order and augmentation.
        rows: int32 [S, n_max], the teaching client's rows of the example table.
        counts: int32 [S], how many of them; 0 for a pool that does not meet.
        rates: `Rates` [S].
        numbers: pytree [S, ...], handed to `answer` and `loss`.
    """

    keys: jax.Array
    rows: jax.Array
    counts: jax.Array
    rates: Rates
    numbers: Any


class Learnt(NamedTuple):
    """What has become of the clients of one architecture.

    Attributes:
        models: variables [K_g, ...]; bit for bit the old ones of those that are no members.
        loss: float32 [K_g], mean per step of the last epoch; 0 for the others.
        executed: float32 [K_g], examples that were computed on for each member: batches filled up,
            and places that a vectorised form fills without need, included.
    """

    models: Any
    loss: jax.Array
    executed: jax.Array


class _Lesson(NamedTuple):
    """One step's batch of every pool, [S, ...]."""

    inputs: jax.Array
    labels: jax.Array
    mask: jax.Array


Answer = Callable[[jax.Array, jax.Array, Any], Tree]
Loss = Callable[[jax.Array, jax.Array, jax.Array, Tree, jax.Array, Any], jax.Array]


def train_pools(
    models: tuple[Model, ...],
    stacks: tuple[Tree, ...],
    seats: tuple[Seats, ...],
    lessons: Lessons,
    table: ExampleTable,
    answer: Answer,
    loss: Loss,
    execution: Execution,
    *,
    epochs: int,
    batch_size: int,
    largest: int,
) -> tuple[Learnt, ...]:
    """Trains the members of every point's pool on the pool's lessons, from fresh optimiser states.

    With BatchNorm, members are normalised by the batch at hand and their running statistics move
    with it, as in any training step; short batches are masked.

    Args:
        models: G architectures.
        stacks: G variables [K_g, ...].
        seats: G times who takes part; equally many clients of each study point.
        lessons: S of them.
        table: the example table.
        answer: `(logits [B, C], weight, numbers) -> message`, summed over the members of a pool.
        loss: `(logits [B, C], labels [B], mask [B], sums, weight, numbers) -> scalar`, with `sums`
            of the member's own pool, itself included. Only the logits are differentiated.
        execution: how the members are run.
        epochs: passes over each pool's lessons, static.
        batch_size: static.
        largest: static, no pool has more members.

    Returns:
        G times what was learnt.
    """
    teaching = partial(
        _teach, models, answer, loss, execution, epochs=epochs, batch_size=batch_size
    )
    n_points = lessons.counts.shape[0]
    steps = _steps_per_epoch(lessons, batch_size)
    dealt, places, members_before = [], [], jnp.int32(0)
    for stack, group in zip(stacks, seats, strict=True):
        here = group.point.shape[0]
        room = n_points * min(here // n_points, largest)
        chosen, live = _deal(group, steps, room, members_before, execution.n_devices)
        members_before += jnp.sum(group.member, dtype=jnp.int32)
        places.append((chosen, live))
        rows = take_rows((stack, group), chosen)
        dealt.append((rows[0], rows[1]._replace(member=live)))
    if execution.n_devices > 1:
        teaching = jax.shard_map(
            teaching,
            mesh=mesh_of(execution),
            in_specs=(BLOCKS, WHOLE, WHOLE),
            out_specs=(BLOCKS, WHOLE),
            check_vma=False,
        )
    results, executed = teaching(tuple(dealt), lessons, table)
    learnt = []
    for stack, group, (chosen, live), (rows, losses), examples in zip(
        stacks, seats, places, results, executed, strict=True
    ):
        own = jnp.where(group.member, steps[group.point], 0).astype(jnp.float32)
        blank = jnp.zeros(group.point.shape, jnp.float32)
        learnt.append(
            Learnt(
                models=put_rows(stack, chosen, rows, live),
                loss=put_rows(blank, chosen, losses, live),
                executed=own * (examples / jnp.maximum(jnp.sum(own), 1.0)),
            )
        )
    return tuple(learnt)


def _steps_per_epoch(lessons: Lessons, batch_size: int) -> jax.Array:
    return (lessons.counts + batch_size - 1) // batch_size


def _deal(seats: Seats, steps, room: int, first, n_devices: int):
    """Which clients each device gets: members first, those with most steps first, one by one.

    Returns:
        int32 [M] positions in the stack, device by device, and bool [M], which of them are members.
        M is `room` or a little more, so that the devices get equally many.
    """
    order = (seats.user, seats.point, -steps[seats.point], jnp.logical_not(seats.member))
    chosen = jnp.lexsort(order)[:room].astype(jnp.int32)
    live = jnp.pad(seats.member[chosen], (0, -room % n_devices))
    chosen = jnp.pad(chosen, (0, -room % n_devices))

    def to_devices(cards):
        # Another architecture's cards may have ended in the middle of a round of dealing.
        return jnp.roll(cards.reshape(-1, n_devices), first % n_devices, axis=1).T.reshape(-1)

    return to_devices(chosen), to_devices(live)


def _teach(models, answer, loss, execution, dealt, lessons, table, *, epochs, batch_size):
    """What one device does with the members that it was dealt.

    Returns:
        Per architecture, variables [M, ...] and losses [M]; and per architecture the examples that
        all devices computed on.
    """
    per_epoch = _steps_per_epoch(lessons, batch_size)
    alone = execution._replace(devices=execution.devices[:1], study_rows=1)
    seats = tuple(group for _, group in dealt)
    lesson_at = _lesson_plan(lessons, table, epochs, batch_size)
    optimiser = sgd(take_rows(lessons.rates, 0))  # pyright: ignore[reportArgumentType]

    def start(variables, group):
        params = variables["params"]
        return params, variables["stats"], jax.vmap(optimiser.init)(params), _zeros(group)

    def step(t, carry):
        states, executed = carry
        lesson = lesson_at(t)
        present = tuple(g.member & (t < epochs * per_epoch[g.point]) for g in seats)
        last_epoch = t >= (epochs - 1) * per_epoch
        passes = [_forward(model, answer) for model in models]
        answers, kept = [], []
        for one, state, group, live in zip(passes, states, seats, present, strict=True):
            inputs, servers = (state[0], state[1], group.weight), (lesson, lessons.numbers)
            message, outputs = sum_over_clients(
                one.forward, inputs, servers, (), group.point, live, alone
            )
            answers.append(message)
            kept.append(outputs)
        sums = jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *answers)
        if execution.n_devices > 1:
            sums = jax.lax.psum(sums, (STUDY, CLIENTS))
        told = ((lesson, sums, lessons.numbers, lessons.rates), jnp.minimum(jnp.max(per_epoch), 1))
        new = []
        for one, state, group, live, outputs in zip(
            passes, states, seats, present, kept, strict=True
        ):
            params, stats, momentum, total = state
            inputs = (group.weight, group.point, outputs)
            (params, stats, momentum), losses = run_clients(
                partial(one.learn, loss), (params, stats, momentum), inputs, told, live, alone
            )
            total = total + jnp.where(last_epoch[group.point], losses, 0.0)
            new.append((params, stats, momentum, total))
        rows = jnp.stack([_rows_run(live, alone) for live in present])
        return tuple(new), executed + rows

    state = tuple(start(*group) for group in dealt), jnp.zeros(len(models), jnp.int32)
    states, executed = jax.lax.fori_loop(0, epochs * jnp.max(per_epoch), step, state)
    if execution.n_devices > 1:
        executed = jax.lax.psum(executed, (STUDY, CLIENTS))
    results = tuple(
        (
            {"params": params, "stats": stats},
            total / jnp.maximum(per_epoch[group.point], 1).astype(jnp.float32),
        )
        for (params, stats, _, total), group in zip(states, seats, strict=True)
    )
    return results, executed.astype(jnp.float32) * batch_size


def _lesson_plan(lessons: Lessons, table, epochs: int, batch_size: int):
    """`t -> _Lesson`: the batches of step t, ordered as in `local_update`, drawn epoch by epoch."""
    capacity = lessons.rows.shape[1]
    of_epoch = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    epoch_keys = jax.vmap(of_epoch, in_axes=(0, None))(lessons.keys, jnp.arange(epochs))

    def orders_of(keys, count):
        return jax.vmap(lambda key: epoch_order(key, count, capacity, batch_size))(keys)

    orders = jax.vmap(orders_of)(epoch_keys, lessons.counts)

    def one_pool(t, key, orders, rows, count):
        per_epoch = jnp.maximum((count + batch_size - 1) // batch_size, 1)
        epoch = jnp.minimum(t // per_epoch, epochs - 1)
        index = t % per_epoch
        start = index * batch_size
        positions = jax.lax.dynamic_slice(orders[epoch], (start,), (batch_size,))
        mask = start + jnp.arange(batch_size) < count
        own = jax.random.fold_in(batch_keys(key, epoch), index)
        return _Lesson(*training_batch(table, rows[positions], own), mask)

    def at(t):
        return jax.vmap(one_pool, in_axes=(None, 0, 0, 0, 0))(
            t, lessons.keys, orders, lessons.rows, lessons.counts
        )

    return at


class _Pass(NamedTuple):
    """The two halves of one member's step."""

    forward: Callable[[Any, Any, Any], Any]
    learn: Callable[..., Any]


def _forward(model: Model, answer: Answer) -> _Pass:
    """One architecture's step, cut where the members wait for each other.

    What the backward pass needs goes from one half to the other as plain arrays. Those that are the
    member's parameters or the batch itself are left out and found again by their place.
    """
    plan: dict[str, Any] = {}  # how the arrays fit together: the same in every trace

    def at_hand(params, lesson):
        return [*jax.tree.leaves(params), lesson.inputs, lesson.mask]

    def forward(inputs, server, shared):
        del shared
        (params, stats, weight), (lesson, numbers) = inputs, server

        def logits_of(params):
            variables = {"params": params, "stats": stats}
            return model.apply(variables, lesson.inputs, train=True, mask=lesson.mask)

        logits, pull_back, stats = jax.vjp(logits_of, params, has_aux=True)
        leaves, plan["structure"] = jax.tree.flatten(pull_back)
        known = {id(leaf): place for place, leaf in enumerate(at_hand(params, lesson))}
        plan["places"] = [known.get(id(leaf)) for leaf in leaves]
        kept = [leaf for leaf in leaves if id(leaf) not in known]
        return answer(logits, weight, numbers), (logits, stats, kept)

    def learn(loss, state, inputs, shared):
        (params, _, momentum), (weight, point, (logits, stats, kept)) = state, inputs
        told, once = shared
        lesson, sums, numbers, rates = take_rows(told, point)
        value, cotangent = jax.value_and_grad(loss)(
            logits, lesson.labels, lesson.mask, sums, weight, numbers
        )

        def step(_, carry):
            params, momentum = carry
            arrays, rest = at_hand(params, lesson), iter(kept)
            leaves = [next(rest) if place is None else arrays[place] for place in plan["places"]]
            (grads,) = jax.tree.unflatten(plan["structure"], leaves)(cotangent)
            updates, momentum = sgd(rates).update(grads, momentum, params)
            return optax.apply_updates(params, updates), momentum

        # A loop of one round, which XLA does not know: it would compute a row's new value from the
        # very stacks that it is written to, and for that copy them, all members, for every member.
        params, momentum = jax.lax.fori_loop(0, once, step, (params, momentum))
        return (params, stats, momentum), value

    return _Pass(forward, learn)


def _zeros(seats: Seats) -> jax.Array:
    return jnp.zeros(seats.point.shape, jnp.float32)


def _rows_run(live: jax.Array, execution: Execution) -> jax.Array:
    """How many members a device computes a step for, those that nobody needs included."""
    if execution.form == "vmap":
        return jnp.int32(live.shape[0])
    count = jnp.sum(live, dtype=jnp.int32)
    if execution.form == "sequential":
        return count
    return (count + execution.width - 1) // execution.width * execution.width
