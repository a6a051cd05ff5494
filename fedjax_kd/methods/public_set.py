"""What methods share that use public examples: which ones a round is about, what is made of them.

A round is about some public rows, the same ones at the server and all clients of a study point.
Scores are [P, C], a row for each of them, and their mask says which rows there are.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from fedjax_kd.clients import Population, Purpose, draw_key, draw_public, per_point
from fedjax_kd.data import IndexTable
from fedjax_kd.exchange import PublicScores, fit_student
from fedjax_kd.methods.architectures import by_architecture, groups_of
from fedjax_kd.methods.client_work import AtHand, Training, work_on_own_examples
from fedjax_kd.methods.contract import Federation, PhaseReport, Round
from fedjax_kd.methods.on_device_kd_costs import examples_in_steps
from fedjax_kd.models import Model, profile
from fedjax_kd.training import Execution, run_clients, settled

Tree = Any
SERVER = 2**32 - 1  # no user has this number: the server's draws are its own


def check_options(least: int = 0, **values: int | None) -> None:
    """Raises a ValueError unless every one is None or an integer of at least `least`."""
    for name, value in values.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and value >= least):
            raise ValueError(f"{name} must be an integer of at least {least}; got {value!r}")


def check_public(people: Population, per_round: int | None, *, same_rows: bool = False) -> int:
    """How many public rows a round is about, P, static.

    Args:
        people: S points.
        per_round: as a method was given it; None for all there are.
        same_rows: whether they have to be the same ones in every round.

    Raises:
        ValueError: if there are no public examples or not so many, or not the same in every round.
    """
    most = people.public.indices.shape[1]
    if not isinstance(people.public.counts, Tracer):
        most = int(np.min(np.asarray(people.public.counts), initial=most))
    if most < 2:  # inside a program, a table without examples is one of a single place
        raise ValueError(
            f"people.public: found {most} places for public examples; allowed: at least 2 examples "
            "at each study point, which everybody speaks about"
        )
    if per_round is not None and per_round > most:
        raise ValueError(
            f"per_round: found {per_round}; allowed: 1 to {most}, the public examples of a point"
        )
    if same_rows and per_round not in (None, most):
        raise ValueError(
            f"per_round: found {per_round} with an upload of changed rows only; allowed: None or "
            f"all {most} public examples, so that a row is the same example in every round"
        )
    return most if per_round is None else per_round


def asked_rows(people: Population, round_: Round, per_round: int | None) -> IndexTable:
    """The public rows that a round is about: rows [S, P] of the table, and counts [S]."""
    if per_round is None:
        return people.public
    rows = draw_public(people, round_.index, per_round)
    return IndexTable(rows, jnp.minimum(people.public.counts, per_round))


def second_key(at: AtHand, purpose: Purpose) -> jax.Array:
    """A client's key for a further draw in a pass over the clients, like `AtHand.channel_key`."""
    return jax.random.fold_in(at.key, jnp.uint32(purpose) + jnp.uint32(2**31))


def share(scores: PublicScores) -> tuple[jax.Array, jax.Array]:
    """What ONE client adds to its server's sum: scores [P, C], and 1 for each row it has, [P]."""
    return jnp.where(scores.mask[:, None], scores.values, 0.0), scores.mask.astype(jnp.float32)


def mean_of_shares(total: tuple[jax.Array, jax.Array]) -> PublicScores:
    """Mean scores [S, P, C] of the summed shares; a row that nobody has is masked."""
    values, speakers = total
    heard = speakers > 0
    mean = values / jnp.where(heard, speakers, 1.0)[..., None]
    return PublicScores(jnp.where(heard[..., None], mean, 0.0), heard)


def a_phase(
    models: Sequence[Model],
    federation: Federation,
    round_: Round,
    training: Training,
    asked: IndexTable,
    *,
    own_epochs: int = 0,
    answered: int = 0,
    digested: int = 0,
    extra_flops: jax.typing.ArrayLike = 0.0,
    **others: jax.typing.ArrayLike,
) -> tuple[PhaseReport, jax.Array]:
    """A phase in which clients work on their own examples and on public ones.

    Args:
        models: one per group.
        federation: K clients at S points.
        round_: which round, and who takes part.
        training: static.
        asked: rows [S, P] and counts [S].
        own_epochs: of training on the own examples.
        answered: forward passes over the public rows.
        digested: training passes over the public rows.
        extra_flops: scalar or [K], further operations.
        **others: `uplink_bits`, `downlink_bits`, `server_flops`.

    Returns:
        The phase, and what the simulator spent on it, float32 [K].
    """
    costs, people = [profile(model) for model in models], federation.people
    per_row = [
        float(answered * each.forward_flops + digested * each.training_flops) for each in costs
    ]
    public = by_architecture(per_row, groups_of(models, federation), people.n_clients)
    rows = asked.counts[people.point].astype(jnp.float32)
    return work_on_own_examples(
        models,
        federation,
        round_.active,
        training,
        flops_per_example=[float(own_epochs * each.training_flops) for each in costs],
        extra_flops=extra_flops + rows * public,
        **others,
    )


def fit_at_servers(
    model: Model,
    stack: Tree,
    asked: IndexTable,
    targets: PublicScores,
    federation: Federation,
    round_: Round,
    execution: Execution,
    *,
    optimiser_of: Callable[[Any], Any],
    numbers: Tree,
    batch_size: int,
    steps: int | None = None,
    epochs: int | None = None,
    place: int = 0,
    **options: Any,
) -> tuple[Tree, jax.Array, jax.Array]:
    """Every server fits a model to the scores that it has.

    Args:
        model: the architecture.
        stack: variables [S, ...].
        asked: rows [S, P] and counts [S].
        targets: scores [S, P, C].
        federation: whose table the rows are of.
        round_: which round.
        execution: how servers are run, side by side like clients.
        optimiser_of: the optimiser, of one server's numbers.
        numbers: hyper-parameters, scalars or [S].
        batch_size: public rows per step.
        steps: how many, or
        epochs: how many passes over the rows.
        place: which of a server's models it is, for the draws.
        **options: `loss` and `kind` of `exchange.fit_student`.

    Returns:
        The variables [S, ...], bit for bit what they were where there are no scores, the mean
        losses [S], and the operations that it took, float32 [S].
    """

    def one_server(variables, inputs, table):
        key, rows, scores, own = inputs
        return fit_student(
            key,
            variables,
            rows.indices,
            rows.counts,
            scores.values,
            model=model,
            table=table,
            optimiser=optimiser_of(own),
            batch_size=batch_size,
            steps=steps,
            epochs=epochs,
            present=scores.mask,
            **options,
        )

    def own_key(root):
        drawn = jax.random.fold_in(draw_key(root, round_.index, Purpose.DISTIL_ORDER), SERVER)
        return jax.random.fold_in(drawn, place)

    people = federation.people
    inputs = jax.vmap(own_key)(people.roots), asked, targets, per_point(numbers, people)
    heard = jnp.any(targets.mask, axis=1)
    fitted, loss = run_clients(one_server, stack, inputs, federation.table, heard, execution)
    if steps is None:
        taken = (epochs or 0) * asked.counts.astype(jnp.float32)
    else:
        taken = examples_in_steps(asked.counts, steps, batch_size)
    flops = jnp.where(heard, taken * profile(model).training_flops, 0.0)
    return settled(fitted, execution, axis="study"), loss, flops


def adam(rate: jax.Array, falls_over: int | None = None) -> optax.GradientTransformation:
    """Adam with a traced learning rate.

    Args:
        rate: scalar > 0.
        falls_over: after so many steps the rate has fallen to 0 along a cosine; None: it stays.
    """
    made = optax.adam(optax.cosine_decay_schedule(rate, falls_over) if falls_over else rate)

    def update(updates, state, params=None):
        with jax.numpy_dtype_promotion("standard"):  # it counts its steps in whole numbers
            return made.update(updates, state, params)

    return optax.GradientTransformation(made.init, update)
