"""Everything that can be wrong with what a user gives, and the words that say so.

Each case makes its mess in a folder, runs the command in this process, and asserts exit code,
message, that no traceback is shown, and that nothing was written.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from fedjax_kd import cli
from fedjax_kd.study.folder import open_folder
from fedjax_kd.study.load import load_settings

STUDY = """\
method: family
title: mine
seeds: [0]
data: {source: digits, users: 4, public: null}
models: [{name: mlp, hidden: [8]}]
rounds: 2
contestants: [local, fedavg]
"""
GRID = """\
study: study.yaml
grid: {training.learning_rate: [0.01, 0.1]}
seeds: 2
"""


class Case(NamedTuple):
    """One kind of refusal.

    Attributes:
        name: of the kind.
        make: makes the mess in a folder and returns the words of the command; `{}` in words
            stands for the folder.
        parts: what the message must contain.
        code: the exit code.
    """

    name: str
    make: Callable[[Path], list[str]]
    parts: list[str]
    code: int = 2


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content)
    return str(path)


def check(*changes):
    """The study with changed settings, to be checked only."""

    def make(folder):
        words = [word for change in changes for word in ("--set", change)]
        return ["run", write(folder, "study.yaml", STUDY), *words, "--check"]

    return make


def file(content):
    """A settings file with this content, to be run."""

    def make(folder):
        return ["run", write(folder, "study.yaml", content), "--out", str(folder / "out")]

    return make


def after(prepare, *words):
    """Words to run after something was done to a folder, which `{}` stands for."""

    def make(folder):
        write(folder, "study.yaml", STUDY)
        write(folder, "grid.yaml", GRID)
        prepare(folder)
        return [word.format(folder) for word in words]

    return make


RUN = ("run", "{}/study.yaml", "--out", "{}/out")
SWEEP = ("sweep", "{}/grid.yaml", "--out", "{}/out")


def nothing(folder):
    pass


def begun(folder, *changes, status="interrupted"):
    """The folder `out` of a study that was started, and stopped."""
    settings = load_settings(folder / "study.yaml", changes)
    opened = open_folder(folder / "out", settings)
    opened.write_text("metrics.csv", "round\n1\n")
    opened.update_manifest(status=status)
    opened.close()


def another_study(folder):
    begun(folder, "rounds=7")


def manifest_says(**fields):
    def prepare(folder):
        begun(folder)
        path = folder / "out" / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return prepare


def broken_manifest(folder):
    begun(folder)
    path = folder / "out" / "manifest.json"
    path.write_text(path.read_text()[:40])


def edited_settings(folder):
    begun(folder)
    path = folder / "out" / "settings.yaml"
    path.write_text(path.read_text().replace("rounds: 2", "rounds: 3"))


def broken_options(folder):
    begun(folder)
    write(folder, "out/options.json", "{")


def profile_gone(folder):
    profile = Path(write(folder, "town.yaml", cell_profile()))
    begun(folder, f"system.profile={profile}")
    profile.unlink()


def profile_changed(folder):
    profile = Path(write(folder, "town.yaml", cell_profile()))
    begun(folder, f"system.profile={profile}")
    profile.write_text(profile.read_text().replace("radius_m: 500", "radius_m: 501"))


def cell_profile():
    import fedjax_kd.system

    folder = Path(fedjax_kd.system.__file__).parent
    (path,) = folder.rglob("cell_500m.yaml")
    return path.read_text()


def batch_of_a_grid(folder):
    manifest_says(kind="batch")(folder)


def foreign_files(folder):
    write(folder, "out/thesis.tex", "dear")


def a_file(folder):
    write(folder, "out", "I am a file")


def below_a_file(folder):
    write(folder, "file", "I am a file")


def of_a_newer_grid(folder):
    write(folder, "out/grid.json", json.dumps({"format": 99, "kind": "grid"}))


def other_grid(folder):
    from fedjax_kd.study.grid.folder import open_grid_folder
    from fedjax_kd.study.grid.rows import rows_of
    from fedjax_kd.study.grid.settings import load_grid

    there = load_grid(folder / "grid.yaml", ["rounds=7"])
    open_grid_folder(folder / "out", there, rows_of(there))


def grid(text):
    def prepare(folder):
        write(folder, "grid.yaml", text)

    return prepare


def damaged_table(folder):
    begun(folder, status="complete")
    write(folder, "out/metrics.parquet", b"PAR1 and then nothing")


WIDTHS = "models=[{name: mlp, hidden: [8]}, {name: mlp, hidden: [12]}]"
CASES = [
    # ------------------------------------------------------------------------------- settings
    Case("unknown method", check("method=fedmf"), ["method: found 'fedmf' (text)", "dt_kd |"]),
    Case(
        "typo in a key", check("data.usrs=3"), ["data.usrs: unknown key; did you mean data.users"]
    ),
    Case("wrong type", check("rounds=many"), ["rounds: found 'many' (text)", "a whole number"]),
    Case("out of range", check("rounds=0"), ["rounds: found 0", "at least 1"]),
    Case("not finite", check("training.learning_rate=.nan"), ["training.learning_rate: found NaN"]),
    Case("bad YAML", file("rounds: [1, 2\nx: 3"), ["study.yaml", "line", "not valid YAML"]),
    Case("tab in YAML", file("data:\n\tusers: 3"), ["line 2, column 1", "not valid YAML", "\\t"]),
    Case(
        "key twice", file("rounds: 1\nrounds: 2"), ["line 2: the key `rounds` is already on line"]
    ),
    Case("empty file", file(""), ["the file is empty; it must say at least `method:"]),
    Case("no settings", file("- a\n- b"), ["the file must hold `key: value` lines"]),
    Case("not UTF-8", file(b"\xff\xfe\x00"), ["study.yaml: cannot be read: it is not UTF-8 text"]),
    Case(
        "missing file", after(nothing, "run", "{}/none.yaml", "--check"), ["there is no such file"]
    ),
    Case(
        "folder as file", after(nothing, "run", "{}", "--check"), ["cannot be read: Is a directory"]
    ),
    Case(
        "unknown override", check("colour=red"), ["colour: unknown key; the keys of the file are"]
    ),
    Case("no override", check("rounds"), ["--set rounds: expected key=value"]),
    Case("beyond a list", check("models.7.hidden=[3]"), ["models is a list, found item '7'", "0"]),
    Case(
        "seed twice", check("seeds=[1, 1]"), ["seeds: found 1 2 times; allowed: items that differ"]
    ),
    Case("no such partition", check("data.partition.min_examples=5000"), ["min_examples", "5000"]),
    Case(
        "models that do not fit",
        check(WIDTHS, "contestants=[local, lg_fedavg]"),
        ["models.1: gives 12 features, others 8"],
    ),
    Case("data set missing", check("data.source=cifar10"), ["cifar10 is not on this machine"]),
    Case("profile missing", check("system.profile=moon"), ["device profile 'moon'", "cell_500m"]),
    # --------------------------------------------------------------------------------- folders
    Case("out is a file", after(a_file, *RUN), ["out is a file; name a folder with --out"]),
    Case("out below a file", after(below_a_file, *RUN[:3], "{}/file/out"), ["Not a directory"]),
    Case("foreign files", after(foreign_files, *RUN), ["not results of a study (thesis.tex)"]),
    Case("another study", after(another_study, *RUN), ["holds another study", "rounds 7 there, 2"]),
    Case("newer format", after(manifest_says(format=99), *RUN), ["found format 99; this version"]),
    Case("broken manifest", after(broken_manifest, *RUN), ["manifest.json cannot be read"]),
    Case("no manifest", after(manifest_says(settings_hash=None), *RUN), ["holds another study"]),
    # ---------------------------------------------------------------------------------- resume
    Case("resume nothing", after(nothing, "resume", "{}/none"), ["none: there is no such folder"]),
    Case("resume no results", after(nothing, "resume", "{}"), ["holds no results", "grid.yaml"]),
    Case("resume a file", after(a_file, "resume", "{}/out"), ["out is a file"]),
    Case(
        "resume with edited settings",
        after(edited_settings, "resume", "{}/out"),
        ["settings.yaml was changed since the study began; they differ in rounds 2 there, 3 here"],
    ),
    Case(
        "resume without settings",
        after(manifest_says(settings=None), "resume", "{}/out"),
        ["manifest.json holds no settings"],
    ),
    Case(
        "resume with other settings in the manifest",
        after(manifest_says(settings_hash="0123456789abcdef"), "resume", "{}/out"),
        ["its study has the hash 0123456789abcdef, its settings now give"],
    ),
    Case("resume without profile", after(profile_gone, "resume", "{}/out"), ["device profile"]),
    Case(
        "resume with another profile",
        after(profile_changed, "resume", "{}/out"),
        ["town.yaml or the settings in manifest.json were changed since the study began"],
    ),
    Case(
        "resume a batch",
        after(batch_of_a_grid, "resume", "{}/out"),
        ["is a part of a grid; `fedjax"],
    ),
    Case(
        "broken options",
        after(
            lambda folder: (begun(folder), write(folder, "out/options.json", "{"))[0],
            "resume",
            "{}/out",
        ),
        ["options.json cannot be read", "without the file the defaults are taken"],
    ),
    # ----------------------------------------------------------------------------------- grids
    Case("unknown axis", after(grid(GRID.replace("training", "trining")), *SWEEP), ["trining"]),
    Case(
        "rows out of range",
        after(nothing, *SWEEP, "--rows", "99"),
        ["--rows: found '99'; allowed: rows 0 to 3"],
    ),
    Case(
        "zip of unequal lengths",
        after(grid("study: study.yaml\ngrid: [zip: {rounds: [1, 2], data.users: [3]}]"), *SWEEP),
        ["found 2 of rounds, 1 of data.users; allowed: lists of equal lengths"],
    ),
    Case("rows in words", after(nothing, *SWEEP, "--rows", "some"), ["--rows: found 'some'"]),
    Case("another grid", after(other_grid, *SWEEP), ["holds another grid"]),
    Case(
        "study in a grid's folder", after(other_grid, *RUN), ["not results of a study", "grid.json"]
    ),
    Case("newer grid", after(of_a_newer_grid, "resume", "{}/out"), ["grid.json"]),
    Case("sweep without out", after(nothing, "sweep", "{}/grid.yaml"), ["--out DIR is required"]),
    # ------------------------------------------------------------------------ inspect, report
    Case("inspect nothing", after(nothing, "inspect", "{}/none"), ["there is no such folder"]),
    Case("report no results", after(nothing, "report", "{}"), ["holds no results"]),
    Case("report unfinished", after(begun, "report", "{}/out"), ["out", "fedjax-kd resume"]),
    Case("report damaged", after(damaged_table, "report", "{}/out"), ["metrics.parquet"]),
    # --------------------------------------------------------------------------------- options
    Case("minutes", after(nothing, *RUN, "--checkpoint-minutes", "0"), ["a number above 0"]),
    Case("rounds", after(nothing, *RUN, "--checkpoint-rounds", "0.5"), ["a whole number from 1"]),
    Case(
        "contradiction",
        after(nothing, *RUN, "--no-checkpoints", "--keep", "3"),
        ["--no-checkpoints: found together with --keep"],
    ),
    Case(
        "unknown tracker", after(nothing, *RUN, "--track", "mlflow"), ["invalid choice: 'mlflow'"]
    ),
]


def exit_code(words):
    """Of the command, whether it returns or its parser ends it."""
    try:
        return cli.main(words)
    except SystemExit as done:
        return done.code


def content(folder):
    """Everything below a folder but locks: path -> bytes, None for folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != ".lock"
    }


@pytest.mark.parametrize("case", CASES, ids=[case.name.replace(" ", "-") for case in CASES])
def test_refusals(case, tmp_path, capsys):
    words = case.make(tmp_path)
    capsys.readouterr()
    before = content(tmp_path)
    assert exit_code(words) == case.code
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    assert "error: " in shown.err
    assert "unexpected" not in shown.err
    for part in case.parts:
        assert part in shown.err, shown.err
    assert content(tmp_path) == before
