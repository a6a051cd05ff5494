"""A study of methods in rounds: every contestant under the same seeds, data and participants.

The tables are written anew after every contestant, and rows of metrics as they come, so that an
interrupted run leaves what it had. A run that goes on in the same folder takes contestants from
their last checkpoints; those that had finished are not trained again. A contestant whose training
diverges is named in the manifest, and the others go on.
"""

from datetime import UTC, datetime
from pathlib import Path

from fedjax_kd.study import rounds_tables as tables
from fedjax_kd.study.book import Book
from fedjax_kd.study.checkpoint import Keeper, no_keeper
from fedjax_kd.study.contestants import Contestant, contestants, training_jobs
from fedjax_kd.study.diverged import Diverged
from fedjax_kd.study.folder import ResultFolder
from fedjax_kd.study.hosts import agree_on_content
from fedjax_kd.study.outlet import Outlet, no_outlet
from fedjax_kd.study.plan import kernels_in_use, make_plan, other_than
from fedjax_kd.study.points import Points, points_of
from fedjax_kd.study.progress import Progress, Stage
from fedjax_kd.study.rounds_costs import priced
from fedjax_kd.study.rounds_learning import (
    Played,
    mean_loss,
    mixing_vectors,
    play,
    special,
)
from fedjax_kd.study.rounds_manifest import describe
from fedjax_kd.study.rounds_memory import require_memory
from fedjax_kd.study.rounds_setup import RoundsSetup, prepare_rounds
from fedjax_kd.study.rounds_summary import summary_table
from fedjax_kd.study.settings_pfedafm import PFedAfmStudy
from fedjax_kd.study.studies import RoundsStudy, counted_scope, reference_of
from fedjax_kd.study.timings import Timings, elapsed_s
from fedjax_kd.training import Execution, default_execution, for_points
from fedjax_kd.training.processes import meet


def run_rounds_study(
    settings: RoundsStudy,
    folder: ResultFolder,
    *,
    progress: Progress,
    data_dir: Path | None = None,
    execution: Execution | None = None,
    form: str = "auto",
    trials: Path | None = None,
    points: Points | None = None,
    tolerant: bool = False,
    keeper: Keeper | None = None,
    outlet: Outlet | None = None,
) -> dict[int, str]:
    """Runs a study in rounds and writes its results.

    Args:
        settings: the study; of several points, what they share.
        folder: where the results go.
        progress: told how far it is.
        data_dir: where prepared data sets are; None for the default.
        execution: the devices; None takes all.
        form: how the client axis is run: `sequential`, `vmap`, `chunked:WIDTH`, or `auto` by a
            short trial of the dearest architecture of each contestant. What an interrupted run of
            the study in this folder chose is kept.
        trials: file that keeps the outcomes of trials for other studies; None keeps none.
        points: what runs side by side; one for each seed of the study if not given.
        tolerant: whether points whose training diverges are reported while the others go on.
        keeper: keeps checkpoints; None keeps none.
        outlet: where rows go as they come; None writes whole tables only.

    Returns:
        Why points were lost, by their place; empty unless tolerant.

    Raises:
        ValueError: before anything is trained, for settings that cannot be met.
        FloatingPointError: if the training of every contestant diverged.
        Stopped: if the run was asked to stop; everything up to there is kept.
    """
    keeper = no_keeper() if keeper is None else keeper
    outlet = no_outlet() if outlet is None else outlet
    points = points_of(settings) if points is None else points
    earlier = folder.read_manifest()
    started = earlier.get("started") or datetime.now(UTC).isoformat(timespec="seconds")
    spent_s = earlier.get("elapsed_s") or {}
    execution = default_execution() if execution is None else execution
    for mesh in (execution, for_points(execution, points.count)):
        meet(mesh)
    with progress.stage("kernels", 1) as stage:  # the first study on a machine compiles them
        stage.advance(1, kernels_in_use())
    with progress.stage("data", 1) as stage:
        setup = prepare_rounds(settings, execution, data_dir, points)
        stage.advance(1, f"{settings.data.source}, {len(setup.source.labels)} examples")
    agree_on_content("data", setup.federation)
    jobs = training_jobs(settings, setup)
    if reference_of(settings):  # methods refuse what does not fit them before anything is compiled
        contestants(settings, setup, make_plan(jobs, execution, asked=execution.label))
    folder.write_table("partition.parquet", setup.partition)
    with progress.stage("execution", 1) as stage:
        recorded = earlier.get("execution")
        plan = make_plan(jobs, execution, asked=form, recorded=recorded, memory=trials)
        stage.advance(1, plan.describe()["form"])
    if changed := other_than(earlier.get("execution"), plan):
        progress.note(f"goes on with {changed}: the last bits of results may differ")
    players = contestants(settings, setup, plan)
    for player in players:
        require_memory(player, setup, player.execution)
    described = describe(settings, setup, plan, players)
    folder.update_manifest(started=started, diverged=[], **described)

    courses: list[tables.Course] = []
    diverged, ratios = [], {}
    lost: dict[int, str] = {}
    written = False
    timings = Timings(folder)
    for player in players:
        book = Book(keeper.part(player.name, settings.rounds), outlet, timings)
        try:
            with progress.stage(player.title, settings.rounds, "rounds") as stage:
                course, ratios[player.name], played = _course(
                    settings, setup, player, stage, book, tolerant
                )
        except Diverged as error:
            for place, reason in error.reasons.items():
                lost.setdefault(place, f"{player.name}: {reason}")
            diverged.append({"name": player.name, "reason": str(error)})
            folder.update_manifest(diverged=diverged)
            progress.note(f"{player.title} diverged: {error}")
            continue
        for place, reason in played.lost.items():
            lost.setdefault(place, f"{player.name}: {reason}")
        courses.append(course)
        written = played.trained
        if not written:  # tables of an earlier run hold it, and maybe more than is known by now
            continue
        _write(settings, setup, folder, courses)
        timings.write()
        folder.update_manifest(elapsed_s=elapsed_s(spent_s, progress.stage_seconds))
    if not courses:
        reasons = "; ".join(f"{each['name']}: {each['reason']}" for each in diverged)
        if tolerant:
            return lost
        raise FloatingPointError(f"every contestant diverged: {reasons}")
    if not written:
        _write(settings, setup, folder, courses)
    timings.write()
    folder.update_manifest(
        status="complete",
        execution={**plan.describe(), "executed_to_useful_flops": ratios},
        elapsed_s=elapsed_s(spent_s, progress.stage_seconds),
        diverged=diverged,
    )
    keeper.finish()
    outlet.close()
    return lost


def check_rounds_study(
    settings: RoundsStudy, execution: Execution, data_dir: Path | None = None
) -> None:
    """Builds everything that a study needs, without training anything.

    Raises:
        ValueError: for settings that cannot be met; names the setting.
    """
    setup = prepare_rounds(settings, execution, data_dir)
    plan = make_plan(training_jobs(settings, setup), execution, asked=execution.label)
    for player in contestants(settings, setup, plan):
        require_memory(player, setup, player.execution)


def _course(
    settings: RoundsStudy,
    setup: RoundsSetup,
    player: Contestant,
    stage: Stage,
    book: Book,
    tolerant: bool,
) -> tuple[tables.Course, float, Played]:
    """Runs one contestant.

    Returns:
        What it came to, executed over useful operations, and what it did.
    """
    played = play(settings, setup, player, stage, book, tolerant=tolerant)
    n_points = setup.federation.people.n_points
    spent = priced(setup, player, played.report, settings.system.profile)
    mixes = isinstance(settings, PFedAfmStudy) and player.name.startswith("pfedafm")
    course = tables.Course(
        name=player.name,
        views=player.views,
        evaluated=played.evaluated,
        personal=played.personal,
        common=played.common,
        loss=mean_loss(played.report, n_points),
        costs=spent.by_round,
        phases=player.method.phases,
        causes=spent.causes,
        ledger=spent.ledger,
        special=special(played.report, n_points),
        mixing=mixing_vectors(played.state, setup, player.execution) if mixes else None,
    )
    report = played.report
    ratio = float(report.executed_flops.sum() / max(report.work_flops.sum(), 1.0))
    return course, ratio, played


def _write(
    settings: RoundsStudy, setup: RoundsSetup, folder: ResultFolder, courses: list[tables.Course]
) -> None:
    """Writes every table, of the contestants that have finished."""
    labels = setup.points.labels
    folder.write_table("metrics.parquet", tables.metrics_table(courses, labels))
    clients = tables.clients_table(courses, labels, setup.user_models, setup.strong)
    folder.write_table("clients.parquet", clients)
    folder.write_table("ledger.parquet", tables.ledger_table(courses, labels))
    folder.write_table("special.parquet", tables.special_table(courses, labels))
    mixing = tables.mixing_table(courses, labels)
    if mixing is not None:
        folder.write_table("mixing.parquet", mixing)
    proposed = None if reference_of(settings) else settings.contestants[0]
    if len(set(labels.point)) == 1:  # means over points of different settings say nothing
        summary = summary_table(courses, proposed, counted_scope(settings))
        folder.write_table("summary.csv", summary)
