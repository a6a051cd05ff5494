"""Delay and energy of every user, by cause: arithmetic on a virtual clock.

Assumptions of this package (the DT-KD paper's text gives none):

- a user's share of the server is a share of its time: the server's clock, and so its energy per
  cycle, does not depend on who uses it;
- in frequency division each stream has the transmitter's full power in its own band, which is what
  c = p g / N0 in the rate says; so the base station spends `server_transmit_w` on every user's
  downlink for as long as it lasts;
- listening, idling and the circuits cost nothing.

Precision: float32 throughout. FLOPs (about 1e11) and bits (about 1e9) keep seven digits, and so
does each price; sums over users agree with sums taken in another order to about 1e-6 relative.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from fedjax_kd.system.channel import shannon_rate
from fedjax_kd.system.fleet import Fleet
from fedjax_kd.system.ledger import CAUSES, Ledger
from fedjax_kd.system.workload import Workload, device_training_s, teacher_inference_s


class Shares(NamedTuple):
    """What each user has of the three budgets."""

    server_flops_per_s: jax.Array  # (N,) float32
    uplink_hz: jax.Array  # (N,) float32
    downlink_hz: jax.Array  # (N,) float32


class HasShares(Protocol):
    """Anything that says what each user has of the three budgets, such as a solution."""

    @property
    def server_flops_per_s(self) -> jax.Array:
        """(N,) FLOP/s of the server."""
        ...

    @property
    def uplink_hz(self) -> jax.Array:
        """(N,) Hz of the uplink band."""
        ...

    @property
    def downlink_hz(self) -> jax.Array:
        """(N,) Hz of the downlink band."""
        ...


def price(workload: Workload, fleet: Fleet, shares: HasShares) -> Ledger:
    """Prices a choice: T_n and E_n of section 1.3 of the reconstruction, split by cause.

    Args:
        workload: of N users.
        fleet: of N users.
        shares: of N users; a user with a load must have a share, else the delay is infinite.

    Returns:
        The ledger, whose delays sum over the causes to each user's T_n.
    """
    server_flops = jnp.where(workload.at_server, workload.training_flops, 0.0)
    device_flops = jnp.where(workload.at_server, 0.0, workload.training_flops)
    none = jnp.zeros_like(server_flops)
    uplink_s = _time_s(workload.uplink_bits, shannon_rate(shares.uplink_hz, fleet.uplink_snr_hz))
    downlink_s = _time_s(
        workload.downlink_bits, shannon_rate(shares.downlink_hz, fleet.downlink_snr_hz)
    )
    server = fleet.server_capacitance, fleet.server_clock_hz, fleet.flops_per_cycle
    device = fleet.device_capacitance, fleet.device_clock_hz, fleet.flops_per_cycle
    by_cause = {  # cause: delay_s, energy_j, bits, flops
        "teacher_inference": (
            teacher_inference_s(workload, fleet),
            compute_energy_j(workload.teacher_flops, *server),
            none,
            workload.teacher_flops,
        ),
        "uplink": (uplink_s, fleet.transmit_w * uplink_s, workload.uplink_bits, none),
        "training_device": (
            device_training_s(workload, fleet),
            compute_energy_j(device_flops, *device),
            none,
            device_flops,
        ),
        "training_server": (
            _time_s(server_flops, shares.server_flops_per_s),
            compute_energy_j(server_flops, *server),
            none,
            server_flops,
        ),
        "downlink": (
            downlink_s,
            fleet.server_transmit_w * downlink_s,
            workload.downlink_bits,
            none,
        ),
    }
    columns = zip(*(by_cause[cause] for cause in CAUSES), strict=True)
    return Ledger(*(jnp.stack(column, axis=-1) for column in columns))


def compute_energy_j(
    flops: jax.Array, capacitance: jax.Array, clock_hz: jax.Array, flops_per_cycle: jax.Array
) -> jax.Array:
    """Energy of computing, capacitance x clock^2 x cycles (the usual switched-capacitance model).

    Args:
        flops: (N,).
        capacitance: () in J s^2 per cycle.
        clock_hz: (N,) or ().
        flops_per_cycle: ().

    Returns:
        Joules (N,).
    """
    return capacitance * clock_hz * clock_hz * (flops / flops_per_cycle)


def _time_s(load: jax.Array, rate: jax.Array) -> jax.Array:
    """Load / rate; zero without a load, infinite for a load at rate zero."""
    loaded = load > 0
    return jnp.where(loaded, load / jnp.where(loaded, rate, 1.0), 0.0)
