"""The pictures of a report: name, what a reader sees in it, and the function that draws it."""

from __future__ import annotations

from typing import NamedTuple

from fedjax_kd.report.drawing import Draw
from fedjax_kd.report.pictures.accuracy_table import draw_accuracy_table
from fedjax_kd.report.pictures.comparison import draw_comparison
from fedjax_kd.report.pictures.costs import draw_costs
from fedjax_kd.report.pictures.decisions import draw_decisions, draw_shares
from fedjax_kd.report.pictures.frontier import draw_frontier
from fedjax_kd.report.pictures.learning import draw_learning, draw_teacher
from fedjax_kd.report.pictures.partition import draw_partition


class Picture(NamedTuple):
    """A picture: what a screen reader says, the caption under it, and how it is drawn."""

    label: str
    caption: str
    draw: Draw


PICTURES: dict[str, Picture] = {
    "comparison": Picture(
        "Dot plot of accuracy, delay, energy and U of each policy",
        "Mean over the seeds (marker) and its 95 % t interval (line, cut at the panel's edge). A "
        "triangle with a number stands for a policy that lies outside of the panel.",
        draw_comparison,
    ),
    "frontier": Picture(
        "Mean accuracy against delay for growing delay weights",
        "Each line follows one searching policy as the delay weight λ (numbers at the proposed "
        "policy's points) grows from right to left; shading is the 95 % interval of the accuracy. "
        "The other policies are single points with intervals, at the study's own λ. Intervals are "
        "cut at the edge.",
        draw_frontier,
    ),
    "learning": Picture(
        "U against the episodes of Q-learning",
        "Mean over the seeds, with the range from the lowest to the highest seed shaded. U is the "
        "planned one: from the accuracy table, before the chosen students are trained.",
        draw_learning,
    ),
    "decisions": Picture(
        "Grid of users: the student that each takes, and whether it trains at the server",
        "Colour says which student a user takes, from light (small) to dark (large); a ring says "
        "that it is trained at the server. Users differ from seed to seed.",
        draw_decisions,
    ),
    "shares": Picture(
        "Stacked bars: share of users by student and training place, for each policy",
        "How many of all users take which student: plain on the device, hatched at the server.",
        draw_shares,
    ),
    "costs": Picture(
        "Stacked bars of delay and energy by cause, for each policy",
        "Sums over the users, means over the seeds; the number at a bar is its total. A bar marked "
        "» goes on beyond the panel.",
        draw_costs,
    ),
    "accuracy_table": Picture(
        "Heat maps of accuracy by user and student, with and without distillation",
        "Accuracy on each user's own test split, mean over the seeds; the last row is the mean "
        "over users. Where the seed also redraws who holds what, rows differ less than users do. "
        "Purple cells of the last panel lose by distillation, orange ones gain.",
        draw_accuracy_table,
    ),
    "teacher": Picture(
        "Accuracy and loss of the teacher and of the FedAvg baseline after each round",
        "Mean over the seeds, with the range from the lowest to the highest seed shaded.",
        draw_teacher,
    ),
    "partition": Picture(
        "Examples of each class held by each user, and the sizes of the splits",
        "A circle's area, or where there are many a cell's shade, is the number of training "
        "examples; bars are each user's splits.",
        draw_partition,
    ),
}
