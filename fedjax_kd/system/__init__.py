"""Prices of what users do: devices, links, delay, energy and the ledger."""

from fedjax_kd.system.channel import (
    macro_cell_gain,
    noise_w_per_hz,
    power_law_gain,
    shannon_rate,
)
from fedjax_kd.system.fleet import Fleet, sample_fleet
from fedjax_kd.system.ledger import CAUSES, Ledger, Timeline, timeline
from fedjax_kd.system.peers import peer_gain, positions_m
from fedjax_kd.system.price import HasShares, Shares, compute_energy_j, price
from fedjax_kd.system.profile import Profile, load_profile, parse_profile, profile_names
from fedjax_kd.system.rounds import (
    ROUND_CAUSES,
    PhaseWork,
    Prices,
    RoundPrices,
    cumulative,
    ledger_of_rounds,
    price_rounds,
    round_totals,
)
from fedjax_kd.system.workload import (
    SOFT_LABEL_BITS,
    Workload,
    device_training_s,
    synchronised_count,
    teacher_inference_s,
    workload,
)

__all__ = [
    "CAUSES",
    "ROUND_CAUSES",
    "SOFT_LABEL_BITS",
    "Fleet",
    "HasShares",
    "Ledger",
    "PhaseWork",
    "Prices",
    "Profile",
    "RoundPrices",
    "Shares",
    "Timeline",
    "Workload",
    "compute_energy_j",
    "cumulative",
    "device_training_s",
    "ledger_of_rounds",
    "load_profile",
    "macro_cell_gain",
    "noise_w_per_hz",
    "parse_profile",
    "peer_gain",
    "positions_m",
    "power_law_gain",
    "price",
    "price_rounds",
    "profile_names",
    "round_totals",
    "sample_fleet",
    "shannon_rate",
    "synchronised_count",
    "teacher_inference_s",
    "timeline",
    "workload",
]
