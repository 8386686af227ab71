#!/usr/bin/env python3
"""Kill the real worker, its launcher and its supervisors at every file-changing system call in turn; or let calls fail.

    .venv/bin/python tests/faults/sweep.py                   kill
    .venv/bin/python tests/faults/sweep.py --error EIO       let each call fail once instead
    .venv/bin/python tests/faults/sweep.py --syscalls rename,unlink --scene fails

Needs strace. A spool with one job of each scene is served by `spooldadd worker --drain` under strace: once to see which
calls, by their number in their process, touch the spool and the work directories; then once for each of these, with
`-e inject=KIND:signal=KILL:when=N`. strace counts per process, so the N-th call of the worker and the N-th of a supervisor
are both struck, and whoever follows a killed one is struck again. Then a worker is started without strace, and has to
bring everything to its end. SIGKILL comes at the entry of a call, so that call is not done.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from spooldadd import durable  # this script may be run from anywhere
from tests.support import BIN, end_processes_of, result_of

KINDS = "openat,write,rename,link,linkat,unlink,unlinkat,mkdir,rmdir,fsync,ftruncate,flock,sendfile"
TRIES = 3
# Each new launcher makes its N-th call, too: one that cannot be started under strace is tried for ever, and rightly so.
STRIKE_S = 20.0
READS = re.compile(r"O_RDONLY(?!.*O_CREAT)")
STARTED = re.compile(r"event=started job=(\w+)\S* .*pid=(\d+)")
CALL = re.compile(r"(\d+) +(\w+)\(")
LINE = 'echo "$SPOOLDADD_ATTEMPT" >> "$LINES/'
SCENES = {
    "succeeds": f"""command = '{LINE}succeeds"; echo kept > kept.txt'\n[keep]\nfiles = ["kept.txt"]\n[config]\nkey = 1\n""",
    "fails": f"""command = '{LINE}fails"; exit 3'\n""",
    "again": f"""command = '{LINE}again"; test "$SPOOLDADD_ATTEMPT" -ge 2'\n[retry]\nattempts = 2\nbackoff = "10ms"\n""",
    "restartable": f"""command = '{LINE}restartable"'\nrestartable = true\n""",
    "invalid": """command = ["true"]\ncomand = 1\n""",
}
OUTCOMES = {
    "succeeds": {"success", "lost"},
    "fails": {"exit", "lost"},
    "again": {"success", "lost"},
    "restartable": {"success"},
    "invalid": {"invalid"},
}


class Trial:
    """One spool, one strike."""

    def __init__(self, scenes: list[str]) -> None:
        self.scenes = scenes
        self.root = Path(tempfile.mkdtemp(prefix="spooldadd-sweep-"))
        self.spool, self.work, self.lines = self.root / "spool", self.root / "work", self.root / "lines"
        self.trace = self.root / "trace"
        self.lines.mkdir()
        self.struck_jobs: set[str] = set()  # their own calls failed, so they may end as they like
        self.environ = {
            **os.environ,
            "LINES": str(self.lines),
            "TEST_WORK_DIR": str(self.work),
            "SPOOLDADD_WORK_DIR": str(self.work),
            "SPOOLDADD_INTAKE__SETTLE": "0s",
            "SPOOLDADD_NODE": "here",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.command = [str(BIN / "python"), "-m", "spooldadd"]
        self._run([*self.command, "init", str(self.spool)])
        for scene in scenes:
            temporary = self.root / scene
            temporary.write_text(SCENES[scene])
            temporary.rename(self.spool / f"{scene}.toml")

    def strike(self, kind: str, at: int, error: str) -> str:
        """Serve under strace; return the line of the call that was struck on our files, empty where there was none."""
        action = f"error={error}" if error else "signal=KILL"
        trace = ["strace", "-f", "-qq", "-y", "-o", str(self.trace), "-e", f"trace={kind}"]
        command = [*trace, "-e", f"inject={kind}:{action}:when={at}", *self._worker()]
        try:
            said = self._run(command, check=False, timeout_s=STRIKE_S).stderr
        except subprocess.TimeoutExpired as expired:
            said = (expired.stderr or b"").decode(errors="replace")
            end_processes_of(self.root)
        text = self.trace.read_text(errors="replace")
        injected = {line.split(" ", 1)[0] for line in text.splitlines() if "(INJECTED)" in line}
        self.struck_jobs = {scene for scene, pid in STARTED.findall(said) if pid in injected}
        return next((line for line in _struck(text, error) if str(self.root) in line), "")

    def look(self, kinds: list[str]) -> list[tuple[str, int]]:
        """Serve unharmed; return kind and number of each call on our files that changes something."""
        self._run(["strace", "-f", "-qq", "-y", "-o", str(self.trace), "-e", f"trace={','.join(kinds)}", *self._worker()])
        counts: Counter[tuple[str, str]] = Counter()
        found = set()
        for line in self.trace.read_text(errors="replace").splitlines():
            match = CALL.match(line)
            if match is None:
                continue
            counts[match[1], match[2]] += 1
            if str(self.root) in line and not READS.search(line):
                found.add((match[2], counts[match[1], match[2]]))
        return sorted(found)

    def mend(self) -> list[str]:
        """Serve without strace, as after a restart; return what is wrong with the end."""
        done = self._run(self._worker(), check=False)
        found = [] if done.returncode == 0 else [f"the new worker ended with {done.returncode}: {done.stderr[-300:]}"]
        for scene in self.scenes:
            found += self._problems_of(scene)
        for place in ("running", "waiting", ".spool/locks"):
            found += [f"left in {place}: {name}" for name in os.listdir(self.spool / place)]
        found += [f"left in the root: {path.name}" for path in self.spool.glob("*.toml")]
        return found + [f"a temporary file: {path}" for path in self.spool.rglob("*") if durable.is_temporary(path.name)]

    def close(self) -> None:
        end_processes_of(self.root)
        shutil.rmtree(self.root, ignore_errors=True)

    def _problems_of(self, scene: str) -> list[str]:
        finished = [path for state in ("done", "failed") for path in (self.spool / state).glob(f"{scene}.*")]
        if len(finished) != 1:
            return [f"{scene}: {len(finished)} finished records"]
        lines = self.lines / scene
        ran = lines.read_text().split() if lines.exists() else []
        result, spec = result_of(finished[0]), (finished[0] / "spec.toml").read_text()
        found = []
        if scene not in self.struck_jobs:
            found += self._untruths(scene, result, ran)
        found += [f"{scene}: an attempt ran twice: {ran}"] if len(ran) != len(set(ran)) else []
        found += [f"{scene}: state {result['state']}"] if result["state"] != finished[0].parent.name else []
        found += [f"{scene}: another spec"] if spec != SCENES[scene] else []
        return found

    def _untruths(self, scene: str, result: dict, ran: list[str]) -> list[str]:
        found = [f"{scene}: outcome {result['outcome']}"] if result["outcome"] not in OUTCOMES[scene] else []
        if result["outcome"] in ("success", "exit") and ran[-1:] != [str(result["attempt"])]:
            found.append(f"{scene}: attempt {result['attempt']} says {result['outcome']}, but {ran} ran")
        return found

    def _worker(self) -> list[str]:
        return [*self.command, "worker", str(self.spool), "--jobs", "2", "--drain"]

    def _run(self, command: list[str], *, check: bool = True, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        options = {"capture_output": True, "text": True, "errors": "replace", "timeout": timeout_s}
        return subprocess.run(command, env=self.environ, cwd="/", check=check, **options)


def _struck(trace: str, error: str) -> list[str]:
    """Return the calls that strace struck: those it marked, or the last of each process that it killed."""
    lines = trace.splitlines()
    if error:
        return [line for line in lines if "(INJECTED)" in line]
    killed = {match[1] for match in map(re.compile(r"(\d+) +\+\+\+ killed by SIGKILL").match, lines) if match}
    last = {}
    for line in lines:
        pid = line.split(" ", 1)[0]
        if pid in killed and "+++" not in line and "---" not in line:
            last[pid] = line
    return list(last.values())


def attempt(kind: str, at: int, error: str, scenes: list[str]) -> tuple[str, list[str]]:
    """Strike until it hits: which process makes which call differs a little from run to run."""
    for _ in range(TRIES):
        call, problems = attempt_once(kind, at, error, scenes)
        if call or problems:
            break
    return call, problems


def attempt_once(kind: str, at: int, error: str, scenes: list[str]) -> tuple[str, list[str]]:
    trial = Trial(scenes)
    try:
        call = trial.strike(kind, at, error)
        return call, trial.mend()
    except subprocess.TimeoutExpired as expired:
        return f"{kind} #{at}", [f"no end: {expired}"]
    finally:
        trial.close()


def plan(kinds: list[str], scenes: list[str]) -> list[tuple[str, int]]:
    trial = Trial(scenes)
    try:
        return trial.look(kinds)
    finally:
        trial.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--syscalls", default=KINDS)
    parser.add_argument("--error", default="", choices=["", *errno.errorcode.values()], metavar="ERRNO")
    parser.add_argument("--scene", action="append", choices=SCENES, help="only this job (may be repeated)")
    parser.add_argument("--at-once", type=int, default=4)
    options = parser.parse_args()
    scenes = options.scene or list(SCENES)
    points = plan(options.syscalls.split(","), scenes)
    print(f"{len(points)} calls: {dict(Counter(kind for kind, _ in points))}", flush=True)
    struck = wrong = 0
    with concurrent.futures.ThreadPoolExecutor(options.at_once) as pool:
        results = pool.map(lambda point: attempt(*point, options.error, scenes), points)
        for (kind, at), (call, problems) in zip(points, results, strict=True):
            struck += bool(call)
            wrong += bool(problems)
            if problems:
                print(f"BAD {kind} #{at}: {call.strip()[:200] or 'not struck'} :: {'; '.join(problems)}", flush=True)
    print(f"{len(points)} points, {struck} struck, {wrong} bad")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
