"""Try every attack, or some by name, and print the table of `docs/attacks.md`. Needs root.

.venv/bin/python -m tests.faults.attacks                    all of them
.venv/bin/python -m tests.faults.attacks swapped_links      one
.venv/bin/python -m tests.faults.attacks --rounds 2000      races for longer
.venv/bin/python -m tests.faults.attacks --json             for the test
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback

from tests.faults.attacks import common, files, others, specs, stage
from tests.faults.attacks.stage import Stage

ATTACKS = {attack.__name__: attack for module in (others, common, specs, files) for attack in module.ATTACKS}


def main() -> int:
    """Run them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="which (default: all)")
    parser.add_argument("--rounds", type=int, default=20, help="how often a race is run")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    missing = stage.missing_capability()
    if missing:
        print(missing, file=sys.stderr)
        return 77
    if stage.INSIDE not in os.environ:
        done = stage.run_inside(sys.argv[1:])
        print(done.stdout, end="")
        return done.returncode
    found = _tried(options.names or list(ATTACKS), options.rounds)
    if options.json:
        print(json.dumps(found))
    else:
        _print_table(found)
    return 0 if all(one["refused"] for one in found.values()) else 1


def _tried(names: list[str], rounds: int) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {}
    with Stage() as where:
        where.rounds = rounds
        for name in names:
            began = time.monotonic()
            try:
                seen, is_refused = ATTACKS[name](where), True
            except Exception:  # an attack that worked must not keep the others from being tried
                seen, is_refused = traceback.format_exc(), False
            if "Traceback" in where.said() or "event=failed" in where.said():
                seen, is_refused = f"something failed: {where.said()[-3000:]}", False
            if not where.is_serving:
                seen, is_refused = f"the worker has ended: {where.said()[-2000:]}", False
            found[name] = {"seen": seen, "refused": is_refused}
            print(f"{time.monotonic() - began:6.1f} s  {name}", file=sys.stderr)
    return found


def _print_table(found: dict[str, dict[str, object]]) -> None:
    print("| attack | how it is tried | what was seen |\n|---|---|---|")
    for name, one in found.items():
        lines = " ".join((ATTACKS[name].__doc__ or "").split())
        what, _, how = lines.partition(": ")
        print(f"| {what} | {how} | {one['seen'] if one['refused'] else 'IT WORKED: ' + str(one['seen'])} |")


if __name__ == "__main__":
    sys.exit(main())
