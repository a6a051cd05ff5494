"""Running one contestant of a study in rounds, and bringing home what it did."""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_kd.clients import whole_axis
from fedjax_kd.methods.contract import Federation, Method, RoundReport, State
from fedjax_kd.methods.rounds import History, Observe, Participation, observed_rounds, run_rounds
from fedjax_kd.methods.scores import client_accuracies
from fedjax_kd.study.contestants import Contestant
from fedjax_kd.study.progress import Stage
from fedjax_kd.study.rounds_setup import RoundsSetup
from fedjax_kd.study.studies import RoundsStudy, counted_scope
from fedjax_kd.training import Drop, Execution, settled


class Diverged(FloatingPointError):
    """The training loss of a contestant is not finite."""


class Played(NamedTuple):
    """What a contestant did in R rounds.

    Attributes:
        state: after the last round.
        report: of all rounds, arrays [R, ...] on the host.
        evaluated: int [E], the evaluated rounds from 1.
        personal: view -> float [E, S, N].
        common: view -> float [E, S, N].
    """

    state: State
    report: RoundReport
    evaluated: np.ndarray
    personal: dict[str, np.ndarray]
    common: dict[str, np.ndarray]


def play(
    settings: RoundsStudy, setup: RoundsSetup, contestant: Contestant, progress: Stage
) -> Played:
    """Runs a contestant over all rounds of the study.

    Args:
        settings: the study.
        setup: its data and users.
        contestant: the method and its numbers.
        progress: told after each chunk of rounds.

    Returns:
        What it did.

    Raises:
        Diverged: if a client's loss is not finite; says where.
    """
    method, execution = contestant.method, contestant.execution
    shape = (setup.federation.people.n_points, setup.federation.people.n_users)
    main = contestant.views[0]
    looked = observed_rounds(settings.rounds, settings.evaluation.every)
    scope = counted_scope(settings)
    place_of_scope = ("personal", "common").index(scope)
    seen = 0

    def look(done: int, part: History) -> None:
        nonlocal seen
        for index, loss in enumerate(part.report.loss):
            _require_finite(loss.reshape(shape), seen + index + 1)
        for name, values in part.report.extra.items():
            _require_finite_extra(name, np.asarray(values), seen)
        note = f"loss {np.nan_to_num(mean_loss(part.report, shape[0])[-1]).mean():.3f}"
        fresh = np.flatnonzero(looked[seen:done])
        if len(fresh):
            score = part.observed[main][place_of_scope][fresh[-1]].mean()
            note = f"{scope} accuracy {score:.3f}, {note}"
        progress.advance(done - seen, note)
        seen = done

    state, history = run_rounds(
        method,
        jax.jit(method.init)(setup.federation),
        setup.federation,
        contestant.hparams,
        rounds=settings.rounds,
        execution=execution,
        participation=Participation(settings.participation.cohort, settings.participation.drop_out),
        observe=_accuracies_of(method, execution),
        observe_every=settings.evaluation.every,
        learning_rate_drop=Drop(
            settings.learning_rate_drop.rounds, settings.learning_rate_drop.factor
        ),
        on_chunk=look,
    )

    def of(place: int) -> dict[str, np.ndarray]:
        return {
            view: pair[place][looked].reshape(-1, *shape) for view, pair in history.observed.items()
        }

    return Played(state, history.report, np.flatnonzero(looked) + 1, of(0), of(1))


def mean_loss(report: RoundReport, n_points: int) -> np.ndarray:
    """Mean loss over the users that trained, [R, S]; NaN where nobody did."""
    rounds = len(report.loss)
    trained = _trained(report).reshape(rounds, n_points, -1)
    total = np.asarray(report.loss, np.float64).reshape(trained.shape).sum(axis=-1)
    count = trained.sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def special(report: RoundReport, n_points: int) -> dict[str, np.ndarray]:
    """What only this method reports: [R, S], or [R, S, N] of what every user has."""
    found = {}
    for name, values in report.extra.items():
        values = np.asarray(values, np.float64)
        per_user = values.shape[1] != n_points
        found[name] = values.reshape(len(values), n_points, -1) if per_user else values
    return found


def mixing_vectors(state: State, setup: RoundsSetup, execution: Execution) -> np.ndarray:
    """Everybody's mixing vector of pFedAFM, [S, N, d]."""
    people = setup.federation.people
    vectors = tuple(clients.mixing for clients in state.clients)

    @jax.jit  # other processes may hold the rows of some clients
    def gathered(vectors, groups):
        return settled(whole_axis(vectors, groups, people.n_clients), execution)

    whole = np.asarray(gathered(vectors, setup.federation.groups))
    return whole.reshape(people.n_points, people.n_users, -1)


@lru_cache(maxsize=64)  # one function a contestant, so that playing again compiles nothing
def _accuracies_of(method: Method, execution: Execution) -> Observe:
    """`(state, federation) -> by view, accuracies [K] on own and on common test data`."""

    def accuracies(state: State, federation: Federation) -> Any:
        return {
            view: client_accuracies(predictors, federation, execution)
            for view, predictors in method.predict(state, federation).items()
        }

    return accuracies


def _trained(report: RoundReport) -> np.ndarray:
    """Whose loss counts: who worked, and whoever's model was trained by another's work."""
    return (np.asarray(report.work_flops) > 0) | (np.asarray(report.loss) != 0)


def _require_finite(loss: np.ndarray, number: int) -> None:
    lost = np.argwhere(~np.isfinite(loss))
    if len(lost):
        point, user = lost[0]
        raise Diverged(
            f"the training loss is not finite for {len(lost)} of {loss.size} users in round "
            f"{number}, the first being user {user} of point {point}; a lower "
            "training.learning_rate or a training.gradient_clip above 0 may help"
        )


def _require_finite_extra(name: str, values: np.ndarray, seen: int) -> None:
    lost = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
    if len(lost):
        raise Diverged(
            f"{name} is not finite in round {seen + lost[0] + 1}; lower learning rates or a "
            "training.gradient_clip above 0 may help"
        )
