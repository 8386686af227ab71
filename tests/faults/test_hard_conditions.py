"""Stopped processes, clocks that jump ahead, pids that came again, another boot, no memory, too many processes, slow and
read-only disks: what is not a crash, and looks like one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from spooldadd import claim, nodes, process, record, recovery
from spooldadd.layout import Layout
from spooldadd.tomltext import flat
from tests.faults import test_clock_set_back as clocks
from tests.faults.bench import Bench
from tests.faults.chaos import SUPERVISOR, holder_of, name_of, stopped
from tests.faults.steps import ONCE, RESTARTABLE
from tests.support import Node, end_processes_of, result_of, until

clock = clocks.clock


def gated(gate: Path, more: str = "") -> str:
    return f"""command = "touch {gate}.up; until test -e {gate}; do sleep 0.05; done"\n{more}"""


def running(node: Node, name: str) -> Path:
    return until(lambda: next(iter(node.records("running", name)), None), f"`{name}` runs")


# -- stopped, not dead


def test_a_worker_that_is_stopped_keeps_no_job_from_being_filed_and_goes_on_afterwards(node: Node, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    worker = node.start()
    node.drop("one.toml", gated(gate))
    until(Path(f"{gate}.up").exists, "it runs")
    with stopped(worker.pid):
        node.drop("two.toml", "command = 'true'\n")
        gate.touch()
        assert result_of(node.wait_finished("one"))["outcome"] == "success"
        assert node.finished("two") is None
    assert result_of(node.wait_finished("two"))["outcome"] == "success"


def test_a_supervisor_that_is_stopped_is_not_taken_for_dead(node: Node, tmp_path: Path) -> None:
    """Its lease is held, so nobody starts a twin, however often another worker looks."""
    gate, lines = tmp_path / "gate", tmp_path / "lines"
    worker = node.start()
    node.drop(
        "one.toml",
        f"restartable = true\ncommand = 'echo x >> {lines}; touch {gate}.up; until test -e {gate}; do sleep 0.1; done'\n",
    )
    until(Path(f"{gate}.up").exists, "it runs")
    path = running(node, "one")
    pid = holder_of(node.spool, path.name)["supervisor_pid"]
    assert name_of(pid) == SUPERVISOR
    with stopped(pid):
        gate.touch()
        worker.kill()
        worker.wait()
        node.start()
        found = node.run("--spool", str(node.spool), "recover")
        assert "runs; left alone" in found.stdout
        assert path.exists()
    assert result_of(node.wait_finished("one"))["outcome"] == "success"
    assert lines.read_text() == "x\n"


# -- clocks


@clocks.pytestmark
def test_a_clock_that_jumps_a_day_ahead_ends_no_job_and_starts_what_is_due(node: Node, clock: clocks.Clock, tmp_path: Path):
    gate = tmp_path / "gate"
    node.start("--jobs", "2", environ=clock.environ)
    node.drop("runs.toml", gated(gate, """[limits]\ntimeout = "10m"\nstall = "10m"\ncpu_time = "10m"\n"""))
    node.drop("again.toml", """command = "test $SPOOLDADD_ATTEMPT = 2"\n[retry]\nattempts = 2\nbackoff = "1h"\n""")
    until(lambda: node.records("waiting", "again"), "its first attempt failed")
    until(Path(f"{gate}.up").exists, "it runs")
    clock.set("+86400")
    node.drop("settles.toml", "command = 'true'\n")
    assert result_of(node.wait_finished("settles"))["outcome"] == "success"
    result = result_of(node.wait_finished("again"))
    assert (result["outcome"], result["attempt"]) == ("success", 2)
    gate.touch()
    result = result_of(node.wait_finished("runs"))
    assert result["outcome"] == "success"
    assert result["duration_s"] < 3600


# -- identities


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def _claim_as(bench: Bench, spec: str, **lines: object) -> str:
    """Claim in a process of its own that dies; its lock file says this about the supervisor."""
    bench.drop(spec)

    def die() -> None:
        claimed = bench.claim()
        os.write(claimed.lease, flat(lines).encode())

    bench.in_fork(die)
    (name,) = os.listdir(bench.spool_path / "running")
    return name


def test_a_pid_that_came_again_is_neither_waited_for_nor_ended(bench: Bench) -> None:
    """The lock file names a pid that is alive, and is somebody else: the start time tells."""
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            start = process.start_ticks(stranger.pid)
            assert start
            name = _claim_as(bench, ONCE, supervisor_pid=stranger.pid, supervisor_start=start - 1)
            assert recovery.recover_all(bench.context()) == {name: recovery.Found.LOST}
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_pids_that_come_round_again_within_seconds_confuse_nobody() -> None:
    """In a namespace with 301 pids every one comes again: hundreds of jobs, then recovery with dead holders all around."""
    probe = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", "echo 320 > /proc/sys/kernel/pid_max"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("needs the capability to make a pid namespace of its own, with a pid_max of its own (Linux 6.14)")
    script = f"echo 320 > /proc/sys/kernel/pid_max; exec {sys.executable} -m tests.faults.pids"
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "came again" in done.stdout


def test_what_ran_before_the_machine_went_down_is_lost_or_runs_again(bench: Bench) -> None:
    """Same pid, same start time, another boot: nothing of it can be alive."""
    own = {"supervisor_pid": os.getpid(), "supervisor_start": process.start_ticks(os.getpid())}
    name = _claim_as(bench, RESTARTABLE, **own)
    assert recovery.recover_all(bench.context()) == {name: recovery.Found.RUNNING}
    path = bench.spool_path / "running" / name / "claim.toml"
    lock = Path(Layout(str(bench.spool_path)).lock(name))
    for file in (path, lock):
        file.write_text(file.read_text().replace(process.boot_id(), "the-boot-before"))
    assert recovery.recover_all(bench.context()) == {name: recovery.Found.LOST}
    (left,) = (bench.spool_path / "waiting").iterdir()
    assert "went down while it ran" in (record.read_result(str(left), 1) or {})["reason"]


# -- no memory, too many processes


@contextmanager
def control_group(kind: str, **values: object) -> Iterator[Path]:
    """A group of cgroup v1 or v2 in which a worker is put; skipped where none can be made."""
    top = Path("/sys/fs/cgroup", kind) if Path("/sys/fs/cgroup", kind).is_dir() else Path("/sys/fs/cgroup")
    place = top / f"spooldadd-test-{os.getpid()}"
    try:
        place.mkdir()
        for name, value in values.items():
            (place / f"{kind}.{name}").write_text(str(value))
    except OSError:
        if place.exists():
            place.rmdir()
        pytest.skip(f"needs the capability to make a control group with `{kind}`")
    try:
        yield place
    finally:
        for pid in (place / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):  # it ended by itself a moment ago
                os.kill(int(pid), signal.SIGKILL)
        until(lambda: not (place / "cgroup.procs").read_text(), "the group is empty")
        place.rmdir()


def start_in(group: Path, node: Node, *arguments: str) -> None:
    """Start the worker in this group: what it starts is there, too."""
    command = node.command
    node.command = ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", *command]
    node.start(*arguments, environ={"SPOOLDADD_CONTROL_GROUPS": "off"})
    node.command = command


def test_where_the_kernel_kills_a_job_for_its_memory_the_job_is_filed_and_the_others_go_on(node: Node) -> None:
    name = "limit_in_bytes" if Path("/sys/fs/cgroup/memory").is_dir() else "max"
    with control_group("memory", **{name: 200 << 20}) as group:
        start_in(group, node, "--jobs", "1")
        node.drop(
            "greedy.toml", f"""command = ["{sys.executable}", "-c", "b = [bytearray(1 << 20) for _ in range(1000)]"]\n"""
        )
        result = result_of(node.wait_finished("greedy"))
        assert result["outcome"] in ("oom", "signal")
        assert result["signal"] == signal.SIGKILL
        node.drop("small.toml", "command = 'true'\n")
        assert result_of(node.wait_finished("small"))["outcome"] == "success"


def test_a_fork_bomb_under_a_limit_is_ended_whole_and_the_others_go_on(node: Node) -> None:
    bomb = "import os, time\nwhile True:\n  try: os.fork()\n  except OSError: time.sleep(0.05)\n"
    with control_group("pids", max=80) as group:
        start_in(group, node, "--jobs", "1")
        script = node.spool.parent / "bomb.py"
        script.write_text(bomb)
        node.drop(
            "bomb.toml", f"""command = ["{sys.executable}", "{script}"]\n[limits]\ntimeout = "2s"\nkill_after = "1s"\n"""
        )
        assert result_of(node.wait_finished("bomb"))["outcome"] == "timeout"
        node.drop("small.toml", "command = 'true'\n")
        assert result_of(node.wait_finished("small"))["outcome"] == "success"
        assert not [pid for pid in (group / "cgroup.procs").read_text().split() if str(script) in command_of(pid)]


def command_of(pid: str) -> str:
    """Return the command line of a process; empty where it has just ended."""
    try:
        return Path("/proc", pid, "cmdline").read_text()
    except OSError:
        return ""


# -- disks


@contextmanager
def ext4(root: Path) -> Iterator[Path]:
    """A file system in a file, mounted where the spool is to be."""
    image, place = root / "disk.img", root / "spool"
    place.mkdir()
    try:
        subprocess.run(["truncate", "-s", "64M", image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, place], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the capability to make and mount an ext4 in a file")
    try:
        yield place
    finally:
        end_processes_of(root)
        subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_that_turns_read_only_under_a_job_is_waited_for_and_nothing_is_lost_when_it_is_mounted_anew(tmp_path: Path):
    """As ext4 does after an error of the disk: files that are open stay open, and every write is refused."""
    gate = tmp_path / "gate"
    with ext4(tmp_path) as place:
        place.chmod(0o755)
        node = Node(tmp_path, environ={"SPOOLDADD_INTAKE__SETTLE": "0s"})
        worker = node.start()
        node.drop("one.toml", gated(gate, "restartable = true\n"))
        node.drop("later.toml", "command = 'true'\n[run]\nnot_before = 2099-01-01T00:00:00Z\n")
        until(Path(f"{gate}.up").exists, "it runs")
        os.sync()
        subprocess.run(["mount", "-o", "remount,abort", place], check=False, capture_output=True)
        gate.touch()
        until(
            lambda: "event=filing-waits" in node.said() and "Read-only" in node.said(), "the supervisor says that it waits"
        )
        assert worker.poll() is None
        worker.kill()  # the machine is started anew
        worker.wait()
        end_processes_of(node.work)
        until(lambda: subprocess.run(["umount", place], capture_output=True, check=False).returncode == 0, "it is free")
        subprocess.run(["mount", "-o", "loop", tmp_path / "disk.img", place], check=True)
        node.start()
        result = result_of(node.wait_finished("one"))
        assert result["outcome"] == "success"
        assert sorted(path.name for path in node.spool.glob("*.toml")) == ["later.toml"]
        node.close()


@pytest.mark.skipif(not shutil.which("strace"), reason="needs the capability to delay system calls (package strace)")
def test_a_slow_disk_makes_jobs_late_and_nothing_else(node: Node) -> None:
    """Every rename and every fsync of worker and supervisors takes a quarter of a second longer."""
    command = node.command
    delay = "inject=rename,fsync:delay_enter=250000"
    strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=rename,fsync", "-e", delay]
    node.command = [*strace, *command]
    worker = node.start("--jobs", "2")
    node.command = command
    for number in range(3):
        node.drop(f"j{number}.toml", "command = 'true'\nrestartable = true\n[limits]\ntimeout = '10m'\n")
    for number in range(3):
        result = result_of(node.wait_finished(f"j{number}"))
        assert (result["outcome"], result["attempt"]) == ("success", 1)
    places = Layout(str(node.spool))
    (own,) = nodes.read_all(places)
    first = nodes.read_all(places)[own]["heartbeat"]
    until(lambda: nodes.read_all(places)[own]["heartbeat"] != first, "its heart beats")
    assert nodes.is_serving(places, own)
    os.kill(int(nodes.read_all(places)[own]["pid"]), signal.SIGTERM)
    assert worker.wait(60) == 0
    assert claim.read_holder(places, "none") == claim.Holder()
