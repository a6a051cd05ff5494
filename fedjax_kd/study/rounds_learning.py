"""Running one contestant of a study in rounds, and bringing home what it did."""

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from fedjax_kd.clients import whole_axis
from fedjax_kd.methods.contract import Federation, Method, RoundReport, State
from fedjax_kd.methods.rounds import (
    History,
    Observe,
    Participation,
    history_shapes,
    observed_rounds,
    run_rounds,
)
from fedjax_kd.methods.scores import client_accuracies
from fedjax_kd.study.book import Book, joined, placed_like, with_free_length
from fedjax_kd.study.contestants import Contestant
from fedjax_kd.study.diverged import Diverged
from fedjax_kd.study.progress import Stage
from fedjax_kd.study.rounds_setup import RoundsSetup
from fedjax_kd.study.rounds_tables import accuracy_rows, scope_of
from fedjax_kd.study.settings_rounds import StepTraining
from fedjax_kd.study.studies import RoundsStudy, counted_scope
from fedjax_kd.training import Drop, Execution, settled


class Played(NamedTuple):
    """What a contestant did in R rounds.

    Attributes:
        state: after the last round.
        report: of all rounds, arrays [R, ...] on the host.
        evaluated: int [E], the evaluated rounds from 1.
        personal: view -> float [E, S, N].
        common: view -> float [E, S, N].
        lost: points whose training is not finite, with the reason; only of a tolerant run.
        trained: whether this run trained; an earlier one had done all of it if not.
    """

    state: State
    report: RoundReport
    evaluated: np.ndarray
    personal: dict[str, np.ndarray]
    common: dict[str, np.ndarray]
    lost: dict[int, str]
    trained: bool


def play(
    settings: RoundsStudy,
    setup: RoundsSetup,
    contestant: Contestant,
    progress: Stage,
    book: Book,
    *,
    tolerant: bool = False,
) -> Played:
    """Runs a contestant over all rounds of the study, or what is left of them.

    Args:
        settings: the study; of several points, what they share.
        setup: its data and users.
        contestant: the method and its numbers.
        progress: told after each chunk of rounds.
        book: where it is kept, and taken up from where an earlier run stopped.
        tolerant: whether points that diverge are reported and the others go on.

    Returns:
        What it did.

    Raises:
        Diverged: if a client's loss is not finite; says where. Of a tolerant run, if that is so at
            every point.
        Stopped: if the run was asked to stop; everything up to there is kept.
    """
    method, execution = contestant.method, contestant.execution
    name, shape = contestant.name, (setup.points.count, setup.federation.people.n_users)
    looked = observed_rounds(settings.rounds, settings.evaluation.every)
    steps = steps_of_users(settings, setup)
    shared: dict[str, Any] = {
        "execution": execution,
        "participation": Participation(
            settings.participation.cohort, settings.participation.drop_out
        ),
        "observe": _accuracies_of(method, execution),
    }
    state = jax.jit(method.init)(setup.federation)
    histories: list[History] = []
    lost: dict[int, str] = {}

    def check(history: History, first: int) -> None:
        found = lost_points(history.report, setup.points.seeds, shape[1], first)
        for place, reason in found.items():
            lost.setdefault(place, reason)
        if lost and (not tolerant or len(lost) == shape[0]):
            raise Diverged(lost)

    def like() -> dict[str, Any]:
        rows = history_shapes(method, setup.federation, contestant.hparams, **shared)
        return {"state": contestant.start, "history": with_free_length(rows)}

    done = 0
    kept = book.part.restore(like)
    if kept is not None:
        done, tree = kept
        state = placed_like(state, tree["state"])
        histories.append(tree["history"])
        progress.skip(done, f"taken up after round {done}")
        check(histories[0], 0)
    book.outlet.rejoin(name, done)
    book.timings.rejoin(name, done)
    started = time.perf_counter()

    def look(count: int, history: History, state: State) -> None:
        nonlocal started
        first, last = sum(len(h.report.loss) for h in histories), done + count
        histories.append(history)
        check(history, first)
        worked = (history.report.work_flops > 0) * steps
        seconds, started = time.perf_counter() - started, time.perf_counter()
        book.timings.add(name, first + 1, last, seconds, float(worked.sum()))
        fresh = np.flatnonzero(looked[first:last])
        if len(fresh):
            frame = _rows(settings, setup, contestant, history, first, fresh)
            book.outlet.rows(name, last, frame)
        note = _note(settings, contestant, history, shape, fresh)
        progress.advance(last - first, note, client_steps=float(worked.sum()))
        book.part.offer(last, lambda: {"state": state, "history": joined(histories)})

    if done < settings.rounds:
        state, _ = run_rounds(
            method,
            state,
            setup.federation,
            contestant.hparams,
            rounds=settings.rounds - done,
            first=done,
            observe_every=settings.evaluation.every,
            learning_rate_drop=Drop(
                settings.learning_rate_drop.rounds, settings.learning_rate_drop.factor
            ),
            align=book.part.align,
            on_chunk=look,
            **shared,
        )
    history = joined(histories)

    def of(place: int) -> dict[str, np.ndarray]:
        return {
            view: pair[place][looked].reshape(-1, *shape) for view, pair in history.observed.items()
        }

    evaluated, trained = np.flatnonzero(looked) + 1, done < settings.rounds
    return Played(state, history.report, evaluated, of(0), of(1), lost, trained)


def steps_of_users(settings: RoundsStudy, setup: RoundsSetup) -> np.ndarray:
    """Steps of local training that a round asks of each user that takes part, float [K].

    Of its own examples; what a method trains beside (on public examples, at the server) is not
    counted.
    """
    training = settings.training
    counts = np.asarray(setup.federation.people.train.counts)
    if isinstance(training, StepTraining):
        return np.full(counts.shape, float(training.steps))
    return training.epochs * np.ceil(counts / training.batch_size)


def lost_points(
    report: RoundReport, seeds: Sequence[int], n_users: int, first: int
) -> dict[int, str]:
    """Points at which some loss, or what a method reports beside, is not finite.

    Args:
        report: of some rounds, arrays [R, ...].
        seeds: of the S points.
        n_users: N.
        first: rounds before these.

    Returns:
        By place of the point, what was found first.
    """
    found: dict[int, str] = {}
    finite = np.isfinite(report.loss).reshape(-1, len(seeds), n_users)
    for index, place in np.argwhere(~finite.all(axis=2)):
        users = np.flatnonzero(~finite[index, place])
        found.setdefault(
            int(place),
            f"the training loss is not finite for {len(users)} of {n_users} users in round "
            f"{first + index + 1}, the first being user {users[0]} (seed {seeds[place]}); a lower "
            "training.learning_rate or a training.gradient_clip above 0 may help",
        )
    for name, values in report.extra.items():
        by_point = np.isfinite(np.asarray(values)).reshape(len(report.loss), len(seeds), -1)
        for index, place in np.argwhere(~by_point.all(axis=2)):
            found.setdefault(
                int(place),
                f"{name} is not finite in round {first + index + 1} (seed {seeds[place]}); lower "
                "learning rates or a training.gradient_clip above 0 may help",
            )
    return found


def _rows(
    settings: RoundsStudy,
    setup: RoundsSetup,
    contestant: Contestant,
    history: History,
    first: int,
    fresh: np.ndarray,
) -> pd.DataFrame:
    """Rows of metrics.parquet of the rounds of a chunk that were evaluated, as far as known."""
    shape = (-1, setup.points.count, setup.federation.people.n_users)
    frames = []
    for view, (personal, common) in history.observed.items():
        loss = mean_loss(history.report, setup.points.count)[fresh]
        scope = scope_of(contestant.name, view, contestant.views)
        frames.append(
            accuracy_rows(
                scope,
                setup.points.labels,
                first + fresh + 1,
                personal[fresh].reshape(shape),
                common[fresh].reshape(shape),
                loss if view == contestant.views[0] else None,
            )
        )
    return pd.concat(frames, ignore_index=True)


def _note(
    settings: RoundsStudy,
    contestant: Contestant,
    history: History,
    shape: tuple[int, int],
    fresh: np.ndarray,
) -> str:
    note = f"loss {np.nan_to_num(mean_loss(history.report, shape[0])[-1]).mean():.3g}"
    if not len(fresh):
        return note
    scope = counted_scope(settings)
    place = ("personal", "common").index(scope)
    score = history.observed[contestant.views[0]][place][fresh[-1]].mean()
    return f"{scope} accuracy {score:.3f}, {note}"


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
