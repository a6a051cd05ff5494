"""The words and numbers of a rounds study's report that stand outside of its sections."""

from __future__ import annotations

from typing import Any, NamedTuple

from markupsafe import Markup

from fedjax_kd.report.page_context import computed_in, partition_text, shared_context
from fedjax_kd.report.rounds_headline import rounds_headline
from fedjax_kd.report.rounds_names import view_name
from fedjax_kd.report.rounds_results import Contestant, RoundsResults
from fedjax_kd.report.rounds_table import contestant_table
from fedjax_kd.report.rounds_values import absent_contestants

_TABLE_NOTE = Markup(
    "Personal accuracy is on each user's own test split, common accuracy on one test set for all; "
    "both are means over the users, at the evaluated round where the mean is highest (best, chosen "
    "by that very score and so a little flattering to everybody alike) and after the last round. "
    "Time, energy, traffic and work are those of the whole run, simulated. Rounds to 90 %: until "
    "90 % of the proposed method's best accuracy; empty where some seed never got there."
)


class Words(NamedTuple):
    """What the report calls a method, what it says of it first, and where the method comes from."""

    kind: str
    lead: str
    source: str
    known: str  # what is the authors'
    assumed: str  # what is ours


_REFERENCE_NOTE = Markup(
    "Personal accuracy is on each user's own test split, common accuracy on one test set for all; "
    "both are means over the users, at the evaluated round where the mean is highest (best, chosen "
    "by that very score and so a little flattering to everybody alike) and after the last round. "
    "Time, energy, traffic and work are those of the whole run, simulated. Rounds and traffic to "
    "80 and 90 %: until that share of the best personal accuracy of all contestants was reached, "
    "seed by seed; empty where some seed never got there."
)


METHOD_WORDS = {
    "on_device_kd": Words(
        "On-device KD",
        "A simulation of on-device knowledge distillation: a small auxiliary model is trained by "
        "all users on their labelled data, and users with strong devices use it as the teacher of "
        "a large target model, on unlabelled data that never leave the device.",
        "J. Lim, J. Jo, T. Zhang and S. Avestimehr, “Enabling Weak Client Participation via "
        "On-device Knowledge Distillation in Heterogeneous Federated Learning”, ECAI 2025 "
        "(arXiv:2503.11151)",
        "the protocol as the released code has it: the auxiliary model is averaged over the users "
        "that take part, the target over the strong ones; the teacher is the auxiliary model just "
        "averaged; the target learns from labels first and from the teacher afterwards; and the "
        "weight of distillation grows over the rounds.",
        "the server-side ensemble's details, and every setting of this study that its file does "
        "not call the paper's code's. The tables of the paper were not available.",
    ),
    "dfml": Words(
        "DFML",
        "A simulation of decentralised federated mutual learning: in every round one user, drawn "
        "at random, receives the models of some others, and all of them learn from its labels and "
        "from each other's predictions on its data; there is no server, no public data, and "
        "architectures may differ.",
        "Y. H. Khalil and others, “DFML: Decentralized Federated Mutual Learning”, TMLR 2024 "
        "(arXiv:2402.01863)",
        "the roles of aggregator and senders, the loss of re-weighted supervision and mutual "
        "distillation, the weight α that changes in cycles, and the peak models.",
        "the exact schedule of α, the rule by which peak models are refreshed, architectures, "
        "rates and the baselines' details: no code was released, and the algorithm's listing and "
        "the paper's tables were not available.",
    ),
    "pfedafm": Words(
        "pFedAFM",
        "A simulation of personalised federated learning by adaptive feature mixture: users of "
        "different architectures exchange one small feature extractor, and each of them learns, "
        "feature by feature, how much to take from it and how much from its own.",
        "L. Yi and others, “pFedAFM: Adaptive Feature Mixture for Batch-Level Personalization in "
        "Heterogeneous Federated Learning” (arXiv:2404.17847)",
        "the two stages of local training with what is frozen in each, the mixing vector and its "
        "range, and the exchange of the small extractor alone.",
        "data, rates and architectures wherever the settings file does not call them the paper's "
        "code's. The paper's own rows of results were not available. Where “released code” is a "
        "contestant, it repeats the slips of the authors' program on purpose.",
    ),
    "family": Words(
        "Federated distillation",
        "A simulation of the family of federated distillation: methods that exchange parameters, "
        "class statistics, or scores on public examples, under the same data, seeds and draws of "
        "participants, each with what it sends and what that costs. The reference is Local, which "
        "sends nothing.",
        "the methods' own papers: FedAvg (arXiv:1602.05629), FedProx (arXiv:1812.06127), LG-FedAvg "
        "(arXiv:2001.01523), FD (arXiv:1811.11479), FedProto (arXiv:2105.00243), FML "
        "(arXiv:2006.16765), FedMD (arXiv:1910.03581), DS-FL (arXiv:2008.06180) and FedDF "
        "(arXiv:2006.07242)",
        "what each method exchanges, the losses of the users and what the server does with what "
        "it gets.",
        "data, architectures, rates, weights and sizes wherever the settings file does not call "
        "them a paper's.",
    ),
}


def rounds_context(results: RoundsResults) -> dict[str, Any]:
    """Fields of the template; the sections are filled by the page."""
    words = METHOD_WORDS[results.method]
    absent = absent_contestants(results)
    lead, card = "the proposed method", "how the proposed method compares with the other one"
    if results.reference is not None:
        lead = f"the reference, {results.reference.title}"
        card = f"how the other contestants compare with {lead}"
    return {
        **shared_context(results.title, results.manifest, results.seeds),
        "kind": words.kind,
        "lead": words.lead,
        "headline": rounds_headline(results),
        "no_headline": " ".join([f"The results hold no accuracies of {lead}.", *absent]),
        "card_note": f"{card}, accuracies in points and by the interval of the differences seed "
        "by seed.",
        "table": contestant_table(results),
        "table_caption": "Contestants: mean over the seeds and half the 95 % interval",
        "table_note": _TABLE_NOTE if results.reference is None else _REFERENCE_NOTE,
        "no_table": "The results hold no summary of the contestants.",
        "meanings": [
            (each.title, text) for each in results.contestants if (text := _meaning(each))
        ],
        "meanings_title": "What each contestant does, and which of its models are compared",
        "overview": _overview(results),
        "notes": "notes_rounds.html.jinja",
        "words": words,
        "listed": True,
    }


def _meaning(contestant: Contestant) -> str:
    """What a contestant does if the manifest says so, and its models if it has several kinds."""
    parts = [contestant.meaning] if contestant.meaning else []
    if len(contestant.views) > 1:
        first, *others = (view_name(view) for view in contestant.views)
        parts.append(f"compared by the {first}; also scored: the {' and the '.join(others)}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _overview(results: RoundsResults) -> list[tuple[str, str]]:
    """The few settings that a reader wants first."""
    manifest = results.manifest
    users = manifest.get("users") or []
    strong = sum(bool(user.get("strong")) for user in users)
    rounds = results.setting("rounds")
    own = {str(user.get("model")) for user in users}
    pairs = [
        ("Data", str(results.setting("data.source", ""))),
        ("Users", str(len(users) or results.setting("data.users", ""))),
        ("Strong users", str(strong or "")),
        ("Partition", partition_text(results.setting("data.partition"))),
        ("Architectures", str(len(own) or "")),
        ("Rounds", str(rounds if rounds is not None else "")),
        ("Contestants", str(len(results.contestants) or "")),
        ("Seeds", str(len(results.seeds) or "")),
        ("Computed in", computed_in(manifest)),
    ]
    return [(name, value) for name, value in pairs if value]
