"""What the decentralised baselines share: first models, handing out an average, phases of a round.

The harness is DFML's (Khalil et al. 2024, arXiv:2402.01863) as far as it is known, and our
assumption otherwise: who meets is drawn by `fedjax_kd.methods.pool`, clients train on their own
examples, the aggregator averages and sends back.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from fedjax_kd.clients import Purpose, client_keys, select
from fedjax_kd.methods.architectures import groups_of, init_models
from fedjax_kd.methods.contract import Federation, PhaseReport
from fedjax_kd.methods.dfml_phases import aggregators, at_aggregator
from fedjax_kd.methods.pool import Pool
from fedjax_kd.models import Model
from fedjax_kd.training import Execution, settled

THERE_AND_BACK = ("learn", "send", "return")


def initial_models(
    models: tuple[Model, ...],
    federation: Federation,
    execution: Execution,
    start: Literal["common", "own"],
) -> tuple[Any, ...]:
    """Every client's first model.

    Args:
        models: the architectures.
        federation: who has which.
        execution: where the arrays live.
        start: one draw per study point for all clients of an architecture, or one per client.

    Returns:
        Variables [K_g, ...] per architecture.
    """
    people, groups = federation.people, groups_of(models, federation)
    if start == "common":
        trees = init_models(models, people, groups)
    else:
        trees = tuple(
            jax.vmap(model.init)(client_keys(select(people, members), 0, Purpose.INIT))
            for model, members in zip(models, groups, strict=True)
        )
    return settled(trees, execution, axis="clients")


def handed_out(
    totals: Any, weights: jax.Array, own: Any, point: jax.Array, receives: jax.Array
) -> Any:
    """Gives clients the mean of their study point; the others' rows stay bit for bit.

    Args:
        totals: pytree [S, ...], weighted sums.
        weights: float32 [S], sums of the weights; where there is none, nothing is handed out.
        own: pytree [K_g, ...], what clients have.
        point: int32 [K_g].
        receives: bool [K_g].

    Returns:
        pytree [K_g, ...].
    """
    gets = receives & (weights > 0)[point]

    def give(total, leaf):
        mean = total / jnp.maximum(weights, 1.0).reshape(weights.shape + (1,) * (total.ndim - 1))
        return jnp.where(gets.reshape(gets.shape + (1,) * (leaf.ndim - 1)), mean[point], leaf)

    return jax.tree.map(give, totals, own)


def there_and_back(
    pool: Pool, point: jax.Array, work_flops: jax.Array, bits: jax.Array
) -> tuple[PhaseReport, PhaseReport, PhaseReport]:
    """Phases of a round: all learn, the senders send to their aggregator, it sends as much back.

    What the aggregator computes to average is not counted, some operations per parameter.

    Args:
        pool: who meets.
        point: int32 [K].
        work_flops: float32 [K], of learning.
        bits: float32 [K], what each client would send as a sender.

    Returns:
        Reports of `THERE_AND_BACK`.
    """
    nothing, server = jnp.zeros_like(bits), jnp.zeros(pool.present.shape, jnp.float32)
    sent = jnp.where(pool.member & ~aggregators(pool), bits, 0.0)
    collected = at_aggregator(sent, pool, point)
    return (
        PhaseReport(work_flops, nothing, nothing, server, peer=True),
        PhaseReport(nothing, sent, collected, server, peer=True),
        PhaseReport(nothing, collected, sent, server, peer=True),
    )
