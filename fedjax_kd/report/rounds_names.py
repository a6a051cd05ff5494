"""What the columns, views, phases and causes of a rounds study are called in a report."""

from __future__ import annotations

from fedjax_kd.report.names import Kind, Metric
from fedjax_kd.report.rounds_results import Contestant, RoundsResults

SCOPES = {
    "personal": "on each user's own test split",
    "common": "on one test set for all",
}

VIEWS = {
    "model": ("model", "model"),
    "own": ("own model", "own model"),
    "private": ("private models", "private"),
    "meme": ("models that travel", "travelling"),
    "server": ("server's model", "server"),
    "prototype": ("nearest prototype", "prototypes"),
    "head": ("model with its own head", "own head"),
    "target": ("target model", "target"),
    "auxiliary": ("auxiliary model", "auxiliary"),
    "peak": ("peak models", "peak"),
    "regular": ("regular models", "regular"),
    "averaged": ("model with the averaged head", "averaged head"),
    "trained": ("model with its own head", "own head"),
}
"""What a view is called in a sentence, and in short beside its contestant's name."""

GROUPS = {True: "strong", False: "weak"}

LINK_CAUSES = {
    "training": "computing",
    "downlink": "received from the server",
    "uplink": "sent to the server",
}
PEER_CAUSES = {
    "training": "computing",
    "downlink": "received from a device",
    "uplink": "sent to a device",
}

ROUNDS_METRICS: tuple[Metric, ...] = (
    Metric(
        "accuracy_personal_best",
        "Personal, best",
        "fraction",
        "high",
        "accuracy on each user's own test split, mean over users, at the round where it is highest",
    ),
    Metric(
        "accuracy_personal_last",
        "Personal, last",
        "fraction",
        "high",
        "accuracy on each user's own test split, mean over users, after the last round",
    ),
    Metric(
        "accuracy_personal_worst_decile_last",
        "Personal, worst decile, last",
        "fraction",
        "high",
        "personal accuracy of the worst tenth of the users after the last round",
    ),
    Metric(
        "accuracy_personal_std_last",
        "Personal spread, last",
        "fraction",
        "low",
        "standard deviation of the personal accuracy over users after the last round",
    ),
    Metric(
        "accuracy_common_best",
        "Common, best",
        "fraction",
        "high",
        "accuracy on the common test set, mean over users, at the round where it is highest",
    ),
    Metric(
        "accuracy_common_last",
        "Common, last",
        "fraction",
        "high",
        "accuracy on the common test set, mean over users, after the last round",
    ),
    Metric("delay_s", "Simulated time", "seconds", "low", "simulated time of the whole run"),
    Metric("energy_j", "Energy", "joules", "low", "energy of everybody over the whole run"),
    Metric("bits", "Traffic", "bits", "low", "bits over all links in the whole run"),
    Metric("flops", "Work", "flops", "low", "operations of everybody over the whole run"),
    Metric(
        "rounds_to_90",
        "Rounds to 90 %",
        "rounds",
        "low",
        "rounds until 90 % of the proposed method's best accuracy; empty where never reached",
    ),
)


def _to(key: str, title: str, kind: Kind, share: int) -> Metric:
    return Metric(
        f"{key}_to_{share}",
        f"{title} to {share} %",
        kind,
        "low",
        f"what it took until {share} % of the best personal accuracy of all contestants was "
        "reached; empty where some seed never got there",
    )


TO_THE_BEST: tuple[Metric, ...] = (
    _to("rounds", "Rounds", "rounds", 80),
    _to("rounds", "Rounds", "rounds", 90),
    _to("bits", "Traffic", "bits", 80),
    _to("bits", "Traffic", "bits", 90),
)
"""What it took to come near the best, in a study that proposes no method."""

COSTS = tuple(metric for metric in ROUNDS_METRICS if metric.key in ("delay_s", "energy_j", "bits"))


def metrics_of(results: RoundsResults) -> tuple[Metric, ...]:
    """The columns of a study's table of contestants."""
    if results.reference is None:
        return ROUNDS_METRICS
    return (*(each for each in ROUNDS_METRICS if each.key != "rounds_to_90"), *TO_THE_BEST)


def view_name(view: str) -> str:
    """A view as a reader calls it."""
    return VIEWS[view][0] if view in VIEWS else view.replace("_", " ")


def row_name(contestant: Contestant, view: str) -> str:
    """A contestant, with the view where it has several."""
    if len(contestant.views) < 2:
        return contestant.title
    short = VIEWS[view][1] if view in VIEWS else view.replace("_", " ")
    return f"{contestant.title} ({short})"


def phase_name(phase: str) -> str:
    """A phase of a round as a reader calls it."""
    return phase.replace("_", " ")


def cause_name(cause: str, peer: bool) -> str:
    """A cause of cost; links are named after who is at their other end."""
    names = PEER_CAUSES if peer else LINK_CAUSES
    return names.get(cause, cause.replace("_", " "))


def counted_scope(results: RoundsResults) -> str:
    """The accuracy that the study's method is about: `personal` or `common`."""
    return "personal" if results.method in ("pfedafm", "family") else "common"


def scopes_in_order(results: RoundsResults) -> tuple[str, str]:
    """Both accuracies, the counted one first."""
    return (
        ("personal", "common") if counted_scope(results) == "personal" else ("common", "personal")
    )
