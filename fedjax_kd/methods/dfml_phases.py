"""What a meeting costs whom: the phases of a round in which models travel to be taught.

The models of the senders go to the aggregator, which trains all of them and its own, and sends them
back (DFML, Khalil et al. 2024, arXiv:2402.01863).
"""

import jax
import jax.numpy as jnp

from fedjax_kd.methods.contract import PhaseReport
from fedjax_kd.methods.pool import Pool

PHASES = ("send", "learn", "return")
PHASES_WITH_LOCAL = ("local", *PHASES)


def aggregators(pool: Pool) -> jax.Array:
    """Bool [K], who aggregates."""
    return jnp.zeros_like(pool.member).at[pool.aggregator].max(pool.present)


def at_aggregator(values: jax.Array, pool: Pool, point: jax.Array) -> jax.Array:
    """Each point's sum of `values` [K] over its members, at the aggregator; 0 for the others."""
    counted = jnp.where(pool.member, values, 0.0)
    sums = jnp.zeros(pool.present.shape, values.dtype).at[point].add(counted)
    return jnp.where(aggregators(pool), sums[point], 0.0)


def there_taught_and_back(
    pool: Pool,
    point: jax.Array,
    local_flops: jax.Array | None,
    learning_flops: jax.Array,
    bits: jax.Array,
) -> tuple[PhaseReport, ...]:
    """The phases of a round, which `PHASES` or `PHASES_WITH_LOCAL` name.

    Args:
        pool: who meets.
        point: int32 [K].
        local_flops: float32 [K], of training at home before sending; None without that phase.
        learning_flops: float32 [K], what teaching costs the aggregators.
        bits: float32 [K], the size of each client's model.

    Returns:
        The reports.
    """
    nothing, server = jnp.zeros_like(bits), jnp.zeros(pool.present.shape, jnp.float32)
    sent = jnp.where(pool.member & ~aggregators(pool), bits, 0.0)
    collected = at_aggregator(sent, pool, point)
    phases = (
        PhaseReport(nothing, sent, collected, server, peer=True),
        PhaseReport(learning_flops, nothing, nothing, server, peer=True),
        PhaseReport(nothing, collected, sent, server, peer=True),
    )
    if local_flops is None:
        return phases
    return (PhaseReport(local_flops, nothing, nothing, server, peer=True), *phases)
