"""Local training of K clients in every formulation: examples per second and share of the peak.

All formulations of one case take turns, and between them the machine's peak is taken: a large
matrix product on every device at once.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any, cast

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"

import jax

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
jax.config.update("jax_num_cpu_devices", CORES)

import jaxlib
import matplotlib.pyplot as plt
import pandas as pd
from local_training.cases import (
    FORMULATIONS,
    LABELS,
    NETWORKS,
    STEPS,
    Program,
    compile_python_loop,
    compile_stacked,
    make_case,
    matrix_product_peak,
    step_flops,
    timed,
    worth_trying,
)
from matplotlib.patches import Rectangle
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fedjax_kd import kernels
from fedjax_kd.kernels.native.choice import Form
from fedjax_kd.training import default_execution


def measure(arguments: argparse.Namespace) -> pd.DataFrame:
    """One row per case, formulation and repeat."""
    execution = default_execution()
    peak = matrix_product_peak()
    cases = [
        (name, batch_size, clients)
        for name in arguments.networks
        for batch_size in arguments.batch_sizes
        for clients in arguments.clients
    ]
    rows: list[dict[str, object]] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("cases", total=len(cases))
        for name, batch_size, clients in cases:
            network = NETWORKS[name]
            progress.update(task, description=f"{network.title}, B={batch_size}, K={clients}")
            rows += measure_case(name, batch_size, clients, execution, peak, arguments)
            jax.clear_caches()
            progress.advance(task)
    return pd.DataFrame(rows)


def measure_case(name, batch_size, clients, execution, peak, arguments) -> list[dict[str, object]]:
    """Compiles every formulation of one case and lets them take turns."""
    network = NETWORKS[name]
    case = make_case(network, batch_size, clients, execution)
    flops = step_flops(case.model)
    programs: dict[tuple[str, Form], Program] = {}
    for form, kernel_form in FORMULATIONS:
        if not worth_trying(name, form, kernel_form, clients):
            continue
        with kernels.using(kernel_form):
            if form == "python loop":
                programs[form, kernel_form] = compile_python_loop(case)
            else:
                programs[form, kernel_form] = compile_stacked(case, form)
            jax.block_until_ready(programs[form, kernel_form].run())
    examples = clients * STEPS * batch_size
    rows = []
    for repeat in range(arguments.repeats):
        peak_gflops = peak()
        turns, start = list(programs.items()), repeat % len(programs)
        for (form, kernel_form), program in turns[start:] + turns[:start]:
            with kernels.using(kernel_form):
                spent_s = timed(program.run)
            per_s = examples / spent_s
            rows.append(
                {
                    "network": network.title,
                    "batch_size": batch_size,
                    "clients": clients,
                    "form": form,
                    "kernels": LABELS[kernel_form],
                    "repeat": repeat,
                    "examples_per_s": per_s,
                    "peak_gflop_per_s": peak_gflops,
                    "share_of_peak": per_s * flops / 1e9 / peak_gflops,
                    "temporary_mb": program.temporary_mb,
                    "compile_s": program.compile_s,
                }
            )
    return rows


KEY = ["network", "batch_size", "clients", "form", "kernels"]


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Medians over the repeats, with the lowest and highest share of the peak."""
    groups = rows.groupby(KEY, sort=False)
    return groups.agg(
        examples_per_s=("examples_per_s", "median"),
        share_of_peak=("share_of_peak", "median"),
        share_lowest=("share_of_peak", "min"),
        share_highest=("share_of_peak", "max"),
        temporary_mb=("temporary_mb", "first"),
        compile_s=("compile_s", "first"),
    ).reset_index()


def show(summary: pd.DataFrame) -> None:
    """Prints the summary."""
    table = Table("network", "B", "K", "form", "kernels", "examples/s", "share of peak", "temp MB")
    table.add_column("compile s")
    for row in cast(Any, summary).itertuples():
        table.add_row(
            *map(str, (row.network, row.batch_size, row.clients, row.form, row.kernels)),
            f"{row.examples_per_s:,.0f}",
            f"{row.share_of_peak:.1%}",
            f"{row.temporary_mb:.1f}",
            f"{row.compile_s:.1f}",
        )
    Console().print(table)


COLOURS = {
    ("sequential", "native"): "#1b6ca8",
    ("sequential", "canonical"): "#8fbbd9",
    ("chunked:4", "native"): "#2a9d6f",
    ("chunked:4", "canonical"): "#9fd5bd",
    ("vmap", "native"): "#c0703a",
    ("vmap", "canonical"): "#e3bd9f",
    ("python loop", "canonical"): "#8a8a8a",
}


def draw(summary: pd.DataFrame, path: Path) -> None:
    """Share of the peak: one panel per network and batch size, groups of bars per K."""
    networks = list(dict.fromkeys(summary.network))
    batches = sorted(summary.batch_size.unique())
    figure, axes = plt.subplots(
        len(batches),
        len(networks),
        figsize=(3.4 * len(networks), 2.9 * len(batches)),
        sharey="col",
        squeeze=False,
        layout="constrained",
    )
    for line, batch_size in zip(axes, batches, strict=True):
        for axis, network in zip(line, networks, strict=True):
            part = summary[(summary.network == network) & (summary.batch_size == batch_size)]
            draw_panel(axis, cast(pd.DataFrame, part))
            axis.set_title(f"{network}, batch {batch_size}", fontsize=10, loc="left")
        line[0].set_ylabel("share of matrix-product peak")
    handles = [Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
    labels = [f"{form}, {kind}" for form, kind in COLOURS]
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_panel(axis, part: pd.DataFrame) -> None:
    """Bars of the formulations, one group for each number of clients."""
    counts = sorted(part.clients.unique())
    width = 0.9 / len(COLOURS)
    for place, (key, colour) in enumerate(COLOURS.items()):
        chosen = part[(part.form == key[0]) & (part.kernels == key[1])]
        at = [counts.index(k) + (place - len(COLOURS) / 2 + 0.5) * width for k in chosen.clients]
        low = chosen.share_of_peak - chosen.share_lowest
        high = chosen.share_highest - chosen.share_of_peak
        axis.bar(at, chosen.share_of_peak, width * 0.92, color=colour)
        axis.errorbar(
            at, chosen.share_of_peak, [low, high], fmt="none", ecolor="#333333", elinewidth=0.7
        )
    axis.set_xticks(range(len(counts)), [f"K = {k}" for k in counts])
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)


def markdown(summary: pd.DataFrame) -> str:
    """The summary as a table."""
    lines = [
        "| network | B | K | form | kernels | examples/s | share of peak | lowest-highest | "
        "temporary MB | compile s |",
        "|---|--:|--:|---|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row.network} | {row.batch_size} | {row.clients} | {row.form} | {row.kernels} "
        f"| {row.examples_per_s:,.0f} | {row.share_of_peak:.1%} "
        f"| {row.share_lowest:.0%}-{row.share_highest:.0%} | {row.temporary_mb:.1f} "
        f"| {row.compile_s:.1f} |"
        for row in cast(Any, summary).itertuples()
    ]
    return "\n".join(lines)


def write(rows: pd.DataFrame, summary: pd.DataFrame, arguments: argparse.Namespace) -> None:
    """CSV, picture and a page that says how they were made."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows.to_csv(arguments.out / "repeats.csv", index=False, float_format="%.6g")
    summary.to_csv(arguments.out / "local_training.csv", index=False, float_format="%.6g")
    draw(summary, arguments.out / "local_training.png")
    status = kernels.native_status()
    peak = rows.peak_gflop_per_s
    (arguments.out / "README.md").write_text(
        "# Local training in every formulation\n\n"
        "![share of the matrix-product peak](local_training.png)\n\n"
        f"K clients, each {STEPS} steps of plain SGD on its own model with cross entropy and KL to "
        f"given logits, on {CORES} devices of one thread. Medians of {arguments.repeats} repeats "
        "in which the formulations take turns; `repeats.csv` has each of them. The peak is a "
        f"float32 product of {'1024 x 1024'} matrices on all devices at once, measured in every "
        f"repeat: {peak.median():.0f} GFLOP/s (lowest {peak.min():.0f}, highest {peak.max():.0f})."
        " Useful operations are multiplications and additions of forward pass, weight gradients "
        "and input gradients, without those of the first layer's input and without products with "
        "padding. CNN is `cnn1` on 32x32x3, LeNet 28x28x1, MLP 784-256-128-10, ResNet-8 has group "
        "normalisation, on 32x32x3. `python loop` calls one jitted update for one client after "
        "another on one device. Vmapped canonical convolutions of more than 8 clients take "
        "minutes and are left out.\n\n"
        f"{markdown(summary)}\n\n"
        f"- Command: `python {shlex.join(sys.argv)}`\n- Date: {arguments.date}\n"
        f"- Machine: {arguments.machine}\n"
        f"- Versions: Python {platform.python_version()}, jax {jax.__version__}, jaxlib "
        f"{jaxlib.version.__version__}; native kernels: {status.instruction_set or status.reason}\n"
    )


def numbers(text: str) -> list[int]:
    """Reads a list of positive numbers."""
    values = [int(part) for part in text.split(",")]
    if min(values) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: numbers from 1 on")
    return values


def names(text: str) -> list[str]:
    """Reads a list of networks."""
    chosen = text.split(",")
    unknown = [name for name in chosen if name not in NETWORKS]
    if unknown:
        raise argparse.ArgumentTypeError(f"found {unknown}; allowed: {', '.join(NETWORKS)}")
    return chosen


def main() -> None:
    """Runs the bench, prints the table and writes it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", type=names, default=list(NETWORKS), help="default: all")
    parser.add_argument("--clients", type=numbers, default=[8, 32, 100], help="default: 8,32,100")
    parser.add_argument("--batch-sizes", type=numbers, default=[10, 32], help="default: 10,32")
    parser.add_argument("--repeats", type=int, default=7, help="interleaved rounds (default: 7)")
    parser.add_argument("--out", type=Path, help="folder to write to; nothing without it")
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"), help="date to write down")
    parser.add_argument(
        "--machine",
        default=f"{CORES} cores, {platform.machine()}, {jax.default_backend()}",
        help="kind of machine to write down",
    )
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error("--repeats must be at least 1")
    rows = measure(arguments)
    summary = summarise(rows)
    show(summary)
    if arguments.out is not None:
        write(rows, summary, arguments)


if __name__ == "__main__":
    main()
