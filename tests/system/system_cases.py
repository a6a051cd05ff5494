"""A world of round numbers, for arithmetic by hand."""

import jax.numpy as jnp

from fedjax_kd.system import Fleet, Shares, Workload


def hand_fleet() -> Fleet:
    """Two users, 1 GHz and 2 GHz, c = 3 MHz up and 15 MHz down; a server of 10 GHz."""
    values = dict(
        device_clock_hz=[1e9, 2e9],
        device_flops_per_s=[4e9, 8e9],
        transmit_w=[0.5, 0.8],
        distance_m=[100.0, 200.0],
        angle_rad=[0.0, 0.0],
        channel_gain=[1e-9, 1e-9],
        uplink_snr_hz=[3e6, 3e6],
        downlink_snr_hz=[15e6, 15e6],
        server_clock_hz=1e10,
        server_flops_per_s=4e10,
        server_transmit_w=10.0,
        uplink_hz=2e6,
        downlink_hz=2e6,
        flops_per_cycle=4.0,
        device_capacitance=1e-28,
        server_capacitance=1e-30,
    )
    return Fleet(**{name: jnp.asarray(value, jnp.float32) for name, value in values.items()})


def hand_workload() -> Workload:
    """User 0 trains at the server, user 1 on the device."""
    return Workload(
        training_flops=jnp.asarray([2e10, 1.6e10], jnp.float32),
        teacher_flops=jnp.asarray([4e9, 8e9], jnp.float32),
        uplink_bits=jnp.asarray([6e6, 0], jnp.float32),
        downlink_bits=jnp.asarray([2e6, 4e6], jnp.float32),
        at_server=jnp.asarray([True, False]),
    )


def hand_shares() -> Shares:
    return Shares(
        server_flops_per_s=jnp.asarray([4e10, 0], jnp.float32),
        uplink_hz=jnp.asarray([1e6, 0], jnp.float32),
        downlink_hz=jnp.asarray([1e6, 1e6], jnp.float32),
    )
