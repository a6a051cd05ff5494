"""What the page of a comparison says in words beside its pictures and tables."""

from __future__ import annotations

import numpy as np

from fedjax_kd.report.grid_names import POLICY, axis_names, scope_title, value_text
from fedjax_kd.report.grid_results import Comparison
from fedjax_kd.report.grid_row_tables import KINDS, failure_groups
from fedjax_kd.report.grid_statistics import LEAST_SEEDS
from fedjax_kd.report.grid_values import Findings
from fedjax_kd.report.pictures.grid_looks import MOST_SCOPES

WORLD = ("data.", "system.")  # settings that nobody can choose


def status_text(comparison: Comparison) -> str:
    """How many rows are in which state, e.g. `50 rows: 47 done, 3 failed`."""
    counts = {state: comparison.count(state) for state in ("done", "failed", "running", "pending")}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    rows = len(comparison.rows)
    return f"{rows} row{'s' * (rows != 1)}: {told}" if rows else "no rows"


def notices(comparison: Comparison) -> list[str]:
    """What a reader has to know first: what is missing from the numbers, and why."""
    found = []
    left = comparison.count("pending") + comparison.count("running")
    if left:
        what = f"This {comparison.sources[0].kind} is not finished"
        what = what if len(comparison.sources) == 1 else "Not all is finished"
        found.append(
            f"{what}: of {status_text(comparison)}. Unfinished rows count nowhere below, and what "
            "is best may change."
        )
    groups = failure_groups(comparison)
    if groups:
        kinds = {}
        for group in groups:
            kinds[group.kind] = kinds.get(group.kind, 0) + len(group.rows)
        failed = comparison.count("failed")
        told = ", ".join(f"{KINDS.get(kind, kind)} ({count})" for kind, count in kinds.items())
        found.append(f"{failed} row{'s' * (failed != 1)} failed: {told}.")
    found += [f"Left out: {text}" for text in comparison.damaged]
    return found


def failures_remarks(comparison: Comparison) -> tuple[str, ...]:
    """Points of which no seed is left, and contestants of single runs that came to no end."""
    found = []
    rows = comparison.rows
    lost = rows.groupby("point")["state"].agg(lambda states: bool((states == "failed").all()))
    if lost.any() and not lost.all():
        found.append(f"Of {int(lost.sum())} of the {len(lost)} points, every seed failed.")
    for source, name, reason in comparison.diverged:
        title = scope_title(comparison, name)
        found.append(f"{source}: {title} diverged{': ' + reason.rstrip('.') if reason else ''}.")
    return tuple(found)


def best_remarks(findings: Findings) -> tuple[str, ...]:
    """How far the choice of settings can be trusted."""
    comparison, found = findings.comparison, []
    chosen = [best for best in findings.best if best.settings > 1]
    if chosen:
        round_too = "" if findings.only_policies else ", and so was the best round"
        found.append(
            "The settings were chosen by the very test accuracy that is reported"
            f"{round_too}: that flatters, and the more so the more settings there were to choose "
            "from. On new data or new seeds, expect less."
        )
        close = [
            best
            for best in chosen
            if np.isfinite(best.estimate.low)
            and best.lead < (best.estimate.high - best.estimate.low) / 2
        ]
        if close:
            found.append(
                f"For {len(close)} of {len(chosen)}, the lead over the next best setting is "
                "smaller than half the width of the interval: which of the two is better is open."
            )
    passed = sum(best.passed_over for best in findings.best)
    if passed or comparison.count("failed"):
        found.append(
            "A setting that lost a seed is not chosen where others have all of theirs: a mean over "
            "the seeds that survived would flatter it."
        )
    names = axis_names(comparison.axes)
    world = [names[axis] for axis in comparison.axes if axis.startswith(WORLD)]
    if world:
        found.append(
            f"What nobody can choose in earnest is swept too ({', '.join(world)}): there, the best "
            "says where a contestant does well, not what to take."
        )
    seeds = [best.estimate.seeds for best in findings.best]
    if seeds and min(seeds) < LEAST_SEEDS:
        found.append(
            f"With fewer than {LEAST_SEEDS} seeds nothing can be said about chance: numbers are "
            "plain means, without intervals."
        )
    return (*found, *shown_remarks(findings))


def shown_remarks(findings: Findings) -> tuple[str, ...]:
    """That pictures leave some out, where they do."""
    count = len(findings.best)
    if count <= MOST_SCOPES:
        return ()
    return (f"Pictures show the {MOST_SCOPES} best of {count}; the tables hold all of them.",)


def lead_text(findings: Findings) -> str:
    """One sentence on what the page compares."""
    comparison = findings.comparison
    kinds = [source.kind for source in comparison.sources]
    what = {"grid": "a grid of settings", "run": "a single run"}[kinds[0]]
    if len(kinds) > 1:
        grids, runs = kinds.count("grid"), kinds.count("run")
        parts = [f"{runs} run{'s' * (runs > 1)}"] * bool(runs)
        parts += [f"{grids} grid{'s' * (grids > 1)}"] * bool(grids)
        what = " and ".join(parts)
    policies = any(scope.startswith(POLICY) for scope in findings.main_scopes)
    whom = "contestants and policies" if policies else "contestants"
    whom = "policies" if findings.only_policies else whom
    return (
        f"Results of {what}: what came out for {whom} at every setting, over the seeds, and what "
        "it cost in simulated time, energy and traffic."
    )


def overview(findings: Findings) -> list[tuple[str, str]]:
    """The few facts that a reader wants first."""
    comparison = findings.comparison
    data = [source.settings.get("data") or {} for source in comparison.sources]
    names = dict.fromkeys(str(each["source"]) for each in data if each.get("source"))
    seeds = comparison.seeds
    pairs = [
        ("Methods", ", ".join(method.replace("_", " ") for method in comparison.methods)),
        ("Data", ", ".join(names)),
        ("Settings swept", str(len(comparison.axes) or "")),
        ("Points", f"{len(comparison.points):,}"),
        ("Seeds", str(len(seeds)) + (f" ({value_text(seeds, 24)})" if len(seeds) <= 8 else "")),
        ("Rows", status_text(comparison).split(": ", 1)[-1]),
    ]
    return [(name, value) for name, value in pairs if value]
