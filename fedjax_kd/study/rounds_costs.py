"""From what a method reports to what its rounds cost: delay, energy, bits and operations."""

from typing import NamedTuple

import numpy as np

from fedjax_kd.methods.contract import PhaseReport, RoundReport
from fedjax_kd.study.contestants import Contestant
from fedjax_kd.study.rounds_setup import RoundsSetup
from fedjax_kd.system import (
    ROUND_CAUSES,
    PhaseWork,
    ledger_of_rounds,
    load_profile,
    price_rounds,
    round_totals,
)


class Spent(NamedTuple):
    """What R rounds of S points with N users cost.

    Attributes:
        by_round: name of a cost -> float [R, S].
        ledger: name of a cost -> float [S, N + 1, phases, causes]; the server comes last.
        causes: names.
    """

    by_round: dict[str, np.ndarray]
    ledger: dict[str, np.ndarray]
    causes: tuple[str, ...]


def priced(
    setup: RoundsSetup, contestant: Contestant, report: RoundReport, profile_name: str
) -> Spent:
    """Prices the rounds of a contestant in the study's worlds.

    Args:
        setup: devices and links.
        contestant: who they are of.
        report: of all rounds, arrays [R, ...].
        profile_name: the device profile of the settings.

    Returns:
        The prices.
    """
    people = setup.federation.people
    shape = (len(report.loss), people.n_points, people.n_users)
    work = [
        PhaseWork(
            name=name,
            peer=phase.peer,
            flops=np.asarray(phase.work_flops).reshape(shape),
            uplink_bits=np.asarray(phase.uplink_bits).reshape(shape),
            downlink_bits=np.asarray(phase.downlink_bits).reshape(shape),
            server_flops=np.asarray(phase.server_flops).reshape(shape[:2]),
            partner=None if phase.partner is None else np.asarray(phase.partner).reshape(shape),
        )
        for name, phase in zip(contestant.method.phases, phases_of(report, shape), strict=True)
    ]
    prices = price_rounds(work, setup.fleets, load_profile(profile_name))
    return Spent(
        by_round=round_totals(prices)._asdict(),
        ledger=ledger_of_rounds(prices)._asdict(),
        causes=ROUND_CAUSES,
    )


def phases_of(report: RoundReport, shape: tuple[int, int, int]) -> tuple[PhaseReport, ...]:
    """The phases of a report [R, ...]; one that names none is a single phase of its totals."""
    if report.phases:
        return report.phases
    nothing = np.zeros(shape[:2], np.float32)
    totals = report.work_flops, report.uplink_bits, report.downlink_bits
    return (PhaseReport(*totals, server_flops=nothing),)  # pyright: ignore[reportArgumentType]
