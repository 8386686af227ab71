"""A disk that hangs: no error, no end, only calls that do not come back. And then it goes on.

Two ways to make one: a frozen file system, where what writes waits; and a mount through FUSE whose server is stopped, where
everything waits, as on a share whose server is away.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.test_service_manager import Manager
from tests.faults.test_hard_conditions import ext4, gated
from tests.support import Node, end_processes_of, result_of, until

pytestmark = pytest.mark.slow
SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")
WATCHDOG_S = 2.0


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.socket.close()


@contextmanager
def frozen(place: Path) -> Iterator[None]:
    """Let everything wait that writes there; what is open and read goes on."""
    subprocess.run(["fsfreeze", "--freeze", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", place], check=False)


@contextmanager
def sshfs(root: Path) -> Iterator[int]:
    """Mount the directory `disk` at `spool` through a server that is started without ssh; give its pid."""
    server = next(filter(os.path.exists, SFTP_SERVERS), None)
    if server is None or not shutil.which("sshfs") or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("needs the capability to mount through FUSE (packages sshfs and openssh-sftp-server)")
    start, noted = root / "start", root / "pid"
    start.write_text(f"#!/bin/sh\necho $$ > {noted}\nexec {server}\n")
    start.chmod(0o755)
    for name in ("disk", "spool"):
        (root / name).mkdir(mode=0o755)
    options = f"ssh_command={start},default_permissions"
    done = subprocess.run(
        ["sshfs", f"here:{root / 'disk'}", root / "spool", "-o", options], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("needs the capability to mount through FUSE (packages sshfs and openssh-sftp-server)")
    pid = int(until(lambda: noted.exists() and noted.read_text().strip(), "the server runs"))
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        end_processes_of(root)
        subprocess.run(["fusermount3", "-u", "-z", root / "spool"], check=False, capture_output=True)


def outlives_the_watchdog(manager: Manager, pid: int) -> None:
    """The watchdog is fed for several times as long as it has patience, by the same process."""
    manager.forget()
    until(lambda: manager.heard().count("WATCHDOG=1") >= 8, "it says that it is alive while it waits")
    os.kill(pid, 0)


def test_a_disk_that_takes_no_write_makes_a_job_late_and_nobody_is_restarted_for_it(tmp_path: Path, manager: Manager):
    gate = tmp_path / "gate"
    with ext4(tmp_path) as place:
        place.chmod(0o755)
        node = Node(tmp_path, environ={"SPOOLDADD_INTAKE__SETTLE": "0s"})
        worker = node.start(environ=manager.environ(WATCHDOG_USEC=f"{WATCHDOG_S * 1e6:.0f}"))
        node.drop("one.toml", gated(gate))
        until(Path(f"{gate}.up").exists, "it runs")
        with frozen(place):
            gate.touch()
            outlives_the_watchdog(manager, worker.pid)
            assert node.finished("one") is None
        result = result_of(node.wait_finished("one"))
        assert (result["outcome"], result["attempt"]) == ("success", 1)
        node.drop("two.toml", "command = 'true'\n")
        assert result_of(node.wait_finished("two"))["outcome"] == "success"
        assert worker.poll() is None
        node.close()


def test_a_share_whose_server_hangs_is_waited_for_and_nobody_is_restarted_for_it(tmp_path: Path, manager: Manager):
    gate = tmp_path / "gate"
    with sshfs(tmp_path) as server:
        node = Node(tmp_path, environ={"SPOOLDADD_INTAKE__SETTLE": "0s", "SPOOLDADD_SCAN": "0.5s"})
        worker = node.start(environ=manager.environ(WATCHDOG_USEC=f"{WATCHDOG_S * 1e6:.0f}"))
        node.drop("one.toml", gated(gate))
        until(Path(f"{gate}.up").exists, "it runs")
        os.kill(server, signal.SIGSTOP)
        gate.touch()
        outlives_the_watchdog(manager, worker.pid)
        until(lambda: any("which does not answer" in line for line in manager.heard()), "the status says so")
        # Nothing ends a call through FUSE that its server has taken, KILL neither: so TERM counts afterwards.
        worker.terminate()
        until(lambda: "event=worker-stopping signal=SIGTERM" in node.said(), "it has heard of its end")
        os.kill(server, signal.SIGCONT)
        assert worker.wait(60) == 0
        result = result_of(node.wait_finished("one"))
        assert (result["outcome"], result["attempt"]) == ("success", 1)
        node.drop("two.toml", "command = 'true'\n")
        node.start()
        assert result_of(node.wait_finished("two"))["outcome"] == "success"
        node.close()
