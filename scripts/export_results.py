r"""Turns a folder of results into what is committed beside its settings: table, pictures, origin.

    python scripts/export_results.py results/fashion_mnist experiments/dt_kd/fashion_mnist \
        --command "fedjax-kd run experiments/dt_kd/fashion_mnist.yaml --out results/fashion_mnist"

Writes README.md (the policy table with its command, date and kind of machine), summary.csv and the
pictures that are worth keeping.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from fedjax_kd.report import policy_table_markdown, save_pictures

PICTURES = ("comparison", "frontier", "learning", "decisions", "costs", "accuracy-table", "teacher")


def main() -> None:
    """Reads the command line and writes the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="a folder that `fedjax-kd run` has filled")
    parser.add_argument("out", type=Path, help="where the files go")
    parser.add_argument("--command", required=True, help="the command that made the results")
    parser.add_argument("--machine", default="", help="kind of machine, in words")
    parser.add_argument("--note", default="", help="a sentence or two on what the figures show")
    arguments = parser.parse_args()

    manifest = json.loads((arguments.results / "manifest.json").read_text())
    arguments.out.mkdir(parents=True, exist_ok=True)
    shutil.copy(arguments.results / "summary.csv", arguments.out)
    with tempfile.TemporaryDirectory() as scratch:
        drawn = save_pictures(arguments.results, Path(scratch))
        kept = [each for each in drawn if each.suffix == ".svg" and each.stem in PICTURES]
        for picture in kept:
            shutil.copy(picture, arguments.out)
    took_s = sum(manifest["elapsed_s"].values())
    lines = [
        f"# {manifest['title']}",
        "",
        f"Made by `{arguments.command}`",
        f"on {manifest['started'][:10]}, {arguments.machine or manifest['machine']['system']}, "
        f"in {took_s / 60:.0f} minutes.",
        "",
        *([arguments.note, ""] if arguments.note else []),
        "Means over the seeds with half the width of their 95 % t interval. Every constant of the",
        "simulated system is an assumption of this project, none is a number of the DT-KD paper.",
        "",
        policy_table_markdown(arguments.results).rstrip(),
        "",
        *(f"![{picture.stem}]({picture.name})" for picture in sorted(kept)),
        "",
    ]
    (arguments.out / "README.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
