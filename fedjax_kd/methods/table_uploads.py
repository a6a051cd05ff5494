"""What methods share whose clients send class tables: the way up, and a round of all clients."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from fedjax_kd.exchange import Channel, bits_of, class_table, memory_of_clients, numbers_of
from fedjax_kd.exchange.channel import Stage
from fedjax_kd.exchange.class_table import ClassTable
from fedjax_kd.exchange.payload import rows_of_table, table_of_rows
from fedjax_kd.methods.client_work import AtHand, Client, Training, each_client, one_phase
from fedjax_kd.methods.contract import Federation, Round, RoundReport, State
from fedjax_kd.models import Model
from fedjax_kd.training import settled

Average = Literal["clients", "examples"]
Message = tuple[jax.Array, jax.Array, jax.Array]
"""Totals [C, m], counts [C], and 1 for a client that sends; the server has their sums."""


def counted(upload: Channel, average: Average) -> bool:
    """Whether counts travel beside the vectors.

    Where clients weigh alike every class that is there counts one, which needs no number, unless
    the channel hides which classes are there.

    Raises:
        ValueError: if such a channel would have to hide numbers of examples.
    """
    hiding = {Stage.NOISE, Stage.SECURE_SUM} & set(upload.stages)
    if hiding and average == "examples":
        raise ValueError(
            "average: found 'examples' with noise or a secure sum; allowed: 'clients', whose "
            "counts are no larger than 1"
        )
    return average == "examples" or bool(hiding)


def nothing_sent(
    upload: Channel, n_clients: int, n_classes: int, size: int, average: Average
) -> tuple[ClassTable, Any]:
    """Before the first upload: what servers have of `n_clients` clients, and channels remember.

    Args:
        upload: the channel.
        n_clients: K.
        n_classes: C.
        size: m, of the vectors.
        average: as for `send`.

    Returns:
        A ClassTable [K] without classes, and the memory [K, ...].
    """
    blank = class_table.empty(n_clients, n_classes, size)
    like = class_table.empty(1, n_classes, size)
    first = jax.tree.map(lambda leaf: leaf[0], like)
    rows = rows_of_table(first, counted=counted(upload, average))
    return blank, memory_of_clients(upload, rows, n_clients)


def send(
    at: AtHand,
    upload: Channel,
    memory: Any,
    table: tuple[jax.Array, jax.Array],
    average: Average,
) -> tuple[tuple[ClassTable, Any], Message, jax.Array]:
    """ONE client sends its class table.

    Args:
        at: what the client has at hand: the channel's numbers are `at.numbers.upload`, the round
            is `at.shared`.
        upload: the channel.
        memory: what it remembers.
        table: totals [C, m] and counts [C].
        average: `clients` sends means and counts of 1, so that clients weigh alike.

    Returns:
        What `nothing_sent` has of this client now, the message for the server to sum, and the bits
        that crossed.
    """
    totals, counts = class_table.one_vote_a_class(*table) if average == "clients" else table
    with_counts = counted(upload, average)
    rows = rows_of_table(ClassTable(totals, counts, at.shared), counted=with_counts)
    numbers = numbers_of(upload, at.numbers.upload)
    memory, sent = upload.send(at.channel_key, memory, numbers, rows)
    there = table_of_rows(sent, at.shared, counted=with_counts)
    speaks = (at.count > 0).astype(jnp.int32)
    return (there, memory), (there.totals, there.counts, speaks), bits_of(sent)


def round_of_all(
    client_of: Callable[[Model], Client],
    models: tuple[Model, ...],
    training: Training,
    flops: Sequence[float],
    state: State,
    federation: Federation,
    hparams: Any,
    round_: Round,
    *,
    keep_absent: bool = False,
    sums_down: bool = False,
) -> tuple[State, RoundReport]:
    """A round in which clients see their server's table of the last one, train, and send theirs.

    Args:
        client_of: for a model, what one of its clients does: its message is that of `send`,
            its outputs are its mean loss and the bits that it sent. It finds its server's table in
            `at.server` and the round in `at.shared`.
        models: one per group.
        training: static.
        flops: of an example of each architecture, all epochs together.
        state: `State.server` is a `ClassTable` [S].
        federation: K clients.
        hparams: scalars or [S].
        round_: which round, and who takes part.
        keep_absent: whether a class that nobody sent keeps its old row.
        sums_down: whether clients are sent totals and counts, to take their own shares out of,
            instead of the vectors that they learn from.

    Returns:
        The new state, and the report.
    """
    clients, (totals, counts, heard), (loss, bits) = each_client(
        client_of,
        models,
        state.clients,
        federation,
        round_,
        training,
        hparams=hparams,
        servers=state.server,
        shared=round_.index,
    )
    report = one_phase(
        models,
        federation,
        round_.active,
        training,
        loss,
        flops_per_example=flops,
        uplink_bits=bits,
        downlink_bits=class_table.bits(state.server, counted=sums_down)[federation.people.point],
    )
    server = class_table.renewed(
        state.server, totals, counts, heard, round_.index, keep_absent=keep_absent
    )
    return State(settled(server, training.execution, axis="study"), clients), report


def check_choices(**choices: tuple[str, Any]) -> None:
    """That options have one of their values.

    Args:
        **choices: by name, the value and the `Literal` of what is allowed.

    Raises:
        ValueError: naming the first that has not.
    """
    for name, (value, literal) in choices.items():
        allowed = get_args(literal)
        if value not in allowed:
            raise ValueError(f"{name} must be {' or '.join(allowed)}; got {value!r}")
