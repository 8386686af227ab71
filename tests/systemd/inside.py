"""What is shown within a machine whose first process is systemd. Started there by `run.py`; standard library only.

Prints one line for each thing that was shown: its name, `ok`, `FAIL` or `not here`, and what was seen.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path

PROGRAM = "/opt/spool dadd/bin/spooldadd"
PIP = "/opt/spool dadd/bin/pip"
SPOOL = Path("/srv/my spool")
OWNED = Path("/srv/etl")
UNIT = r"spooldadd@srv-my\x20spool.service"
OWNED_UNIT = "spooldadd@srv-etl.service"
WHEELS = Path("/root/wheels")
# A deadline is no measurement. An emulated processor is twenty times slower than this was written on.
DEADLINE_S = 300.0
ONLY = os.environ.get("ONLY", "")
ROWS: list[tuple[str, str, str]] = []


class NotHere(Exception):
    """This machine lacks what is to be shown."""


def call(*command: str, check: bool = True, **options) -> str:
    """Run a program; return what it printed."""
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options)
    if check and done.returncode:
        raise AssertionError(f"{shlex.join(command)}: {done.returncode}: {done.stdout[-800:]}")
    return done.stdout


def until(condition: Callable[[], object], what: str):
    """Wait for a condition; fail with `what` after the deadline."""
    end = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.1)
    return value


def prop(name: str, unit: str = UNIT) -> str:
    return call("systemctl", "show", "--value", f"--property={name}", unit).strip()


def main_pid(unit: str = UNIT) -> int:
    return int(prop("MainPID", unit))


def group(pid: int) -> str:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line[3:] for line in lines if line.startswith("0::"))


def journal(*words: str) -> str:
    return call("journalctl", "--no-pager", "-o", "cat", *words)


class Job:
    """A job that runs until its gate opens."""

    def __init__(self, name: str, spool: Path = SPOOL, limits: str = "") -> None:
        self.name, self.spool = name, spool
        self.gate = Path(f"/tmp/gate-{name}")
        text = f'command = "until test -e {self.gate}; do sleep 0.2; done; echo went through"\n{limits}'
        drop(name, text, spool)
        self.pid = until(self._pid, f"`{name}` runs")

    def _pid(self) -> int:
        for path in (self.spool / "running").glob(f"{self.name}.*"):
            lock = self.spool / ".spool" / "locks" / f"{path.name}.lock"
            for line in lock.read_text().splitlines() if lock.exists() else []:
                if line.startswith("job_pid = "):
                    return int(line.split()[-1])
        return 0

    def lives(self) -> bool:
        return Path(f"/proc/{self.pid}/stat").exists()

    def finish(self) -> str:
        self.gate.touch()
        result = finished(self.name, self.spool)
        assert (result["outcome"], result["attempt"]) == ("success", 1), result
        assert "went through" in (Path(result["record"]) / "output.log").read_text()
        return "filed: success, attempt 1"


def drop(name: str, text: str, spool: Path = SPOOL) -> None:
    temporary = spool / f".{name}.part"
    temporary.write_text(text)
    os.chown(temporary, spool.stat().st_uid, spool.stat().st_gid)
    temporary.rename(spool / f"{name}.toml")


def finished(name: str, spool: Path = SPOOL) -> dict:
    def find() -> dict | None:
        for state in ("done", "failed"):
            for path in (spool / state).glob(f"{name}.*"):
                return {**tomllib.loads((path / "result.toml").read_text()), "record": str(path)}
        return None

    return until(find, f"`{name}` is filed")


def shown(what: str) -> Callable[[Callable[[], str]], None]:
    """Show one thing, now, and note what came of it."""

    def do(function: Callable[[], str]) -> None:
        if not re.search(ONLY, what):
            return
        try:
            row = (what, "ok", function())
        except NotHere as error:
            row = (what, "not here", str(error))
        except Exception as error:  # the next thing is shown all the same
            row = (what, "FAIL", f"{type(error).__name__}: {error}")
        ROWS.append(row)
        print("RESULT\t" + "\t".join(part.replace("\n", " ") for part in row), flush=True)

    return do


def install_spool(spool: Path, owner: str) -> None:
    call(PROGRAM, "init", str(spool))
    call("chown", "-R", f"{owner}:", str(spool))


@shown("installed with `service install --now`; active when READY=1 came")
def _() -> str:
    install_spool(SPOOL, "root")
    print(call(PROGRAM, "service", "install", str(SPOOL), "--now"))
    assert prop("ActiveState") == "active"
    until(lambda: "serving" in prop("StatusText"), "the status says what it does")
    return f"status: {prop('StatusText')}"


@shown("installing again changes nothing; an edited unit is left alone")
def _() -> str:
    again = call(PROGRAM, "service", "install", str(SPOOL))
    assert "written" not in again and "updated" not in again, again
    unit = Path("/etc/systemd/system/spooldadd.slice")
    kept = unit.read_text()
    unit.write_text(kept + "MemoryHigh=90%\n")
    edited = subprocess.run([PROGRAM, "service", "install", str(SPOOL)], text=True, capture_output=True, check=False)
    assert edited.returncode == 1 and "edited" in edited.stdout and "MemoryHigh" in unit.read_text(), edited
    unit.write_text(kept)
    return "five files unchanged; exit 1 and untouched"


@shown("`systemd-analyze verify` has nothing to say")
def _() -> str:
    said = call("systemd-analyze", "verify", f"/etc/systemd/system/{UNIT}", "/etc/systemd/system/spooldadd.slice")
    assert said.strip() == "", said
    return call("systemctl", "--version").split("\n")[0]


@shown("`systemd-analyze security`")
def _() -> str:
    return call("systemd-analyze", "security", "--no-pager", UNIT).strip().splitlines()[-1].lstrip("→ ")


@shown("a job runs outside of the service's group")
def _() -> str:
    job = Job("outside", limits="[limits]\ntasks = 50\n")
    found = group(job.pid)
    assert ".service" not in found and ".scope/job-" in found, found
    return f"{found.split('/')[-2][:40]}…/job-…; {job.finish()}"


@cache
def both() -> tuple[Job, Job]:
    """Two jobs that live through all of it: without a group of its own, and with one."""
    return Job("long"), Job("limited", limits='[limits]\ntasks = 50\nmemory = "200M"\n')


def both_live() -> None:
    assert all(job.lives() for job in both())


@shown("restart: running jobs live")
def _() -> str:
    long, limited = both()
    before = main_pid()
    call("systemctl", "restart", UNIT)
    assert main_pid() != before
    both_live()
    return f"worker {before} -> {main_pid()}, jobs {long.pid} and {limited.pid} live"


@shown("stop: running jobs live, nothing is left over in the service")
def _() -> str:
    both()
    call("systemctl", "stop", UNIT)
    assert prop("ActiveState") == "inactive"
    both_live()
    own = Path("/sys/fs/cgroup/spooldadd.slice", UNIT, "cgroup.procs")
    assert not own.exists() or not own.read_text()
    call("systemctl", "start", UNIT)
    warned = [line for line in journal("-u", UNIT).splitlines() if "left-over" in line]
    assert not warned, warned
    return "inactive, started again, no left-over process"


@shown("reload: the new configuration counts, the worker is the same, running jobs live")
def _() -> str:
    both()
    before = main_pid()
    (SPOOL / ".spool" / "worker.toml").write_text("jobs = 7\n")
    call("systemctl", "reload", UNIT)
    until(lambda: "jobs=7" in journal("-u", UNIT), "the worker says its new width")
    assert main_pid() == before
    both_live()
    return "jobs = 7 in force"


@shown("reload of a wrong configuration is refused with its errors; the old one stays")
def _() -> str:
    both()
    before = main_pid()
    (SPOOL / ".spool" / "worker.toml").write_text("jobs = 0\njobz = 1\n")
    done = subprocess.run(["systemctl", "reload", UNIT], text=True, capture_output=True, check=False)
    assert done.returncode != 0, "systemctl says that it went well"
    assert "jobz" in journal("-u", UNIT)
    assert prop("ActiveState") == "active" and main_pid() == before
    (SPOOL / ".spool" / "worker.toml").write_text("jobs = 7\n")
    both_live()
    return "`systemctl reload` fails, the journal has both errors, still active"


@shown("watchdog: a worker that was stopped (SIGSTOP) is killed and replaced, running jobs live")
def _() -> str:
    both()
    own = Path(f"/etc/systemd/system/{UNIT}.d/mine.conf")
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("[Service]\nWatchdogSec=8s\n")
    call("systemctl", "daemon-reload")
    call("systemctl", "restart", UNIT)
    before, restarts = main_pid(), int(prop("NRestarts"))
    os.kill(before, 19)
    until(lambda: int(prop("NRestarts")) > restarts and prop("ActiveState") == "active", "it is replaced")
    assert main_pid() not in (0, before)
    said = journal("-u", UNIT)
    assert "atchdog" in said and "most recent call first" in said
    both_live()
    own.unlink()
    call("systemctl", "daemon-reload")
    call("systemctl", "restart", UNIT)
    return f"worker {before} -> {main_pid()}, jobs live"


@shown("upgrade of the package: the new release serves, running jobs of the old one live and are filed")
def _() -> str:
    both()
    (wheel,) = WHEELS.glob("upgrade/spooldadd-*.whl")
    call(PIP, "install", "-q", "--no-index", "--no-deps", "--force-reinstall", str(wheel))
    release = wheel.name.split("-")[1]
    call("systemctl", "restart", UNIT)
    nodes = SPOOL / ".spool" / "nodes"
    line = f'release = "{release}"'
    until(lambda: any(line in path.read_text() for path in nodes.glob("*.toml")), "the new release serves")
    both_live()
    return f"release {release}; " + "; ".join(job.finish() for job in both())


@shown("a supervisor and its job are killed: filed as lost, and the leaf is swept")
def _() -> str:
    job = Job("orphan", limits="[limits]\ntasks = 50\n")
    leaf = Path("/sys/fs/cgroup" + group(job.pid))
    os.kill(int(Path(f"/proc/{job.pid}/stat").read_text().rpartition(")")[2].split()[1]), 9)
    os.kill(job.pid, 9)
    result = finished("orphan")
    assert result["outcome"] == "lost", result
    call("systemctl", "restart", UNIT)
    until(lambda: not leaf.exists(), "the leaf is swept")
    return result["reason"]


@shown("a limit of memory ends a job with outcome `oom`")
def _() -> str:
    code = "data = []\nwhile True: data.append(bytearray(4 << 20))"
    drop("greedy", f"command = ['python3', '-c', '''{code}''']\n[limits]\nmemory = '100M'\n")
    result = finished("greedy")
    assert result["outcome"] == "oom", result
    kept = "memory" in Path("/sys/fs/cgroup/cgroup.controllers").read_text()
    assert kept == ("the kernel ended it" in result["reason"]), result
    by = f"by the kernel, peak {result['memory_peak_bytes']}" if kept else "watched, for want of a controller"
    return f"{by}: {result['reason']}"


@shown("a limit of tasks holds a fork bomb, a limit of processors holds a loop")
def _() -> str:
    if "pids" not in Path("/sys/fs/cgroup/cgroup.controllers").read_text():
        raise NotHere("capability: the controllers of cgroup v2")
    limits = '[limits]\ntasks = 20\ntimeout = "60s"\nkill_after = 0\n'
    drop("bomb", f'command = "for i in $(seq 100); do sleep 600 & done"\n{limits}')
    drop("loop", 'command = ["timeout", "10", "sh", "-c", "while :; do :; done"]\n[limits]\ncpus = 0.2\n')
    bomb, loop = finished("bomb"), finished("loop")
    said = (Path(bomb["record"]) / "output.log").read_text()
    assert "fork" in said, said
    assert loop["cpu_s"] < 0.5 * loop["duration_s"], loop
    return f"fork was refused; {loop['cpu_s']} s of processor in {loop['duration_s']} s"


@shown('`control_groups = "off"`: a job in the service\'s own group lives through a restart; systemd warns')
def _() -> str:
    (SPOOL / ".spool" / "worker.toml").write_text('control_groups = "off"\n')
    call("systemctl", "restart", UNIT)
    job = Job("within")
    assert UNIT in group(job.pid).replace("\\\\", "\\"), group(job.pid)
    call("systemctl", "restart", UNIT)
    assert job.lives()
    warned = [line for line in journal("-u", UNIT).splitlines() if "left-over" in line]
    (SPOOL / ".spool" / "worker.toml").write_text("")
    said = job.finish()
    call("systemctl", "restart", UNIT)
    return f"{said}; journal: {warned[-1] if warned else 'no warning'}"


@shown("a spool of another user: the worker and its jobs are that user's, and live through a restart")
def _() -> str:
    call("useradd", "--create-home", "etl")
    install_spool(OWNED, "etl")
    call(PROGRAM, "service", "install", str(OWNED), "--now")
    job = Job("owned", OWNED, limits='[limits]\ntasks = 50\nmemory = "200M"\n')
    owner = Path(f"/proc/{job.pid}").owner()
    call("systemctl", "restart", OWNED_UNIT)
    assert job.lives() and owner == "etl", owner
    said = [line for line in journal("-u", OWNED_UNIT).splitlines() if "control-groups" in line][-1]
    return f"{job.finish()}; {said.partition('in_force=')[2][:160]}"


@shown("a disk that hangs for longer than the watchdog waits: nobody is restarted, the status says so, the job is filed")
def _() -> str:
    disk = Path("/srv/disk")
    if not disk.is_mount():
        raise NotHere("capability: an ext4 of its own, in a file")
    spool, unit = disk / "spool", "spooldadd@srv-disk-spool.service"
    own = Path(f"/etc/systemd/system/{unit}.d/mine.conf")
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("[Service]\nWatchdogSec=5s\n")
    call(PROGRAM, "init", str(spool))
    call(PROGRAM, "service", "install", str(spool), "--now")
    job, before = Job("frozen", spool), main_pid(unit)
    call("fsfreeze", "--freeze", str(disk))
    try:
        job.gate.touch()
        until(lambda: "does not answer" in prop("StatusText", unit), "the status says so")
        time.sleep(15)
        said, restarts = prop("StatusText", unit), prop("NRestarts", unit)
    finally:
        call("fsfreeze", "--unfreeze", str(disk))
    assert (main_pid(unit), restarts) == (before, "0"), call("journalctl", "--no-pager", "-o", "short-precise", "-u", unit)[
        -6000:
    ]
    return f"status: {said}; restarts: {restarts}; {job.finish()}"


@shown("a user's own service under his own manager (`systemd --user`): install, restart, reload, uninstall; its job lives")
def _() -> str:
    call("useradd", "--create-home", "ann")
    uid = call("id", "-u", "ann").strip()
    call("systemctl", "start", f"user@{uid}.service")
    own = ("runuser", "-u", "ann", "--", "env", f"XDG_RUNTIME_DIR=/run/user/{uid}", "HOME=/home/ann")
    spool, unit = Path("/home/ann/spool"), "spooldadd@home-ann-spool.service"
    call(*own, PROGRAM, "init", str(spool))
    call(*own, PROGRAM, "service", "install", str(spool), "--user", "--now")
    job = Job("mine", spool)
    owner, where = Path(f"/proc/{job.pid}").owner(), group(job.pid)
    ask = (*own, "systemctl", "--user", "show", "--value", "--property=MainPID", unit)
    before = call(*ask).strip()
    call(*own, "systemctl", "--user", "restart", unit)
    after = call(*ask).strip()
    call(*own, "systemctl", "--user", "reload", unit)
    assert job.lives() and owner == "ann" and before != after != "0", (owner, before, after)
    verified = call(*own, "systemd-analyze", "--user", "verify", unit, check=False).strip()
    assert not verified, verified
    said = job.finish()
    call(*own, PROGRAM, "service", "uninstall", "--user")
    left = [str(path) for path in Path("/home/ann/.config/systemd/user").rglob("spooldadd*")]
    assert not left, left
    return f"worker {before} -> {after}; the job ran in {where}; {said}"


@shown("`doctor --restart` proves it")
def _() -> str:
    said = call(PROGRAM, "doctor", str(SPOOL), "--restart", check=False)
    proof = [line for line in said.splitlines() if line.startswith("ok ") and "filed: success" in line]
    assert proof, said
    told = [line for line in call(PROGRAM, "doctor", str(SPOOL), check=False).splitlines() if "control-groups" in line]
    assert "scope" in told[0], told
    return " | ".join(" ".join(line.split()) for line in [*proof, *told])


@shown("credentials: a directory is loaded; a missing one keeps the service from starting")
def _() -> str:
    Path("/etc/spooldadd/credentials/db").write_text("secret")
    own = Path(f"/etc/systemd/system/{UNIT}.d/mine.conf")
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("[Service]\nLoadCredential=spooldadd:/etc/spooldadd/credentials\n")
    call("systemctl", "daemon-reload")
    call("systemctl", "restart", UNIT)
    environ = Path(f"/proc/{main_pid()}/environ").read_bytes().split(b"\0")
    found = next(entry.split(b"=", 1)[1].decode() for entry in environ if entry.startswith(b"CREDENTIALS_DIRECTORY="))
    names = sorted(os.listdir(found))
    own.write_text("[Service]\nLoadCredential=spooldadd:/etc/spooldadd/nowhere\n")
    call("systemctl", "daemon-reload")
    done = subprocess.run(["systemctl", "restart", UNIT], text=True, capture_output=True, check=False)
    own.unlink()
    own.parent.rmdir()
    call("systemctl", "daemon-reload")
    call("systemctl", "restart", UNIT)
    return f"{names}; missing: exit {done.returncode}"


@shown("a scope for each job would cost")
def _() -> str:
    begun = time.monotonic()
    for _ in range(10):
        call("systemd-run", "--quiet", "--scope", "true")
    by_run = (time.monotonic() - begun) / 10
    begun = time.monotonic()
    for number in range(10):
        sleeper = subprocess.Popen(["sleep", "300"])
        properties = ["PIDs", "au", "1", str(sleeper.pid)]
        call(
            "busctl", "--quiet", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))", f"probe-{number}.scope", "fail",
            "1", *properties, "0",
        )  # fmt: skip
        sleeper.kill()
        sleeper.wait()
    return f"{by_run * 1e3:.0f} ms by systemd-run, {(time.monotonic() - begun) * 100:.0f} ms by busctl and a process"


@shown("uninstall: the service and its files are gone, a running job lives and is filed")
def _() -> str:
    job = Job("last")
    print(call(PROGRAM, "service", "uninstall"))
    left = [str(path) for path in Path("/etc/systemd/system").rglob("spooldadd*")]
    assert not left, left
    assert job.lives()
    return job.finish()


def main() -> int:
    """Say how it went."""
    failed = [row for row in ROWS if row[1] == "FAIL"]
    if failed:
        print(journal("-b", "-n", "150"))
    print(f"DONE {len(ROWS)} shown, {len(failed)} failed", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
