"""A rounds study's ledger by contestant, phase and cause."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.names import Kind
from fedjax_kd.report.rounds_results import RoundsResults
from fedjax_kd.report.tables import Frame

SERVER_USER = -1
SERVER = "server"  # the cause of what the server computes


class Quantity(NamedTuple):
    """A column of the ledger and how it is put together."""

    column: str
    title: str
    kind: Kind
    per_client: bool  # a mean over the clients, not a sum over everybody


QUANTITIES = (
    Quantity("flops", "Work", "flops", False),
    Quantity("bits", "Traffic", "bits", False),
    Quantity("delay_s", "Busy time per client", "seconds", True),
    Quantity("energy_j", "Energy", "joules", False),
)


def ledger_rows(results: RoundsResults) -> Frame:
    """The ledger, what the server computes having the cause `server`.

    Raises:
        NothingToShow: the ledger is absent or empty.
    """
    ledger = results.ledger
    if ledger.empty:
        raise NothingToShow("The results hold no ledger of work, traffic, delay and energy.")
    computes = (ledger["user"] == SERVER_USER) & (ledger["cause"] == "training")
    return ledger.assign(cause=ledger["cause"].where(~computes, SERVER))


def by_phase_and_cause(results: RoundsResults, quantity: Quantity) -> Frame:
    """Sums over the rounds, means over the seeds of one quantity.

    Of a quantity per client, the clients' part is a mean over the clients; what the server spends
    is as it is.

    Returns:
        A frame of contestants (in the manifest's order) by (phase, cause), both in order; parts
        that are nowhere above zero are left out.

    Raises:
        NothingToShow: as `ledger_rows`.
    """
    ledger = ledger_rows(results)
    clients = max(int(ledger.loc[ledger["user"] != SERVER_USER, "user"].nunique()), 1)
    weight = 1.0 / clients if quantity.per_client else 1.0
    values = ledger[quantity.column] * ledger["user"].map(
        lambda user: 1.0 if user == SERVER_USER else weight
    )
    sums = ledger.assign(amount=values).groupby(["contestant", "phase", "cause", "seed"])["amount"]
    table = sums.sum().groupby(["contestant", "phase", "cause"]).mean().unstack(["phase", "cause"])
    table = table.fillna(0.0)
    names = [each.name for each in results.contestants if each.name in table.index]
    parts = [
        (phase, cause)
        for phase in phases_in_order(results)
        for cause in causes_in_order(ledger)
        if (phase, cause) in table.columns and (table[phase, cause] > 0).any()
    ]
    return table.reindex(
        index=names, columns=pd.MultiIndex.from_tuples(parts or [("", "")])
    ).fillna(0.0)


def phases_in_order(results: RoundsResults) -> list[str]:
    """All phases, in the order in which the contestants name them."""
    named = [phase for each in results.contestants for phase in each.phases]
    found = [str(phase) for phase in results.ledger["phase"].unique()]
    return list(dict.fromkeys([*(phase for phase in named if phase in found), *found]))


def causes_in_order(ledger: Frame) -> list[str]:
    """All causes: received, computed, computed by the server, sent, then any others."""
    known = ("downlink", "training", SERVER, "uplink")
    found = [str(cause) for cause in ledger["cause"].unique()]
    return [*(c for c in known if c in found), *(c for c in found if c not in known)]
