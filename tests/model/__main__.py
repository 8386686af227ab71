"""Check the model of claims with spin: as built it must hold, and each variant without one rule must be found wrong.

python3 -m tests.model             all of it, some minutes, up to 2 GB of memory
python3 -m tests.model --quick     what the test suite runs
python3 -m tests.model --trace N   case N with the steps that lead to what was found
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.model.checking import BROKEN, TRUE, Case, check, missing


def main() -> int:
    """Check every case; return how many were not as they must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only what the test suite runs")
    parser.add_argument("--trace", metavar="N", type=int, help="only this case, and the steps to what was found")
    options = parser.parse_args()
    if missing():
        print(f"not installed: {', '.join(missing())} (Debian: `apt-get install spin gcc`)", file=sys.stderr)
        return 2
    cases = list(enumerate([*TRUE, *BROKEN], 1))
    wrong = 0
    for number, case in cases:
        if options.trace in (None, number) and (case.is_quick or not options.quick):
            wrong += not _say(number, case, is_traced=options.trace is not None)
    print(f"{wrong} not as they must be" if wrong else "all as they must be")
    return min(wrong, 1)


def _say(number: int, case: Case, *, is_traced: bool) -> bool:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="spooldadd-model-") as name:
        found = check(case, Path(name))
        is_right = bool(found.violation) == case.is_broken
        verdict = "holds" if not found.violation else f"found wrong: {found.violation}"
        took_s = time.monotonic() - began
        print(f"{'' if is_right else 'NOT SO '}{number:>2}  {case.title}\n    {case.switches}")
        print(f"    {verdict}; {found.states:,} states, {found.depth:,} deep, {took_s:.1f} s", flush=True)
        if is_traced and found.violation:
            steps = [
                "spin",
                "-k",
                "claim.pml.trail",
                "-p",
                *(f"-D{switch}" for switch in case.switches.split()),
                "claim.pml",
            ]
            subprocess.run(steps, cwd=name, check=False)
    return is_right


if __name__ == "__main__":
    sys.exit(main())
