"""Check the model with spin: what it must show as built, and what it must find when one rule is taken out."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).with_name("claim.pml")
TOOLS = ("spin", "cc")
# Deeper than any run that was seen; a run that is cut off here counts as one that was not checked.
DEPTH = 600_000
MEMORY_MB = 6000


@dataclass(frozen=True)
class Case:
    """One setting of the model. `is_quick` ones are part of the test suite."""

    title: str
    switches: str
    is_broken: bool = False
    is_quick: bool = False


@dataclass(frozen=True)
class Outcome:
    """What spin found: states, how deep, and the first violation, empty where there is none."""

    states: int
    depth: int
    violation: str


# As built: all of it must hold.
TRUE = (
    Case(
        "one node: a worker or supervisor killed, and a restart of the machine", "NODES=1 KILLS=1 REBOOTS=1", is_quick=True
    ),
    Case("two nodes, shared locks: one kill", "KILLS=1"),
    Case("two nodes, shared locks: a restart of one machine", "KILLS=0 REBOOTS=1"),
    Case("two nodes, shared locks: one is cut off for longer than its lease", "KILLS=0 CUTS=1"),
    Case("the same, and a spec that is put back", "KILLS=0 CUTS=1 PUTBACKS=1"),
    Case("two nodes, shared locks: a worker is stopped, one kill", "KILLS=1 STOPS=1"),
    Case("two nodes: a rename that happened is answered with an error, one kill", "KILLS=1 LIES=1"),
    Case("two nodes, private locks, no takeover: one is cut off", "SHARED=0 TAKEOVER=0 KILLS=0 CUTS=1", is_quick=True),
    Case("the same, and one kill", "SHARED=0 TAKEOVER=0 KILLS=1 CUTS=1"),
    Case("two nodes, private locks: a person calls a living node dead", "SHARED=0 TAKEOVER=0 WORD=1 KILLS=0"),
)

# With one rule taken out: each must be found wrong.
BROKEN = (
    Case("the fence: a running record has the job's name, not one of its claim", "UNIQUE=0 KILLS=0 CUTS=1", True, True),
    Case("takeover judges under the old name", "NEW_NAME=0 KILLS=0 CUTS=1", True, True),
    Case("takeover asks for no lease", "TAKEOVER_LEASE=0 KILLS=0 STOPS=1", True),
    Case("takeover where locks are private", "SHARED=0 KILLS=0 STOPS=1", True, True),
    Case("takeover looks at no heartbeat", "WATCH=0 KILLS=1", True),
    Case("a claim can be seen before its lease is taken", "LEASE_FIRST=0 KILLS=0", True),
    Case("recovery asks for no lease", "RECOVERY_LEASE=0 KILLS=0", True),
    Case("the record is filed before its result is written", "RESULT_FIRST=0 KILLS=0", True),
    Case("the answer to a rename is believed", "LOOK_FOR_TARGET=0 LIES=1 KILLS=0", True, True),
    Case("the job does not inherit the lease", "INHERIT=0 KILLS=1 STOPS=1", True),
    Case("the supervisor notes itself after the start", "NOTE=0 KILLS=1", True),
)


def missing() -> list[str]:
    """Return the tools that are not there."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def check(case: Case, directory: Path) -> Outcome:
    """Search all states of one setting, in this directory."""
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(MODEL, directory / "claim.pml")
    switches = [f"-D{switch}" for switch in case.switches.split()]
    _run(["spin", "-a", *switches, "claim.pml"], directory)
    # To optimise takes longer than a small search.
    level = "-O0" if case.is_quick or case.is_broken else "-O2"
    _run(["cc", level, "-w", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MB}", "-o", "pan", "pan.c"], directory)
    said = _run(["./pan", f"-m{DEPTH}", "-n"], directory)
    states, depth, errors = (
        _number(rf"{what}", said) for what in (r"([\d.e+]+) states, stored", r"depth reached (\d+)", r"errors: (\d+)")
    )
    if ("Search not completed" in said and not errors) or "too small" in said:
        raise RuntimeError(f"not all of `{case.switches}` was searched:\n{said}")
    violation = re.search(r"^pan:1: (.*) \(at depth \d+\)$", said, re.MULTILINE)
    return Outcome(states, depth, violation[1] if violation else "")


def _number(pattern: str, said: str) -> int:
    found = re.search(pattern, said)
    if found is None:
        raise RuntimeError(f"spin said something else than it used to:\n{said}")
    return int(float(found[1]))


def _run(command: list[str], directory: Path) -> str:
    done = subprocess.run(command, cwd=directory, check=False, capture_output=True, text=True)
    if done.returncode or "syntax error" in done.stdout:
        raise RuntimeError(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")
    return done.stdout
