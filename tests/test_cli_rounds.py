"""The command with studies in rounds: what the check refuses, in which words, what it lets by."""

from pathlib import Path

import pytest

from fedjax_kd import cli

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.mark.parametrize(
    ("method", "change", "parts"),
    [
        (
            "on_device_kd",
            "contestants=[on_device_kd, fedavgg]",
            ["contestants.1: found 'fedavgg' (text)", "on_device_kd | target_only |"],
        ),
        ("on_device_kd", "strong=9", ["strong: found 9; allowed: at most data.users, which is 8"]),
        ("dfml", "senders=6", ["senders: found 6; allowed: less than the 6 users of a round"]),
        (
            "pfedafm",
            "models.2.hidden=[48]",
            ["models.2: gives 48 features, others 32; allowed: models and a shared extractor"],
        ),
        (
            "pfedafm",
            "shared.hidden=[16, 8]",
            ["shared: gives 8 features, others 32; allowed: models and a shared extractor"],
        ),
        ("family", "contestants=[fd]", ["contestants: local is missing"]),
        (
            "family",
            "data.public=null",
            ["data.public: missing; fedmd, ds_fl, feddf need public examples"],
        ),
    ],
)
def test_bad_settings_of_rounds_are_refused_in_plain_words(method, change, parts, capsys):
    path = str(EXPERIMENTS / method / "digits.yaml")
    assert cli.main(["run", path, "--set", change, "--check"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    for part in parts:
        assert part in shown.err


@pytest.mark.parametrize("method", ["on_device_kd", "dfml", "pfedafm", "family"])
def test_the_digits_studies_pass_the_check(method, capsys):
    assert cli.main(["run", str(EXPERIMENTS / method / "digits.yaml"), "--check"]) == 0
    assert "the study can run (settings " in capsys.readouterr().out
