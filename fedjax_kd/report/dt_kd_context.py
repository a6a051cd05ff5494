"""The words and numbers of a DT-KD report that stand outside of its sections."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from fedjax_kd.report.headline import headline
from fedjax_kd.report.names import POLICIES, policy_name, policy_order
from fedjax_kd.report.page_context import computed_in, partition_text, shared_context
from fedjax_kd.report.policy_table import policy_table
from fedjax_kd.report.results import Results

_LEAD = Markup(
    "A simulation of digital-twin-assisted knowledge distillation: one big teacher is trained at "
    "the server's digital twins, and every user distils it into a student network of its own, on "
    "the device or at the server. Q-learning chooses student and place for all users, and a convex "
    "optimisation shares bandwidth and server compute among them."
)
_TABLE_NOTE = Markup(
    "Accuracies are of the trained students: personal on each user's own test split (with its "
    "standard deviation over users and its mean over the worst tenth of them), common on one test "
    "set for all. U is accuracy minus λ times the delay over a reference delay; “planned” takes "
    "the accuracy from the table that the policy saw."
)


def dt_kd_context(results: Results) -> dict[str, Any]:
    """Fields of the template; the sections are filled by the page."""
    policies = policy_order(results)
    return {
        **shared_context(results.title, results.manifest, results.seeds),
        "kind": "DT-KD",
        "lead": _LEAD,
        "headline": headline(results),
        "no_headline": "The results hold no summary of the proposed policy.",
        "card_note": "how the proposed policy compares with the other one.",
        "table": policy_table(results),
        "table_caption": "Policies: mean over the seeds and half the 95 % interval",
        "table_note": _TABLE_NOTE,
        "no_table": "The results hold no summary of the policies.",
        "meanings": [(policy_name(p), POLICIES[p].meaning) for p in policies if p in POLICIES],
        "meanings_title": "What each policy does",
        "overview": _overview(results),
        "notes": "notes_dt_kd.html.jinja",
        "listed": False,
    }


def _overview(results: Results) -> list[tuple[str, str]]:
    """The few settings that a reader wants first."""
    manifest = results.manifest
    weight = results.setting("objective.delay_weight")
    synchronised = results.setting("twin.synchronised")
    pairs = [
        ("Data", str(results.setting("data.source", ""))),
        ("Users", str(results.setting("data.users", ""))),
        ("Partition", partition_text(results.setting("data.partition"))),
        ("Students", str(len(manifest.get("students") or []) or "")),
        ("Teacher", str((manifest.get("teacher") or {}).get("label", ""))),
        ("Synchronised", f"{100 * synchronised:g} %" if synchronised is not None else ""),
        ("Delay weight λ", f"{weight:g}" if weight is not None else ""),
        ("Seeds", str(len(results.seeds) or "")),
        ("Computed in", computed_in(manifest)),
    ]
    return [(name, value) for name, value in pairs if value]
