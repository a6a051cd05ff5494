r"""Kills a study again and again without warning, resumes it, and compares every bit of it.

    python scripts/check_resume.py --study experiments/dt_kd/digits.yaml --kills 20 --out /tmp/kills

The study runs twice in peace, which must give the same. Then it runs in another folder and is
killed (SIGKILL: nothing can be tidied up) at a random moment, resumed, killed again, until it is
complete; if that comes before all kills are spent, once more in a fresh folder. Every third kill
comes during the save of a checkpoint. With `--damage`, the latest checkpoint is damaged after every
fourth kill. In the end every table (but wall-clock times) and every array of every last checkpoint
must equal those of the run in peace. Writes kills.csv and kills.md; exits with 1 if anything
differs.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import platform
import random
import shlex
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from resuming.comparison import differences, parts_of, table_names
from resuming.damage import Damage, damage_latest
from resuming.killing import Life, Moment, chosen_moment, live

KILLED = -9


class Kill(NamedTuple):
    """One line of the table."""

    number: int
    folder: str
    aim: str
    after_s: float
    part: str
    done: int
    saving: bool
    damage: str
    resumed_at: str
    equal: str


def main() -> int:
    """Reads the command line, runs, compares and writes."""
    arguments = _parser().parse_args()
    out: Path = arguments.out
    if out.exists() and any(out.iterdir()):
        print(f"error: --out: {out} is not empty", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    chance = random.Random(arguments.seed)
    words = _words(arguments)
    whole = out / "whole"
    again = out / "again"  # finds every program compiled, as those that are resumed do
    for folder in (whole, again):
        log = _log(out, 0, folder.name)
        peace = live(["run", arguments.study, "--out", str(folder), *words], folder, log, None)
        if peace.code != 0:
            return _failed(peace)
    start_s = peace.training_s or peace.seconds
    reach_s = start_s + max(0.5, (peace.seconds - start_s) * arguments.reach)
    print(f"in peace: {peace.seconds:.1f} s, of which {start_s:.1f} s until it trains", flush=True)

    kills: list[Kill] = []
    differing = [f"again: {text}" for text in differences(whole, again)]
    copy = 0
    while len(kills) < arguments.kills:
        copy += 1
        folder = out / f"killed-{copy}"
        found, code = _until_complete(arguments, words, folder, kills, (start_s, reach_s), chance)
        if code != 0:
            _write(out, arguments, kills, peace, [f"{folder.name} could not be resumed"])
            return 1
        differing += [f"{folder.name}: {text}" for text in differences(whole, folder)]
        equal = "no" if any(text.startswith(f"{folder.name}:") for text in differing) else "yes"
        kills += [kill._replace(equal=equal) for kill in found]
        if not found:  # the machine has become faster than it was in peace
            start_s, reach_s = 0.8 * start_s, 0.8 * reach_s
        print(f"{folder.name}: complete after {len(found)} kills, equal: {equal}", flush=True)
        if equal == "yes" and not arguments.keep:
            shutil.rmtree(folder)
    text = _write(out, arguments, kills, peace, differing)
    print(text)
    return 1 if differing else 0


def _until_complete(
    arguments: argparse.Namespace,
    words: list[str],
    folder: Path,
    earlier: list[Kill],
    times_s: tuple[float, float],
    chance: random.Random,
) -> tuple[list[Kill], int]:
    """Kills and resumes one copy of the study; returns its kills and the last exit code."""
    found: list[Kill] = []
    while True:
        number = len(earlier) + len(found) + 1
        spent = number > arguments.kills
        moment = None if spent else chosen_moment(number, *times_s, chance)
        begun = (folder / "manifest.json").exists()
        command = (
            ["resume", str(folder)] if begun else ["run", arguments.study, "--out", str(folder)]
        )
        log = _log(folder.parent, number, folder.name)
        life = live([*command, *words], folder, log, moment)
        if found:
            resumed = ", ".join(f"{stage} {done}" for stage, done in life.resumed.items())
            nowhere = "the start" if life.done or life.code != KILLED else "killed before it said"
            found[-1] = found[-1]._replace(resumed_at=resumed or nowhere)
        if life.code != KILLED:
            if life.code != 0:
                _failed(life)
            return found, life.code
        found.append(_kill(arguments, number, folder, moment, life, chance))
        print("  " + ", ".join(str(value) for value in found[-1][:8]), flush=True)


def _kill(
    arguments: argparse.Namespace,
    number: int,
    folder: Path,
    moment: Moment | None,
    life: Life,
    chance: random.Random,
) -> Kill:
    damage: Damage = ""
    if arguments.damage and number % 4 == 0:
        damage = "truncated" if number % 8 == 0 else "bit flipped"
    where = damage_latest(folder, damage, chance) if damage else ""
    told = f"{where} {damage}" if where else ""
    aim = moment.aim if moment is not None else ""
    part, done = life.stage, life.done
    return Kill(
        number, folder.name, aim, round(life.seconds, 2), part, done, life.saving, told, "", ""
    )


def _words(arguments: argparse.Namespace) -> list[str]:
    words = ["--checkpoint-rounds", str(arguments.checkpoint_rounds)]
    if arguments.devices is not None:
        words += ["--devices", str(arguments.devices)]
    if arguments.data_dir is not None:
        words += ["--data-dir", str(arguments.data_dir)]
    return words


def _log(out: Path, number: int, name: str = "whole") -> Path:
    (out / "logs").mkdir(exist_ok=True)
    return out / "logs" / f"{number:03d}-{name}.jsonl"


def _failed(life: Life) -> int:
    print(f"error: exit code {life.code}", file=sys.stderr)
    print(life.output.read_text(encoding="utf-8")[-2000:], file=sys.stderr)
    return 1


def _write(
    out: Path,
    arguments: argparse.Namespace,
    kills: list[Kill],
    peace: Life,
    differing: list[str],
) -> str:
    """Writes the table as CSV and Markdown; returns the Markdown."""
    with (out / "kills.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Kill._fields)
        writer.writerows(kills)
    saving = sum(kill.saving for kill in kills)
    damaged = sum(bool(kill.damage) for kill in kills)
    whole = out / "whole"
    heads = [name.replace("_", " ") for name in Kill._fields]
    lines = [
        f"# {arguments.study}: {len(kills)} kills",
        "",
        f"    {shlex.join(['python', *sys.argv])}",
        "",
        f"{datetime.date.today().isoformat()}, {os.cpu_count()} cores, {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}, JAX {version('jax')}. In peace "
        f"the study took {peace.seconds:.1f} s. {saving} of the kills came during a save, "
        f"{damaged} were followed by damage to the latest checkpoint.",
        "",
        f"Compared bit for bit, also with a rerun in peace: {', '.join(table_names(whole))}; the "
        f"last checkpoints of {', '.join(parts_of(whole))}.",
        "",
        *_listed(differing),
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
        *(f"| {' | '.join(str(value) for value in kill)} |" for kill in kills),
        "",
    ]
    text = "\n".join(lines)
    (out / "kills.md").write_text(text, encoding="utf-8")
    return text


def _listed(differing: list[str]) -> list[str]:
    if not differing:
        return ["Nothing differs.", ""]
    return [f"**{len(differing)} differences:**", "", *(f"- {text}" for text in differing), ""]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", required=True, metavar="FILE", help="settings in YAML")
    parser.add_argument("--kills", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--checkpoint-rounds", type=int, default=2, metavar="N")
    parser.add_argument("--devices", type=int, metavar="N")
    parser.add_argument("--data-dir", type=Path, metavar="DIR")
    parser.add_argument("--damage", action="store_true", help="damage every fourth checkpoint too")
    parser.add_argument("--keep", action="store_true", help="keep folders that were equal")
    parser.add_argument(
        "--reach",
        type=float,
        default=0.3,
        help="kills come within this share of the training time after a start (default: 0.3)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
