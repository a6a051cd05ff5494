r"""Accuracy of federated distillation against epsilon, and against the bits of each number sent.

    python scripts/compare_privacy.py --out experiments/family/privacy

FD's class tables and DS-FL's public scores, on Fashion-MNIST with 100 users, through Gaussian noise
of several multipliers, quantisers and secure sums of several bits. Writes README.md (tables and
origin), privacy.csv and privacy.svg. Needs the extra `privacy`. `--quick` runs digits with few
users and rounds, to try it out.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import time
from pathlib import Path

from fedjax_kd.study.environment import prepare_backend


def main() -> None:
    """Reads the command line, runs and writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="where the files go")
    parser.add_argument("--quick", action="store_true", help="digits, few users and rounds")
    parser.add_argument("--machine", default="", help="kind of machine, in words")
    arguments = parser.parse_args()
    prepare_backend()
    from privacy.page import page_text, summary_of
    from privacy.picture import draw
    from privacy.trade_off import COMMITTED, QUICK, trade_off

    terms = QUICK if arguments.quick else COMMITTED
    started = time.monotonic()

    def tell(what: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {what}", file=sys.stderr, flush=True)

    frame = trade_off(terms, tell)
    seconds = time.monotonic() - started
    summary = summary_of(frame, terms, n_classes=10)
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / "privacy.csv", index=False, float_format="%.6g", lineterminator="\n")
    (out / "privacy.svg").write_text(draw(summary, terms.users), encoding="utf-8")
    text = page_text(
        summary,
        terms,
        command=f"python scripts/compare_privacy.py --out {out}",
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=arguments.machine or f"{os.cpu_count()} cores {platform.machine()}",
        seconds=seconds,
    )
    (out / "README.md").write_text(text, encoding="utf-8")
    tell(f"{out / 'README.md'} written")


if __name__ == "__main__":
    main()
