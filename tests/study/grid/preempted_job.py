"""A job whose scheduler warns it while it waits for its sweep; prints how it goes on.

python preempted_job.py PROGRAM_IN_THE_PLACE_OF_PYTHON WORD...
"""

import signal
import sys

from fedjax_kd.study.grid.job import SweepJob


def main(program, *words):
    job = SweepJob(words)

    def warned(number, frame):
        again = job.checkpoint()
        print(" ".join(again.function.words), flush=True)
        sys.exit(7)

    signal.signal(signal.SIGUSR2, warned)
    sys.executable = program
    job()


if __name__ == "__main__":
    main(*sys.argv[1:])
