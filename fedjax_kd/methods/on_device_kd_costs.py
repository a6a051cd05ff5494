"""What the steps of on-device KD and its baselines cost: operations and bits, client by client."""

import jax
import jax.numpy as jnp

from fedjax_kd.clients import Population, select
from fedjax_kd.methods.contract import PhaseReport, RoundReport
from fedjax_kd.methods.weak_and_strong import Seats, Training, of_everybody
from fedjax_kd.models import Model, profile
from fedjax_kd.training import executed_examples

Costs = tuple[PhaseReport, jax.Array]
"""A phase, and the operations that the simulator spent on it, float32 [K]."""


def examples_in_steps(counts: jax.Array, steps: int, batch_size: int) -> jax.Array:
    """Examples in the batches that `training.local_steps` takes, short ones as short as they are.

    Args:
        counts: int32 [n], rows of each client.
        steps: static.
        batch_size: static.

    Returns:
        float32 [n].
    """
    per_epoch = jnp.maximum((counts + batch_size - 1) // batch_size, 1)
    rest = jnp.minimum(steps % per_epoch * batch_size, counts)
    return (steps // per_epoch * counts + rest).astype(jnp.float32)


def auxiliary_costs(
    auxiliary: Model, people: Population, seats: Seats, training: Training
) -> Costs:
    """Step 1: a sampled client receives the auxiliary model, trains it and sends it."""
    costs = profile(auxiliary)
    drawn = select(people, seats.positions)
    labelled = drawn.train.counts, float(costs.training_flops)
    return _phase(people, seats, training, (labelled,), down=costs.bits, up=costs.bits)


def target_costs(
    auxiliary: Model,
    target: Model,
    people: Population,
    seats: Seats,
    training: Training,
    *,
    labelled: bool,
    distils: bool,
) -> Costs:
    """Step 2: a strong client receives the target (and the teacher, if it distils) and sends it.

    An example of the second phase costs the target's training and the teacher's forward pass.
    """
    teacher, student = profile(auxiliary), profile(target)
    members, loops = select(people, seats.positions), []
    if labelled:
        loops.append((members.train.counts, float(student.training_flops)))
    if distils:
        flops = float(student.training_flops + teacher.forward_flops)
        loops.append((members.unlabelled.counts, flops))
    down = student.bits + (teacher.bits if distils else 0)
    return _phase(people, seats, training, tuple(loops), down=down, up=student.bits)


def in_total(loss: jax.Array, phases: list[Costs], extra: dict[str, jax.Array]) -> RoundReport:
    """The report of a round that consists of these phases."""

    def total(leaves: list[jax.Array]) -> jax.Array:
        return jnp.sum(jnp.stack(leaves), axis=0)

    return RoundReport(
        loss=loss,
        work_flops=total([phase.work_flops for phase, _ in phases]),
        executed_flops=total([executed for _, executed in phases]),
        uplink_bits=total([phase.uplink_bits for phase, _ in phases]),
        downlink_bits=total([phase.downlink_bits for phase, _ in phases]),
        phases=tuple(phase for phase, _ in phases),
        extra=extra,
    )


def _phase(
    people: Population,
    seats: Seats,
    training: Training,
    loops: tuple[tuple[jax.Array, float], ...],
    *,
    down: int,
    up: int,
) -> Costs:
    """Loops of `training.steps` steps over so many rows [M] at so many operations an example."""
    work = jnp.zeros(seats.positions.shape, jnp.float32)
    executed = jnp.zeros(people.n_clients, jnp.float32)
    for counts, flops in loops:
        work += flops * examples_in_steps(counts, training.steps, training.batch_size)
        taken = jnp.where(counts > 0, training.steps * training.batch_size, 0)
        spent = executed_examples(taken, seats.present, training.batch_size, training.execution)
        # Added, not set: a form may also run clients in seats that are nobody's.
        executed = executed.at[seats.positions].add(flops * spent)
    present = of_everybody(jnp.ones_like(work), seats, people.n_clients)
    phase = PhaseReport(
        work_flops=of_everybody(work, seats, people.n_clients),
        uplink_bits=present * up,
        downlink_bits=present * down,
        server_flops=jnp.zeros(people.n_points, jnp.float32),
    )
    return phase, executed
