"""Several processes: their options, how they come together, and one study run by two of them."""

import argparse
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from process_pair import environment, free_address, run_pair

from fedjax_kd.study import hosts as module
from fedjax_kd.study.folder import ResultFolder, open_folder_together
from fedjax_kd.study.host_options import (
    HostOptions,
    HostsError,
    add_host_options,
    check_host_options,
    host_options,
)
from fedjax_kd.study.hosts import (
    ALONE,
    Hosts,
    agree,
    content_hash,
    here,
    join,
    leave,
    lost_process,
)
from fedjax_kd.training.processes import from_first, gathered, slowest

# --------------------------------------------------------------------------------- options


def parsed(*words: str) -> HostOptions:
    parser = argparse.ArgumentParser()
    add_host_options(parser)
    return host_options(parser.parse_args(words))


def test_without_options_a_process_is_alone():
    assert parsed() == HostOptions()
    assert not parsed().several
    assert join(parsed()) == ALONE == here()


def test_options_say_who_is_who():
    words = ["--coordinator", "node1:1234", "--processes", "3", "--process", "2"]
    options = parsed(*words, "--join-timeout", "9")
    assert options == HostOptions("node1:1234", 3, 2, "off", 9)
    assert options.several
    assert parsed("--distributed", "auto").several
    check_host_options(options._replace(coordinator="[::1]:1234"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (HostOptions("a:1", 2), "--process: missing; --coordinator, --processes and --process"),
        (HostOptions(process=0), "--coordinator and --processes: missing"),
        (HostOptions("a:1", 2, 2), r"--process: found 2; allowed: 0 to 1"),
        (HostOptions("a:1", 0, 0), r"--processes: found 0; allowed: from 1 on"),
        (HostOptions("a", 2, 0), r"--coordinator: found 'a'; allowed: HOST:PORT"),
        (HostOptions(":5", 2, 0), r"--coordinator: found ':5'; allowed: HOST:PORT"),
        (HostOptions("a:port", 2, 0), r"found 'a:port'; allowed: HOST:PORT"),
        (HostOptions("a:65536", 2, 0), r"a port of 1 to 65535"),
        (HostOptions("a:1", 2, 0, "auto"), "auto: found together with --coordinator and --proc"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(HostsError, match=message):
        check_host_options(options)


@pytest.mark.parametrize("words", [["--processes", "two"], ["--process", "-1"]])
def test_numbers_that_are_none(words, capsys):
    with pytest.raises(SystemExit):
        parsed(*words)
    assert "allowed: a whole number from" in capsys.readouterr().err


def test_options_need_no_jax():
    code = "import sys, fedjax_kd.study.hosts; print('jax' in sys.modules, 'numpy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


# ------------------------------------------------------------------------- alone, and not met


def test_a_process_alone_asks_nobody(tmp_path):
    assert gathered(np.int32(4)).tolist() == [4]
    assert from_first(lambda: {"a": 1}) == {"a": 1}
    assert slowest(0.1) == 0.1
    agree("settings", "mine")
    assert leave(ALONE, 3) == 3
    assert ALONE.signed("text") == "text"
    assert Hosts(1, 2).signed("text") == "process 1 of 2: text"


def test_content_follows_values_shapes_and_dtypes():
    arrays = [np.zeros(4, np.float32), np.zeros((2, 2), np.float32), np.zeros(4, np.int32)]
    hashes = {content_hash({"x": array}) for array in arrays}
    assert len(hashes) == 3
    assert content_hash({"x": arrays[0].copy()}) in hashes
    assert content_hash({"x": np.asarray([0, 0, 0, 1], np.float32)}) not in hashes


def test_a_lost_process_is_told_from_other_errors():
    gloo = ValueError("UNKNOWN: Gloo all-reduce failed: Connection closed by peer")
    assert "another process has stopped" in str(lost_process(gloo))
    assert lost_process(ValueError("students.0.width: found 0")) is None


def test_a_silent_folder_writes_nothing(tmp_path):
    folder = ResultFolder(tmp_path / "none", "new", writes=False)
    folder.update_manifest(status="complete")
    folder.write_table("a.csv", pd.DataFrame({"a": [1]}))
    folder.write_table("a.parquet", pd.DataFrame({"a": [1]}))
    folder.write_yaml("a.yaml", {})
    with pytest.raises(ValueError, match="allowed: a name that ends in"):
        folder.write_table("a.txt", pd.DataFrame({"a": [1]}))
    assert folder.read_manifest() == {}
    assert not (tmp_path / "none").exists()


def test_alone_a_shared_folder_is_an_ordinary_one(tmp_path, tiny_settings):
    folder = open_folder_together(ALONE, tmp_path / "out", tiny_settings)
    assert folder.writes
    assert folder.read_manifest()["status"] == "running"
    folder.close()


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(HostsError, match=f"port {port} is not free on this host"):
            join(HostOptions(f"127.0.0.1:{port}", 2, 0))


def test_a_host_without_address_is_named(monkeypatch):
    def unknown(host, port):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(module.socket, "getaddrinfo", unknown)
    with pytest.raises(HostsError, match=r"the host nowhere has no address: .*not known"):
        join(HostOptions("nowhere:1234", 2, 1))


JOIN = """
import sys
from fedjax_kd.study.host_options import HostOptions, HostsError
from fedjax_kd.study.hosts import join
coordinator, process, mode = sys.argv[1:]
try:
    if mode == "auto":
        join(HostOptions(distributed="auto"))
    join(HostOptions(coordinator, 2, int(process), join_timeout_s=2))
except HostsError as error:
    print("refused:", error)
"""


@pytest.mark.parametrize(
    ("process", "mode", "code", "message"),
    [
        ("1", "off", 2, "error: --coordinator: nobody answered at 127.0.0.1:"),
        ("0", "off", 2, "error: --coordinator: process 0 reached 127.0.0.1:"),
        ("0", "auto", 0, "refused: --distributed auto: coordinator_address should be defined"),
    ],
)
def test_others_who_do_not_come(process, mode, code, message):
    started = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-c", JOIN, free_address(), process, mode],
        env=environment("1"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert message in run.stdout + run.stderr
    assert run.returncode == code
    assert time.monotonic() - started < 60


# ------------------------------------------------------------------------------- two of them


@pytest.fixture(scope="module")
def talk():
    """What two processes said, as dictionaries, and how they ended."""
    pair = run_pair(Path(__file__).with_name("talking_process.py"))
    return [dict(json.loads(line) for line in ended.out.splitlines()) for ended in pair], pair


def test_processes_tell_each_other(talk):
    (zero, one), _ = talk
    assert (zero["hosts"], one["hosts"]) == ([0, 2], [1, 2])
    for said in (zero, one):
        assert said["here"] is True
        assert said["gathered"] == [[0, 7], [1, 7]]
        assert said["slowest"] == 2.0
        assert said["from_first"] == {"mine": 0, "text": "ä"}
        assert "settings: found " in said["disagree"]
        assert "in process 0 but" in said["disagree"]
        assert "in process 1; allowed: the same in every process" in said["disagree"]
    assert zero["refused"] == "own: the folder is taken"
    assert one["refused"] == "told: process 0 has stopped: the folder is taken"


def test_arrays_go_everywhere_and_come_back_whole(talk):
    for said in talk[0]:
        assert said["same"] is True
        assert said["again"] is True
        assert said["cut"] is True
        assert said["on_host"] == [0.0, 2.0, 4.0, 6.0]
        assert "devices = 1: leaves out some of the 2 processes" in said["one device"]


def test_when_one_fails_the_other_ends_too(talk):
    zero, one = talk[1]
    assert "error: process 1 of 2: out of luck" in one.err
    assert "error: process 0 of 2: another process has stopped" in zero.err
    assert (zero.code, one.code) == (2, 2)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Folders of a study: of process 0, of process 1, and of one process with two devices."""
    folder = tmp_path_factory.mktemp("processes")
    script = Path(__file__).with_name("study_process.py")
    ended = run_pair(script, str(folder / "{process}"), alone=True)
    assert [process.code for process in ended] == [0, 0, 0], ended
    return [folder / str(place) for place in range(3)], ended


@pytest.mark.slow
def test_only_process_0_writes_and_speaks(studies):
    (zero, one, alone), ended = studies
    assert sorted(path.name for path in zero.iterdir()) == sorted(
        path.name for path in alone.iterdir()
    )
    assert json.loads((zero / "manifest.json").read_text())["status"] == "complete"
    assert not one.exists()
    assert "teacher: done" in ended[0].out
    assert ended[1].out == ""


@pytest.mark.slow
def test_two_processes_give_the_bits_of_two_devices_of_one(studies):
    (zero, _, alone), _ = studies
    names = {path.name for path in alone.glob("*.parquet")} - {"timings.parquet"}
    assert len(names) == 6
    for name in sorted(names):
        got, want = pd.read_parquet(zero / name), pd.read_parquet(alone / name)
        pd.testing.assert_frame_equal(got, want, check_exact=True)
    assert (zero / "summary.csv").read_text() == (alone / "summary.csv").read_text()
