"""The pictures of a comparison: name, what a reader sees, and the function that draws it."""

from __future__ import annotations

import re

from matplotlib.figure import Figure

from fedjax_kd.report.drawing import Draw, Layout, settled
from fedjax_kd.report.grid_courses import AGAINST
from fedjax_kd.report.grid_names import POLICY, axis_names
from fedjax_kd.report.grid_values import Findings
from fedjax_kd.report.pictures.catalog import Picture
from fedjax_kd.report.pictures.grid_bars import draw_bars
from fedjax_kd.report.pictures.grid_best import draw_best
from fedjax_kd.report.pictures.grid_clients import draw_clients
from fedjax_kd.report.pictures.grid_curves import curves_drawing
from fedjax_kd.report.pictures.grid_effects import effect_drawing
from fedjax_kd.report.pictures.grid_fronts import draw_fronts

_INTERVAL = "95 % stratified bootstrap interval"
_CURVE = {
    "round": "at each evaluated round",
    "delay_s": "that a budget of simulated seconds allows",
    "energy_j": "that a budget of joules allows",
    "bits": "that a budget of bits allows",
}


def grid_pictures(findings: Findings) -> dict[str, Picture]:
    """All pictures of a comparison, in the page's order; some may have nothing to show."""
    found = {
        "best": Picture(
            "Dot plot of the accuracy of each contestant at its best setting",
            f"Interquartile mean over the seeds and its {_INTERVAL}"
            + (
                "."
                if findings.only_policies
                else ": filled at the best round, hollow after the last."
            ),
            _settled(draw_best),
        )
    }
    if any(scope.startswith(POLICY) for scope in findings.main_scopes):
        found["policies"] = Picture(
            "Bars of accuracy, delay, energy and bits of each policy at its best setting",
            f"Interquartile mean over the seeds (bar) and its {_INTERVAL} (line), each policy at "
            "the setting with its highest accuracy.",
            _settled(draw_bars),
        )
    for against in () if findings.only_policies else AGAINST:
        found[f"curves-{against.name}"] = Picture(
            f"Accuracy of each contestant at its best setting against {against.title.lower()}",
            f"Interquartile mean over the seeds of the accuracy {_CURVE[against.key]}, with its "
            f"{_INTERVAL} shaded. The first steep rise may begin below the axis.",
            _settled(curves_drawing(against)),
        )
    names = axis_names(findings.comparison.axes)
    for axis in findings.varied_axes:
        found[f"effect-{file_name(names[axis])}"] = Picture(
            f"Accuracy of each contestant by {names[axis]}",
            f"Interquartile mean and {_INTERVAL} at the best round. Over all other settings, every "
            "point is a stratum of its own; with the best other settings, those are chosen by the "
            "very accuracy that is shown.",
            _settled(effect_drawing(axis)),
        )
    found["fronts"] = Picture(
        "Accuracy after the last round against simulated time, energy and bits of every setting",
        "A marker is one contestant at one setting. The line joins those that no other beats in "
        "both accuracy and cost; the others are faded. Costs are those of the whole run.",
        _settled(draw_fronts),
    )
    found["users"] = Picture(
        "Strips of dots: accuracy of every user at the best setting of each contestant",
        "A dot is one user of one seed; the box holds the middle half of them, the line in it is "
        "the median, and the black mark the mean of the worst tenth.",
        _settled(draw_clients),
    )
    return found


def file_name(text: str) -> str:
    """A name that may stand in a file's name and in an id."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "setting"


def _settled(draw: Draw) -> Draw:
    def drawn(findings: Findings, layout: Layout) -> Figure:
        return settled(draw(findings, layout))

    return drawn
