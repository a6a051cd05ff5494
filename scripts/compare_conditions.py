r"""Runs one study under several conditions and writes the table that compares them.

    python scripts/compare_conditions.py experiments/on_device_kd/fashion_mnist/conditions.yaml \
        --results results/on_device_kd --out experiments/on_device_kd/fashion_mnist

The conditions file names a settings file and, for each condition, the settings that
differ, as `fedjax-kd run --set` takes them. Conditions that are complete in the results folder are
not run again. Beside README.md (tables, origin, and what stands in a file `reading.md` there) the
folder gets conditions.csv, a picture of the comparison and the pictures of the first condition.
"""

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from conditions.figures import Condition, read_condition
from conditions.page import comparison_frame, page_text
from conditions.picture import draw_comparison

from fedjax_kd.report import save_pictures
from fedjax_kd.study.yaml_text import read_yaml


def main() -> None:
    """Reads the command line, runs what is missing and writes the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="the conditions, in YAML")
    parser.add_argument("--results", type=Path, required=True, help="where the runs go")
    parser.add_argument("--out", type=Path, required=True, help="where the tables go")
    parser.add_argument("--machine", default="", help="kind of machine, in words")
    arguments = parser.parse_args()

    plan = read_plan(arguments.file)
    settings = arguments.file.parent / plan["settings"]
    proposed = ""
    found: list[Condition] = []
    for each in plan["conditions"]:
        folder = arguments.results / each["name"]
        run(settings, folder, each.get("set", []))
        found.append(read_condition(folder, each["name"], each["title"], proposed))
        proposed = proposed or found[0].proposed
    write(arguments, plan, found)


def read_plan(path: Path) -> dict:
    """The conditions file, checked.

    Raises:
        SystemExit: naming what is missing or wrong.
    """
    plan = read_yaml(path.read_text(encoding="utf-8"))
    wanted = {"settings", "title", "scope", "conditions"}
    if not isinstance(plan, dict) or set(plan) != wanted:
        raise SystemExit(f"{path}: must hold the keys {', '.join(sorted(wanted))} and no others")
    if plan["scope"] not in ("personal", "common"):
        raise SystemExit(f"{path}: scope: found {plan['scope']!r}; allowed: personal | common")
    for index, each in enumerate(plan["conditions"]):
        if not {"name", "title"} <= set(each) <= {"name", "title", "set"}:
            raise SystemExit(f"{path}: conditions.{index}: allowed keys: name, title, set")
    return plan


def run(settings: Path, folder: Path, overrides: list[str]) -> None:
    """Runs one condition with the command line that a user would write."""
    command = [sys.executable, "-m", "fedjax_kd.cli", "run", str(settings), "--out", str(folder)]
    for override in overrides:
        command += ["--set", override]
    print(f"== {folder.name}", flush=True)
    # Conditions that differ in numbers only share their compiled programs.
    kept = {"JAX_COMPILATION_CACHE_DIR": str((folder.parent / "programs").resolve())}
    subprocess.run(command, check=True, env=kept | os.environ)


def write(arguments, plan: dict, found: list[Condition]) -> None:
    """Writes tables and pictures; pictures of an earlier export are replaced."""
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.svg"):
        old.unlink()
    comparison_frame(found).to_csv(out / "conditions.csv", index=False, lineterminator="\n")
    (out / "conditions.svg").write_text(draw_comparison(found, plan["scope"]), encoding="utf-8")
    main_folder = arguments.results / found[0].name
    with tempfile.TemporaryDirectory() as scratch:
        drawn = save_pictures(main_folder, Path(scratch))
        pictures = sorted(each.name for each in drawn if each.suffix == ".svg")
        for name in pictures:
            shutil.copy(Path(scratch) / name, out)
    reading = out / "reading.md"
    spent_s = sum(each.elapsed_s for each in found)
    machine = json.loads((main_folder / "manifest.json").read_text(encoding="utf-8"))["machine"]
    text = page_text(
        title=plan["title"],
        command=f"python scripts/compare_conditions.py {arguments.file} "
        f"--results {arguments.results} --out {out}",
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=arguments.machine or f"{machine['cpus']} cores, {', '.join(machine['devices'])}",
        minutes=spent_s / 60,
        reading=reading.read_text(encoding="utf-8").strip() if reading.exists() else "",
        conditions=found,
        scope=plan["scope"],
        pictures=pictures,
    )
    (out / "README.md").write_text(text, encoding="utf-8")
    print(f"{out / 'README.md'} written", flush=True)


if __name__ == "__main__":
    main()
