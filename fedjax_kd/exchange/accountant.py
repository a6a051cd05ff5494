"""What noise is worth: epsilon of Gaussian noise over rounds, and the noise that an epsilon takes.

On the host, in ordinary Python numbers, by the package dp-accounting (the extra `privacy`). A
release is the sum of a round's clipped uploads with noise of `multiplier` times the clipping norm;
two runs are neighbours if they differ by one client, added or removed.

Sampling below 1 stands for Poisson sampling: each client takes part in a round with that chance,
independently, and nobody learns who did. A cohort of fixed size or one that the server sees does
not qualify, and is to be accounted for at sampling 1.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import Any, Literal

Accountant = Literal["rdp", "pld"]


@dataclass(frozen=True)
class Release:
    """Some rounds alike.

    Attributes:
        multiplier: standard deviation of the noise in units of the clipping norm.
        sampling: chance of a client to take part, in (0, 1].
        rounds: how many.
    """

    multiplier: float
    sampling: float
    rounds: int


@dataclass(frozen=True)
class PrivacySpent:
    """What has been released so far, for a run that is saved and taken up again.

    Attributes:
        releases: in order, neighbours that are alike put together.
        delta: the chance with which epsilon may fail.
    """

    releases: tuple[Release, ...] = ()
    delta: float = 1e-5

    def to_record(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, for JSON or YAML."""
        return {"delta": self.delta, "releases": [asdict(each) for each in self.releases]}


def from_record(record: dict[str, Any]) -> PrivacySpent:
    """What `to_record` gave.

    Raises:
        ValueError: if a release is not as `spend` allows it.
    """
    spent = PrivacySpent(delta=float(record["delta"]))
    for each in record["releases"]:
        spent = spend(spent, each["multiplier"], each["rounds"], each["sampling"])
    return spent


def spend(
    spent: PrivacySpent, multiplier: float, rounds: int = 1, sampling: float = 1.0
) -> PrivacySpent:
    """The same after further rounds.

    Raises:
        ValueError: if a number is out of range.
    """
    _check(multiplier=multiplier, rounds=rounds, sampling=sampling, delta=spent.delta)
    new = Release(float(multiplier), float(sampling), int(rounds))
    before = spent.releases
    if before and replace(before[-1], rounds=new.rounds) == new:
        new = replace(new, rounds=before[-1].rounds + new.rounds)
        before = before[:-1]
    return replace(spent, releases=(*before, new))


def epsilon_spent(spent: PrivacySpent, accountant: Accountant = "rdp") -> float:
    """Epsilon of everything released so far; 0 of nothing, infinite of a release without noise.

    Args:
        spent: the releases and delta.
        accountant: `rdp`, by Renyi divergences: at once, and an upper bound that is usually 3 to
            13 % above the other; `pld`, by the distribution of the privacy loss: up to seconds.

    Raises:
        ValueError: if the accountant is unknown or delta out of range.
        ModuleNotFoundError: if dp-accounting is not installed.
    """
    _check_accountant(accountant)
    _check(delta=spent.delta)
    releases = [each for each in spent.releases if each.rounds]
    if not releases:
        return 0.0
    if any(each.multiplier == 0 for each in releases):
        return math.inf
    with _quiet() as dp:
        account = _fresh(dp, accountant)
        for each in releases:
            account.compose(_event(dp, each))
        return float(account.get_epsilon(spent.delta))


def epsilon(
    multiplier: float,
    rounds: int,
    sampling: float = 1.0,
    delta: float = 1e-5,
    accountant: Accountant = "rdp",
) -> float:
    """Epsilon at `delta` of some rounds alike; see `epsilon_spent` for the errors.

    Args:
        multiplier: standard deviation of the noise in units of the clipping norm, >= 0.
        rounds: how many, >= 0.
        sampling: chance of a client to take part, in (0, 1].
        delta: in (0, 1).
        accountant: see `epsilon_spent`.
    """
    spent = spend(PrivacySpent(delta=delta), multiplier, rounds, sampling)
    return epsilon_spent(spent, accountant)


def noise_multiplier(
    epsilon: float,
    rounds: int,
    sampling: float = 1.0,
    delta: float = 1e-5,
    accountant: Accountant = "rdp",
) -> float:
    """The least noise multiplier whose rounds have this epsilon, to within 1e-6.

    Args:
        epsilon: > 0.
        rounds: how many, >= 1.
        sampling: chance of a client to take part, in (0, 1].
        delta: in (0, 1).
        accountant: see `epsilon_spent`.

    Raises:
        ValueError: if a number is out of range or the accountant unknown.
        ModuleNotFoundError: if dp-accounting is not installed.
    """
    _check_accountant(accountant)
    _check(rounds=rounds, sampling=sampling, delta=delta)
    if not (0 < epsilon < math.inf and rounds >= 1):
        raise ValueError(
            f"epsilon, rounds: {epsilon!r}, {rounds!r}; allowed: epsilon above 0 and finite, at"
            " least one round"
        )
    with _quiet() as dp:

        def calibrated(kind: Accountant, bracket: Any) -> float:
            return float(
                dp.calibrate_dp_mechanism(
                    lambda: _fresh(dp, kind),
                    lambda multiplier: _event(dp, Release(multiplier, sampling, rounds)),
                    epsilon,
                    delta,
                    bracket,
                    tol=1e-6,
                )
            )

        bounds = dp.mechanism_calibration
        found = calibrated("rdp", bounds.LowerEndpointAndGuess(0.0, 1.0))
        if accountant == "rdp":
            return found
        # Loss distributions of little noise are long: start near what RDP, an upper bound, found.
        return calibrated("pld", bounds.ExplicitBracketInterval(0.5 * found, 1.01 * found))


def _event(dp: Any, release: Release) -> Any:
    event = dp.GaussianDpEvent(release.multiplier)
    if release.sampling < 1:
        event = dp.PoissonSampledDpEvent(release.sampling, event)
    return dp.SelfComposedDpEvent(event, release.rounds)


def _fresh(dp: Any, accountant: Accountant) -> Any:
    return dp.rdp.RdpAccountant() if accountant == "rdp" else dp.pld.PLDAccountant()


@contextmanager
def _quiet() -> Iterator[ModuleType]:
    """The package, with its warnings off: RDP warns of every order that does not converge.

    Such orders are left out, which keeps epsilon an upper bound.
    """
    try:
        import dp_accounting
        import dp_accounting.pld
        import dp_accounting.rdp
        from absl import logging
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "privacy accounting needs the package dp-accounting: install fedjax-kd[privacy]"
        ) from error
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield dp_accounting
    finally:
        logging.set_verbosity(before)


def _check_accountant(accountant: str) -> None:
    if accountant not in ("rdp", "pld"):
        raise ValueError(f"accountant must be 'rdp' or 'pld'; got {accountant!r}")


def _check(
    multiplier: float = 0.0, rounds: int = 0, sampling: float = 1.0, delta: float = 1e-5
) -> None:
    for name, value, allowed, fits in (
        ("multiplier", multiplier, "at least 0 and finite", 0 <= multiplier < math.inf),
        ("rounds", rounds, "a whole number of at least 0", rounds >= 0 and rounds == int(rounds)),
        ("sampling", sampling, "above 0, at most 1", 0 < sampling <= 1),
        ("delta", delta, "between 0 and 1", 0 < delta < 1),
    ):
        if not fits:
            raise ValueError(f"{name}: {value!r}; allowed: {allowed}")
