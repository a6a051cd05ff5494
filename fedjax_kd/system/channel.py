"""The wireless link: path loss, noise and the Shannon rate of a share of the band.

The reconstruction of Wang et al. 2023 (arXiv:2303.06155) uses the frequency-division rate
R(b; c) = b log2(1 + c / b) with c = p g / N0. Both path loss models below are assumptions of this
package: one is taken from other work of the same lab, the other is textbook knowledge.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

LARGEST_RATIO = 1e30
"""Upper limit on snr_hz / bandwidth_hz, so that a vanishing bandwidth cannot overflow float32."""


def shannon_rate(bandwidth_hz: jax.Array, snr_hz: jax.Array) -> jax.Array:
    """Capacity of a band of white noise: R(b; c) = b log2(1 + c / b).

    The rate grows with the bandwidth and saturates at c / ln 2. At zero bandwidth it is exactly
    zero, and its gradient there is given as zero although the true one is infinite.

    Args:
        bandwidth_hz: b, any shape, not negative, in Hz.
        snr_hz: c = transmit power x channel gain / noise density, same shape or scalar, in Hz: the
            bandwidth at which signal and noise are equally strong.

    Returns:
        Rate in bits per second, with the broadcast shape.
    """
    has_band = bandwidth_hz > 0
    band_hz = jnp.where(has_band, bandwidth_hz, 1.0)
    nats = jnp.log1p(jnp.minimum(snr_hz / band_hz, LARGEST_RATIO))
    return jnp.where(has_band, band_hz * nats * (1.0 / math.log(2.0)), 0.0)


def noise_w_per_hz(dbm_per_hz: float) -> float:
    """Noise power density in W/Hz from dBm/Hz: 10^((x - 30) / 10)."""
    return 10.0 ** ((dbm_per_hz - 30.0) / 10.0)


def power_law_gain(distance_m: jax.Array) -> jax.Array:
    """Channel gain 17 / (47.86 d^2.75).

    The law of `UNIC-Lab/DTA-RL`, another work of the DT-KD authors' lab, not the DT-KD paper's.

    Args:
        distance_m: d, any shape, positive, in metres.

    Returns:
        Gain without unit, same shape.
    """
    return 17.0 / (47.86 * distance_m**2.75)


def macro_cell_gain(distance_m: jax.Array, shadowing_db: jax.Array | float = 0.0) -> jax.Array:
    """Channel gain of the loss 128.1 + 37.6 log10(d in km) dB, plus shadowing.

    Common urban macro cell model (standard knowledge; not the DT-KD paper's).

    Args:
        distance_m: d, any shape, positive, in metres.
        shadowing_db: extra loss, same shape or scalar, in dB; log-normal shadowing when it is drawn
            from a normal distribution.

    Returns:
        Gain without unit, same shape.
    """
    loss_db = 128.1 + 37.6 * jnp.log10(distance_m / 1000.0) + shadowing_db
    return 10.0 ** (-loss_db / 10.0)
