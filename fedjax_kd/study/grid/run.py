"""A sweep: every row of a grid, batch after batch, beside other processes on the same folder.

What goes wrong with a row is recorded and does not take others with it. What goes wrong with the
machine (a full disk, a lost folder) or is asked for by the user (an interruption) ends the sweep;
the batch under way is then free for whoever comes next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedjax_kd.study.folder import FolderError, ResultFolder
from fedjax_kd.study.grid.claims import Claims, Covered, Work, points_of_rows
from fedjax_kd.study.grid.folder import GRID, NO_LOCKS, GridFolder, open_grid_folder, require_same
from fedjax_kd.study.grid.outcome import Outcome, failed_with, outcome_of
from fedjax_kd.study.grid.plan import MOST_WIDE, Group, balanced, groups_of
from fedjax_kd.study.grid.rows import Row, rows_of
from fedjax_kd.study.grid.selection import parse_rows
from fedjax_kd.study.grid.settings import Grid, load_grid
from fedjax_kd.study.points import Points, together
from fedjax_kd.study.problems import SettingsError
from fedjax_kd.study.progress import Progress, quiet
from fedjax_kd.study.studies import Study

MOST_REASONS = 10

Runner = Callable[[Any, ResultFolder, Points, Progress], Mapping[int, str] | None]
"""Runs a batch: `(shared settings, folder, points, progress) -> why points were lost, by place`."""


class Swept(NamedTuple):
    """What became of the rows that a process was asked for.

    Attributes:
        done: rows that are done, by whichever process.
        failed: rows with a failure file.
        running: rows that other processes hold.
        pending: rows that nobody has taken up; 0 unless the sweep was a dry run.
        reasons: one line for each failed row, up to ten.
    """

    done: int
    failed: int
    running: int
    pending: int
    reasons: tuple[str, ...] = ()


def sweep(
    grid_path: Path | str,
    out: Path | str | None,
    *,
    rows: str | None = None,
    width: int | None = None,
    dry_run: bool = False,
    retry_failed: bool = False,
    force: bool = False,
    overrides: Sequence[str] = (),
    data_dir: Path | None = None,
    form: str = "auto",
    trials: Path | None = None,
    progress: Progress | None = None,
    show: Callable[[Any], None] | None = None,
    runner: Runner | None = None,
    opened: Callable[[GridFolder], None] = lambda folder: None,
) -> Swept:
    """Runs the rows of a grid that are neither done nor failed.

    Args:
        grid_path: the grid file, or the `grid.yaml` of a grid's folder.
        out: the grid's folder; None is allowed for a dry run only.
        rows: which of them, such as `0:16`; None for all.
        width: most rows of one batch; None for what memory allows.
        dry_run: show the plan and run nothing; nothing is written.
        retry_failed: take failed rows up again.
        force: move another grid's folder aside.
        overrides: `key=value`, as for a study; they count as lines of the grid's `set`.
        data_dir: where prepared data sets are; None for the default.
        form: how clients are run, see `run_rounds_study`.
        trials: file that keeps the outcomes of trials for other studies; None keeps none.
        progress: told how far the batches are; None shows nothing.
        show: prints the plan of a dry run, a table of rich; None prints on standard output.
        runner: runs one batch; None for the study's own runner, without checkpoints.
        opened: told the folder before the first batch.

    Returns:
        What became of the rows.

    Raises:
        SettingsError: the grid cannot be used; nothing has been written then.
        FolderError: the folder is another grid's, or cannot be written.
    """
    grid = load_grid(grid_path, overrides)
    found = rows_of(grid, data_dir)
    wanted = parse_rows(rows, len(found))
    progress = progress or Progress(quiet())
    if width is not None and width < 1:
        raise SettingsError([f"--width: found {width}; allowed: at least 1"])
    if dry_run:
        return _show_plan(grid, found, wanted, out, width or MOST_WIDE, data_dir, form, show)
    if out is None:
        raise FolderError("no folder to write into; name one with --out")
    folder = open_grid_folder(out, grid, found, force)
    if folder.moved is not None:
        progress.note(f"The results that were in {folder.path} are now in {folder.moved}.")
    if not folder.has_locks:
        progress.note(NO_LOCKS)
    claims = Claims(folder, found, progress.note, width)
    claims.prepare(wanted, retry_failed)
    opened(folder)
    chosen = runner or plain_runner(data_dir=data_dir, form=form, trials=trials)
    _Worker(claims, wanted, width or MOST_WIDE, chosen, progress).work()
    return swept(claims, folder, wanted)


def plain_runner(**options: Any) -> Runner:
    """Runs batches by their study's own runner, without checkpoints.

    Args:
        **options: of `run_rounds_study` and `run_study`, such as `data_dir` and `form`.
    """

    def run(
        settings: Study, folder: ResultFolder, points: Points, progress: Progress
    ) -> Mapping[int, str] | None:
        from fedjax_kd.study.carry_out import runner_of

        kind = {} if settings.method == "dt_kd" else {"tolerant": True}
        start = runner_of(settings)
        return start(settings, folder, progress=progress, points=points, **kind, **options)

    return run


def swept(claims: Claims, folder: GridFolder, wanted: Iterable[int]) -> Swept:
    """Counts what became of rows.

    Args:
        claims: of the folder.
        folder: the grid's.
        wanted: the rows that are counted.
    """
    covered, numbers = claims.covered(), frozenset(wanted)
    failed = covered.failed & numbers
    done = (covered.done & numbers) - failed
    running = (covered.taken & numbers) - failed - done
    reasons = tuple(folder.reason_of(row) for row in sorted(failed)[:MOST_REASONS])
    pending = len(numbers) - len(failed) - len(done) - len(running)
    return Swept(len(done), len(failed), len(running), pending, reasons)


def _show_plan(
    grid: Grid,
    rows: list[Row],
    wanted: Sequence[int],
    out: Path | str | None,
    width: int,
    data_dir: Path | None,
    form: str,
    show: Callable[[Any], None] | None,
) -> Swept:
    from rich.console import Console

    from fedjax_kd.study.grid.dry_run import lines_of, measure_by, plan_table

    chosen = [rows[number] for number in wanted]
    found = Swept(0, sum(row.problem is not None for row in chosen), 0, 0)
    left = [row for row in chosen if row.problem is None]
    if out is not None and is_grid(Path(out)):
        require_same(Path(out), grid)
        claims = Claims(GridFolder(Path(out)), rows)
        found, covered = swept(claims, claims.grid, wanted), claims.covered()
        left = [row for row in left if covered.free(row.index)]
    else:
        found = found._replace(pending=len(left))
    lines = lines_of(groups_of(left), width, measure_by(data_dir, form, width))
    title = (
        f"{grid.title or 'A grid'}: {len(wanted)} rows, {found.done} done, {found.failed} failed "
        f"or refused, {len(left)} to run in {sum(line.batches for line in lines)} batches"
    )
    (show or Console().print)(plan_table(lines, title))
    reasons = [f"row {row.index}: {row.problem}" for row in chosen if row.problem is not None]
    return found._replace(reasons=found.reasons or tuple(reasons[:MOST_REASONS]))


class _Worker:
    """Takes batches out of a folder and runs them until nothing is left for this process."""

    def __init__(
        self,
        claims: Claims,
        wanted: Sequence[int],
        width: int,
        runner: Runner,
        progress: Progress,
    ):
        self._claims, self._rows, self._folder = claims, claims.rows, claims.grid
        self._wanted = frozenset(wanted)
        self._groups = groups_of(self._rows[number] for number in sorted(self._wanted))
        # Of all rows: a batch that is taken up may hold some that this process is not asked for.
        every = groups_of(self._rows)
        self._group_of = {row.index: group.key for group in every for row in group.rows}
        self._width, self._narrower = width, dict[str, int]()
        self._runner, self._progress = runner, progress
        self._last = ""  # the group whose program this process has compiled last

    def work(self) -> None:
        """Runs batches until none is left."""
        before = swept(self._claims, self._folder, self._wanted)
        expected = sum(len(balanced(g.rows, self._limit(g))) for g in self._groups)
        with self._progress.grid(len(self._wanted), expected, before.done, before.failed) as shown:
            while (work := self._claims.next(self._wanted, self._choose)) is not None:
                shown.begin(self._named(work))
                self._progress.stage_seconds.clear()  # a batch's manifest has its own
                try:
                    outcome = self._outcome(work)
                except BaseException:
                    work.folder.close()
                    raise
                self._conclude(work, outcome)
                now = swept(self._claims, self._folder, self._wanted)
                shown.count(now.done, now.failed)

    def _outcome(self, work: Work) -> Outcome:
        points = points_of_rows(self._rows[number] for number in work.rows)
        try:
            lost = self._runner(together(points), work.folder, points, self._progress)
        except Exception as error:
            return outcome_of(error, work.rows, work.name, work.resumed)
        return Outcome(failed_with("diverged", lost or {}, work.rows, work.name))

    def _conclude(self, work: Work, outcome: Outcome) -> None:
        for line in outcome.notes:
            self._progress.note(f"{work.name}: {line}")
        if outcome.gave_up is None:
            self._claims.settle(work, outcome.failures)
            return
        if outcome.too_wide:
            self._narrower[self._group_of[work.rows[0]]] = len(work.rows) // 2
        self._claims.give_up(work, outcome.failures, outcome.gave_up)

    def _choose(self, covered: Covered) -> tuple[int, ...]:
        """Rows of the group compiled last; else of one that nobody works on; else of the first."""

        def order(group: Group) -> tuple[bool, bool]:
            taken = any(row.index in covered.taken for row in group.rows)
            return group.key != self._last, taken

        for group in sorted(self._groups, key=order):
            free = [row for row in group.rows if covered.free(row.index)]
            if free:
                self._last = group.key
                part = balanced(free, self._limit(group))[0]
                return tuple(row.index for row in part)
        return ()

    def _limit(self, group: Group) -> int:
        return min(self._width, self._narrower.get(group.key, self._width))

    def _named(self, work: Work) -> str:
        first, last = work.rows[0], work.rows[-1]
        span = f"row {first}" if first == last else f"rows {first} to {last}"
        keys = [group.key for group in self._groups]
        key = self._group_of[work.rows[0]]  # of a group that has none of the rows asked for, maybe
        place = f", group {keys.index(key) + 1} of {len(keys)}" if key in keys else ""
        again = ", taken up again" if work.resumed else ""
        return f"{span} ({len(work.rows)} of them{place}){again}"


def is_grid(path: Path) -> bool:
    """Whether a folder is a grid's."""
    return (path / GRID).is_file()
