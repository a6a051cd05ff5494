"""Which public examples a round is about: the same for the server and all clients of a point."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from fedjax_kd.clients.population import Population
from fedjax_kd.clients.randomness import Purpose, draw_key


def draw_public_places(
    people: Population, round_index: jax.typing.ArrayLike, size: int
) -> jax.Array:
    """Draws places in each point's row of public examples, uniformly, without replacement.

    Depends on the study point's seed and the round only, so that who takes part and how clients are
    grouped change nothing, and server and clients need not tell each other. A smaller draw of a
    round is the beginning of a larger one.

    Args:
        people: S points, of which each has at least `size` public examples.
        round_index: int scalar, may be traced.
        size: static, 1..P, where P is how many public examples there are.

    Returns:
        int32 [S, size] in 0..P-1, distinct in each row. With `size` P, 0..P-1 in this order in
        every round. Places of a larger row than all points have are drawn last.

    Raises:
        ValueError: if `size` is not an integer in 1..P, or a point (that is not traced) has fewer
            public examples.
    """
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise ValueError(f"size must be an integer, the public examples of a round; got {size!r}")
    length = people.public.indices.shape[1]
    most = length
    if not isinstance(people.public.counts, Tracer):
        most = int(np.min(np.asarray(people.public.counts), initial=length))
    if not 1 <= size <= most:
        raise ValueError(
            f"size must be between 1 and the {most} public examples of a study point; got {size}"
        )
    places = jnp.arange(length, dtype=jnp.int32)
    if size == length:
        return jnp.broadcast_to(places, (people.n_points, length))

    def of_point(root: jax.Array, count: jax.Array) -> jax.Array:
        draws = jax.random.bits(draw_key(root, round_index, Purpose.PUBLIC), (length,))
        return jnp.lexsort((places, draws, places >= count))[:size].astype(jnp.int32)

    return jax.vmap(of_point)(people.roots, people.public.counts)


def draw_public(people: Population, round_index: jax.typing.ArrayLike, size: int) -> jax.Array:
    """Rows of the example table that each point's public subset of a round stands in.

    Args:
        people: see `draw_public_places`, which says which examples are drawn.
        round_index: int scalar, may be traced.
        size: static, 1..P; P gives all public examples in one fixed order.

    Returns:
        int32 [S, size].

    Raises:
        ValueError: see `draw_public_places`.
    """
    places = draw_public_places(people, round_index, size)
    return jnp.take_along_axis(people.public.indices, places, axis=1)
