"""``python tests/faults campaign --kills 200``, ``liquid --stops 10``, ``fuzz --inputs 20000`` and ``mutants --number 150``.

Exit code 1 where anything was lost, failed, or survived without a reason.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

# Processes run side by side; this must stand before the libraries are loaded.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"


def main() -> int:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(prog="python tests/faults", description=__doc__)
    parser.add_argument("what", choices=("campaign", "liquid", "fuzz", "mutants"))
    parser.add_argument("--kills", type=int, default=200, help="processes to kill")
    parser.add_argument("--stops", type=int, default=10, help="stops and kills, of each in each phase of the liquid")
    parser.add_argument("--inputs", type=int, default=20_000, help="inputs of the fuzzing")
    parser.add_argument("--target", help="one kind of input alone, with its share of the inputs; one group of mutants alone")
    parser.add_argument("--number", type=int, default=150, help="mutants to try")
    parser.add_argument("--minutes", type=float, default=60.0, help="after which no further mutant is tried")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is random")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="qlm-faults-") as folder:
        if arguments.what == "campaign":
            from campaign import run_campaign

            return run_campaign(Path(folder), arguments.kills, arguments.seed)
        if arguments.what == "mutants":
            from mutants import run_mutants

            return run_mutants(Path(folder), arguments.number, arguments.seed, arguments.minutes, arguments.target)
        if arguments.what == "liquid":
            from campaign import run_liquid_campaign

            return run_liquid_campaign(Path(folder), arguments.stops, arguments.seed)
        from fuzz import fuzz

        total, failed = fuzz(arguments.inputs, arguments.seed, Path(folder), arguments.target)
        print(f"inputs {total}, kinds of input that failed {failed}")
        return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
