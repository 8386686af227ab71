"""Promise 1: whatever dies, every spec ends in exactly one of `done/` and `failed/`, and none runs twice.

`SPOOLDADD_LONG=1` makes it 1,000 specs and a minute of killing.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from spooldadd import durable
from tests.faults.chaos import Chaos
from tests.support import Node, processes_of, result_of, until

SPECS, KILLING_S = (1000, 60.0) if os.environ.get("SPOOLDADD_LONG") else (150, 10.0)
SEED = int(os.environ.get("SPOOLDADD_SEED", "7"))
# `again-`: its supervisor lives, but everything around it dies. `once-`: its supervisor may be killed, and it may not run
# again. `stubborn-`: its supervisor may be killed, and it runs again, but never beside itself.
JOB = """
command = '''
exec 9> "$ALONE/$SPOOLDADD_JOB"
flock -n 9 || echo "$SPOOLDADD_JOB" >> "$LINES/twins"
sleep %(sleep)s
echo "$SPOOLDADD_ATTEMPT" >> "$LINES/%(name)s"
'''
restartable = %(restartable)s
[env]
LINES = "%(lines)s"
ALONE = "%(alone)s"
"""


def drop_all(node: Node, lines: Path, alone: Path) -> list[str]:
    kinds = ("again", "again", "once", "once", "stubborn")
    names = [f"{kinds[number % len(kinds)]}-{number}" for number in range(SPECS)]
    for number, name in enumerate(names):
        sleep = ("0", "0.05", "0.2", "0.5")[number % 4]
        restartable = "false" if name.startswith("once") else "true"
        fields = {"name": name, "sleep": sleep, "restartable": restartable, "lines": lines, "alone": alone}
        node.drop(f"{name}.toml", JOB % fields)
    return names


def is_settled(node: Node) -> bool:
    places = [node.spool / "running", node.spool / "waiting"]
    return not any(os.listdir(place) for place in places) and not list(node.spool.glob("*.toml"))


def problems_of(name: str, finished: list[Path], lines: Path) -> list[str]:
    if len(finished) != 1:
        return [f"{name}: {len(finished)} records"]
    result, ran = result_of(finished[0]), (lines / name).read_text().split() if (lines / name).exists() else []
    found = [] if result["state"] == finished[0].parent.name else [f"{name}: state {result['state']} in {finished[0]}"]
    if name.startswith(("again", "stubborn")) and finished[0].parent.name != "done":
        found.append(f"{name}: restartable, but {result['outcome']}: {result['reason']}")
    if name.startswith("again") and ran != ["1"]:
        found.append(f"{name}: ran {ran}")
    if name.startswith("once") and ran != ["1"] and not (ran == [] and result["outcome"] == "lost"):
        found.append(f"{name}: ran {ran}, {result['outcome']}")
    if len(set(ran)) != len(ran) or (not ran and result["outcome"] != "lost"):
        found.append(f"{name}: ran {ran}, {result['outcome']}")
    return found


@pytest.mark.slow
def test_killing_everything_at_random_loses_nothing_and_runs_nothing_twice(node: Node, tmp_path: Path):
    lines, alone = tmp_path / "lines", tmp_path / "alone"
    lines.mkdir()
    alone.mkdir()
    names = drop_all(node, lines, alone)
    chaos = Chaos(node, SEED)
    end = time.monotonic() + KILLING_S
    while time.monotonic() < end:
        chaos.strike()
        time.sleep(chaos.random.uniform(0.05, 0.3))  # the pace of the killing; nothing is waited for
    until(lambda: is_settled(node), "everything is filed", 240.0)
    chaos.close()
    until(lambda: not processes_of(node.work), "no process is left", 60.0)
    node.drain()  # the normal start, which puts away what the last kills left

    finished: dict[str, list[Path]] = {name: [] for name in names}
    for record in [*node.records("done"), *node.records("failed")]:
        finished[record.name.split(".")[0]].append(record)
    found = [problem for name in names for problem in problems_of(name, finished[name], lines)]
    if (lines / "twins").exists():
        found.append(f"ran beside themselves: {(lines / 'twins').read_text().split()}")
    found += [f"a lock stays: {name}" for name in os.listdir(node.spool / ".spool" / "locks")]
    found += [f"a temporary file stays: {path}" for path in node.spool.rglob("*") if durable.is_temporary(path.name)]
    work = [path for path in node.work.glob("*/*") if (node.spool / "done" / path.name.rsplit(".", 2)[0]).exists()]
    found += [f"a work directory stays: {path}" for path in work if not _is_kept(node, path)]
    outcomes = Counter(result_of(records[0])["outcome"] for records in finished.values() if len(records) == 1)
    print(f"killed {dict(chaos.killed)}; outcomes {dict(outcomes)}; seed {SEED}")
    assert chaos.killed.keys() == {"worker", "launcher", "supervisor"}
    assert not found, "\n".join(found)


def _is_kept(node: Node, work_dir: Path) -> bool:
    """A lost attempt's directory stays for a person to look at, and its result says so."""
    job, attempt, _token = work_dir.name.rsplit(".", 2)
    for state in ("done", "failed"):
        earlier = node.spool / state / job / "attempts" / attempt
        if (earlier / "result.toml").exists():
            return result_of(earlier).get("workdir") == str(work_dir)
    return False
