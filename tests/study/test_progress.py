import io
import json

import pytest

from fedjax_kd.study.progress import Progress, bars, json_lines, plain_lines, quiet, shown_progress


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
    with progress.stage("teacher", total=10) as stage:
        for step in range(10):
            clock.now_s += 2.0
            stage.advance(1, f"accuracy 0.{step}")
    assert stream.getvalue().splitlines() == [
        "[    0.0 s] teacher: started, 10 to do",
        "[    6.0 s] teacher: 3 of 10, accuracy 0.2",
        "[   12.0 s] teacher: 6 of 10, accuracy 0.5",
        "[   18.0 s] teacher: 9 of 10, accuracy 0.8",
        "[   20.0 s] teacher: done in 20.0 s, accuracy 0.9",
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
    }


def test_bars_show_stage_count_and_news_as_they_are():
    stream = io.StringIO()
    with bars(stream) as show:
        three_steps(show, Clock(), 0.5)
        progress = Progress(show, Clock())
        with progress.stage("open") as stage:
            stage.advance(5, "[bold]")
    text = stream.getvalue()
    for part in ("teacher", "3/3", "accuracy 0.2", "written", "open", "5/5", "[bold]"):
        assert part in text


def test_only_a_terminal_gets_bars():
    stream = io.StringIO()
    with shown_progress("auto", stream) as progress, progress.stage("a"):
        pass
    assert "a: started" in stream.getvalue()
    with shown_progress("quiet", stream) as progress, progress.stage("silent"):
        pass
    assert "silent" not in stream.getvalue()
