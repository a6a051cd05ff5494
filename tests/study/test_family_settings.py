"""Settings of a study of the family: what is refused, in which words, and what contestants are."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from family_tiny import ALL, FAMILY, family
from mock_cifar import patch_cifar

from fedjax_kd.exchange.channel import Stage
from fedjax_kd.study.check import check_study
from fedjax_kd.study.contestant_names import CONTESTANTS
from fedjax_kd.study.contestants import contestants, training_jobs
from fedjax_kd.study.load import (
    SettingsError,
    load_settings,
    settings_from_dict,
    settings_from_text,
    settings_hash,
    settings_to_dict,
)
from fedjax_kd.study.plan import make_plan
from fedjax_kd.study.problems import allowed
from fedjax_kd.study.rounds_memory import require_memory
from fedjax_kd.study.rounds_setup import prepare_rounds
from fedjax_kd.study.run_rounds_study import check_rounds_study
from fedjax_kd.study.settings_family import FamilyContestant
from fedjax_kd.study.upload_channel import channel_of, privacy_of
from fedjax_kd.training import default_execution

EXPERIMENTS = Path(__file__).parents[2] / "experiments" / "family"
EVERYBODY = f"contestants=[{', '.join(ALL)}]"


def players_of(*overrides: str) -> dict[str, Any]:
    settings = family(*overrides)
    check_study(settings)
    execution = default_execution()
    setup = prepare_rounds(settings, execution)
    plan = make_plan(training_jobs(settings, setup), execution, asked="sequential")
    found = {each.name: each for each in contestants(settings, setup, plan)}
    for player in found.values():
        require_memory(player, setup, player.execution)
    return found


def test_defaults_are_valid_and_survive_a_round_trip():
    settings = settings_from_text("method: family\n")
    check_study(settings)
    assert settings_from_dict(settings_to_dict(settings)) == settings
    assert settings_hash(settings) != settings_hash(settings_from_dict(FAMILY))


def test_every_contestant_has_a_name():
    assert " | ".join(CONTESTANTS["family"]) == allowed(FamilyContestant) == " | ".join(ALL)


SHARED_NOISE = "upload=[{kind: clip_and_noise, multiplier: 1.0, noise: share}, {kind: secure_sum}]"


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (["contestants=[fd]"], ["contestants: local is missing"]),
        (["contestants=[local, fedavgg]"], ["contestants.1: found 'fedavgg' (text)"]),
        (["learning_rates={fml: 0.1}"], ["learning_rates.fml: there is no such contestant"]),
        (
            ["data.public=null"],
            ["data.public: missing; ds_fl need public examples: kind split"],
        ),
        (
            ["public_set.per_round=25"],
            ["public_set.per_round: found 25; allowed: at most data.public.examples, which is 24"],
        ),
        (
            ["contestants=[local, fedmd]", "public_set.pretraining_epochs=1"],
            ["public_set.pretraining_epochs: found 1; allowed: 0", "labelled: true"],
        ),
        (
            ["upload=[{kind: secure_sum}]", "contestants=[local, feddf]"],
            ["upload: found secure_sum with the contestant feddf", "each upload by itself"],
        ),
        (
            ["upload=[{kind: secure_sum}, {kind: clip_and_noise, multiplier: 1.0}]"],
            ["upload: found secure_sum, clip_and_noise; allowed: each at most once and in the"],
        ),
        (
            ["upload=[{kind: quantise}, {kind: secure_sum}]"],
            ["upload: found quantise and secure_sum; allowed: one of them"],
        ),
        (
            ["upload=[{kind: clip_and_noise, multiplier: 1.0, noise: share}]"],
            ["upload.0.noise: found share without a secure_sum after it; allowed: each"],
        ),
        (
            ["public_set.sharpen={kind: none, strength: 2.0}"],
            ["public_set.sharpen.strength: found 2.0 with kind none; allowed: null"],
        ),
        (
            ["upload=[{kind: delta}, {kind: secure_sum}]", "public_set.per_round=24"],
            ["upload: found delta and secure_sum; allowed: one of them"],
        ),
        (
            ["upload=[{kind: delta}]"],
            ["upload: found delta, with public_set.per_round 16", "which is 24"],
        ),
        (
            ["upload=[{kind: clip_and_noise}]"],
            ["upload.0: found neither of multiplier and epsilon; allowed: one of them"],
        ),
        (
            ["upload=[{kind: clip_and_noise, multiplier: 1.0, epsilon: 1.0}]"],
            ["upload.0: found both of multiplier and epsilon"],
        ),
        (
            [
                SHARED_NOISE,
                "participation.drop_out=0.1",
            ],
            ["upload.0.noise: found share with participation.drop_out 0.1; allowed: each"],
        ),
        (
            [
                SHARED_NOISE,
                "contestants=[local, fd, fedavg]",
            ],
            ["upload.0.noise: found share with fedavg; allowed: each"],
        ),
        (
            ["data.public={kind: source, source: no_such_set, examples: 24}"],
            ["data.public.source: found 'no_such_set'"],
        ),
        (
            ["upload=[{kind: quantise, form: largest_remainder}]"],
            ["upload.0.form: found largest_remainder with fd; allowed: uniform"],
        ),
        (
            ["upload=[{kind: quantize}]"],
            ["upload.0.kind: found 'quantize'", "did you mean quantise?"],
        ),
        (
            ["data.unlabelled={kind: share}"],
            ["data.unlabelled: found a section; allowed: null, for family takes its public"],
        ),
        (["public_set.sharpen.kind=loud"], ["public_set.sharpen.kind", "era | power | none"]),
    ],
)
def test_what_is_refused(changes, parts):
    with pytest.raises(SettingsError) as refused:
        check_study(family(*changes))
    assert len(refused.value.problems) == 1
    for part in parts:
        assert part in str(refused.value)


@pytest.mark.parametrize("name", ["lg_fedavg", "fedproto"])
def test_heads_and_features_have_to_meet(name):
    unequal = ["models.1.hidden=[12]", "contestants=[local, fd]"]
    execution = default_execution()
    check_rounds_study(family(*unequal), execution)
    with pytest.raises(ValueError, match=rf"models.1: gives 12 features, others 8; .*{name}"):
        check_rounds_study(family(*unequal, f"contestants=[local, {name}]"), execution)


def test_all_ten_with_their_numbers():
    numbers = (
        *("proximal=0.3", "fd_weight=2.0", "fd_temperature=3.0", "prototype_weight=4.0"),
        *("fml_hard=0.6", "fml_meme_hard=0.7", "public_set.sharpen={kind: power, strength: 2.0}"),
        *("public_set.digest_learning_rate=0.03", "public_set.server_learning_rate=0.04"),
        *("learning_rates={fd: 0.01}", "training.learning_rate=0.05"),
    )
    players = players_of(EVERYBODY, *numbers)
    assert list(players) == list(ALL)
    assert [each.role for each in players.values()] == ["reference", *["baseline"] * 9]

    def of(name, *path):
        value = players[name].hparams
        for step in path:
            value = getattr(value, step)
        return float(value)

    assert of("fedprox", "proximal") == np.float32(0.3)
    assert (of("fd", "weight"), of("fd", "temperature")) == (2.0, 3.0)
    assert of("fedproto", "weight") == 4.0
    assert of("fml", "private_hard") == np.float32(0.6)
    assert of("fml", "meme_hard") == np.float32(0.7)
    assert of("fedmd", "digest", "learning_rate") == np.float32(0.03)
    assert of("ds_fl", "strength") == 2.0
    assert of("feddf", "server", "learning_rate") == np.float32(0.04)
    assert of("local", "learning_rate") == np.float32(0.05)
    assert of("fd", "optimiser", "learning_rate") == np.float32(0.01)
    assert players["fml"].views == ("private", "meme")
    assert players["fedproto"].views == ("prototype", "head")


def test_uploads_become_channels():
    assert channel_of(family()).stages == ()
    settings = family(
        "upload=[{kind: clip_and_noise, clip: 2.0, epsilon: 4.0}, {kind: secure_sum, bits: 12}]"
    )
    check_study(settings)
    channel = channel_of(settings)
    assert channel.stages == (Stage.NOISE, Stage.SECURE_SUM)
    spent = privacy_of(settings)
    assert spent is not None
    assert channel.numbers[0].multiplier == spent["multiplier"]
    assert spent["epsilon"] == pytest.approx(4.0, rel=1e-3)
    assert privacy_of(family()) is None
    shared = channel_of(
        family(
            "upload=[{kind: clip_and_noise, multiplier: 1.0, noise: share}]",
            "participation.cohort=3",
        )
    )
    assert shared.numbers.participants == 3.0


def test_a_sweep_over_noise_is_one_method():
    def built(multiplier):
        upload = f"upload=[{{kind: clip_and_noise, clip: 4.5, multiplier: {multiplier}}}]"
        return players_of("contestants=[local, fd]", upload)["fd"]

    one, other = built(1.0), built(2.0)
    assert one.method is other.method
    numbers, others = ([float(leaf) for leaf in jax.tree.leaves(p.hparams)] for p in (one, other))
    assert numbers != others
    with pytest.raises(ValueError, match=r"upload.0.clip: found 3; allowed with fd: above 3.16"):
        players_of(
            "contestants=[local, fd]", "upload=[{kind: clip_and_noise, clip: 3.0, epsilon: 1.0}]"
        )


@pytest.mark.parametrize("name", ["digits", "fashion_mnist", "paper"])
def test_settings_files_are_valid_and_have_all_ten(name):
    settings: Any = load_settings(EXPERIMENTS / f"{name}.yaml")
    check_study(settings)
    assert set(settings.contestants) == set(ALL)


def test_the_paper_s_study_can_be_set_up(monkeypatch):
    patch_cifar(monkeypatch)
    patch_cifar(monkeypatch, "cifar100", n_train=6000, n_test=100)
    check_rounds_study(load_settings(EXPERIMENTS / "paper.yaml"), default_execution())  # pyright: ignore
