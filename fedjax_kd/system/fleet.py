"""A fleet: the devices, links and server of one simulated world, drawn from a profile."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.system.channel import macro_cell_gain, noise_w_per_hz, power_law_gain
from fedjax_kd.system.profile import PowerLawPathLoss, Profile

_DISTANCE, _POWER, _CLOCK, _SHADOWING, _SERVER_CLOCK, _ANGLE = range(6)  # what a draw is for


class Fleet(NamedTuple):
    """N devices, their links to one base station, and the server behind it."""

    device_clock_hz: jax.Array  # (N,) float32
    device_flops_per_s: jax.Array  # (N,) float32, clock times flops_per_cycle
    transmit_w: jax.Array  # (N,) float32
    distance_m: jax.Array  # (N,) float32, from the base station
    angle_rad: jax.Array  # (N,) float32, in [0, 2 pi), seen from the base station
    channel_gain: jax.Array  # (N,) float32, the same in both directions (assumption)
    uplink_snr_hz: jax.Array  # (N,) float32, transmit_w x gain / noise density
    downlink_snr_hz: jax.Array  # (N,) float32, server_transmit_w x gain / noise density
    server_clock_hz: jax.Array  # () float32
    server_flops_per_s: jax.Array  # () float32
    server_transmit_w: jax.Array  # () float32, in every user's band (assumption; see price.py)
    uplink_hz: jax.Array  # () float32, budget
    downlink_hz: jax.Array  # () float32, budget
    flops_per_cycle: jax.Array  # () float32
    device_capacitance: jax.Array  # () or, with weak devices, (N,) float32, J s^2 per cycle
    server_capacitance: jax.Array  # () float32, J s^2 per cycle


def sample_fleet(
    key: jax.Array,
    profile: Profile,
    n_users: int,
    *,
    uplink_hz: float | None = None,
    downlink_hz: float | None = None,
    weak: np.ndarray | None = None,
) -> Fleet:
    """Draws a fleet.

    User n's numbers depend on the key and on n alone, so they do not change with `n_users`, nor
    with which other users are weak.

    Args:
        key: typed key.
        profile: ranges and constants.
        n_users: N, at least one.
        uplink_hz: overrides the profile's budget.
        downlink_hz: overrides the profile's budget.
        weak: bool (N,), whose devices have the profile's weak clock and capacitance; None for
            nobody's.

    Returns:
        A fleet of N users.

    Raises:
        ValueError: for fewer than one user, a budget that is not positive, or weak devices that
            the profile does not know.
    """
    if n_users < 1:
        raise ValueError(f"n_users = {n_users}; must be at least 1")
    for name, value in (("uplink_hz", uplink_hz), ("downlink_hz", downlink_hz)):
        if value is not None and not 0.0 < value < float("inf"):
            raise ValueError(f"{name} = {value}; must be a finite number > 0")

    if weak is not None:
        weak = _checked_weak(weak, profile, n_users)

    users = jnp.arange(n_users)

    def per_user(purpose: int) -> jax.Array:
        return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
            jax.random.fold_in(key, purpose), users
        )

    def uniform(purpose: int, low: float, high: float) -> jax.Array:
        draw = jax.vmap(lambda k: jax.random.uniform(k, (), jnp.float32))(per_user(purpose))
        return low + (high - low) * draw

    # Uniform over a disc: the square of the distance is uniform.
    distance_m = jnp.sqrt(uniform(_DISTANCE, profile.nearest_m**2, profile.radius_m**2))
    if isinstance(profile.path_loss, PowerLawPathLoss):
        gain = power_law_gain(distance_m)
    else:
        normal = jax.vmap(lambda k: jax.random.normal(k, (), jnp.float32))(per_user(_SHADOWING))
        gain = macro_cell_gain(distance_m, profile.path_loss.shadowing_db * normal)
    transmit_w = uniform(_POWER, *profile.device_transmit_w)
    device_clock_hz = uniform(_CLOCK, *profile.device_clock_hz)
    device_capacitance = jnp.asarray(profile.device_capacitance, jnp.float32)
    if weak is not None:
        slow_hz = uniform(_CLOCK, *(profile.weak_device_clock_hz or profile.device_clock_hz))
        device_clock_hz = jnp.where(weak, slow_hz, device_clock_hz)
        device_capacitance = jnp.where(
            weak,
            jnp.float32(profile.weak_device_capacitance or profile.device_capacitance),
            device_capacitance,
        )
    low_hz, high_hz = profile.server_clock_hz
    server_draw = jax.random.uniform(jax.random.fold_in(key, _SERVER_CLOCK), (), jnp.float32)
    server_clock_hz = low_hz + (high_hz - low_hz) * server_draw
    noise = noise_w_per_hz(profile.noise_dbm_per_hz)

    def scalar(value: float) -> jax.Array:
        return jnp.asarray(value, jnp.float32)

    return Fleet(
        device_clock_hz=device_clock_hz,
        device_flops_per_s=device_clock_hz * profile.flops_per_cycle,
        transmit_w=transmit_w,
        distance_m=distance_m,
        angle_rad=uniform(_ANGLE, 0.0, 2.0 * math.pi),
        channel_gain=gain,
        uplink_snr_hz=transmit_w * gain / noise,
        downlink_snr_hz=profile.server_transmit_w * gain / noise,
        server_clock_hz=server_clock_hz,
        server_flops_per_s=server_clock_hz * profile.flops_per_cycle,
        server_transmit_w=scalar(profile.server_transmit_w),
        uplink_hz=scalar(profile.uplink_hz if uplink_hz is None else uplink_hz),
        downlink_hz=scalar(profile.downlink_hz if downlink_hz is None else downlink_hz),
        flops_per_cycle=scalar(profile.flops_per_cycle),
        device_capacitance=device_capacitance,
        server_capacitance=scalar(profile.server_capacitance),
    )


def _checked_weak(weak: np.ndarray, profile: Profile, n_users: int) -> np.ndarray:
    weak = np.asarray(weak)
    if weak.shape != (n_users,) or weak.dtype != np.bool_:
        raise ValueError(
            f"weak: {weak.dtype} of shape {weak.shape}; must be one bool for each of {n_users}"
            " users"
        )
    if weak.any() and profile.weak_device_clock_hz is None:
        raise ValueError(
            f"weak: {int(weak.sum())} of {n_users} devices are weak, but the device profile"
            f" {profile.title!r} has no weak_device_clock_hz; take one that has, such as"
            " cell_weak_strong, or add the field"
        )
    return weak
