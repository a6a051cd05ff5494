"""What one client does in a round, and how a round of all clients is run and reported.

The frame that methods fill in. A method says what ONE client of a model does: `client(own, at) ->
(own, message, outputs)`, where `at` is what the client has at hand. Everything else (which clients
are run and how, the sum of their messages, a fresh optimiser, short batches, what it cost) is here.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_kd.clients import Population, Purpose, client_keys, per_point
from fedjax_kd.data import ExampleTable, training_batch
from fedjax_kd.distill import masked_mean
from fedjax_kd.exchange.class_table import add_by_class, of_rows
from fedjax_kd.methods.architectures import (
    by_architecture,
    check_tasks,
    executed_in_groups,
    groups_of,
    run_groups,
)
from fedjax_kd.methods.contract import Federation, PhaseReport, Round, RoundReport, State
from fedjax_kd.models import Model
from fedjax_kd.training import Execution, Rates, local_update, settled, sgd
from fedjax_kd.training.local_update import Order

Tree = Any


class Training(NamedTuple):
    """How clients train, the same for all architectures; static.

    Attributes:
        epochs: local epochs per round.
        batch_size: examples per step.
        execution: how the client axis is run.
        order: of a client's examples; see `training.local_update`.
    """

    epochs: int
    batch_size: int
    execution: Execution
    order: Order = "shuffled"


class Examples(NamedTuple):
    """A batch as a loss sees it.

    Attributes:
        inputs: float32 [B, ...], normalised and augmented.
        labels: int32 [B].
        mask: bool [B], which of them are real.
    """

    inputs: jax.Array
    labels: jax.Array
    mask: jax.Array


Loss = Callable[[Tree, Tree, Examples], tuple[jax.Array, Tree]]
"""`(params, stats, Examples) -> (losses [B], stats)`."""
CollectingLoss = Callable[[Tree, Tree, Examples], tuple[jax.Array, Tree, jax.Array]]
"""The same, and a vector [B, m] of each example."""


class AtHand(NamedTuple):
    """What ONE client has at hand in a round.

    Attributes:
        key: its key of the round.
        rows: int32 [n_max], its examples.
        count: int32 scalar, how many of them are valid.
        user: int32 scalar, its number.
        server: its server's row of what the servers give.
        numbers: the hyper-parameters of its study point.
        shared: what every client sees whole.
        table: all examples.
        training: static.
    """

    key: jax.Array
    rows: jax.Array
    count: jax.Array
    user: jax.Array
    server: Tree
    numbers: Tree
    shared: Tree
    table: ExampleTable
    training: Training

    @property
    def channel_key(self) -> jax.Array:
        """The client's key of the round for what happens to its upload on the way."""
        return jax.random.fold_in(self.key, jnp.uint32(Purpose.CHANNEL) + jnp.uint32(2**31))

    @property
    def weight(self) -> jax.Array:
        """How many examples the client holds, float32 scalar."""
        return self.count.astype(jnp.float32)

    def train(self, variables: Tree, loss: Loss, rates: Rates) -> tuple[Tree, jax.Array]:
        """Trains on the client's own examples, with a fresh optimiser.

        Args:
            variables: `{"params": ..., "stats": ...}`, of one model or of several.
            loss: of every example of a batch; the step's loss is the mean over the real ones.
            rates: of SGD.

        Returns:
            The trained variables, and the mean loss over the last epoch.
        """

        def batch_loss(params, stats, batch):
            inputs, labels = training_batch(self.table, self.rows[batch.positions], batch.key)
            losses, stats = loss(params, stats, Examples(inputs, labels, batch.mask))
            return masked_mean(losses, batch.mask), stats

        return self._update(variables, batch_loss, rates)

    def train_and_collect(
        self, variables: Tree, loss: CollectingLoss, rates: Rates, shape: tuple[int, int], last: int
    ) -> tuple[Tree, tuple[jax.Array, jax.Array], jax.Array]:
        """As `train`; adds up by class what the loss makes of each example on the way.

        Args:
            variables: as for `train`.
            loss: gives a vector [B, m] of each example beside its loss.
            rates: of SGD.
            shape: (C, m), classes and the vectors' size.
            last: how many epochs count, the last ones.

        Returns:
            The trained variables, the totals [C, m] and counts [C], and the mean loss.
        """
        spare = 0 if self.training.order == "as_stored" else self.training.batch_size - 1
        per_epoch = (self.count + spare) // self.training.batch_size
        first = (self.training.epochs - last) * per_epoch

        def batch_loss(params, carried, batch):
            stats, (totals, counts), step = carried
            inputs, labels = training_batch(self.table, self.rows[batch.positions], batch.key)
            losses, stats, vectors = loss(params, stats, Examples(inputs, labels, batch.mask))
            counted = batch.mask & (step >= first)
            vectors = jax.lax.stop_gradient(vectors)
            table = add_by_class(totals, counts, vectors, labels, counted)
            return masked_mean(losses, batch.mask), (stats, table, step + 1)

        blank = jnp.zeros(shape, jnp.float32), jnp.zeros(shape[:1], jnp.float32)
        carried = (variables["stats"], blank, jnp.int32(0))
        start = {"params": variables["params"], "stats": carried}
        trained, mean = self._update(start, batch_loss, rates)
        stats, table, _ = trained["stats"]
        return {"params": trained["params"], "stats": stats}, table, mean

    def collect(
        self, vectors: Callable[[jax.Array], jax.Array], shape: tuple[int, int]
    ) -> tuple[jax.Array, jax.Array]:
        """Adds up by class a vector of each of the client's examples, in a pass of its own.

        Args:
            vectors: inputs [B, ...] to vectors [B, m].
            shape: (C, m), classes and the vectors' size.

        Returns:
            Totals [C, m] and counts [C].
        """
        return of_rows(
            vectors,
            self.table,
            self.rows,
            self.count,
            n_classes=shape[0],
            size=shape[1],
            batch_size=self.training.batch_size,
        )

    def _update(self, variables, batch_loss, rates):
        return local_update(
            self.key,
            variables,
            self.count,
            batch_loss,
            sgd(rates),
            capacity=self.rows.shape[0],
            epochs=self.training.epochs,
            batch_size=self.training.batch_size,
            order=self.training.order,
        )


Client = Callable[[Tree, AtHand], tuple[Tree, Tree, Tree]]
"""`(own, at) -> (own, message to be summed at the server, outputs)`."""


def each_client(
    client_of: Callable[[Model], Client],
    models: Sequence[Model],
    clients: tuple[Tree, ...],
    federation: Federation,
    round_: Round,
    training: Training,
    *,
    hparams: Tree,
    servers: Tree = (),
    shared: Tree = (),
    purpose: Purpose = Purpose.BATCH_ORDER,
    active: jax.Array | None = None,
) -> tuple[tuple[Tree, ...], Tree, Tree]:
    """Runs the active clients of all architectures.

    Args:
        client_of: for a model, what one of its clients does.
        models: one per group of the federation.
        clients: what the clients keep, one pytree [K_g, ...] per group; `()` for nothing.
        federation: K clients at S points.
        round_: which round, and who takes part.
        training: static.
        hparams: scalars or [S].
        servers: pytree of arrays [S, ...].
        shared: pytree that every client sees whole.
        purpose: what the clients' keys are for; a second pass of a round takes another.
        active: bool [K], instead of `round_.active`.

    Returns:
        What the clients keep, the sums of their messages [S, ...], and their outputs [K, ...].
    """

    def one_client_of(model: Model):
        client = client_of(model)

        def one_client(own, inputs, server, shared):
            key, rows, count, user = inputs
            held, numbers = server
            rest, table = shared
            at = AtHand(key, rows, count, user, held, numbers, rest, table, training)
            return client(own, at)

        return one_client

    def inputs_of(people: Population):
        keys = client_keys(people, round_.index, purpose)
        return keys, people.train.indices, people.train.counts, people.user

    return run_groups(
        one_client_of,
        models,
        clients if clients else ((),) * len(models),
        federation,
        inputs_of,
        (servers, per_point(hparams, federation.people)),
        (shared, federation.table),
        round_.active if active is None else active,
        training.execution,
    )


def state_of(server: Tree, clients: Tree, execution: Execution) -> State:
    """The state of servers and clients, living where the next round will look for it."""
    return State(
        server=settled(server, execution, axis="study"),
        clients=settled(clients, execution, axis="clients"),
    )


def as_models(models: Model | Sequence[Model]) -> tuple[Model, ...]:
    """One architecture per group; one for all may be given by itself.

    Raises:
        ValueError: if there is no model, or they differ in their inputs or classes.
    """
    found = (models,) if isinstance(models, Model) else tuple(models)
    check_tasks(found)
    return found


def one_phase(
    models: Sequence[Model],
    federation: Federation,
    active: jax.Array,
    training: Training,
    loss: jax.Array,
    *,
    flops_per_example: Sequence[float],
    uplink_bits: jax.typing.ArrayLike,
    downlink_bits: jax.typing.ArrayLike,
) -> RoundReport:
    """The report of a round in which clients receive, train on their examples, and send.

    Args:
        models: one per group.
        federation: K clients.
        active: bool [K].
        training: static.
        loss: float32 [K].
        flops_per_example: of each architecture, all epochs together.
        uplink_bits: scalar or [K], of those that take part.
        downlink_bits: scalar or [K].
    """
    phase, executed = work_on_own_examples(
        models,
        federation,
        active,
        training,
        flops_per_example=flops_per_example,
        uplink_bits=uplink_bits,
        downlink_bits=downlink_bits,
    )
    return RoundReport(
        loss=loss,
        work_flops=phase.work_flops,
        executed_flops=executed,
        uplink_bits=phase.uplink_bits,
        downlink_bits=phase.downlink_bits,
    )


def work_on_own_examples(
    models: Sequence[Model],
    federation: Federation,
    active: jax.Array,
    training: Training,
    *,
    flops_per_example: Sequence[float],
    uplink_bits: jax.typing.ArrayLike = 0.0,
    downlink_bits: jax.typing.ArrayLike = 0.0,
    extra_flops: jax.typing.ArrayLike = 0.0,
    server_flops: jax.typing.ArrayLike = 0.0,
) -> tuple[PhaseReport, jax.Array]:
    """A phase of a round, and the operations that the simulator spent on it, float32 [K].

    Args:
        models: as for `one_phase`, and so the others.
        federation: K clients at S points.
        active: bool [K].
        training: static.
        flops_per_example: of each architecture, over the client's own examples; zeros for a phase
            that does not look at them.
        uplink_bits: scalar or [K].
        downlink_bits: scalar or [K].
        extra_flops: scalar or [K], work that does not depend on how many examples a client holds.
        server_flops: scalar or [S].
    """
    people = federation.people
    groups = groups_of(models, federation)
    per_example = by_architecture(flops_per_example, groups, people.n_clients)
    executed = executed_in_groups(people, groups, active, training.batch_size, training.execution)
    present = active.astype(jnp.float32)
    phase = PhaseReport(
        work_flops=present * (people.train.counts.astype(jnp.float32) * per_example + extra_flops),
        uplink_bits=present * uplink_bits,
        downlink_bits=present * downlink_bits,
        server_flops=jnp.broadcast_to(jnp.float32(server_flops), (people.n_points,)),
    )
    return phase, executed * per_example + present * extra_flops
