"""The page that stands beside the numbers: tables, what is alike, what is not, how to repeat it."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Sequence

from .contestants import CANONICAL, GROUP_LABELS, METHODS, MODELS, OURS
from .summary import Line, headline
from .tables import ratio_text

THREAD_SETTINGS = ("GOMP_", "KMP_", "MKL_", "OMP_", "OPENBLAS_", "XLA_FLAGS")

ALIKE = """\
- **Data**: Fashion-MNIST. Each client holds the same number of examples, drawn from its part of a
  Dirichlet(0.5) partition by class, so clients differ in their classes and not in their work.
- **Work**: one local epoch of plain SGD (learning rate 0.1, no momentum) in batches of the same
  size, all clients in every round, float32 throughout. FedAvg weighs models by examples. FD: every
  client keeps its own model and learns from cross entropy plus KL from the mean, over the other
  clients, of their mean outputs for the example's class; outputs are gathered while training.
- **Start**: the same weights, converted; the number of parameters is in `summary.csv` and is the
  same for all.
- **Order**: the same batches in the same order in every round. That is why accuracies agree to the
  last digits or nearly so. (A halving convolution of ResNet-8 is padded on all sides in PyTorch and
  at the end in JAX; see below.)
- **What is measured**: a whole round by the contestant's own clock, everything finished before the
  clock is read. Compilation, start-up and the warm-up rounds are not counted, for anybody."""

UNLIKE = """\
- **Ours** draws the batch order and normalises bytes to floats within the measured time. All the
  others find orders ready made and inputs normalised, in memory.
- **Ours** runs on two host devices of one thread each (one per core), and chooses between running
  clients one after another or some at a time by a short trial before the first round: both as a
  study does. (Canonical convolutions always run one client after another.) Native kernels are
  compiled from C++ at first use; canonical kernels are pure JAX. The rounds are the methods'
  own `round`, jitted, with the state donated. (A study runs many of them inside one program and
  keeps their reports.)
- **PyTorch, one after another**: two threads; models and data stay in memory as tensors, a batch is
  one indexing, the SGD step and the averages are one call over all parameters, nothing is read back
  within a round. Both memory formats are measured for convolutional networks, the faster counts.
- **PyTorch, two workers**: two processes of one thread, each pinned to one core, half of the
  clients each, everything exchanged through shared memory. Both memory formats, the faster counts.
- **torch.func vmap**: all clients' models stacked, `vmap(grad(...))` for one step of all, two
  threads. `torch.compile` is not used anywhere.
- **FedJAX**: its own `federated_averaging` with the jit backend of `for_each_client` (FD: written
  on `for_each_client` directly), batches by its own kind of indexing in NumPy, XLA on all cores. It
  needs one line on a JAX of today: `jax.tree_map = jax.tree.map`. Its pmap backend needs functions
  that JAX has removed and was not measured.
- **pfl and Flower** run FedAvg only.
- **pfl**: its own `FederatedAveraging` in `SimulatedBackend`, `torch.optim.SGD(fused=True)`, two
  threads, a user's data as tensors; no evaluation of users within the measured rounds (pfl would
  do that in iterations that ask for it). Both memory formats, the faster counts.
- **Flower**: its own `FedAvg` strategy, simulation engine with Ray, two actors of one core and
  one thread each, which keep the data of all clients in memory. The engine looks for finished
  clients every 0.01 s here; as it comes it would be every 0.1 s. Measured in a sitting of its own
  beside ours, since Ray's daemons also run between rounds.
- **ResNet-8**: PyTorch pads a halving convolution on all sides, which it does for free; padding
  the end only, as JAX's "same" does, costs it a copy. The work is the same, the function is
  shifted by a pixel, and accuracies differ a little more."""


def page(
    *,
    lines: Sequence[Line],
    versions: dict[str, dict[str, str]],
    left_out: Sequence[str],
    parameters: dict[str, int],
    sizes: dict[str, tuple[int, int]],
    command: str,
    arguments: argparse.Namespace,
    minutes: float,
) -> str:
    """The text of README.md.

    Args:
        lines: of the summary.
        versions: of packages, by interpreter.
        left_out: one line each.
        parameters: of each model.
        sizes: examples of a client and rounds in a repeat, by model.
        command: to run it again.
        arguments: of this run.
        minutes: that it took.

    Returns:
        Markdown.
    """
    methods = [method for method in METHODS if headline(lines, method)]
    models = [model for model in MODELS if model in parameters]
    parts = [
        "# Whole rounds: ours against its peers",
        f"Medians of {arguments.repeats} interleaved repeats, with the lowest and the highest in "
        "brackets. Variants of a contestant (memory formats) are measured both, and the faster one "
        "stands here; `summary.csv` has all, `rounds.csv` every repeat.",
        "![Examples per second of every contestant](speed.png)",
        "## How many times as fast ours is",
    ]
    for method in methods:
        parts += [f"### {METHODS[method]}", _ratios(lines, method, models, OURS)]
    if any(line.canonical_ratio for line in lines):
        parts.append("## How many times as fast ours is without a compiler (canonical kernels)")
        for method in methods:
            parts += [f"### {METHODS[method]}", _ratios(lines, method, models, CANONICAL)]
    parts.append("## Examples per second")
    for method in methods:
        parts += [f"### {METHODS[method]}", _table(lines, method, models, _speed)]
    parts.append(
        "## Accuracy after the last round, %\n\nOf the server's model (FedAvg), or the mean over "
        f"the clients' own models (FD), on {arguments.test_examples} test examples. It says that "
        "all have done the same work, not how good the methods are: the rounds are few."
    )
    for method in methods:
        parts += [f"### {METHODS[method]}", _table(lines, method, models, _accuracy)]
    counts = ", ".join(f"{MODELS[model]} {parameters[model]:,}" for model in models)
    work = "; ".join(
        f"{MODELS[model]} {sizes[model][0]} examples, {sizes[model][1]} round(s) a repeat"
        for model in models
    )
    parts += [
        "## What is alike",
        f"{ALIKE}\n- **Models** (parameters): {counts}.\n- **Sizes**: {arguments.clients} clients, "
        f"batches of {arguments.batch_size}, {arguments.warm_up} warm-up rounds. A client: {work}.",
        "## What is not, and how each was set up",
        UNLIKE,
        "## This run",
        "\n".join(
            [
                f"- Command: `{command}`",
                "- Peers' packages: `scripts/bench_peers_requirements.txt`",
                f"- Date: {arguments.date}; {minutes:.0f} minutes",
                f"- Machine: {arguments.machine}",
                *(
                    f"- Versions, {interpreter}: "
                    + ", ".join(f"{name} {number}" for name, number in found.items())
                    for interpreter, found in versions.items()
                ),
                *_forms(lines),
                f"- Settings of thread pools in the environment: {_environment()}",
                *(f"- Left out: {line}" for line in left_out),
            ]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _environment() -> str:
    names = sorted(name for name in os.environ if name.startswith(THREAD_SETTINGS))
    return ", ".join(f"{name}={os.environ[name]}" for name in names) or "none"


def _forms(lines: Sequence[Line]) -> list[str]:
    """How ours chose to run the clients, by kernels."""
    found = []
    for name in (OURS, CANONICAL):
        notes = {
            f"{MODELS[line.model]} {line.note}"
            for line in lines
            if line.contestant == name and line.note
        }
        if notes:
            found.append(f"- {GROUP_LABELS[name]}, clients run: {', '.join(sorted(notes))}")
    return found


def _ratios(lines: Sequence[Line], method: str, models: Sequence[str], reference: str) -> str:
    def cell(line: Line) -> str:
        return ratio_text(line.ours_ratio if reference == OURS else line.canonical_ratio)

    skip = (OURS,) if reference == OURS else (OURS, CANONICAL)
    return _table(lines, method, models, cell, skip)


def _speed(line: Line) -> str:
    return f"{line.examples_per_s.median:,.0f}"


def _accuracy(line: Line) -> str:
    return f"{100 * line.accuracy:.2f}"


def _table(
    lines: Sequence[Line],
    method: str,
    models: Sequence[str],
    cell: Callable[[Line], str],
    skip: Sequence[str] = (),
) -> str:
    rows = [
        "| | " + " | ".join(MODELS[model] for model in models) + " |",
        "|---|" + "--:|" * len(models),
    ]
    for group, by_model in headline(lines, method).items():
        if group not in skip:
            cells = [cell(by_model[model]) if model in by_model else "" for model in models]
            rows.append(f"| {GROUP_LABELS[group]} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def plain_command(arguments: Sequence[str]) -> str:
    """The command that was given, with a general path in the place of every interpreter's."""
    shown, given = [], iter(arguments)
    for word in given:
        if word.startswith("--python-"):
            name, equals, _ = word.partition("=")
            if not equals:
                next(given, None)
            shown += [name, f".venv-{name.removeprefix('--python-')}/bin/python"]
        elif word == "--out" or word.startswith("--out="):
            if word == "--out":
                next(given, None)
            shown += ["--out", "experiments/benchmarks/peers"]
        else:
            shown.append(word)
    return shlex.join(["python", "scripts/bench_peers.py", *shown])
