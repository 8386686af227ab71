"""What one job costs in system calls: counted, so that no clock is asked, and the same on a busy machine.

A queue of twenty and one of fifty are served under strace; the difference, for thirty jobs, holds nothing of a start.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from spooldadd import together
from tests.faults import steps
from tests.faults.bench import Bench
from tests.support import Node

FEW, MANY = 20, 50
# The worker's and the supervisor's together, without those of the job itself. Seen: 89 to 95.
MOST_CALLS = 110
# Its record, claim, log and result; the lock file and the work directory where no earlier job has left one.
MOST_MADE = 6
# What is not to be shown does not stop the process: a start makes thousands of calls.
STRACE = ["strace", "-f", "-qq", "--seccomp-bpf"]
CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def served(root: Path, jobs: int, durability: str = "process", calls: str = "all") -> tuple[Counter[str], int]:
    """Return these calls of worker, launcher and supervisors by name, and how many files and directories they made."""
    root.mkdir()
    node = Node(root, durability=durability)
    for number in range(jobs):
        node.drop(f"job-{number}.toml", f'command = ["/bin/true"]\n# {number}\n')
    trace = root / "trace"
    shown = ["-e", f"trace={calls}", "-o", str(trace)]
    command = [*STRACE, *shown, *node.command, "worker", "--drain", "--jobs", "1"]
    subprocess.run(command, env={**node.environ, **node.quick}, check=True, capture_output=True, timeout=120)
    assert len(node.records("done")) == jobs
    found = [match for line in trace.read_text(errors="replace").splitlines() if (match := CALL.match(line))]
    of_jobs = {match[1] for match in found if match[2] == "execve" and '"/bin/true"' in match[3]}
    ours = [match for match in found if match[1] not in of_jobs]
    made = sum("O_CREAT" in match[3] or match[2] == "mkdir" for match in ours if str(root) in match[3])
    node.close()
    return Counter(match[2] for match in ours), made


def test_a_job_costs_a_bounded_number_of_calls(tmp_path):
    for go in ("first", "second"):  # on a very busy machine an offer may lapse, which costs a claim more
        (few, made_few), (many, made_many) = (served(tmp_path / f"{go}-{jobs}", jobs) for jobs in (FEW, MANY))
        calls, made = (many.total() - few.total()) / (MANY - FEW), (made_many - made_few) / (MANY - FEW)
        if calls <= MOST_CALLS and made <= MOST_MADE:
            break
    one = {name: round((many[name] - few[name]) / (MANY - FEW), 1) for name in many if many[name] > few[name]}
    shown = dict(sorted(one.items(), key=lambda entry: -entry[1]))
    assert calls <= MOST_CALLS, shown
    assert made <= MOST_MADE, shown
    assert not any(one.get(name) for name in ("fsync", "fdatasync", "sync", "clone")), shown


def test_a_history_costs_a_worker_nothing(tmp_path):
    """A million finished records take half a second to list: no start and no filing may do so."""
    node = Node(tmp_path, durability="process")
    node.drop("job.toml", 'command = ["/bin/true"]\n')
    node.drop("wrong.toml", "comand = 1\n")
    trace = tmp_path / "trace"
    command = [*STRACE, "-e", "trace=open,openat", "-o", str(trace), *node.command, "worker", "--drain"]
    subprocess.run(command, env={**node.environ, **node.quick}, check=True, capture_output=True, timeout=120)
    assert (len(node.records("done")), len(node.records("failed"))) == (1, 1)
    opened = [line for line in trace.read_text(errors="replace").splitlines() if "O_DIRECTORY" in line]
    assert [line for line in opened if f'"{node.spool}/waiting"' in line]  # or the trace would show nothing
    assert not [line for line in opened if f'"{node.spool}/done"' in line or f'"{node.spool}/failed"' in line]
    node.close()


def test_a_job_that_survives_a_power_cut_waits_six_times_for_the_disk(tmp_path):
    """Four for its end, two for its claim, each for one file or for several at once; one that goes on waits four times."""
    names = ("fsync", "io_submit")
    (few, _), (many, _) = (served(tmp_path / str(jobs), jobs, "power", ",".join(names)) for jobs in (10, 30))
    waits = {name: (many[name] - few[name]) / 20 for name in names}
    most = 6 if waits["io_submit"] else 8  # where the kernel takes one at a time only
    assert sum(waits.values()) < most + 0.5, waits


def test_a_supervisor_that_goes_on_waits_four_times_for_each_job():
    """For two jobs of one supervisor, the second of which it was offered; what is asked for together is one wait."""
    bench = Bench()
    bench.drop(steps.ONCE)
    counted = bench.root / "waits"

    def count() -> None:
        step, waits = steps.go_on(bench, is_whole=True), []
        together_for_real, alone = together.sync, os.fsync

        def counting(fd):
            waits.append(fd)
            alone(fd)

        def counting_together(fds, *, at_once):
            waits.append(fds)
            os.fsync = alone
            try:
                return together_for_real(fds, at_once=at_once)
            finally:
                os.fsync = counting

        together.sync, os.fsync = counting_together, counting
        step()
        counted.write_text(str(len(waits)))

    try:
        assert bench.in_fork(count) == 0, bench.said()
        assert int(counted.read_text()) == 2 * 4
    finally:
        bench.close()
