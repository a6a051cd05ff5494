"""Settings of the studies in rounds: what is refused, in which words, and that nothing is lost."""

import copy
from typing import Any

import pytest
from rounds_tiny import TINY_ROUNDS

from fedjax_kd.study.check import check_study
from fedjax_kd.study.contestant_names import CONTESTANTS
from fedjax_kd.study.load import (
    SettingsError,
    settings_from_dict,
    settings_from_text,
    settings_hash,
    settings_to_dict,
)
from fedjax_kd.study.problems import allowed
from fedjax_kd.study.settings_dfml import DfmlContestant
from fedjax_kd.study.settings_on_device_kd import OnDeviceKdContestant
from fedjax_kd.study.settings_pfedafm import PFedAfmContestant
from fedjax_kd.training import default_execution

METHODS = tuple(TINY_ROUNDS)


@pytest.mark.parametrize("method", METHODS)
def test_defaults_are_valid_and_survive_a_round_trip(method):
    settings = settings_from_text(f"method: {method}\n")
    check_study(settings)
    assert settings_from_dict(settings_to_dict(settings)) == settings
    assert settings_hash(settings) != settings_hash(settings_from_dict(TINY_ROUNDS[method]))


def test_every_contestant_has_a_name_and_the_method_itself_comes_first():
    literals = {
        "on_device_kd": OnDeviceKdContestant,
        "dfml": DfmlContestant,
        "pfedafm": PFedAfmContestant,
    }
    for method, literal in literals.items():
        assert " | ".join(CONTESTANTS[method]) == allowed(literal)
        settings: Any = settings_from_text(f"method: {method}\n")
        assert settings.contestants[0] == method


@pytest.mark.parametrize(
    ("method", "change", "parts"),
    [
        ("on_device_kd", "strong=5", ["strong: found 5", "at most data.users, which is 4"]),
        ("on_device_kd", "cohort=9", ["cohort: found 9", "at most data.users, which is 4"]),
        (
            "on_device_kd",
            "data.partition={kind: natural}",
            ["data.unlabelled.kind: found 'shards'", "allowed: share"],
        ),
        (
            "on_device_kd",
            "data.unlabelled={kind: pieces}",
            ["data.unlabelled.kind: found 'pieces' (text)", "allowed: shards | share"],
        ),
        (
            "on_device_kd",
            "data.unlabelled.share=0.5",
            ["data.unlabelled.share: unknown key", "of kind shards are kind, shards_per_strong"],
        ),
        ("on_device_kd", "data.unlabelled=3", ["data.unlabelled: found 3", "null or a section"]),
        (
            "on_device_kd",
            "contestants=[target_only, dfml]",
            ["contestants.1: found 'dfml'", "| server_ensemble |"],
        ),
        ("on_device_kd", "contestants=[]", ["contestants: found []", "at least 1 of them"]),
        (
            "on_device_kd",
            "contestants=[kd_only, kd_only]",
            ["contestants: found kd_only 2 times", "items that differ"],
        ),
        (
            "on_device_kd",
            "data.augmentation=crop",
            ["data.augmentation: found 'crop'", "none | crop_flip | flip_erase_crop"],
        ),
        ("on_device_kd", "data.statistics=image", ["data.statistics: found 'image'", "a list of"]),
        (
            "on_device_kd",
            "data.statistics=[[0.0], [0.0]]",
            ["data.statistics: found [[0.0], [0.0]]", "channel | pixel"],
        ),
        ("on_device_kd", "learning_rate_drop.rounds=[9, 3]", ["found [9, 3]", "rising order"]),
        ("on_device_kd", "training.epochs=2", ["training.epochs: unknown key", "steps"]),
        ("on_device_kd", "target.width=0.5", ["target.width: found 0.5", "mlp are hidden"]),
        ("on_device_kd", "auxiliary.name=ml", ["auxiliary.name: found 'ml'", "mean mlp"]),
        ("on_device_kd", "evaluation.every=0", ["evaluation.every: found 0", "at least 1"]),
        ("dfml", "senders=4", ["senders: found 4", "less than the 4 users of a round"]),
        ("dfml", "participation.cohort=2", ["senders: found 3", "less than the 2 users"]),
        ("dfml", "participation.cohort=5", ["participation.cohort: found 5", "which is 4"]),
        ("dfml", "participation.drop_out=1.0", ["participation.drop_out: found 1.0", "below 1"]),
        ("dfml", "alpha.maximum=1.5", ["alpha.maximum: found 1.5", "at most 1"]),
        ("dfml", "alpha.period=1", ["alpha.period: found 1", "at least 2"]),
        ("dfml", "alpha.shape=triangle", ["alpha.shape: found 'triangle'", "cosine | sawtooth"]),
        ("dfml", "models.1.hidden=[8]", ["models: found mlp-8 2 times", "items that differ"]),
        ("dfml", "data.users=1", ["models: found 2 of them", "at most data.users, which is 1"]),
        ("dfml", "data.unlabelled={kind: share}", ["data.unlabelled", "dfml uses labelled"]),
        ("dfml", "meme.name=nobody", ["meme.name: found 'nobody'", "| lenet"]),
        ("pfedafm", "shared.width=0.5", ["shared.width: found 0.5", "mlp are hidden"]),
        ("pfedafm", "mixing_learning_rate=0", ["mixing_learning_rate: found 0", "above 0"]),
        ("pfedafm", "strong=1", ["strong: unknown key"]),
        ("pfedafm", "system.profile=moon", ["system.profile: device profile 'moon'"]),
        ("pfedafm", "data.test_fraction=0.9", ["data.test_fraction and", "below 1"]),
    ],
)
def test_bad_settings_are_refused_in_plain_words(method, change, parts):
    with pytest.raises(SettingsError) as error:
        check_study(settings_from_dict(TINY_ROUNDS[method], [change]))
    message = str(error.value)
    for part in parts:
        assert part in message


def test_what_a_union_without_kind_refuses_is_one_line():
    with pytest.raises(SettingsError) as error:
        settings_from_dict(TINY_ROUNDS["dfml"], ["data.statistics=[[1, 2], [0, -1]]"])
    assert len(error.value.problems) == 1


def test_distilling_needs_unlabelled_examples_and_labelled_training_does_not():
    study = copy.deepcopy(TINY_ROUNDS["on_device_kd"])
    settings = settings_from_dict(study)
    object.__setattr__(settings.data, "unlabelled", None)
    with pytest.raises(SettingsError, match=r"data\.unlabelled: missing; on_device_kd, server"):
        check_study(settings)
    object.__setattr__(settings, "contestants", ("target_only", "auxiliary_only"))
    check_study(settings)


@pytest.mark.parametrize(
    ("method", "change", "message"),
    [
        ("pfedafm", "shared.hidden=[9]", r"shared: gives 9 features, others 8"),
        ("pfedafm", "models.0.hidden=[9]", r"models\.0: gives 9 features, others 8"),
        ("dfml", "models.0={name: cnn1d}", r"models\.0: model 'cnn1d' takes inputs"),
        ("on_device_kd", "system.profile=cell_500m", r"system\.profile: weak: 2 of 4 devices"),
        ("dfml", "data.partition.min_examples=900", "min_examples"),
        ("on_device_kd", "data.statistics=[[1, 2], [1, 2]]", r"data\.statistics: .* 1\s+channels"),
    ],
)
def test_what_only_the_data_can_tell_is_refused_before_training(method, change, message):
    from fedjax_kd.study.run_rounds_study import check_rounds_study

    settings: Any = settings_from_dict(TINY_ROUNDS[method], [change])
    check_study(settings)
    with pytest.raises(ValueError, match=message):
        check_rounds_study(settings, default_execution())
