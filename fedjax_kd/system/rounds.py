"""Prices of rounds in which users work in phases: delay, energy, bits and FLOPs by user and cause.

The virtual clock is arithmetic over what methods report; nothing here runs on a device, and all of
it is float64. Assumptions, none of them a paper's:

- A phase lasts until its slowest participant is done (a barrier), then the server computes, then
  the next phase starts. A user who waits spends nothing.
- Links with the server: users who send in a phase share the uplink band equally from its start to
  its end (frequency division), users who receive share the downlink band likewise. Each stream has
  its transmitter's full power in its own band, as in `fedjax_kd.system.price`. What each user
  receives is its own stream: nothing is broadcast.
- Links between devices (`PhaseWork.peer`): one after another, each over the whole uplink band, with
  the sender's transmit power and no base station in between. Devices that send or do neither
  compute before the transfers, devices that only receive compute after them.
- Listening, waiting and the circuits of the radios cost no energy.

A bit is counted once: at the user that sends it, or at the user that receives it from the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fedjax_kd.system.fleet import Fleet
from fedjax_kd.system.peer_transfers import peer_transfers_s
from fedjax_kd.system.profile import Profile

ROUND_CAUSES = ("downlink", "training", "uplink")
"""What costs something in a phase, in the order in which it happens to a user of the server."""
_DOWNLINK, _TRAINING, _UPLINK = range(3)


class PhaseWork(NamedTuple):
    """What R rounds of S study points with N users ask for in one phase; floats, not negative.

    Attributes:
        name: of the phase.
        peer: whether bits go from device to device instead of to and from the server.
        flops: [R, S, N], computed by users.
        uplink_bits: [R, S, N], sent by users.
        downlink_bits: [R, S, N], received by users.
        server_flops: [R, S], computed by the server after the users' work.
        partner: int [R, S, N], to which user each sender of a peer phase sends; only needed in
            phases with several senders and several receivers.
    """

    name: str
    peer: bool
    flops: np.ndarray
    uplink_bits: np.ndarray
    downlink_bits: np.ndarray
    server_flops: np.ndarray
    partner: np.ndarray | None = None


class Prices(NamedTuple):
    """Float64 arrays of one shape; what the axes are is said where they come from."""

    delay_s: np.ndarray
    energy_j: np.ndarray
    bits: np.ndarray
    flops: np.ndarray


class RoundPrices(NamedTuple):
    """What rounds cost, with P phases and the causes `ROUND_CAUSES`.

    Attributes:
        phases: P names.
        users: arrays [R, S, N, P, 3]. Delays are the time in which a user receives, computes and
            sends; waiting is not in them.
        server: arrays [R, S, P, 3]: sending (`downlink`) and computing (`training`). Its bits are
            zero, since they are counted at the users.
        phase_s: [R, S, P], how long each phase lasts.
    """

    phases: tuple[str, ...]
    users: Prices
    server: Prices
    phase_s: np.ndarray

    @property
    def round_s(self) -> np.ndarray:
        """How long each round lasts, [R, S]."""
        return self.phase_s.sum(axis=-1)


def price_rounds(work: Sequence[PhaseWork], fleets: Fleet, profile: Profile) -> RoundPrices:
    """Prices what a method did in R rounds.

    Args:
        work: the phases of a round in order, at least one.
        fleets: of N users each, arrays stacked [S].
        profile: that the fleets were drawn from; only peer phases use it.

    Returns:
        The prices. A user who does nothing costs nothing and changes nobody's price.

    Raises:
        ValueError: if there is no phase, the arrays do not fit each other, one holds a number that
            is negative or not finite, or a peer phase sends other bits than it receives or does
            not say to whom.
    """
    if not work:
        raise ValueError("work: has no phase; a round has at least one")
    world = _world_of(fleets)
    phases = [_checked(phase, world.transmit_w.shape, np.shape(work[0].flops)) for phase in work]
    priced = [_price_phase(phase, world, fleets, profile) for phase in phases]
    users, server, phase_s = zip(*priced, strict=True)
    return RoundPrices(
        phases=tuple(phase.name for phase in phases),
        users=Prices(*(np.stack(each, axis=-2) for each in zip(*users, strict=True))),
        server=Prices(*(np.stack(each, axis=-2) for each in zip(*server, strict=True))),
        phase_s=np.stack(phase_s, axis=-1),
    )


def round_totals(prices: RoundPrices) -> Prices:
    """What each round costs in all, [R, S]: its length, and the sums over users and server."""
    return Prices(
        prices.round_s,
        *(
            ours.sum(axis=(2, 3, 4)) + servers.sum(axis=(2, 3))
            for ours, servers in zip(prices.users[1:], prices.server[1:], strict=True)
        ),
    )


def cumulative(totals: Prices) -> Prices:
    """What has been spent at the end of each round, [R, S], of `round_totals`."""
    return Prices(*(np.cumsum(total, axis=0) for total in totals))


def ledger_of_rounds(prices: RoundPrices) -> Prices:
    """Sums over the rounds, [S, N + 1, P, 3]; the server comes last."""
    return Prices(
        *(
            np.concatenate([ours.sum(axis=0), servers.sum(axis=0)[:, None]], axis=1)
            for ours, servers in zip(prices.users, prices.server, strict=True)
        )
    )


class _World(NamedTuple):
    """The numbers of S fleets in float64."""

    flops_per_s: np.ndarray  # [S, N]
    j_per_flop: np.ndarray  # [S, N]
    transmit_w: np.ndarray  # [S, N]
    uplink_snr_hz: np.ndarray  # [S, N]
    downlink_snr_hz: np.ndarray  # [S, N]
    uplink_hz: np.ndarray  # [S]
    downlink_hz: np.ndarray  # [S]
    server_flops_per_s: np.ndarray  # [S]
    server_j_per_flop: np.ndarray  # [S]
    server_transmit_w: np.ndarray  # [S]


def _world_of(fleets: Fleet) -> _World:
    given = {name: np.asarray(leaf, np.float64) for name, leaf in fleets._asdict().items()}
    if given["device_clock_hz"].ndim != 2:
        raise ValueError(
            f"fleets: arrays of users have shape {given['device_clock_hz'].shape}; must be [S, N],"
            " one fleet for each study point"
        )
    capacitance = given["device_capacitance"]  # [S], or [S, N] with weak devices
    capacitance = capacitance if capacitance.ndim == 2 else capacitance[:, None]
    per_cycle = given["flops_per_cycle"]
    as_they_are = {
        name: given[name]
        for name in _World._fields
        if name not in ("flops_per_s", "j_per_flop", "server_j_per_flop")
    }
    return _World(
        flops_per_s=given["device_flops_per_s"],
        j_per_flop=capacitance * given["device_clock_hz"] ** 2 / per_cycle[:, None],
        server_j_per_flop=given["server_capacitance"] * given["server_clock_hz"] ** 2 / per_cycle,
        **as_they_are,
    )


def _checked(phase: PhaseWork, users: tuple[int, ...], first: tuple[int, ...]) -> PhaseWork:
    """The same phase in float64."""
    shape = first[:1] + users
    checked = {}
    for name in ("flops", "uplink_bits", "downlink_bits", "server_flops"):
        values = np.asarray(getattr(phase, name), np.float64)
        wanted = shape[:2] if name == "server_flops" else shape
        if values.shape != wanted:
            raise ValueError(
                f"work: phase {phase.name!r}: {name} has shape {values.shape}; must be {wanted}:"
                " rounds, study points and users, as the first phase and the fleets have them"
            )
        if not (np.isfinite(values) & (values >= 0)).all():
            worst = values[~(np.isfinite(values) & (values >= 0))][0]
            raise ValueError(
                f"work: phase {phase.name!r}: {name} holds {worst}; must be finite and not negative"
            )
        checked[name] = values
    return phase._replace(**checked)


def _price_phase(
    phase: PhaseWork, world: _World, fleets: Fleet, profile: Profile
) -> tuple[Prices, Prices, np.ndarray]:
    """Users' prices [R, S, N, 3], the server's [R, S, 3], and the phase's length [R, S]."""
    training_s = phase.flops / world.flops_per_s
    if phase.peer:
        sending_s, receiving_s, transfer_s = peer_transfers_s(
            phase.name,
            phase.uplink_bits,
            phase.downlink_bits,
            phase.partner,
            fleets,
            profile,
        )
        later = (phase.downlink_bits > 0) & (phase.uplink_bits == 0)
        users_s = (
            np.where(later, 0.0, training_s).max(axis=-1)
            + transfer_s
            + np.where(later, training_s, 0.0).max(axis=-1)
        )
    else:
        sending_s = _shared_band_s(phase.uplink_bits, world.uplink_hz, world.uplink_snr_hz)
        receiving_s = _shared_band_s(phase.downlink_bits, world.downlink_hz, world.downlink_snr_hz)
        users_s = (receiving_s + training_s + sending_s).max(axis=-1)
    server_s = phase.server_flops / world.server_flops_per_s
    none = np.zeros_like(phase.flops)
    from_server = none if phase.peer else phase.downlink_bits
    users = Prices(
        delay_s=np.stack([receiving_s, training_s, sending_s], axis=-1),
        energy_j=np.stack(
            [none, phase.flops * world.j_per_flop, sending_s * world.transmit_w], axis=-1
        ),
        bits=np.stack([from_server, none, phase.uplink_bits], axis=-1),
        flops=np.stack([none, phase.flops, none], axis=-1),
    )
    nothing = np.zeros_like(server_s)
    busy_s = nothing if phase.peer else receiving_s.max(axis=-1)
    streams_s = nothing if phase.peer else receiving_s.sum(axis=-1)
    computing_j = phase.server_flops * world.server_j_per_flop
    server = Prices(
        delay_s=np.stack([busy_s, server_s, nothing], axis=-1),
        energy_j=np.stack([streams_s * world.server_transmit_w, computing_j, nothing], axis=-1),
        bits=np.stack([nothing] * 3, axis=-1),
        flops=np.stack([nothing, phase.server_flops, nothing], axis=-1),
    )
    return users, server, users_s + server_s


def _shared_band_s(bits: np.ndarray, budget_hz: np.ndarray, snr_hz: np.ndarray) -> np.ndarray:
    """Time [R, S, N] of each stream when those that have bits share the band [S] equally."""
    loaded = bits > 0
    sharers = np.maximum(loaded.sum(axis=-1, keepdims=True), 1)
    share_hz = budget_hz[:, None] / sharers
    rate = share_hz * np.log2(1.0 + snr_hz / share_hz)
    return np.where(loaded, bits / rate, 0.0)
