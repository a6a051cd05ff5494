"""What the contestants of the studies in rounds are called, and what each of them is."""

from typing import NamedTuple


class ContestantName(NamedTuple):
    """How a contestant is shown, what it does in a clause, and whether it changes the method."""

    title: str
    meaning: str
    variant: bool = False


CONTESTANTS: dict[str, dict[str, ContestantName]] = {
    "on_device_kd": {
        "on_device_kd": ContestantName(
            "On-device KD",
            "strong users distil everybody's auxiliary model into the target: as many steps on "
            "labels as Target only takes, and as many again on unlabelled examples",
        ),
        "target_only": ContestantName(
            "Target only", "strong users train the target on their labels; the others rest"
        ),
        "auxiliary_only": ContestantName(
            "Auxiliary only", "everybody trains the auxiliary model, nobody the target"
        ),
        "server_ensemble": ContestantName(
            "Server ensemble", "the server distils the users' models on pooled unlabelled data"
        ),
        "kd_only": ContestantName(
            "On-device KD, no labels",
            "the target learns from the auxiliary model alone, at a constant weight",
            True,
        ),
        "constant_weight": ContestantName(
            "On-device KD, constant weight",
            "the soft loss has the constant weight of an earlier state of the authors' code",
            True,
        ),
    },
    "dfml": {
        "dfml": ContestantName(
            "DFML",
            "models meet at an aggregator and learn from each other; everybody starts from weights "
            "of its own",
        ),
        "decentralised_fedavg": ContestantName(
            "Decentralised FedAvg",
            "models of one architecture are averaged by the aggregator; they start alike, and a "
            "round takes as many steps as DFML's on average",
        ),
        "decentralised_fedavg_wsm": ContestantName(
            "Decentralised FedAvg, WSM", "the same, trained with the weighted softmax"
        ),
        "decentralised_fml": ContestantName(
            "Decentralised FML",
            "a small model travels and learns with the users' own: twice DFML's steps",
        ),
        "def_kt": ContestantName(
            "Def-KT",
            "users teach their model to another user's, in pairs: 1.5 times DFML's steps",
        ),
        "local": ContestantName(
            "Local", "those whom DFML would draw train alone, with as many steps on average"
        ),
        "dfml_constant_alpha": ContestantName(
            "DFML, constant alpha", "supervision and distillation weigh the same throughout", True
        ),
        "dfml_cross_entropy": ContestantName(
            "DFML, cross entropy", "supervision by plain cross entropy", True
        ),
    },
    "pfedafm": {
        "pfedafm": ContestantName(
            "pFedAFM",
            "own features are mixed with those of a shared small extractor; its second stage takes "
            "as many steps again as a round of the others",
        ),
        "pfedafm_released_code": ContestantName(
            "pFedAFM, released code", "with the defects of the authors' released code", True
        ),
        "pfedafm_joint": ContestantName(
            "pFedAFM, joint", "both extractors trained at once instead of in two stages", True
        ),
        "local": ContestantName("Local", "every user trains alone"),
        "lg_fedavg": ContestantName("LG-FedAvg", "the last layer is averaged, the rest is private"),
        "fedproto": ContestantName("FedProto", "mean features of each class are exchanged"),
    },
    "family": {
        "local": ContestantName(
            "Local", "every user trains alone; sends nothing: the reference of all others"
        ),
        "fedavg": ContestantName(
            "FedAvg", "models are averaged over the users of each architecture"
        ),
        "fedprox": ContestantName(
            "FedProx", "FedAvg with a pull towards the average while users train"
        ),
        "lg_fedavg": ContestantName("LG-FedAvg", "the last layer is averaged, the rest is private"),
        "fd": ContestantName(
            "FD", "mean outputs of each class are exchanged and distilled into the users' models"
        ),
        "fedproto": ContestantName(
            "FedProto", "mean features of each class are exchanged and models drawn to them"
        ),
        "fml": ContestantName(
            "FML",
            "a meme model travels and learns with the users' own, which takes the work of both",
        ),
        "fedmd": ContestantName(
            "FedMD", "logits on public examples are averaged and digested by everybody"
        ),
        "ds_fl": ContestantName(
            "DS-FL", "probabilities on public examples are averaged, sharpened and digested"
        ),
        "feddf": ContestantName(
            "FedDF",
            "models are averaged in each architecture, then distilled at the server on public "
            "examples from all users' models",
        ),
    },
}
"""By study, then by the name that a settings file uses."""
