"""How long devices take to hand bits to each other, one link after another over one band."""

from __future__ import annotations

import numpy as np

from fedjax_kd.system.channel import noise_w_per_hz
from fedjax_kd.system.fleet import Fleet
from fedjax_kd.system.peers import gain_over, positions_m
from fedjax_kd.system.profile import Profile

ROUNDING = 1e-5
"""Bits sent and received may differ by this share: reports are float32."""


def peer_transfers_s(
    phase: str,
    sent_bits: np.ndarray,
    received_bits: np.ndarray,
    partner: np.ndarray | None,
    fleets: Fleet,
    profile: Profile,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times of the links of a phase; which link there is shows in the bits.

    Where one user receives, all others send to it; where one sends, to all that receive. Where
    there are several of both, `partner` says who sends to whom, each to one.

    Args:
        phase: its name, for messages.
        sent_bits: float64 [R, S, N].
        received_bits: float64 [R, S, N].
        partner: int [R, S, N], or None.
        fleets: arrays stacked [S].
        profile: that they were drawn from.

    Returns:
        How long each user sends and how long it receives, [R, S, N] each, and how long all links
        take, [R, S].

    Raises:
        ValueError: if what is sent is not what is received, or it is not said who sends to whom.
    """
    senders, receivers = sent_bits > 0, received_bits > 0
    to_many = (senders.sum(axis=-1) == 1) & (receivers.sum(axis=-1) > 1)
    to_one = receivers.sum(axis=-1) == 1
    both = senders.any(axis=-1) | receivers.any(axis=-1)
    target = np.broadcast_to(receivers.argmax(axis=-1)[..., None], sent_bits.shape)
    in_pairs = both & ~to_one & ~to_many
    if in_pairs.any():
        target = np.where(to_one[..., None], target, _checked(phase, partner, in_pairs, sent_bits))
    source = np.broadcast_to(senders.argmax(axis=-1)[..., None], sent_bits.shape)

    # A link is written at the sender, or at the receiver where one user sends to many.
    own = np.broadcast_to(np.arange(sent_bits.shape[-1]), sent_bits.shape)
    begins = np.where(to_many[..., None], source, own)
    ends = np.where(to_many[..., None], own, target)
    bits = np.where(to_many[..., None], received_bits, sent_bits)
    _check_ends(phase, (bits > 0) & (begins == ends))
    link_s = np.where(bits > 0, bits / _rate(begins, ends, fleets, profile), 0.0)
    _check_balance(phase, _at(begins, bits), sent_bits)
    _check_balance(phase, _at(ends, bits), received_bits)
    return _at(begins, link_s), _at(ends, link_s), link_s.sum(axis=-1)


def _rate(begins: np.ndarray, ends: np.ndarray, fleets: Fleet, profile: Profile) -> np.ndarray:
    """Bits per second of links over the whole uplink band, [R, S, N]."""
    axes = [np.asarray(axis, np.float64) for axis in positions_m(fleets)]
    point = np.arange(begins.shape[1])[:, None]
    apart_m = np.hypot(*(axis[point, ends] - axis[point, begins] for axis in axes))
    gain = np.asarray(gain_over(profile, apart_m), np.float64)
    transmit_w = np.asarray(fleets.transmit_w, np.float64)[point, begins]
    snr_hz = transmit_w * gain / noise_w_per_hz(profile.noise_dbm_per_hz)
    band_hz = np.asarray(fleets.uplink_hz, np.float64)[:, None]
    return band_hz * np.log2(1.0 + snr_hz / band_hz)


def _at(place: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums of `values` [R, S, N] at the users `place` [R, S, N] of the same round and point."""
    sums = np.zeros_like(values)
    rounds, points = np.indices(values.shape)[:2]
    np.add.at(sums, (rounds, points, place), values)
    return sums


def _checked(
    phase: str, partner: np.ndarray | None, in_pairs: np.ndarray, sent_bits: np.ndarray
) -> np.ndarray:
    """Where senders send to, 0 for the others."""
    r, s = np.argwhere(in_pairs)[0]
    if partner is None:
        raise ValueError(
            f"work: phase {phase!r}: in round {r + 1} of point {s} several users send and several"
            " or none receive, and `partner` does not say who sends to whom; it must name a user"
            " for each sender"
        )
    partner, n_users = np.asarray(partner), sent_bits.shape[-1]
    if partner.shape != sent_bits.shape:
        raise ValueError(
            f"work: phase {phase!r}: partner has shape {partner.shape}; must be {sent_bits.shape}"
        )
    used = (sent_bits > 0) & in_pairs[..., None]
    wrong = used & ((partner < 0) | (partner >= n_users))
    if wrong.any():
        raise ValueError(
            f"work: phase {phase!r}: partner holds {partner[wrong][0]} for a user that sends; must"
            f" be one of 0..{n_users - 1}"
        )
    return np.where(used, partner, 0)


def _check_ends(phase: str, to_itself: np.ndarray) -> None:
    if to_itself.any():
        r, s, user = np.argwhere(to_itself)[0]
        raise ValueError(
            f"work: phase {phase!r}: in round {r + 1} of point {s} user {user} would send to itself"
        )


def _check_balance(phase: str, over_links: np.ndarray, reported: np.ndarray) -> None:
    wrong = np.abs(over_links - reported) > ROUNDING * np.maximum(over_links, reported)
    if wrong.any():
        r, s, user = np.argwhere(wrong)[0]
        raise ValueError(
            f"work: phase {phase!r}: in round {r + 1} of point {s} user {user} reports"
            f" {reported[r, s, user]:.0f} bits, but its links carry {over_links[r, s, user]:.0f};"
            " between devices, what is sent must be what is received"
        )
