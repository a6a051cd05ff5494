"""The pictures of a rounds study: name, what a reader sees, and the function that draws it."""

from __future__ import annotations

from matplotlib.figure import Figure

from fedjax_kd.report.drawing import Draw, Layout, settled
from fedjax_kd.report.pictures.catalog import Picture
from fedjax_kd.report.pictures.partition import draw_partition
from fedjax_kd.report.pictures.rounds_comparison import draw_contestants
from fedjax_kd.report.pictures.rounds_curves import draw_accuracy_curves, draw_cost_curves
from fedjax_kd.report.pictures.rounds_cycle import draw_cycle
from fedjax_kd.report.pictures.rounds_distillation import draw_distillation
from fedjax_kd.report.pictures.rounds_ledger import draw_ledger
from fedjax_kd.report.pictures.rounds_mixing import draw_mixing
from fedjax_kd.report.pictures.rounds_people import draw_people
from fedjax_kd.report.rounds_results import RoundsResults

_RANGE = "Means over the seeds, with the range from the lowest to the highest seed shaded."


def _settled(draw: Draw) -> Draw:
    def drawn(results: RoundsResults, layout: Layout) -> Figure:
        return settled(draw(results, layout))

    return drawn


ROUNDS_PICTURES: dict[str, Picture] = {
    "comparison": Picture(
        "Dot plot of accuracies and costs of each contestant",
        "Mean over the seeds (marker) and its 95 % t interval (line, cut at the panel's edge): "
        "filled at the best round, hollow after the last. A triangle with a number stands for a "
        "contestant outside of the panel. Costs are those of the whole run.",
        _settled(draw_contestants),
    ),
    "curves": Picture(
        "Common and personal accuracy against rounds for every contestant",
        f"{_RANGE} Where a contestant has several kinds of models, the ones that are compared are "
        "drawn solid and the others broken.",
        _settled(draw_accuracy_curves),
    ),
    "accuracy_cost": Picture(
        "Accuracy against simulated time, energy and bits for every contestant",
        "Means over the seeds of the accuracy and of what was spent until then. A diamond says "
        "what it cost until 90 % of the proposed method's best accuracy (dotted line) was first "
        "reached; in a study that proposes no method, until 80 and 90 % of the best of all was. "
        "Each seed counts by itself, so that it need not lie on the mean curve; there is none "
        "where some seed never got there. A contestant that spends nothing is a broken line "
        "at its best.",
        _settled(draw_cost_curves),
    ),
    "distillation": Picture(
        "Target and auxiliary accuracy over the rounds, and the weight of distillation below",
        f"{_RANGE} Of the other contestants, those that train the target model are shown.",
        _settled(draw_distillation),
    ),
    "cycle": Picture(
        "Weight of distillation alpha over the rounds, and accuracy of peak and regular models",
        f"{_RANGE} Shaded columns are the rounds in which α is near its largest, by the peak floor "
        "of the settings, and in which regular models become peak models; before the first peak "
        "they do so in every round.",
        _settled(draw_cycle),
    ),
    "mixing": Picture(
        "Heat maps of the mixing vectors, their distribution and their mean over the rounds",
        "α = 1 takes a feature from the user's own extractor, α = 0 from the shared one. The heat "
        "map shows the first seed after the last round: a row is a user, and every map sorts its "
        "features by itself. The middle panels show how the entries are distributed within each "
        "architecture, the lower ones the mean over all seeds (range shaded); a user that is away "
        "keeps its vector.",
        _settled(draw_mixing),
    ),
    "people": Picture(
        "Strips of dots: accuracy of every user by architecture and contestant",
        "A small dot is one user, a marker the mean over the users of an architecture. Values are "
        "those of the round where the contestant's mean over all users was highest.",
        _settled(draw_people),
    ),
    "ledger": Picture(
        "Stacked bars of work, traffic, busy time and energy by phase and cause",
        "Sums over the rounds, means over the seeds; the number at a bar is its total, and a bar "
        "marked » goes on beyond the panel. Colours are causes, hatching tells the phases of a "
        "round apart. Busy time leaves waiting for others out, and the server's own comes on top "
        "of the clients' mean. A bit is counted once: where it is sent, or where it is received "
        "from the server.",
        _settled(draw_ledger),
    ),
    "partition": Picture(
        "Examples of each class held by each user, and the sizes of the splits",
        "A circle's area, or where there are many a cell's shade, is the number of training "
        "examples; bars are each user's splits.",
        _settled(draw_partition),
    ),
}
