"""The contract of a method whose clients work in rounds: three pure functions and what they report.

A method says what happened, never what it cost: `system/` prices the reported work and bits for any
device profile, so one run can be priced again without training again. Randomness is not an
argument: every draw comes from `federation.people.roots` by name (see
`fedjax_kd.clients.randomness`).
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
from flax import struct

from fedjax_kd.clients import Groups, Population
from fedjax_kd.data import ExampleTable
from fedjax_kd.models import Model


@struct.dataclass
class Federation:
    """The examples and the clients of all study points.

    Attributes:
        table: every example of the study, on the device once.
        people: K clients of S points, with their rows of the table.
        groups: which clients have which architecture, for methods that take several; `()` where
            there is one for all.
    """

    table: ExampleTable
    people: Population
    groups: Groups = ()


@struct.dataclass
class Round:
    """Which round it is and who takes part.

    Attributes:
        index: int32 scalar.
        active: bool [K].
    """

    index: jax.Array
    active: jax.Array


@struct.dataclass
class State:
    """What a method carries from round to round, one struct for all methods.

    The two parts are told apart so that the engine can hand a method some clients only: a sampled
    cohort, or the part of a population too large for the device.

    Attributes:
        server: pytree of arrays [S, ...], one row per study point.
        clients: pytree of arrays [K, ...], one row per client; `()` if clients keep nothing. Where
            the federation has groups, a tuple with one such tree per group, arrays [K_g, ...].
    """

    server: Any
    clients: Any


@struct.dataclass
class PhaseReport:
    """A part of a round that ends when everybody is done with it.

    In a phase clients receive, then compute, then send; what a server computes comes after that.

    Attributes:
        work_flops: float32 [K].
        uplink_bits: float32 [K], sent by the client.
        downlink_bits: float32 [K], received by the client.
        server_flops: float32 [S].
        peer: static; whether bits go from device to device instead of to and from a server.
        partner: int32 [K], the user number of the one that each client sends to, 0 for those that
            send nothing; None where a phase has one sender or one receiver at each study point.
    """

    work_flops: jax.Array
    uplink_bits: jax.Array
    downlink_bits: jax.Array
    server_flops: jax.Array
    peer: bool = struct.field(pytree_node=False, default=False)
    partner: jax.Array | None = None


@struct.dataclass
class RoundReport:
    """What the clients did in a round; zeros for those that did not take part.

    Attributes:
        loss: float32 [K], mean training loss.
        work_flops: float32 [K], floating-point operations that the method asks of the client.
        executed_flops: float32 [K], what the simulator spent on it: padded batches, and waiting for
            larger clients of a vectorised chunk, come on top (`training.executed_examples`).
        uplink_bits: float32 [K], sent by the client.
        downlink_bits: float32 [K], received by the client.
        phases: what the totals above are made of, in order, as `Method.phases` names them; `()` for
            a round that is one phase.
        extra: what else the method has to say, by name: arrays [S] or [K].
    """

    loss: jax.Array
    work_flops: jax.Array
    executed_flops: jax.Array
    uplink_bits: jax.Array
    downlink_bits: jax.Array
    phases: tuple[PhaseReport, ...] = ()
    extra: dict[str, jax.Array] = struct.field(default_factory=dict)


@struct.dataclass
class Predictor:
    """The models of one architecture that are evaluated, and who uses which.

    Attributes:
        stack: variables [V, ...].
        row: int32 [n], the model of the stack that each of n clients predicts with.
        clients: int32 [n], where those clients stand on the client axis; None for all in order.
        logits: static; `(variables, inputs [B, ...]) -> logits [B, C]` in evaluation mode, where
            the largest logit is the prediction. None where whoever evaluates has the model.
    """

    stack: Any
    row: jax.Array
    clients: jax.Array | None = None
    logits: Callable[[Any, jax.Array], jax.Array] | None = struct.field(
        pytree_node=False, default=None
    )


Predictors = dict[str, tuple[Predictor, ...]]
"""By view, the method's main one first; one predictor for each group of clients."""


class Method(NamedTuple):
    """Pure functions, after optax's init/update pair.

    `HParams` are the method's own: a pytree whose leaves are scalars or [S], one per study point.

    Attributes:
        init: `(federation) -> State`.
        round: `(State, federation, HParams, Round) -> (State, RoundReport)`.
        predict: `(State, federation) -> Predictors`.
        phases: names of the phases of a round, in order.
        has_roles: whether the method itself draws who does what. Such a method sees the whole
            population in every round, and a cohort as those who are active.
    """

    init: Callable[[Federation], State]
    round: Callable[[State, Federation, Any, Round], tuple[State, RoundReport]]
    predict: Callable[[State, Federation], Predictors]
    phases: tuple[str, ...] = ("round",)
    has_roles: bool = False


@lru_cache(maxsize=64)  # one function a model, so that programs which hold it compare equal
def logits_of(model: Model) -> Callable[[Any, jax.Array], jax.Array]:
    """`(variables, inputs [B, ...]) -> logits [B, C]` of a model in evaluation mode."""
    return lambda variables, inputs: model.apply(variables, inputs, train=False)[0]
