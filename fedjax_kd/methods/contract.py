"""The contract of a method whose clients work in rounds: three pure functions and what they report.

A method says what happened, never what it cost: `system/` prices the reported work and bits for any
device profile, so one run can be priced again without training again. Randomness is not an
argument: every draw comes from `federation.people.roots` by name (see
`fedjax_kd.clients.randomness`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import struct

from fedjax_kd.clients import Population
from fedjax_kd.data import ExampleTable


@struct.dataclass
class Federation:
    """The examples and the clients of all study points.

    Attributes:
        table: every example of the study, on the device once.
        people: K clients of S points, with their rows of the table.
    """

    table: ExampleTable
    people: Population


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
        clients: pytree of arrays [K, ...], one row per client; `()` if clients keep nothing.
    """

    server: Any
    clients: Any


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
    """

    loss: jax.Array
    work_flops: jax.Array
    executed_flops: jax.Array
    uplink_bits: jax.Array
    downlink_bits: jax.Array


@struct.dataclass
class Predictor:
    """The models that are evaluated, and who uses which.

    Attributes:
        stack: variables [V, ...] of one architecture.
        row: int32 [K], the model of the stack that client k predicts with.
    """

    stack: Any
    row: jax.Array


class Method(NamedTuple):
    """Pure functions, after optax's init/update pair.

    `HParams` are the method's own: a pytree whose leaves are scalars or [S], one per study point.

    Attributes:
        init: `(federation) -> State`.
        round: `(State, federation, HParams, Round) -> (State, RoundReport)`.
        predict: `(State, federation) -> Predictor`.
    """

    init: Callable[[Federation], State]
    round: Callable[[State, Federation, Any, Round], tuple[State, RoundReport]]
    predict: Callable[[State, Federation], Predictor]
