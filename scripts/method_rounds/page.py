"""The page that stands beside the numbers: tables, what is alike, what is not, how to repeat it."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence

from peers.tables import ratio_text

from . import agreement
from .contestants import CANONICAL, GROUP_LABELS, METHODS, OURS
from .job import Terms
from .summary import Line, headline

ALIKE = f"""\
- **Data**: Fashion-MNIST. Each client holds the same number of examples, drawn from its part of a
  Dirichlet(0.5) partition by class, so clients differ in their classes and not in their work.
- **Work**: the same architectures, roles, batches in the same order, optimiser steps, losses and
  optimisers (SGD with momentum and weight decay, clipping for pFedAFM), float32 throughout. DFML's
  mutual loss is computed by everybody from the sums over the pool, not pair by pair.
- **Start**: the same weights, converted.
- **Checked in every run, or a contestant is left out**: after the first round, the steps and the
  examples that it counted; its mean training loss (within {agreement.LOSS:g} of ours); all of its
  parameters (apart from ours by at most {agreement.WEIGHTS:g} of the way that ours have come). Ours
  must report the operations that the job's steps amount to. PyTorch pads the ResNet's halving
  convolutions on all sides, which it does for free, JAX's "same" at the end: there losses may be
  {agreement.LOSS_OF_OTHER_PADDING:g} and parameters {agreement.WEIGHTS_OF_OTHER_PADDING:g} apart.
- **What is measured**: a whole round by the contestant's own clock, everything finished and the
  clients' losses read before the clock is. Compilation, start-up and the warm-up rounds are not
  counted, for anybody."""

UNLIKE = """\
- **Ours** draws roles and batch orders, normalises bytes to floats and adds up costs within the
  measured time. The others find roles and orders ready made and inputs normalised, in memory.
- **Ours** runs on two host devices of one thread each (one per core), clients one after another on
  each. The rounds are the methods' own `round`, jitted, with the state donated. Native kernels are
  compiled from C++ at first use; canonical kernels are pure JAX.
- **JAX, a loop over clients**: networks in `flax.linen` (`nn.Conv`, `nn.max_pool`, `nn.GroupNorm`),
  `optax`, one jitted and donated step per batch and architecture called from Python, averages by
  `jax.tree.map`, XLA on all cores as it comes. Inputs are on the device and a batch is gathered
  inside the step. DFML: two jitted calls per model and batch, of which the first also returns what
  the backward pass needs, so that the forward pass runs once; one program for a whole pool would be
  compiled anew in every round, since its members change.
- **PyTorch, a loop over clients**: eager, two threads, a batch is one indexing,
  `torch.optim.SGD(fused=True)`, averages in one call over all parameters, nothing read back within
  a round. DFML: one backward pass and one optimiser for all models of the pool. Both memory formats
  are measured, the faster counts."""


def page(
    *,
    lines: Sequence[Line],
    versions: Mapping[str, Mapping[str, str]],
    left_out: Sequence[str],
    sizes: Mapping[str, Terms],
    command: str,
    arguments: argparse.Namespace,
    minutes: float,
) -> str:
    """The text of README.md.

    Args:
        lines: of the summary.
        versions: of packages, by interpreter.
        left_out: one line each.
        sizes: of the methods that were run.
        command: to run it again.
        arguments: of this run.
        minutes: that it took.

    Returns:
        Markdown.
    """
    methods = [method for method in sizes if any(line.method == method for line in lines)]
    parts = [
        "# Cost of one round: on-device KD, DFML and pFedAFM",
        f"Medians of {arguments.repeats} interleaved repeats, with the lowest and the highest in "
        "brackets. Memory formats of PyTorch are measured both, and the faster one stands here; "
        "`summary.csv` has all, `rounds.csv` every repeat.",
        "![Seconds a round of every contestant](rounds.png)",
        "## How many times as fast ours is",
        _table(lines, methods, lambda line: ratio_text(line.ours_ratio), (OURS,)),
    ]
    if any(line.canonical_ratio for line in lines):
        parts += [
            "## How many times as fast ours is without a compiler (canonical kernels)",
            _table(
                lines, methods, lambda line: ratio_text(line.canonical_ratio), (OURS, CANONICAL)
            ),
        ]
    parts += [
        "## Milliseconds a round",
        _table(lines, methods, lambda line: f"{1e3 * line.round_s.median:,.0f}"),
        "## The first round, seconds, with compilation",
        _table(lines, methods, lambda line: f"{line.first_s:.1f}"),
        "## The same work",
        "Parameters after the first round: distance from ours, relative to how far ours have moved."
        " (On-device KD in PyTorch is padded in another way, see below.)",
        _table(lines, methods, lambda line: f"{line.weights_gap:.1e}", (OURS,)),
        "Loss on the test examples after the last round, of the target model (on-device KD) or the "
        "mean over the clients' own models. The rounds are few; it says nothing of the methods.",
        _table(lines, methods, lambda line: f"{line.test_loss:.4f}"),
        "## What a round is",
        "\n".join(_described(sizes[method], lines) for method in methods),
        "## What is alike",
        ALIKE,
        "## What is not, and how each was set up",
        UNLIKE,
        "## This run",
        "\n".join(
            [
                f"- Command: `{command}`",
                "- Packages of PyTorch's side: `scripts/bench_peers_requirements.txt`",
                f"- Date: {arguments.date}; {minutes:.0f} minutes",
                f"- Machine: {arguments.machine}",
                *(
                    f"- Versions, {interpreter}: "
                    + ", ".join(f"{name} {number}" for name, number in found.items())
                    for interpreter, found in versions.items()
                ),
                *(f"- Left out: {line}" for line in left_out),
            ]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _described(terms: Terms, lines: Sequence[Line]) -> str:
    names = ", ".join(
        name if width == 1 else f"{name} x {width:g}" for name, width in terms.architectures
    )
    examples = (
        f"{terms.clients} clients of {terms.examples} examples, batches of {terms.batch_size}"
    )
    if terms.method == "on_device_kd":
        work = (
            f"{terms.chosen} clients train the auxiliary and {terms.strong} strong ones the target "
            f"({terms.soft_examples} unlabelled examples each), {terms.steps} steps a phase; "
            f"auxiliary and target: {names}"
        )
    elif terms.method == "dfml":
        work = (
            f"{terms.chosen} models learn together for {terms.passes} epochs; architectures by "
            f"turns: {names}"
        )
    else:
        work = (
            f"all take part, two stages of {terms.passes} epochs; architectures by turns: {names}; "
            f"shared extractor: {terms.shared[0] if terms.shared else ''}"
        )
    return (
        f"- **{METHODS[terms.method]}**: {examples}; {work}. {terms.model_steps} optimiser steps."
    )


def _table(
    lines: Sequence[Line],
    methods: Sequence[str],
    cell: Callable[[Line], str],
    skip: Sequence[str] = (),
) -> str:
    rows = [
        "| | " + " | ".join(METHODS[method] for method in methods) + " |",
        "|---|" + "--:|" * len(methods),
    ]
    for group, by_method in headline(lines).items():
        if group not in skip:
            cells = [cell(by_method[name]) if name in by_method else "" for name in methods]
            rows.append(f"| {GROUP_LABELS[group]} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def plain_command(arguments: Sequence[str]) -> str:
    """The command that was given, with general paths in the place of those of this machine."""
    general = {
        "--python-torch": ".venv-peers/bin/python",
        "--out": "experiments/benchmarks/method_rounds",
    }
    shown, given = [], iter(arguments)
    for word in given:
        name, equals, _ = word.partition("=")
        if name in general:
            if not equals:
                next(given, None)
            shown += [name, general[name]]
        else:
            shown.append(word)
    return shlex.join(["python", "scripts/bench_methods.py", *shown])
