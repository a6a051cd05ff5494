"""Signals as a wish, and as an order when they come again."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from process_pair import environment

from fedjax_kd.study.stop import SIGNALS, STOPPING, stop_on_signals

SCRIPT = Path(__file__).with_name("checkpoint_process.py")


@pytest.mark.parametrize(
    ("first", "second", "error"),
    [
        (signal.SIGTERM, signal.SIGINT, KeyboardInterrupt),
        (signal.SIGINT, signal.SIGTERM, SystemExit),
    ],
)
def test_the_first_is_noted_and_the_second_obeyed(first, second, error):
    before = [signal.getsignal(number) for number in SIGNALS]
    said: list[str] = []
    with stop_on_signals(said.append) as stop:
        assert stop.requested is None
        os.kill(os.getpid(), first)
        assert stop.requested == first
        with pytest.raises(error) as raised:
            os.kill(os.getpid(), second)
        assert stop.requested == first
    assert said == [STOPPING]
    if error is SystemExit:
        assert raised.value.code == 143
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_handlers_are_put_back_after_an_error():
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(RuntimeError, match="inside"), stop_on_signals():
        raise RuntimeError("inside")
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_other_threads_are_left_alone():
    before = [signal.getsignal(number) for number in SIGNALS]
    seen = []

    def work():
        with stop_on_signals() as stop:
            seen.append((stop.requested, [signal.getsignal(number) for number in SIGNALS]))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, before)]


def test_a_program_says_one_line_and_ends_at_the_second():
    run = subprocess.Popen(
        [sys.executable, str(SCRIPT), "stop"],
        env=environment("1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "ready\n"
    run.send_signal(signal.SIGTERM)
    assert run.stdout.readline() == "15\n"
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=60)
    assert said.strip() == STOPPING
    assert run.returncode == 143
