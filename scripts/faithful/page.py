"""The page beside the numbers: what was compared, how far apart it is, how to repeat it."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence

from .differences import Line
from .job import METHODS

OTHERS = {"torch": "PyTorch, float32", "numpy": "NumPy, float64"}
WHAT = """\
Both sides get the same examples, the same first weights and the same batches in the same order.
Ours is the package's `fedavg`, `fd(form="htfllib")` and `fedproto(form="htfllib")`; theirs is
`scripts/faithful/loop.py`, Python loops over dictionaries that share no code with the package. Both
follow the code of HtFLlib (which lacks FedAvg: the same terms with PFLlib's weights): a client's
training examples in a fixed order, the incomplete last batch dropped, plain SGD, one local epoch,
class means gathered while training, plain means of those over the clients that hold a class. Scores
are taken before each round's training, over the test examples of all clients together. FedProto
predicts by the nearest prototype, and nothing before there are any."""


def page(
    lines: Sequence[Line],
    arguments: argparse.Namespace,
    sizes: Sequence[int],
    versions: Mapping[str, str],
    minutes: float,
) -> str:
    """The text of the page.

    Args:
        lines: of all methods.
        arguments: of the command line.
        sizes: training examples of each client.
        versions: of packages.
        minutes: that it all took.
    """
    dropped = sum(size % arguments.batch_size for size in sizes)
    parts = [
        "# The HtFLlib form, held against an independent loop",
        WHAT,
        f"![Accuracy round by round]({picture_name(arguments)})",
        "## How far apart",
        _table(lines),
        "Largest: of all parameters of all clients, the largest absolute difference. Relative: the "
        "norm of all differences over the norm of how far ours have moved since the start. Theirs "
        "in float64: the same for their own loop in double precision against itself in single, "
        "which is what rounding alone comes to. Training magnifies it, most of all where it tips a "
        "ReLU or a maximum that was all but undecided: from then on one example teaches otherwise.",
        "## This run",
        "\n".join(
            [
                f"- Command: `{plain_command(arguments.given)}`",
                f"- Data: {arguments.source}, training and test examples pooled; "
                f"{arguments.clients} clients, Dirichlet({arguments.alpha:g}), partition seed "
                f"{arguments.seed}; {min(sizes)} to {max(sizes)} training examples each, of which "
                f"{dropped} in all fill no batch",
                f"- Model: {arguments.model}; batches of {arguments.batch_size}, learning rate "
                f"{arguments.learning_rate:g}, one local epoch; weight of FD "
                f"{arguments.fd_weight:g}, of FedProto {arguments.fedproto_weight:g}",
                f"- The other loop: {OTHERS[arguments.loop]}",
                f"- Date: {arguments.date}; {minutes:.0f} minutes",
                f"- Machine: {arguments.machine}",
                "- Versions: " + ", ".join(f"{name} {number}" for name, number in versions.items()),
            ]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def picture_name(arguments: argparse.Namespace) -> str:
    """Of the SVG."""
    return f"{arguments.source}.svg"


def plain_command(given: Sequence[str]) -> str:
    """The command, with a general path in the place of this machine's interpreter."""
    shown, words = [], iter(given)
    for word in words:
        name, equals, _ = word.partition("=")
        if name == "--python-torch":
            if not equals:
                next(words, None)
            word = "--python-torch=.venv-peers/bin/python"
        shown.append(word)
    return shlex.join(["python", "scripts/compare_faithful.py", *shown])


def _table(lines: Sequence[Line]) -> str:
    rows = [
        "| Method | After round | Largest | Relative | Theirs in float64 | Ours, % | Theirs, % "
        "| Seconds ours, theirs |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for method, label in METHODS.items():
        mine = [line for line in lines if line.method == method]
        shown = [line for line in mine if line.largest == line.largest]
        for line in dict.fromkeys([*shown, *mine[-1:]]):
            apart = [f"{value:.1e}" for value in (line.largest, line.relative, line.rounding)]
            rows.append(
                f"| {label} | {line.rounds} | "
                + " | ".join(apart if line in shown else [""] * 3)
                + f" | {100 * line.ours:.2f} | {100 * line.theirs:.2f} | "
                + f"{line.seconds_ours:.0f}, {line.seconds_theirs:.0f} |"
            )
    return "\n".join(rows)
