"""Links from device to device: where devices stand, and what reaches one from another.

None of the methods' papers models such links. Our assumptions: the path loss law between a device
and the base station holds between two devices as well, without shadowing, and not nearer than the
profile's `nearest_m`; a device sends with the power that it sends to the base station with.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_kd.system.channel import macro_cell_gain, power_law_gain
from fedjax_kd.system.fleet import Fleet
from fedjax_kd.system.profile import PowerLawPathLoss, Profile


def positions_m(fleet: Fleet) -> tuple[jax.Array, jax.Array]:
    """East and north of the base station (..., N), in metres."""
    return (
        fleet.distance_m * jnp.cos(fleet.angle_rad),
        fleet.distance_m * jnp.sin(fleet.angle_rad),
    )


def gain_over(profile: Profile, distance_m: jax.typing.ArrayLike) -> jax.Array:
    """Channel gain between two devices, without unit.

    Args:
        profile: gives the law and the least distance.
        distance_m: any shape, not negative; below `nearest_m` it counts as that.

    Returns:
        Gain, float32, same shape.
    """
    distance_m = jnp.maximum(jnp.asarray(distance_m, jnp.float32), profile.nearest_m)
    if isinstance(profile.path_loss, PowerLawPathLoss):
        return power_law_gain(distance_m)
    return macro_cell_gain(distance_m)


def peer_gain(fleet: Fleet, profile: Profile) -> jax.Array:
    """Channel gains between all pairs of devices.

    Args:
        fleet: of N users, or several fleets stacked [S].
        profile: that the fleet was drawn from.

    Returns:
        float32 (..., N, N), symmetric; a device's gain to itself is that at the least distance.
    """
    east, north = positions_m(fleet)
    apart = [axis[..., :, None] - axis[..., None, :] for axis in (east, north)]
    return gain_over(profile, jnp.hypot(*apart))
