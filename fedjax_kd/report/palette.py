"""One colour and marker per policy, student and cost, the same in every picture.

Policies take the colour-blind-safe set of Okabe and Ito with a marker each, so that eleven can be
told apart; students, which are ordered by size, take one ordered scale; costs take muted tones.
Contestants of a rounds study take theirs by their place in the study, and its views a line style.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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

# The contestants of a rounds study in the order of its manifest: the proposed method comes first.
CONTESTANT_LOOKS = (
    Look("#d55e00", "o"),
    Look("#0072b2", "^", 7.0),
    Look("#009e73", "D", 5.8),
    Look("#cc79a7", "s", 6.0),
    Look("#56b4e9", "v", 7.0),
    Look("#332288", "h", 7.0),
    Look("#6f5f00", "P", 7.5),
    Look("#808080", "X", 7.0),
    Look("#882255", ">", 7.0),
    Look("#000000", "*", 9.5),
    *_SPARE,
)
VIEW_LINES: tuple[Any, ...] = ("-", (0, (4, 1.8)), (0, (1, 1.4)), (0, (6, 1.5, 1, 1.5)))
PHASE_HATCHES = ("", "////", "\\\\\\\\", "xxxx", "----", "||||")

CAUSE_COLOURS: dict[str, str] = {
    "teacher_inference": "#7a5195",
    "uplink": "#88ccee",
    "training_device": "#ee9f4a",
    "training_server": "#33658a",
    "downlink": "#b7c4cf",
    "training": "#ee9f4a",
    "server": "#33658a",
}
_SPARE_CAUSE = "#4d4d4d"

SPLIT_COLOURS = {
    "train": "#33658a",
    "unlabelled": "#ee9f4a",
    "validation": "#88ccee",
    "test": "#c9d3dc",
}


def policy_look(policy: str) -> Look:
    """Colour and marker; a policy that is not known takes a spare pair, always the same one."""
    known = POLICY_LOOKS.get(policy)
    return known or _SPARE[sum(policy.encode()) % len(_SPARE)]


def contestant_look(place: int) -> Look:
    """Colour and marker of the contestant at a place of the manifest's list."""
    return CONTESTANT_LOOKS[place % len(CONTESTANT_LOOKS)]


def cause_colour(cause: str) -> str:
    """The colour of a part of delay and energy."""
    return CAUSE_COLOURS.get(cause, _SPARE_CAUSE)


def student_colours(students: list[str]) -> dict[str, str]:
    """An ordered scale from light (small student) to dark (large student)."""
    scale = matplotlib.colormaps["viridis_r"]
    last = max(len(students) - 1, 1)
    return {name: to_hex(scale(0.08 + 0.84 * i / last)) for i, name in enumerate(students)}
