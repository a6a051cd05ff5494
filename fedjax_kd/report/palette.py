"""One colour and marker per policy, student and cost, the same in every picture.

Policies take the colour-blind-safe set of Okabe and Ito with a marker each, so that eleven can be
told apart; students, which are ordered by size, take one ordered scale; costs take muted tones.
"""

from __future__ import annotations

from typing import NamedTuple

import matplotlib
from matplotlib.colors import to_hex

INK = "#1f2430"
MUTED = "#667085"
GRID = "#e4e7ec"
ACCENT_BAND = "#fdf0e7"


class Look(NamedTuple):
    """Colour and marker of a policy."""

    colour: str
    marker: str
    size: float = 6.5  # pt, so that all markers look equally large


POLICY_LOOKS: dict[str, Look] = {
    "q_learning": Look("#d55e00", "o"),
    "q_learning_equal_split": Look("#e69f00", "s"),
    "greedy": Look("#009e73", "D", 6.0),
    "all_device": Look("#0072b2", "^", 7.5),
    "all_server": Look("#56b4e9", "v", 7.5),
    "random": Look("#808080", "X", 7.5),
    "smallest": Look("#cc79a7", "<", 7.5),
    "largest": Look("#882255", ">", 7.5),
    "no_distillation": Look("#6f5f00", "P", 8.0),
    "fedavg_smallest": Look("#332288", "h", 7.5),
    "exhaustive": Look("#000000", "*", 10.5),
}
_SPARE = (Look("#117733", "p"), Look("#aa4499", "d"), Look("#44aa99", "H"), Look("#999933", "8"))

CAUSE_COLOURS: dict[str, str] = {
    "teacher_inference": "#7a5195",
    "uplink": "#88ccee",
    "training_device": "#ee9f4a",
    "training_server": "#33658a",
    "downlink": "#b7c4cf",
}
_SPARE_CAUSE = "#4d4d4d"

SPLIT_COLOURS = {"train": "#33658a", "validation": "#88ccee", "test": "#c9d3dc"}


def policy_look(policy: str) -> Look:
    """Colour and marker; a policy that is not known takes a spare pair, always the same one."""
    known = POLICY_LOOKS.get(policy)
    return known or _SPARE[sum(policy.encode()) % len(_SPARE)]


def cause_colour(cause: str) -> str:
    """The colour of a part of delay and energy."""
    return CAUSE_COLOURS.get(cause, _SPARE_CAUSE)


def student_colours(students: list[str]) -> dict[str, str]:
    """An ordered scale from light (small student) to dark (large student)."""
    scale = matplotlib.colormaps["viridis_r"]
    last = max(len(students) - 1, 1)
    return {name: to_hex(scale(0.08 + 0.84 * i / last)) for i, name in enumerate(students)}
