import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from fedjax_kd import __version__, cli
from fedjax_kd.study import environment

STUDY = "method: dt_kd\ntitle: mine\n"
EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture
def study_file(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return str(path)


@pytest.fixture
def calls(monkeypatch):
    """Puts an instant study in place of the real one; holds what it was called with."""
    seen = []

    def run_study(settings, folder, *, progress, data_dir=None, form="auto", **_):
        seen.append((settings, folder.path, data_dir, form))
        with progress.stage("teacher", total=1) as stage:
            stage.advance(1, "accuracy 0.5")
        folder.write_text("metrics.csv", "a\n1\n")
        folder.update_manifest(status="complete")

    def render_report(folders, output=None, **_):
        first = folders if isinstance(folders, Path) else folders[0]
        target = Path(output or first / "report.html")
        target.write_text("<html>")
        return target

    for name, entry in (("run_dt_kd", "run_study"), ("run_rounds_study", "run_rounds_study")):
        study = types.ModuleType(f"fedjax_kd.study.{name}")
        setattr(study, entry, run_study)
        monkeypatch.setitem(sys.modules, study.__name__, study)
    monkeypatch.setattr("fedjax_kd.report.render_report", render_report)
    monkeypatch.setattr(environment, "prepare_backend", lambda devices, cache_dir: None)
    return seen


def in_new_process(code):
    plain = {
        key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "XLA_"))
    }
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=plain)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ------------------------------------------------------------------------------------- help


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--help"], ["run", "resume", "sweep", "inspect", "report", "the usual order"]),
        (["run", "--help"], ["--set KEY=VALUE", "--force", "examples:", "students.0.width=0.5"]),
        (["run", "--help"], ["--checkpoint-rounds N", "--no-checkpoints", "--track WHERE"]),
        (["resume", "--help"], ["bit for", "examples:", "fedjax-kd resume results/grid"]),
        (["sweep", "--help"], ["a grid file:", "$SLURM_ARRAY_TASK_ID", "--dry-run", "--width W"]),
        (["inspect", "--help"], ["why it\nstopped", "examples:", "--json"]),
        (["report", "--help"], ["--output FILE", "--target ACCURACY", "examples:"]),
        (["list", "--help"], ["partitions", "examples:"]),
        (["prepare-data", "--help"], ["--from DIR", "--no-verify", "examples:"]),
        (["--version"], [__version__]),
    ],
)
def test_help_teaches(words, parts, capsys):
    with pytest.raises(SystemExit) as done:
        cli.main(words)
    assert done.value.code == 0
    text = capsys.readouterr().out
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "COMMAND"),
        (["walk"], "invalid choice: 'walk'"),
        (["run"], "FILE"),
        (["run", "x.yaml"], "--out DIR is required"),
        (["run", "x.yaml", "--out", "o", "--devices", "0"], "found '0'; allowed: auto or a number"),
        (["run", "x.yaml", "--out", "o", "--execution", "loop"], "found 'loop'; allowed: auto"),
        (["run", "x.yaml", "--out", "o", "--execution", "chunked:0"], "found 'chunked:0'"),
        (["run", "x.yaml", "--out", "o", "--processes", "0"], "found '0'; allowed: a whole number"),
        (["list", "dogs"], "invalid choice: 'dogs'"),
        (["prepare-data", "mnist"], "--from"),
    ],
)
def test_wrong_usage_is_refused(words, message, capsys):
    with pytest.raises(SystemExit) as done:
        cli.main(words)
    assert done.value.code == 2
    assert message in capsys.readouterr().err


def test_help_and_refused_words_do_not_wait_for_heavy_imports():
    cases = [(["sweep", "--help"], 0), (["run", "x.yaml"], 2), (["resume"], 2)]
    for words, code in cases:
        text = in_new_process(f"""
import sys
from fedjax_kd import cli
try:
    code = cli.main({words!r})
except SystemExit as done:
    code = done.code
print()
print(code, [name for name in ("jax", "numpy", "pydantic", "rich", "orbax") if name in sys.modules])
""")
        assert text.splitlines()[-1] == f"{code} []", words


def test_refused_settings_start_no_backend(tmp_path):
    study = tmp_path / "study.yaml"
    study.write_text(STUDY + "data: {users: 0, source: nowhere}")
    text = in_new_process(f"""
import sys
from fedjax_kd import cli
code = cli.main(["run", {str(study)!r}, "--out", "o"])
bridge = sys.modules.get("jax._src.xla_bridge")
print(code, bridge is not None and bool(bridge._backends))
""")
    assert text.split() == ["2", "False"]


# ---------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ("data.usrs=3", ["data.usrs: unknown key; did you mean data.users?"]),
        ("data.users=many", ["data.users: found 'many' (text)", "a whole number, at least 1"]),
        ("system.uplink_hz=-20e6", ["system.uplink_hz: found -20000000.0", "above 0"]),
        ("twin.synchronised=2", ["twin.synchronised: found 2", "at most 1"]),
        ("data.partition.kind=clusters", ["data.partition.kind: found 'clusters'", "dirichlet"]),
        ("data.source=digit", ["data.source: found 'digit' (did you mean digits?)", "| watch"]),
        ("students.0.name=ml", ["students.0.name: found 'ml' (did you mean mlp?)", "| lenet"]),
        ("teacher.model.name=vgg", ["teacher.model.name: found 'vgg'", "| resnet20"]),
        ("students.0.width=0.5", ["students.0.width: found 0.5", "options of mlp are hidden"]),
        ("students.1.name=mlp", ["students: found mlp 2 times; allowed: items that differ"]),
        ("seeds=[1, 1]", ["seeds: found 1 2 times; allowed: items that differ"]),
        ("system.profile=moon", ["system.profile: device profile 'moon'", "cell_500m"]),
        ("data.test_fraction=0.9", ["data.test_fraction and data.validation_fraction", "below 1"]),
        ("policy.epsilon_start=0.01", ["policy.epsilon_end: found 0.02", "which is 0.01"]),
        ("data.partition={kind: natural}", ["data.partition.kind: 'natural'", "watch"]),
        ("data.partition.min_examples=5000", ["min_examples", "5000"]),
    ],
)
def test_bad_settings_are_refused_in_plain_words(change, parts, study_file, capsys):
    assert cli.main(["run", study_file, "--set", change, "--check"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    for part in parts:
        assert part in shown.err


def test_a_missing_data_set_says_how_to_get_it(study_file, tmp_path, capsys):
    words = ["run", study_file, "--set", "data.source=cifar10", "--out", str(tmp_path / "out")]
    assert cli.main([*words, "--data-dir", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "data.source: cifar10 is not on this machine" in message
    assert "fedjax-kd prepare-data cifar10 --from" in message
    assert not (tmp_path / "out").exists()


def test_good_settings_pass_the_check(study_file, capsys):
    assert cli.main(["run", study_file, "--check"]) == 0
    assert "the study can run (settings " in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*/*.yaml")), ids=lambda p: p.stem)
def test_the_settings_files_of_the_project_are_valid(path):
    from fedjax_kd.study.check import check_study
    from fedjax_kd.study.grid.settings import load_grid
    from fedjax_kd.study.load import load_settings

    if path.parent.name == "grids":
        assert load_grid(path).n_rows > 1
    else:
        check_study(load_settings(path))


# -------------------------------------------------------------------------------- run, report


def test_run_hands_over_settings_and_ends_with_the_report(study_file, calls, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["run", study_file, "--set", "data.users=7", "--data-dir", "d", "--out", str(out)]
    assert cli.main([*words, "--execution", "chunked:3"]) == 0
    ((settings, path, data_dir, form),) = calls
    assert form == "chunked:3"
    assert (settings.title, settings.data.users) == ("mine", 7)
    assert (path, data_dir) == (out, Path("d"))
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == f"Report: {out / 'report.html'}"
    assert "teacher: started, 1 to do" in shown.err
    assert (out / "report.html").exists()


def test_a_study_in_rounds_is_handed_to_its_runner(calls, tmp_path, capsys):
    path = str(EXPERIMENTS / "dfml" / "digits.yaml")
    assert cli.main(["run", path, "--set", "senders=2", "--out", str(tmp_path / "out")]) == 0
    ((settings, _, _, form),) = calls
    assert (settings.method, settings.senders, form) == ("dfml", 2, "auto")
    assert (tmp_path / "out" / "report.html").exists()


def test_a_complete_study_is_not_run_again(study_file, calls, tmp_path, capsys):
    words = ["run", study_file, "--out", str(tmp_path / "out")]
    assert [cli.main(words), cli.main(words)] == [0, 0]
    assert len(calls) == 1
    assert "already holds this study, complete" in capsys.readouterr().out
    (tmp_path / "out" / "report.html").unlink()
    assert cli.main(words) == 0
    assert (tmp_path / "out" / "report.html").exists()
    assert len(calls) == 1


def test_another_study_is_refused_and_moved_by_force(study_file, calls, tmp_path, capsys):
    words = ["run", study_file, "--out", str(tmp_path / "out")]
    cli.main(words)
    changed = [*words, "--set", "data.users=7"]
    assert cli.main(changed) == 2
    assert "holds another study" in capsys.readouterr().err
    assert cli.main([*changed, "--force"]) == 0
    assert "out.old-1" in capsys.readouterr().err
    assert (tmp_path / "out.old-1" / "report.html").exists()


def test_output_for_programs(study_file, calls, tmp_path, capsys):
    assert cli.main(["run", study_file, "--json", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    events = [json.loads(line) for line in shown.out.splitlines()]
    assert [event["kind"] for event in events] == ["start", "advance", "end", "result"]
    assert events[-1]["report"] == str(tmp_path / "out" / "report.html")
    assert shown.err == ""


def test_quiet_leaves_the_answer(study_file, calls, tmp_path, capsys):
    assert cli.main(["run", study_file, "--quiet", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert "Report: " in shown.out
    assert shown.err == ""


def test_report_draws_again(study_file, calls, tmp_path, capsys):
    assert cli.main(["run", study_file, "--out", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    words = ["report", str(tmp_path / "out"), "--output", str(tmp_path / "x.html")]
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"Report: {tmp_path / 'x.html'}\n"


def test_report_of_a_folder_without_results(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "manifest.json" in capsys.readouterr().err


def fail_with(error, monkeypatch):
    def fail(settings, folder, **options):
        raise error

    monkeypatch.setattr(sys.modules["fedjax_kd.study.run_dt_kd"], "run_study", fail)


def test_an_interruption_keeps_what_was_written(study_file, calls, monkeypatch, tmp_path, capsys):
    fail_with(KeyboardInterrupt(), monkeypatch)
    assert cli.main(["run", study_file, "--out", str(tmp_path / "out")]) == 130
    assert "every file that was written is whole and stays" in capsys.readouterr().err
    assert (tmp_path / "out" / "settings.yaml").exists()


def test_a_defect_is_one_line_unless_the_traceback_is_asked_for(
    study_file, calls, monkeypatch, tmp_path, capsys
):
    fail_with(ValueError("an array\nof the wrong shape"), monkeypatch)
    words = ["run", study_file, "--out", str(tmp_path / "out")]
    assert cli.main(words) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == "unexpected error: ValueError: an array of the wrong shape"
    assert "--debug" in second
    with pytest.raises(ValueError, match="of the wrong shape"):
        cli.main([*words, "--debug"])


# ----------------------------------------------------------------------- list, prepare-data


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("methods", "dt_kd"),
        ("methods", "on_device_kd"),
        ("methods", "dfml"),
        ("methods", "pfedafm"),
        ("contestants", "server_ensemble"),
        ("contestants", "def_kt"),
        ("contestants", "fedproto"),
        ("models", "resnet20"),
        ("sources", "digits"),
        ("partitions", "quantity_skew"),
        ("profiles", "cell_500m"),
        ("policies", "exhaustive"),
    ],
)
def test_lists_describe_every_entry(kind, name, capsys):
    assert cli.main(["list", kind]) == 0
    entries = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert name in entries


def test_list_names_its_parts(capsys):
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == list(cli.KINDS)


@pytest.mark.parametrize(
    ("name", "message"),
    [("mnis", "'mnis' cannot be prepared; allowed: mnist"), ("mnist", "none: no such file")],
)
def test_data_that_cannot_be_prepared(name, message, tmp_path, capsys):
    words = ["prepare-data", name, "--from", str(tmp_path / "none"), "--data-dir", str(tmp_path)]
    assert cli.main(words) == 2
    assert message in capsys.readouterr().err


# ---------------------------------------------------------------------------------- backend


def test_the_backend_gets_its_devices_and_its_cache(tmp_path):
    text = in_new_process(f"""
import os
from pathlib import Path
os.environ["XLA_FLAGS"] = "--xla_dump_to=/somewhere/secret"
os.environ["JAX_PLATFORMS"] = "cpu"
from fedjax_kd.study.environment import machine, prepare_backend, versions
prepare_backend(3, Path({str(tmp_path)!r}) / "xla")
import jax
print(jax.device_count(), jax.config.jax_compilation_cache_dir)
print(machine()["xla_flags"], machine()["backend"], len(machine()["devices"]))
print(versions()["jax"] == jax.__version__, versions()["fedjax-kd"])
""")
    assert text.splitlines() == [
        f"3 {tmp_path / 'xla'}",
        "['--xla_cpu_multi_thread_eigen=false', "
        "'--xla_cpu_collective_call_warn_stuck_timeout_seconds=604800', "
        "'--xla_cpu_collective_call_terminate_timeout_seconds=604800', "
        "'--xla_cpu_collective_timeout_seconds=604800'] cpu 3",
        f"True {__version__}",
    ]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    text = in_new_process(f"""
from pathlib import Path
from fedjax_kd.study.environment import prepare_backend
prepare_backend(1, Path({str(tmp_path)!r}) / "file" / "xla")
import jax
print(jax.config.jax_enable_compilation_cache)
""")
    assert text.split() == ["False"]


def test_what_the_user_set_for_xla_stands():
    flag = "--xla_cpu_multi_thread_eigen=true"
    text = in_new_process(f"""
import os
os.environ["XLA_FLAGS"] = {flag!r}
os.environ["JAX_PLATFORMS"] = "cpu"
from fedjax_kd.study.environment import prepare_backend
prepare_backend()
import jax
print(os.environ["XLA_FLAGS"], jax.config.jax_enable_compilation_cache)
""")
    *flags, cached = text.split()
    assert [f for f in flags if "multi_thread_eigen" in f] == [flag]
    assert cached == "False"
