import io
import json

import pytest

from fedjax_kd.study.progress import Progress, bars, json_lines, plain_lines, quiet, shown_progress
from fedjax_kd.study.progress_lines import duration
from fedjax_kd.study.progress_pace import Pace


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def three_steps(show, clock, step_s):
    progress = Progress(show, clock)
    with progress.stage("teacher", total=3) as stage:
        for step in range(3):
            clock.now_s += step_s
            stage.advance(1, f"accuracy 0.{step}")
    progress.note("written")
    return progress


def test_plain_lines_keep_start_end_and_a_line_every_interval():
    stream, clock = io.StringIO(), Clock()
    progress = Progress(plain_lines(stream, interval_s=5.0), clock)
    with progress.stage("teacher", total=10, unit="rounds") as stage:
        for step in range(10):
            clock.now_s += 2.0
            stage.advance(1, f"accuracy 0.{step}", client_steps=3000)
    assert stream.getvalue().splitlines() == [
        "[    0.0 s] teacher: started, 10 to do",
        "[    6.0 s] teacher: 3 of 10, accuracy 0.2, 0.5 rounds/s, 1.5k client-steps/s, 14 s left",
        "[   12.0 s] teacher: 6 of 10, accuracy 0.5, 0.5 rounds/s, 1.5k client-steps/s, 8.0 s left",
        "[   18.0 s] teacher: 9 of 10, accuracy 0.8, 0.5 rounds/s, 1.5k client-steps/s, 2.0 s left",
        "[   20.0 s] teacher: done in 20.0 s, accuracy 0.9, 0.5 rounds/s, 1.5k client-steps/s",
    ]


def test_plain_lines_without_a_total_and_notes():
    stream, clock = io.StringIO(), Clock()
    progress = Progress(plain_lines(stream, interval_s=0.0), clock)
    with progress.stage("search") as stage:
        stage.advance(7)
    progress.note("written")
    assert stream.getvalue().splitlines() == [
        "[    0.0 s] search: started",
        "[    0.0 s] search: 7 done",
        "[    0.0 s] search: done in 0.0 s",
        "[    0.0 s] written",
    ]


def events_of(stages, clock):
    """Runs `(name, total, [(seconds, units, client steps)])` stages; returns their events."""
    seen = []
    progress = Progress(seen.append, clock)
    for name, total, steps in stages:
        with progress.stage(name, total) as stage:
            for seconds, units, client_steps in steps:
                clock.now_s += seconds
                stage.advance(units, client_steps=client_steps)
    return [event for event in seen if event.kind == "advance"]


def test_rates_leave_out_the_first_advance_which_holds_the_compilation():
    steps = [(60.0, 1, 10), (1.0, 2, 20), (1.0, 2, 20)]
    first, second, third = events_of([("fd", 11, steps)], Clock())
    assert (first.per_second, first.client_steps_per_second, first.left_s) == (None, None, None)
    assert (second.per_second, second.client_steps_per_second, second.left_s) == (2.0, 20.0, 4.0)
    assert (third.per_second, third.client_steps_per_second, third.left_s) == (2.0, 20.0, 3.0)


def test_rates_forget_what_is_older_than_the_window():
    steps = [(60.0, 1, 0), *[(1.0, 10, 0)] * 20, *[(10.0, 1, 0)] * 4]
    last = events_of([("fd", 1000, steps)], Clock())[-1]
    # The last 30 s hold three intervals of 10 s; the fast rounds before them are forgotten.
    assert last.per_second == pytest.approx(0.1)
    assert last.client_steps_per_second is None
    assert last.left_s == pytest.approx((1000 - 205) / 0.1)


def test_a_window_shorter_than_one_interval_holds_the_latest_one():
    pace = Pace(window_s=1.0)
    for at_s, units in [(0.0, 1), (50.0, 6), (100.0, 16)]:
        pace.mark(at_s, units, 0.0)
    assert pace.rates() == (0.2, None)


@pytest.mark.parametrize("marks", [[], [(5.0, 1)], [(5.0, 1), (5.0, 2)], [(5.0, 1), (6.0, 1)]])
def test_nothing_is_divided_by_zero(marks):
    pace = Pace()
    for at_s, units in marks:
        pace.mark(at_s, units, 0.0)
    assert pace.rates() == (None, None)


def test_what_an_earlier_run_did_counts_but_not_as_speed():
    stream, clock = io.StringIO(), Clock()
    seen = []
    lines = plain_lines(stream)

    def both(event):
        seen.append(event)
        lines(event)

    progress = Progress(both, clock)
    with progress.stage("fd", total=100, unit="rounds") as stage:
        stage.skip(40, "restored")
        clock.now_s += 30.0
        stage.advance(1)
        clock.now_s += 1.0
        stage.advance(4)
    assert "fd: goes on at 40 of 100, restored" in stream.getvalue()
    assert [(event.done, event.per_second) for event in seen if event.kind == "advance"] == [
        (41, None),
        (45, 4.0),
    ]


def test_stages_are_timed_and_repeated_ones_added_up():
    clock = Clock()
    progress = Progress(quiet(), clock)
    for seconds in (1.5, 2.0):
        with progress.stage("a"):
            clock.now_s += seconds
    assert progress.stage_seconds == {"a": 3.5}


def test_a_stage_that_fails_says_where_it_stopped():
    stream, clock = io.StringIO(), Clock()
    progress = Progress(plain_lines(stream), clock)

    def interrupted_work():
        with progress.stage("a", total=4) as stage:
            clock.now_s += 1.0
            stage.advance(2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_work()
    assert stream.getvalue().splitlines()[-1] == "[    1.0 s] a: stopped at 2 of 4"
    assert progress.stage_seconds == {"a": 1.0}


def test_json_lines_hold_every_event():
    stream = io.StringIO()
    three_steps(json_lines(stream), Clock(), 0.5)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["kind"] for event in events] == ["start", *["advance"] * 3, "end", "note"]
    assert events[2] == {
        "kind": "advance",
        "stage": "teacher",
        "done": 2,
        "total": 3,
        "note": "accuracy 0.1",
        "elapsed_s": 1.0,
        "stage_s": 1.0,
        "per_second": 2.0,
        "left_s": 0.5,
    }


# ---------------------------------------------------------------------------------------- grids


def two_batches(show, clock):
    """16 rows, 4 of them done before; two batches here, in the second of which one row fails."""
    progress = Progress(show, clock)
    with progress.grid(rows=16, batches=2, done=4) as grid:
        grid.begin("rows 4 to 7: fd")
        with progress.stage("fd", total=2) as stage:
            clock.now_s += 10.0
            stage.advance(2)
        grid.count(done=8, failed=0)
        grid.begin("rows 8 to 11: fedavg")
        with progress.stage("fedavg", total=2) as stage:
            clock.now_s += 10.0
            stage.advance(2)
        grid.count(done=11, failed=1)
    with progress.stage("tables"):
        pass


def test_a_grid_says_how_far_the_whole_is():
    stream = io.StringIO()
    two_batches(plain_lines(stream), Clock())
    lines = [line[12:] for line in stream.getvalue().splitlines() if "batch" in line]
    assert lines == [
        "batch 1 of 2: 4 of 16 rows done (rows 4 to 7: fd)",
        "batch 1 of 2: 8 of 16 rows done, 20 s left (rows 4 to 7: fd)",
        "batch 2 of 2: 8 of 16 rows done, 20 s left (rows 8 to 11: fedavg)",
        "batch 2 of 2: 11 of 16 rows done, 1 failed, 10 s left (rows 8 to 11: fedavg)",
    ]


def test_programs_learn_in_which_batch_a_stage_was():
    stream = io.StringIO()
    two_batches(json_lines(stream), Clock())
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    of_stages = {event["stage"]: event for event in events if event["kind"] == "end"}
    assert [of_stages[name].get("batch") for name in ("fd", "fedavg", "tables")] == [1, 2, None]
    last = [event for event in events if event["kind"] == "grid"][-1]
    assert {key: last[key] for key in ("done", "total", "failed", "left_s", "batch")} == {
        "done": 12,
        "total": 16,
        "failed": 1,
        "left_s": 10.0,
        "batch": 2,
    }


def test_the_bars_of_a_batch_go_when_the_next_one_begins():
    stream = io.StringIO()
    with bars(stream) as show:
        two_batches(show, Clock())
    last_screen = stream.getvalue()
    for part in ("grid", "12/16", "fedavg", "10 s left, batch 2 of 2, 1 failed"):
        assert part in last_screen
    assert "fd " not in last_screen


# ------------------------------------------------------------------------------- how it is shown


def test_bars_show_stage_count_and_news_as_they_are():
    stream = io.StringIO()
    with bars(stream) as show:
        three_steps(show, Clock(), 0.5)
        progress = Progress(show, Clock())
        with progress.stage("open") as stage:
            stage.advance(5, "[bold]")
    text = stream.getvalue()
    for part in ("teacher", "3/3", "accuracy 0.2", "2/s", "written", "open", "5/5", "[bold]"):
        assert part in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.84, "0.8 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
        (86399, "1 d 0 h"),
        (273600, "3 d 4 h"),
    ],
)
def test_times_in_words(seconds, text):
    assert duration(seconds) == text


def test_only_a_terminal_gets_bars():
    stream = io.StringIO()
    with shown_progress("auto", stream) as progress, progress.stage("a"):
        pass
    assert "a: started" in stream.getvalue()
    with shown_progress("quiet", stream) as progress, progress.stage("silent"):
        pass
    assert "silent" not in stream.getvalue()


def test_a_reader_that_has_gone_does_not_end_the_study():
    def gone(event):
        raise BrokenPipeError

    progress = Progress(gone)
    with progress.stage("teacher", 2) as stage:
        stage.advance(2)
    progress.note("nobody reads this")
    assert set(progress.stage_seconds) == {"teacher"}
