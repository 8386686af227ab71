"""What is tried on a ground.

Each scenario gets a new spool, says in a sentence what was seen, and raises where a promise broke.
"""

from __future__ import annotations

import json
import os
import time
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.nodes.grounds import Ground
from tests.nodes.sides import Broken, Side, until, while_it_moves

# Above the time that a worker needs for a heartbeat over a slow server, below what somebody waits for in a test.
TAKEOVER_S = 25


@dataclass
class Case:
    """One scenario's own spool, as the server and both sides see it."""

    ground: Ground
    name: str
    size: int

    def __post_init__(self) -> None:
        """Where its files are."""
        self.truth = self.ground.truth / self.name
        self.ran = self.ground.root / f"{self.name}.ran"
        self.ran.touch()

    def spool(self, side: Side) -> Path:
        """Return where this side sees the spool."""
        return side.share / self.name

    def make(self) -> None:
        """Make the spool from the first side; wait until the second one sees it. Not seen by name before it is there."""
        first, second = self.ground.sides
        first.run("init", "--kind", "shared", str(self.spool(first)))
        until(lambda: self.name in os.listdir(second.share), "the second node sees the spool", 120)
        until(lambda: (self.spool(second) / ".spool" / "format.toml").exists(), "and what marks it", 120)

    def start(self, side: Side, *arguments: str, jobs: int = 4, environ: dict[str, str] | None = None) -> None:
        """Start a worker there, which takes over what a lost node ran, soon."""
        environ = {"SPOOLDADD_TAKEOVER__AFTER": f"{TAKEOVER_S}s", "SPOOLDADD_INTAKE__SETTLE": "1s", **(environ or {})}
        side.start(self.spool(side), "--jobs", str(jobs), *arguments, environ=environ)

    def drop(self, side: Side, name: str, script: str = "", **keys: object) -> None:
        """Drop a spec as `mv` does. Whatever else its job does, it first says where it runs, on this machine's own disk."""
        said = f'echo "{name} $SPOOLDADD_NODE $SPOOLDADD_ATTEMPT" >> {self.ran}'
        lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        command = json.dumps(["/bin/sh", "-c", f"{said}; {script}" if script else said])
        temporary = self.spool(side) / f".{name}.part"
        temporary.write_text("\n".join([f"command = {command}", *lines, ""]))
        temporary.rename(self.spool(side) / f"{name}.toml")

    def drop_many(self, count: int, script: str = "", **keys: object) -> None:
        """Drop this many on both sides in turn."""
        for number in range(count):
            self.drop(self.ground.sides[number % 2], f"job{number:03}", script, **keys)

    def entries(self, state: str) -> list[str]:
        """Return the records in this state, on the server's disk."""
        return [entry for entry in os.listdir(self.truth / state) if not entry.startswith(".")]

    def runs(self) -> list[list[str]]:
        """Return who ran: name, node, attempt of each start."""
        return [line.split() for line in self.ran.read_text().splitlines()]

    def result(self, state: str, name: str) -> dict:
        """Return the result of the job of this name, which must be there once."""
        found = [entry for entry in self.entries(state) if entry.startswith(f"{name}.")]
        if len(found) != 1:
            raise Broken(f"`{name}` is {len(found)} times in `{state}/`")
        return tomllib.loads((self.truth / state / found[0] / "result.toml").read_text())

    def wait_done(self, count: int, what: str = "jobs are done", still_s: float = 180.0) -> None:
        """Wait until this many are filed."""
        while_it_moves(lambda: len(self.entries("done")) + len(self.entries("failed")), count, what, still_s)

    def check_each_once(self, count: int, *, attempts: bool = False) -> str:
        """Each job is in `done/` once, and ran once (or once in each attempt). Return who ran how many."""
        failed = self.entries("failed")
        if self.ground.errors_reach_jobs:
            failed = [entry for entry in failed if self.result("failed", entry.split(".")[0])["outcome"] != "exit"]
        if failed:
            reason = (self.truth / "failed" / failed[0] / "result.toml").read_text()
            raise Broken(f"{len(failed)} in `failed/`: {failed[0]}: {reason}")
        done = Counter(entry.split(".")[0] for entry in self.entries("done") + self.entries("failed"))
        twice = [name for name, number in done.items() if number > 1]
        starts = Counter((name, attempt if attempts else "") for name, _node, attempt in self.runs())
        again = [name for (name, _), number in starts.items() if number > 1]
        missing = count - len(done)
        not_run = count - len({name for name, _ in starts})
        if twice or again or missing or not_run:
            raise Broken(f"filed twice {twice[:5]}, run twice {again[:5]}, missing {missing}, never run {not_run}")
        until(lambda: not self.entries("running") and not self.entries("waiting"), "nothing is left over", 60)
        by_node = Counter(node for _name, node, _attempt in self.runs())
        errors = (
            f"; {len(self.entries('failed'))} jobs failed, because they could not print" if self.entries("failed") else ""
        )
        return ", ".join(f"{node} ran {number}" for node, number in sorted(by_node.items())) + errors


def probe(case: Case) -> str:
    """`doctor --peer` on both nodes at once: what it finds out is what we know of this file system."""
    case.make()
    first, second = case.ground.sides
    other = second.launch("doctor", str(case.spool(second)), "--peer", first.name, "--timeout", "10m")
    done = first.run("doctor", str(case.spool(first)), "--peer", second.name, "--timeout", "10m", "--json", timeout_s=1200)
    other.wait(600)
    measured = json.loads(done.stdout)["peer"]["measured"]
    wanted = "shared" if case.ground.locks_are_shared else "private"
    if measured["locks"] != wanted or not measured["renames_exclude"]:
        raise Broken(f"locks are {measured['locks']}, and not {wanted}; or a rename has two winners: {done.stdout}")
    proofs = case.truth / ".spool" / "proofs"
    for side, peer in ((first, second), (second, first)):
        said = tomllib.loads((proofs / f"{side.name}.toml").read_text())
        if said["peers"] != {peer.name: wanted}:
            raise Broken(f"{side.name} wrote down {said}")
    left = os.listdir(case.truth / ".spool" / "probe")
    if left:
        raise Broken(f"the examination left {left}")
    return ", ".join(f"{key} {value}" for key, value in measured.items())


def once(case: Case) -> str:
    """Two workers, many specs: each job runs exactly once."""
    case.make()
    case.drop_many(case.size)
    began = time.monotonic()
    for side in case.ground.sides:
        case.start(side)
    case.wait_done(case.size)
    took_s = time.monotonic() - began
    return f"{case.size} specs, each run once, all in `done/`; {case.check_each_once(case.size)}; {took_s:.0f} s"


def restart(case: Case) -> str:
    """The server is restarted in the middle."""
    case.make()
    count = max(20, case.size // 8)
    for side in case.ground.sides:
        case.start(side)
    case.drop_many(count, "sleep 0.5")
    case.wait_done(count // 4, "the first are done")
    case.ground.restart_server()
    case.wait_done(count)
    return f"{count} jobs, the server restarted after {count // 4}: each once, all in `done/`; {case.check_each_once(count)}"


def lost_reply(case: Case) -> str:
    """Requests are carried out and their answers get lost; once the server forgets, too, what it had answered."""
    case.make()
    count = max(40, case.size // 4)
    for side in case.ground.sides:
        case.start(side)
    case.drop_many(count)
    rounds = 0
    for number in range(6):
        if len(case.entries("done")) >= count * 9 // 10:
            break
        before = len(case.entries("done"))
        until(lambda before=before: len(case.entries("done")) > before, "jobs go on", 240)
        case.ground.lose_replies(case.ground.sides[number % 2], 1.5, with_restart=number in (1, 4))
        rounds += 1
    case.wait_done(count)
    if not rounds:
        raise Broken("the jobs were done before an answer could get lost; give it more of them with `--size`")
    return f"{count} jobs, answers lost {rounds} times: each once, all in `done/`; {case.check_each_once(count)}"


def other_side(case: Case) -> str:
    """`status`, `hold`, `release` and `cancel` from the node that does not run the job."""
    case.make()
    first, second = case.ground.sides
    case.start(first)
    case.drop(second, "long", "sleep 600")
    until(lambda: case.runs(), "the job runs")
    until(lambda: _shown(case, second, "long").get("state") == "running", "the other node's status shows it running", 90)
    shown = _shown(case, second, "long")
    second.run("--spool", str(case.spool(second)), "hold", "--all")
    case.drop(second, "later")
    time.sleep(8)
    if len(case.runs()) > 1:
        raise Broken("a job was started although all were held")
    asked = time.monotonic()
    second.run("--spool", str(case.spool(second)), "cancel", str(shown["job"]))
    until(lambda: any(entry.startswith("long.") for entry in case.entries("failed")), "the job is cancelled", 90)
    took_s = time.monotonic() - asked
    if case.result("failed", "long")["outcome"] != "cancelled":
        raise Broken(f"cancelled, and filed as {case.result('failed', 'long')['outcome']}")
    second.run("--spool", str(case.spool(second)), "release", "--all")
    until(lambda: any(entry.startswith("later.") for entry in case.entries("done")), "the job runs after the release", 90)
    return (
        f"status shows it on `{shown.get('node')}`, a pause holds, cancelled within {took_s:.0f} s, runs after the release"
    )


def _shown(case: Case, side: Side, name: str) -> dict:
    done = side.run("--spool", str(case.spool(side)), "status", "--json", check=False)
    if done.returncode not in (0, 1):
        raise Broken(f"status on {side.name}: exit {done.returncode}: {done.stderr}")
    jobs = json.loads(done.stdout).get("jobs", [])
    return next((job for job in jobs if job.get("name") == name), {})


def clocks(case: Case) -> str:
    """One node's clock is an hour ahead."""
    case.make()
    first, second = case.ground.sides
    second.before = ["faketime", "-f", "+1h"]
    count = max(20, case.size // 8)
    case.start(first)
    case.start(second, environ={"FAKETIME_DONT_FAKE_MONOTONIC": "1"})
    case.drop_many(count, "sleep 0.5")
    case.wait_done(count)
    seen = case.check_each_once(count)
    for side in case.ground.sides:
        if "event=lost" in side.said() or "taken-over" in side.said():
            raise Broken(f"{side.name} took a job for lost: {side.said()[-1500:]}")
    return f"{count} jobs, one clock an hour ahead: each once; {seen}"


def killed(case: Case) -> str:
    """One node dies at one blow, with all its processes, in the middle of restartable jobs."""
    if not case.ground.locks_are_shared:
        return _killed_unproven(case)
    case.make()
    first, second = case.ground.sides
    case.start(first, jobs=3)
    case.start(second, jobs=3)
    _wait_acquainted(case)
    script = _slow_on(first)
    for number in range(12):
        case.drop(first, f"job{number:03}", script, restartable=True)
    until(lambda: sum(node == first.name for _, node, _ in case.runs()) >= 2, "the first node runs some", 180)
    first.kill()
    began = time.monotonic()
    case.wait_done(12, still_s=240)
    seen = case.check_each_once(12, attempts=True)
    again = sum(attempt == "2" for _, _, attempt in case.runs())
    return f"{first.name} killed: its {again} jobs were taken over within {time.monotonic() - began:.0f} s; {seen}"


def _killed_unproven(case: Case) -> str:
    case.make()
    first, second = case.ground.sides
    case.start(first, jobs=3)
    case.start(second, jobs=1)
    _wait_acquainted(case)
    case.drop(first, "job000", _slow_on(first), restartable=True)
    case.drop(first, "job001", _slow_on(first), restartable=True)
    until(lambda: any(node == first.name for _, node, _ in case.runs()), "the first node runs one", 180)
    first.kill()
    time.sleep(TAKEOVER_S * 2 + 30)
    taken = [run for run in case.runs() if run[2] != "1"]
    if taken:
        raise Broken(f"taken over although locks are not shared: {taken}")
    case.start(first, jobs=3)
    until(lambda: len(case.runs()) > 2 or case.entries("done"), "the node itself brings it back", 180)
    return "locks are private: nothing was taken over; the node that came back recovered its own"


def cut(case: Case) -> str:
    """One node is cut off for longer than the lease, in the middle of a restartable job, and comes back."""
    case.make()
    first, second = case.ground.sides
    case.start(first)
    case.start(second)
    _wait_acquainted(case)
    script = f'[ "$SPOOLDADD_NODE" = {first.name} ] && {{ sleep 400; echo late >> {case.ran}.late; }} || true'
    number = 0
    while not any(node == first.name for _, node, _ in case.runs()):
        case.drop(first, f"job{number:03}", script, restartable=True)
        number += 1
        until(lambda number=number: len(case.runs()) >= number, "it runs", 180)
    victim = next(name for name, node, _ in case.runs() if node == first.name)
    case.ground.cut(first)
    began = time.monotonic()
    try:
        until(lambda: [victim, second.name, "2"] in case.runs(), f"`{second.name}` takes it over", 300)
        took_s = time.monotonic() - began
        case.wait_done(number)
    finally:
        case.ground.heal(first)
    healed = time.monotonic()
    until(lambda: not _has_job(first), "the late original is stopped", 240)
    stopped_s = time.monotonic() - healed
    until(lambda: not case.entries("running") and not case.entries("waiting"), "nothing is left over", 120)
    case.check_each_once(number, attempts=True)
    if Path(f"{case.ran}.late").exists():
        raise Broken("the late original ran to its end")
    if case.result("done", victim)["node"] != second.name:
        raise Broken("the late original filed its result")
    case.drop(second, "after")
    until(lambda: any(entry.startswith("after.") for entry in case.entries("done")), "a new job runs", 180)
    return (
        f"taken over {took_s:.0f} s after the cut, once in `done/`; the late original stopped {stopped_s:.0f} s after the "
        "link came back and filed nothing"
    )


def synced(case: Case) -> str:
    """Two copies of one spool: specs are dropped on either side, each runs once, and both sides see what became of it."""
    first, second = case.ground.sides
    count = min(case.size, 50)
    first.run("init", "--kind", "synced", "--nodes", f"{first.name},{second.name}", str(case.spool(first)))
    until(lambda: (case.spool(second) / ".spool" / "format.toml").exists(), "the mark of the spool has come over", 180)
    second.run("init", "--kind", "synced", "--nodes", f"{first.name},{second.name}", str(case.spool(second)))
    for side in case.ground.sides:
        case.start(side)
    case.drop_many(count)
    began = time.monotonic()
    for side in case.ground.sides:
        done = case.spool(side) / "done"
        while_it_moves(
            lambda done=done: sum(1 for entry in done.iterdir() if (entry / "result.toml").exists()), count, "done"
        )
    took_s = time.monotonic() - began
    starts = Counter(name for name, _node, _attempt in case.runs())
    again = [name for name, number in starts.items() if number > 1]
    if again or len(starts) != count:
        raise Broken(f"run twice {again}, never run {count - len(starts)}")
    for side in case.ground.sides:
        spool = case.spool(side)
        names = Counter(entry.split(".")[0] for entry in os.listdir(spool / "done") if not entry.startswith("."))
        if len(names) != count or max(names.values()) > 1 or os.listdir(spool / "failed"):
            raise Broken(f"on {side.name}: {len(names)} names in `done/`, {os.listdir(spool / 'failed')} in `failed/`")
        conflicts = [path.name for path in spool.rglob("*.sync-conflict-*")]
        if conflicts:
            raise Broken(f"on {side.name} there are conflicts: {conflicts[:5]}")
    by_node = Counter(node for _name, node, _attempt in case.runs())
    score = ", ".join(f"{node} ran {number}" for node, number in sorted(by_node.items()))
    return (
        f"{count} specs dropped on either side in turn, each run once ({score}), results on both sides after {took_s:.0f} s"
    )


def _has_job(side: Side) -> bool:
    """Is there a process of a job here, one that sleeps?"""
    for pid in side.processes():
        try:
            if Path("/proc", str(pid), "cmdline").read_bytes().startswith(b"sleep\0"):
                return True
        except OSError:
            continue
    return False


def _slow_on(side: Side) -> str:
    return f'[ "$SPOOLDADD_NODE" = {side.name} ] && sleep 300 || sleep 0.2'


def _wait_acquainted(case: Case) -> None:
    """Wait until each node has seen what the other's locks are worth, or long enough."""
    proofs = case.truth / ".spool" / "proofs"
    end = time.monotonic() + 90
    while time.monotonic() < end and len(list(proofs.glob("*.toml")) if proofs.is_dir() else []) < 2:
        time.sleep(1)


SCENARIOS: dict[str, Callable[[Case], str]] = {
    "probe": probe,
    "once": once,
    "restart": restart,
    "lost-reply": lost_reply,
    "other-side": other_side,
    "clocks": clocks,
    "killed": killed,
    "cut": cut,
    "synced": synced,
}
