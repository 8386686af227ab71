"""A worker under a service manager: what it says on the notify socket, and what a reload does. The socket is a real one."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Node, result_of, until


class Manager:
    """Listens as systemd does."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.setblocking(False)
        self._heard: list[str] = []

    def environ(self, **more: str) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self.path), "SPOOLDADD_INTAKE__SETTLE": "0.1s", **more}

    def heard(self) -> list[str]:
        """Every line so far."""
        while True:
            try:
                self._heard += self.socket.recv(8192).decode().splitlines()
            except BlockingIOError:
                return self._heard

    def forget(self) -> None:
        self.heard()
        self._heard.clear()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.socket.close()


def configure(node: Node, text: str) -> None:
    (node.spool / ".spool" / "worker.toml").write_text(text)


def status(manager: Manager) -> str:
    found = [line for line in manager.heard() if line.startswith("STATUS=")]
    return found[-1] if found else ""


def gated(node: Node, name: str, **environ: str) -> Path:
    """Drop a job that ends when the file that is returned appears; wait until it runs."""
    gate = node.spool.parent / f"gate-{name}"
    node.drop(f"{name}.toml", f'command = "until test -e {gate}; do sleep 0.05; done"\n')
    until(lambda: any((path / "output.log").exists() for path in node.records("running", name)), f"`{name}` runs")
    return gate


def test_it_is_ready_when_the_spool_is_open_and_says_how_it_stands_and_when_it_stops(node: Node, manager: Manager):
    worker = node.start(environ=manager.environ())
    until(lambda: "READY=1" in manager.heard(), "it is ready")
    gate = gated(node, "one")
    until(lambda: "1 running" in status(manager), "the status counts the job")
    assert str(node.spool) in status(manager)
    gate.touch()
    until(lambda: "0 running" in status(manager), "the status is kept current")
    worker.terminate()
    assert worker.wait(20) == 0
    assert "STOPPING=1" in manager.heard()
    assert not [line for line in manager.heard() if line.startswith("WATCHDOG")]  # nobody has asked for it


def test_a_directory_that_is_no_spool_is_never_ready(node: Node, manager: Manager):
    done = node.run("worker", str(node.work), check=False, env={**node.environ, **manager.environ()})
    assert done.returncode == 4
    assert "READY=1" not in manager.heard()


def test_the_watchdog_is_fed_while_the_loop_lives(node: Node, manager: Manager):
    node.start(environ=manager.environ(WATCHDOG_USEC="600000"))
    until(lambda: manager.heard().count("WATCHDOG=1") > 4, "it says that it is alive")


def test_a_reload_takes_the_new_configuration_and_keeps_every_job(node: Node, manager: Manager):
    configure(node, "jobs = 2\n")
    worker = node.start(environ=manager.environ())
    gate = gated(node, "runs")
    configure(node, "jobs = 5\n[queues]\nshut = 0\n")
    manager.forget()
    worker.send_signal(signal.SIGHUP)
    until(lambda: "READY=1" in manager.heard(), f"it is ready again\n{node.said()[-2000:]}")
    heard = manager.heard()
    assert heard.index("RELOADING=1") < heard.index("READY=1")
    assert any(line.startswith("MONOTONIC_USEC=") for line in heard)
    until(lambda: node.said().count("event=worker-started") == 2, "the new one serves")
    assert "jobs=5" in node.said()
    node.drop("shut.toml", 'command = "true"\nqueue = "shut"\n')
    node.drop("next.toml", 'command = "true"\n')
    assert result_of(node.wait_finished("next"))["outcome"] == "success"
    gate.touch()
    result = result_of(node.wait_finished("runs"))
    assert (result["outcome"], result["attempt"]) == ("success", 1)
    assert (node.spool / "shut.toml").exists()
    assert worker.poll() is None


def test_a_configuration_that_cannot_be_used_is_refused_and_the_old_one_stays(node: Node, manager: Manager):
    configure(node, "jobs = 2\n")
    worker = node.start(environ=manager.environ())
    until(lambda: "READY=1" in manager.heard(), "it is ready")
    manager.forget()
    configure(node, 'jobs = 0\nwork_dirr = "/x"\n')
    worker.send_signal(signal.SIGHUP)
    until(lambda: "event=reload-refused" in node.said(), "it is refused")
    until(lambda: "READY=1" in manager.heard(), "the manager hears that it is over")
    assert any("refused" in line for line in manager.heard())
    assert "work_dirr" in node.said() and "jobs" in node.said()
    assert node.said().count("event=worker-started") == 1
    node.drop("next.toml", 'command = "true"\n')
    assert result_of(node.wait_finished("next"))["outcome"] == "success"
    configure(node, "jobs = 3\n")
    worker.send_signal(signal.SIGHUP)
    until(lambda: "jobs=3" in node.said(), "the next one is taken")


def test_a_worker_that_was_started_from_a_terminal_ends_with_it(node: Node):
    master, slave = pty.openpty()
    log = (node.spool.parent / "terminal.log").open("wb")
    worker = subprocess.Popen(
        ["setsid", "--ctty", *node.command, "worker", str(node.spool)],
        stdin=slave, stdout=log, stderr=log, env=node.environ, start_new_session=False,
    )  # fmt: skip
    node.workers.append(worker)
    os.close(slave)
    until(lambda: b"event=worker-started" in Path(log.name).read_bytes(), "the worker starts")
    os.close(master)  # the terminal is closed
    assert worker.wait(20) == 0
    assert b"signal=SIGHUP" in Path(log.name).read_bytes()
