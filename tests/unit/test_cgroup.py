"""The control group of one attempt, in the real tree of cgroup v2 where that can be written."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spooldadd import cgroup, grouping, names
from spooldadd.log import Log
from spooldadd.plan import Limits, Plan
from spooldadd.spawn import Streams, spawn_limited
from spooldadd.tree import Tree
from tests.support import until


def limits(**values):
    found = Limits()
    for name, value in values.items():
        setattr(found, name, value)
    return found


def make_base():
    """A group of our own below the one that we are in; None where that cannot be made."""
    own = grouping.own_group()
    if own is None or os.getuid() != 0:
        return None
    path = os.path.join(own, f"spooldadd-test-{names.random_part()}")
    try:
        os.mkdir(path)
    except OSError:
        return None
    return path


@pytest.fixture
def base():
    path = make_base()
    if path is None:
        pytest.skip("needs the capability: a tree of cgroup v2 that this user can write")
    yield path
    for entry in os.scandir(path):
        if entry.is_dir():
            cgroup.Leaf(entry.path).kill()
            cgroup.Leaf(entry.path).remove()
    cgroup.Leaf(path).remove()


def start(leaf, *command):
    null = os.open(os.devnull, os.O_RDWR)
    try:
        return spawn_limited(command[0], list(command), dict(os.environ), Streams(null, null, null), {}, leaf)
    finally:
        os.close(null)


def test_a_job_is_in_its_leaf_from_its_first_instruction_and_the_leaf_goes_after_it(base):
    leaf = cgroup.make(base, "abcdefghijklmnop", "a.1.xyz", limits(tasks=100))
    code = "import sys; sys.exit(not open('/proc/self/cgroup').read().rstrip().endswith('/job-abcdefghijkl-a.1.xyz'))"
    pid = start(leaf, sys.executable, "-c", code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert leaf.cpu_s() > 0
    assert leaf.remove()
    assert os.listdir(base) and not os.path.exists(leaf.path)


def test_all_that_is_in_a_leaf_is_killed_at_once(base):
    leaf = cgroup.make(base, "id", "a.1.xyz", limits(tasks=100))
    pid = start(leaf, "/bin/sh", "-c", "setsid sleep 300 & trap '' TERM; sleep 300")
    procs = Path(leaf.path, "cgroup.procs")
    until(lambda: len(procs.read_text().splitlines()) == 3, "the job has started")
    if not leaf.kill():
        os.killpg(pid, signal.SIGKILL)
        pytest.skip("needs the capability: cgroup.kill (Linux 5.14)")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    until(lambda: procs.read_text() == "", "nothing is left in it")
    assert leaf.remove()


def test_the_tree_of_a_job_is_killed_by_its_leaf(base):
    leaf = cgroup.make(base, "id", "a.1.xyz", limits(tasks=100))
    tree = Tree(start(leaf, "/bin/sh", "-c", "sleep 300 & sleep 300"), leaf)
    assert tree.kill()
    assert os.WTERMSIG(tree.status) == signal.SIGKILL
    until(leaf.remove, "the leaf is empty")


def test_a_limit_without_a_file_in_the_kernel_is_told_and_memory_is_watched_then(base):
    leaf = cgroup.make(base, "id", "a.1.xyz", limits(memory_bytes=2**30, tasks=10, cpus=0.5))
    assert sorted(leaf.kept + leaf.missing) == ["cpus", "memory_bytes", "tasks"]
    rest = cgroup.watched(limits(memory_bytes=2**30, stall_s=3.0), leaf)
    assert (rest.memory_bytes is None) == ("memory_bytes" in leaf.kept)
    assert rest.stall_s == 3.0
    assert set(cgroup.not_kept(limits(cpus=1.0, tasks=3), leaf)) == set(leaf.missing) - {"memory_bytes"}


def test_a_sweep_ends_and_removes_what_is_over_and_nothing_else(base, tmp_path):
    (tmp_path / "runs.1.xyz").mkdir()
    over, runs, foreign = (
        cgroup.make(base, spool_id, record, limits(tasks=10))
        for spool_id, record in (("id", "over.1.xyz"), ("id", "runs.1.xyz"), ("other", "over.1.xyz"))
    )
    stray = start(over, "/bin/sleep", "300")
    assert cgroup.sweep(base, "id", str(tmp_path)) in (0, 1)
    assert until(lambda: os.waitpid(stray, os.WNOHANG) != (0, 0), "the stray is ended")
    cgroup.sweep(base, "id", str(tmp_path))
    assert [os.path.exists(leaf.path) for leaf in (over, runs, foreign)] == [False, True, True]


def test_no_leaf_is_made_where_no_limit_needs_one_or_there_is_no_place(tmp_path):
    assert cgroup.make(str(tmp_path), "id", "a.1.xyz", limits(timeout_s=3.0, open_files=64)) is None
    assert cgroup.make("", "id", "a.1.xyz", limits(tasks=3)) is None
    assert cgroup.make(str(tmp_path / "gone"), "id", "a.1.xyz", limits(tasks=3)) is None
    assert os.listdir(tmp_path) == []


def test_a_limit_that_nobody_keeps_is_logged_once_for_the_job(capfd):
    plan = Plan()
    plan.job, plan.limits = "a.20261121T101500Z.abcde", limits(cpus=1.0, tasks=3, memory_bytes=2**30)
    assert cgroup.of_plan(plan, Log()) is None
    said = capfd.readouterr().err
    assert 'event=limit-not-kept job=a.20261121T101500Z.abcde limits="cpus, tasks"' in said


def test_what_the_kernel_counted_is_read_from_its_files(tmp_path):
    leaf = cgroup.Leaf(str(tmp_path))
    assert (leaf.cpu_s(), leaf.peak_bytes(), leaf.oom_kills()) == (None, None, 0)
    (tmp_path / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    (tmp_path / "memory.peak").write_text("4096\n")
    (tmp_path / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 1\n")
    assert (leaf.cpu_s(), leaf.peak_bytes(), leaf.oom_kills()) == (1.5, 4096, 2)


def test_the_limits_are_written_as_the_kernel_reads_them(tmp_path):
    for name in ("memory.max", "memory.swap.max", "memory.oom.group", "cpu.max", "pids.max"):
        (tmp_path / name).touch()
    leaf = cgroup.Leaf(str(tmp_path))
    leaf.limit(limits(memory_bytes=2**30, cpus=1.5, tasks=20))
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {
        "memory.max": "1073741824", "memory.swap.max": "0", "memory.oom.group": "1", "cpu.max": "150000 100000",
        "pids.max": "20",
    }  # fmt: skip
    assert leaf.missing == []


def test_a_process_is_found_in_its_group():
    own = grouping.own_group()
    if own is None:
        pytest.skip("needs the capability: a mounted tree of cgroup v2")
    child = subprocess.Popen(["sleep", "300"])
    try:
        assert grouping.own_group(child.pid) == own
        assert str(child.pid) in Path(own, "cgroup.procs").read_text().split()
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    ("group", "uid", "unit"),
    [
        ("/sys/fs/cgroup/system.slice/spooldadd@srv.service", 0, "spooldadd@srv.service"),
        ("/sys/fs/cgroup/spooldadd.slice/spooldadd@srv.service/worker", 0, "spooldadd@srv.service"),
        ("/sys/fs/cgroup/user.slice/user-0.slice/session-3.scope", 0, None),
    ],
)
def test_a_service_is_found_by_its_group(group, uid, unit):
    assert grouping.unit_of(group) == unit


def test_switched_off_is_off(tmp_path):
    place = grouping.find("off", os.getpid(), str(tmp_path))
    assert (place.kind, place.base) == ("tree", "")
    assert place.sentence == 'process tree (`control_groups = "off"`)'


def test_a_scope_alone_is_not_replaced_by_a_leaf(tmp_path):
    place = grouping.find("scope", os.getpid(), str(tmp_path))
    if place.kind == "scope":
        pytest.skip("needs the capability: a machine whose service manager makes no scope for us")
    assert (place.kind, place.base) == ("tree", "")
    assert place.why
