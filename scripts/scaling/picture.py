"""The results as one picture, a panel for each part that was measured."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from fedjax_kd.report.drawing import Layout, new_figure, value_grid
from fedjax_kd.report.palette import ACCENT_BAND, INK, MUTED

from .parts import Found, Line

FD, FEDAVG, STREAMED_MEMORY = "#d55e00", "#0072b2", "#e69f00"
NAMES = {"fd": "FD", "fedavg": "FedAvg"}
COLOURS = {"fd": FD, "fedavg": FEDAVG}
COLUMNS = 3
PANEL_IN = (3.6, 3.1)


def draw(found: dict[str, Found]) -> Figure:
    """A figure of at most three panels a row."""
    panels: list[tuple[Callable[[Axes, Found], None], Found]] = []
    for part, drawers in PANELS.items():
        if part in found:
            panels += [(drawer, found[part]) for drawer in drawers]
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(Layout("wide", PANEL_IN[0] * columns), PANEL_IN[1] * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (drawer, part) in zip(axes, panels, strict=False):
        drawer(ax, part)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    return figure


def _speed(ax: Axes, found: Found) -> None:
    ax.set_title("Speed as clients grow")
    for method, keep, colour, label in _SERIES:
        lines = _series(found.lines, method, keep)
        if len(lines) > 1:
            ax.plot([line.clients for line in lines], [line.rounds_per_s for line in lines],
                    "o-", color=colour, label=label, markersize=5)  # fmt: skip
    _counts(ax, "x", sorted({line.clients for line in found.lines}))
    ax.set_ylim(bottom=0)
    ax.set_xlabel(f"clients; {max(line.cohort for line in found.lines)} of them train, or all")
    ax.set_ylabel("rounds per second")
    ax.legend(loc="upper right")
    value_grid(ax, "y")


def _memory(ax: Axes, found: Found) -> None:
    ax.set_title("Memory as clients grow")
    for method, keep, colour, label in _SERIES:
        lines = _series(found.lines, method, keep)
        if lines:
            ax.plot([line.clients for line in lines], [line.peak_mib / 1024 for line in lines],
                    "o-", color=colour, label=label, markersize=5)  # fmt: skip
    streamed = _series(found.lines, "fd", "disk")
    ax.plot([line.clients for line in streamed], [line.state_mib / 1024 for line in streamed],
            "--", color=MUTED, label="FD, all clients' state", linewidth=1.2)  # fmt: skip
    ax.axhline(4.0, color=INK, linewidth=1, linestyle=":")
    ax.text(0.02, 4.0, "4 GiB", transform=ax.get_yaxis_transform(), va="bottom", fontsize=8.5)
    _counts(ax, "x", sorted({line.clients for line in found.lines}))
    ax.set_ylim(0, max(4.6, *(1.1 * line.peak_mib / 1024 for line in found.lines)))
    ax.set_xlabel("clients")
    ax.set_ylabel("peak memory of the process, GiB")
    ax.legend(loc="upper left", bbox_to_anchor=(0, 0.84))
    value_grid(ax, "y")


def _cohort(ax: Axes, found: Found) -> None:
    ax.set_title("Cost of a local step")
    for method in ("fedavg", "fd"):
        lines = [line for line in found.lines if line.method == method]
        last = lines[-1].client_step_us
        label = f"{NAMES[method]}, {last:.0f} µs"
        ax.plot([line.cohort for line in lines], [line.client_step_us / last for line in lines],
                "o-", color=COLOURS[method], label=label, markersize=5)  # fmt: skip
    ax.axhspan(0.85, 1.15, color=ACCENT_BAND, zorder=0)
    ax.text(0.98, 1.15, "± 15 %", transform=ax.get_yaxis_transform(), ha="right", va="bottom",
            fontsize=8.5)  # fmt: skip
    _counts(ax, "x", sorted({line.cohort for line in found.lines}), base=2)
    ax.set_ylim(0, 1.5)
    ax.set_xlabel("clients of a cohort")
    ax.set_ylabel("relative to the largest cohort")
    ax.legend(loc="lower right", title="largest cohort")
    value_grid(ax, "y")


def _participation(ax: Axes, found: Found) -> None:
    ax.set_title("Cost follows participation")
    chosen = [line for line in found.lines if line.case != line.reference]
    for place, line in enumerate(chosen):
        spread = [[line.ratio - line.ratio_lowest], [line.ratio_highest - line.ratio]]
        ax.bar(place, line.ratio, 0.55, color=COLOURS[line.method], yerr=spread,
               error_kw={"ecolor": INK, "capsize": 3, "linewidth": 1})  # fmt: skip
        ax.text(place + 0.06, line.ratio_highest, f" {line.ratio:.3f}", va="bottom", ha="left")
    ax.axhline(0.13, color=INK, linewidth=1, linestyle=":")
    ax.text(0.02, 0.13, "0.13", transform=ax.get_yaxis_transform(), va="bottom", fontsize=8.5)
    ax.set_xticks(range(len(chosen)), [line.case.replace(", ", "\n") for line in chosen])
    ax.set_xlim(-0.6, len(chosen) - 0.4)
    ax.set_ylim(0, max(0.18, *(1.15 * line.ratio_highest for line in chosen)))
    ax.set_ylabel("time of a round, over a round of all")
    value_grid(ax, "y")


def _seeds(ax: Axes, found: Found) -> None:
    ax.set_title("Seeds in one program")
    counts = [line.seeds for line in found.lines]
    ax.plot(counts, counts, "--", color=MUTED, linewidth=1.2, label="one after the other")
    ax.plot(counts, [line.ratio for line in found.lines], "o-", color=FEDAVG, markersize=5,
            label="stacked (FedAvg)")  # fmt: skip
    if counts[-1] == 16:
        ax.plot([16], [12], "_", color=INK, markersize=16)
        ax.annotate("at most 12", (16, 12), (8, -5), textcoords="offset points", ha="right",
                    va="top", fontsize=8.5)  # fmt: skip
    ax.set_xticks(counts, [str(count) for count in counts])
    ax.set_ylim(bottom=0)
    ax.set_xlabel("seeds")
    ax.set_ylabel("time of a study, over one seed")
    ax.legend(loc="upper left")
    value_grid(ax, "y")


def _devices(ax: Axes, found: Found) -> None:
    ax.set_title("Devices of the processor")
    kinds = list(dict.fromkeys(line.case.split(", ", 1)[1] for line in found.lines))
    for offset, method in ((-0.2, "fedavg"), (0.2, "fd")):
        lines = [line for line in found.lines if line.method == method]
        places = [kinds.index(line.case.split(", ", 1)[1]) + offset for line in lines]
        bars = ax.bar(places, [line.rounds_per_s for line in lines], 0.38, color=COLOURS[method],
                      label=NAMES[method])  # fmt: skip
        ax.bar_label(bars, [f"{line.ratio**-1:.2f}x" for line in lines], padding=2, fontsize=8.5)
    ax.set_xticks(range(len(kinds)), [kind.replace(", ", ",\n") for kind in kinds])
    ax.set_ylim(0, 1.3 * max(line.rounds_per_s for line in found.lines))
    ax.set_ylabel("rounds per second")
    ax.legend(loc="upper left", ncols=2)
    value_grid(ax, "y")


PANELS: dict[str, tuple[Callable[[Axes, Found], None], ...]] = {
    "clients": (_speed, _memory),
    "cohort": (_cohort,),
    "participation": (_participation,),
    "seeds": (_seeds,),
    "devices": (_devices,),
}

_SERIES = (
    ("fedavg", "resident", FEDAVG, "FedAvg, no state"),
    ("fd", "disk", FD, "FD, streamed"),
    ("fd", "resident", STREAMED_MEMORY, "FD, resident"),
)


def _series(lines: list[Line], method: str, keep: str) -> list[Line]:
    """Lines of one kind by clients; of a population measured twice the first."""
    chosen: dict[int, Line] = {}
    for line in lines:
        if (line.method, line.keep) == (method, keep):
            chosen.setdefault(line.clients, line)
    return [chosen[clients] for clients in sorted(chosen)]


def _counts(ax: Axes, which: str, values: list[int], base: int = 10) -> None:
    """A logarithmic axis with a label at every value that was measured."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    ax.set_xscale("log", base=base)
    axis.set_major_locator(FixedLocator(values))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
