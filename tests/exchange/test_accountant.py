"""Epsilon and noise multipliers against dp-accounting's own calls and known numbers."""

import json
import math
import sys

import dp_accounting
import pytest
from absl import logging
from dp_accounting import pld, rdp

from fedjax_kd.exchange.accountant import (
    PrivacySpent,
    epsilon,
    epsilon_spent,
    from_record,
    noise_multiplier,
    spend,
)

DELTA = 1e-5


def own_event(multiplier: float, rounds: int, sampling: float):
    event = dp_accounting.GaussianDpEvent(multiplier)
    if sampling < 1:
        event = dp_accounting.PoissonSampledDpEvent(sampling, event)
    return dp_accounting.SelfComposedDpEvent(event, rounds)


def own_epsilon(account, multiplier: float, rounds: int, sampling: float) -> float:
    logging.set_verbosity(logging.ERROR)
    account.compose(own_event(multiplier, rounds, sampling))
    found = account.get_epsilon(DELTA)
    logging.set_verbosity(logging.WARNING)
    return found


@pytest.mark.parametrize(
    ("multiplier", "sampling", "rounds", "by_rdp", "by_pld"),
    [
        (1.0, 1.0, 1, 4.73, 4.38),
        (1.0, 1.0, 50, 57.3, 54.4),
        (2.0, 1.0, 100, 35.1, 33.1),
        (5.0, 1.0, 1000, 48.8, 46.2),
        (10.0, 1.0, 50, 3.19, 2.94),
        (1.0, 0.1, 50, 5.89, 5.15),
        (2.0, 0.1, 100, 2.58, 2.34),
        (10.0, 0.1, 1000, 1.32, 1.21),
    ],
)
def test_epsilon_is_that_of_the_package(multiplier, sampling, rounds, by_rdp, by_pld):
    found = epsilon(multiplier, rounds, sampling, DELTA, "rdp")
    assert found == own_epsilon(rdp.RdpAccountant(), multiplier, rounds, sampling)
    assert found == pytest.approx(by_rdp, rel=5e-3)
    found = epsilon(multiplier, rounds, sampling, DELTA, "pld")
    assert found == own_epsilon(pld.PLDAccountant(), multiplier, rounds, sampling)
    assert found == pytest.approx(by_pld, rel=5e-3)


@pytest.mark.parametrize(
    ("target", "rounds", "sampling", "expected"),
    [
        (1.0, 1, 1.0, 4.05),
        (1.0, 100, 1.0, 40.5),
        (4.0, 10, 1.0, 3.66),
        (8.0, 50, 1.0, 4.51),
        (16.0, 1, 1.0, 0.36),
        (1.0, 50, 0.1, 3.18),
        (8.0, 100, 0.1, 0.99),
    ],
)
def test_the_multiplier_of_an_epsilon_is_that_of_the_package(target, rounds, sampling, expected):
    found = noise_multiplier(target, rounds, sampling, DELTA)
    logging.set_verbosity(logging.ERROR)
    own = dp_accounting.calibrate_dp_mechanism(
        rdp.RdpAccountant, lambda z: own_event(z, rounds, sampling), target, DELTA
    )
    logging.set_verbosity(logging.WARNING)
    assert found == pytest.approx(float(own), rel=1e-5)
    assert found == pytest.approx(expected, rel=1e-2, abs=5e-3)
    assert epsilon(found, rounds, sampling, DELTA) == pytest.approx(target, rel=1e-3)


def test_the_multiplier_by_loss_distributions_is_a_little_smaller():
    by_rdp, by_pld = (noise_multiplier(4.0, 10, accountant=kind) for kind in ("rdp", "pld"))
    assert 0.8 * by_rdp < by_pld < by_rdp
    assert epsilon(by_pld, 10, accountant="pld") == pytest.approx(4.0, rel=1e-3)
    own = dp_accounting.calibrate_dp_mechanism(
        pld.PLDAccountant,
        lambda z: own_event(z, 10, 1.0),
        4.0,
        DELTA,
        dp_accounting.mechanism_calibration.ExplicitBracketInterval(1.0, 10.0),
    )
    assert by_pld == pytest.approx(float(own), rel=1e-5)


def test_what_is_spent_adds_up_and_survives_being_saved():
    spent = PrivacySpent()
    for _ in range(30):
        spent = spend(spent, 5.0)
    assert len(spent.releases) == 1
    assert epsilon_spent(spent) == epsilon(5.0, 30)
    restored = from_record(json.loads(json.dumps(spent.to_record())))
    assert restored == spent
    for _ in range(20):
        restored = spend(restored, 5.0)
    assert epsilon_spent(restored) == epsilon(5.0, 50)
    other = spend(restored, 2.0, rounds=3, sampling=0.1)
    assert len(other.releases) == 2
    assert epsilon_spent(other) > epsilon_spent(restored)


def test_nothing_costs_nothing_and_no_noise_everything():
    assert epsilon_spent(PrivacySpent()) == 0
    assert epsilon(1.0, 0) == 0
    assert epsilon(0.0, 5) == math.inf


def test_warnings_are_silent_and_verbosity_comes_back(capfd):
    logging.set_verbosity(logging.WARNING)
    epsilon(1.0, 50, 0.1)
    assert logging.get_verbosity() == logging.WARNING
    assert capfd.readouterr().err == ""


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(ModuleNotFoundError, match=r"install fedjax-kd\[privacy\]"):
        epsilon(1.0, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: epsilon(-1.0, 1), "multiplier: -1.0; allowed"),
        (lambda: epsilon(1.0, 1.5), "rounds: 1.5; allowed"),  # pyright: ignore[reportArgumentType]
        (lambda: epsilon(1.0, 1, 0.0), "sampling: 0.0; allowed"),
        (lambda: epsilon(1.0, 1, 1.0, 1.0), "delta: 1.0; allowed"),
        (lambda: epsilon(1.0, 1, accountant="zcdp"), "accountant must be"),  # pyright: ignore[reportArgumentType]
        (lambda: noise_multiplier(0.0, 1), "epsilon, rounds: 0.0, 1"),
        (lambda: noise_multiplier(1.0, 0), "epsilon, rounds: 1.0, 0"),
    ],
)
def test_numbers_out_of_range_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
