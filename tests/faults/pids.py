"""Serve jobs where every pid comes again within seconds: what `test_hard_conditions.py` runs in a pid namespace."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.support import Node, result_of

JOBS = 120


def main() -> int:
    root = Path(tempfile.mkdtemp(prefix="spooldadd-pids-"))
    node = Node(root, environ={"SPOOLDADD_INTAKE__SETTLE": "0s"}, durability="process")
    try:
        for number in range(JOBS):
            node.drop(
                f"j{number}.toml",
                f"command = 'echo $$ >> {root}/pids; for i in 1 2 3 4 5; do /bin/true; done'\nrestartable = true\n",
            )
        log = node.drain("--jobs", "4")
        results = [result_of(path) for path in node.records("done")]
        pids = Counter((root / "pids").read_text().split())
        again = sum(count - 1 for count in pids.values())
        print(f"{len(results)} of {JOBS} succeeded, {len(pids)} pids, {again} came again")
        is_right = len(results) == JOBS and all(result["attempt"] == 1 for result in results)
        if not is_right or not again:
            print(log[-3000:])
        return int(not is_right or not again)
    finally:
        node.close()


if __name__ == "__main__":
    sys.exit(main())
