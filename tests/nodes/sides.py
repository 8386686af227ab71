"""A node of a ground: a network of its own, its mount of the shared directory, its workers; and the server between two."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SERVER_ADDRESS = "10.99.0.1"
MARK = "TEST_NODES_SIDE"


class Missing(Exception):
    """This machine lacks something; the message says what."""


class Broken(Exception):
    """A promise did not hold; the message says which and what was seen."""


def need(*programs: str) -> None:
    """Raise Missing where a program is not here. `program=package` names where it comes from."""
    for entry in programs:
        program, _, package = entry.partition("=")
        if shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
            raise Missing(f"the program `{program}` (package `{package or program}`)")


def sh(*command: str, check: bool = True, timeout_s: float = 120.0, **options) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    options = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, **options}
    done = subprocess.run(command, check=False, timeout=timeout_s, **options)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def until(condition: Callable[[], object], what: str, deadline_s: float = 300.0):
    """Wait until this is true; where it does not come true, a promise broke."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise Broken(f"not within {deadline_s:g} s: {what}")
        time.sleep(0.2)
    return value


def while_it_moves(count: Callable[[], int], wanted: int, what: str, still_s: float = 180.0) -> None:
    """Wait until the count is reached, as long as it still grows: however slow the machine, standing still is the fault."""
    best, since = -1, time.monotonic()
    while (now := count()) < wanted:
        if now > best:
            best, since = now, time.monotonic()
        if time.monotonic() - since > still_s:
            raise Broken(f"{what}: {now} of {wanted}, and for {still_s:g} s no more")
        time.sleep(0.5)


class Network:
    """A bridge with the server at 10.99.0.1, and one network name space for each node, joined to it by a link."""

    def __init__(self, nodes: list[str]) -> None:
        need("ip=iproute2", "nft=nftables", "ss=iproute2")
        sh("ip", "link", "set", "lo", "up")
        sh("ip", "link", "add", "br0", "type", "bridge")
        sh("ip", "addr", "add", f"{SERVER_ADDRESS}/24", "dev", "br0")
        sh("ip", "link", "set", "br0", "up")
        for number, node in enumerate(nodes, 1):
            sh("ip", "netns", "add", node)
            sh("ip", "link", "add", f"v{node}", "type", "veth", "peer", "name", "e0", "netns", node)
            sh("ip", "link", "set", f"v{node}", "master", "br0", "up")
            sh("ip", "-n", node, "addr", "add", f"10.99.0.{10 + number}/24", "dev", "e0")
            sh("ip", "-n", node, "link", "set", "e0", "up")
            sh("ip", "-n", node, "link", "set", "lo", "up")
        self.address = {node: f"10.99.0.{10 + number}" for number, node in enumerate(nodes, 1)}

    def prefix(self, node: str) -> list[str]:
        """Return what to put before a command that is to run on this node."""
        return ["nsenter", f"--net=/run/netns/{node}", "--"]

    def cut(self, node: str) -> None:
        """Pull this node's plug."""
        sh("ip", "link", "set", f"v{node}", "down")

    def heal(self, node: str) -> None:
        """Put it in again."""
        sh("ip", "link", "set", f"v{node}", "up")

    def lose_replies(self, node: str, seconds: float, meanwhile: Callable[[], None] | None = None) -> None:
        """Let requests of this node arrive and drop what the server answers; then end its connections.

        The node sends its requests once more over a new connection: what it asked for may have been done already.
        """
        nft = [*self.prefix(node), "nft"]
        sh(*nft, "add table inet lost; add chain inet lost input { type filter hook input priority 0; }")
        sh(*nft, f"add rule inet lost input ip saddr {SERVER_ADDRESS} drop")
        time.sleep(seconds)
        sh("ss", "--kill", "dst", self.address[node], check=False)
        if meanwhile is not None:
            meanwhile()
        sh(*nft, "delete table inet lost")


class Side:
    """One node: where it sees the share, and the processes that a scenario started on it."""

    def __init__(self, name: str, share: Path, local: Path, prefix: list[str]) -> None:
        self.name = name
        self.share = share
        self.local = local
        self.before: list[str] = []  # such as `faketime`
        self.workers: list[subprocess.Popen[bytes]] = []
        self.local.mkdir(parents=True, exist_ok=True)
        # Two machines have two boots. With one, each node would look for the other's processes, and find them alive.
        boot = self.local.parent / f"boot-{name}"
        boot.write_text(f"{uuid.uuid4()}\n")
        bind = f'mount --bind {boot} /proc/sys/kernel/random/boot_id && exec "$@"'
        self.prefix = [*prefix, "unshare", "--mount", "sh", "-c", bind, "sh"]

    def environ(self) -> dict[str, str]:
        """Return the environment of everything that runs on this node."""
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.local),
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(PROJECT),  # this copy of the project, wherever the installed one is
            "SPOOLDADD_NODE": self.name,
            "SPOOLDADD_WORK_DIR": str(self.local / "work"),
            "SPOOLDADD_CACHE_DIR": str(self.local / "cache"),
            MARK: f"{self.name}:{self.local}",
        }

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs `spooldadd` on this node."""
        return [*self.prefix, *self.before, sys.executable, "-m", "spooldadd", *arguments]

    def run(self, *arguments: str, check: bool = True, timeout_s: float = 180.0) -> subprocess.CompletedProcess[str]:
        """Run a command of `spooldadd` here, to its end."""
        return sh(*self.command(*arguments), check=check, timeout_s=timeout_s, env=self.environ(), cwd=PROJECT)

    def launch(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command of `spooldadd` here, and do not wait for its end."""
        return subprocess.Popen(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environ(),
            cwd=PROJECT,
        )

    def start(self, spool: Path, *arguments: str, environ: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a worker; it is up when it has said so."""
        before = len(self.said())
        with open(self.log, "ab") as log:
            worker = subprocess.Popen(
                self.command("worker", str(spool), *arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self.environ(), **(environ or {})},
                cwd=PROJECT,
                start_new_session=True,
            )
        self.workers.append(worker)
        until(lambda: "worker-started" in self.said()[before:] or worker.poll() is not None, f"{self.name} starts", 180)
        if worker.poll() is not None:
            raise Broken(f"the worker of {self.name} ended: {self.said()[before:][-1500:]}")
        return worker

    @property
    def log(self) -> Path:
        """Where its workers log."""
        return self.local / "worker.log"

    def said(self) -> str:
        """Return what its workers said since the scenario began."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def processes(self) -> list[int]:
        """Return every process of this node: workers, launchers, supervisors, jobs."""
        mark = f"{MARK}={self.name}:{self.local}".encode()
        found = []
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and mark in Path("/proc", entry, "environ").read_bytes().split(b"\0"):
                    found.append(int(entry))
            except OSError:
                continue
        return found

    def kill(self) -> int:
        """Kill everything that runs here, as a power cut does; return how many there were.

        Parents are stopped first, and what was just started is found at the next look: a job that lives on holds its lease.
        """
        count = 0
        for number in (signal.SIGSTOP, signal.SIGSTOP, signal.SIGKILL, signal.SIGKILL):
            pids = self.processes()
            count = max(count, len(pids))
            for pid in pids:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
        for worker in self.workers:
            try:
                worker.wait(60)
            except subprocess.TimeoutExpired:
                pass  # in a call on a hung mount; it ends when the server is back
        self.workers.clear()
        return count

    def clear(self) -> None:
        """End what runs here and forget what was said: the next scenario begins."""
        self.before = []
        deadline = time.monotonic() + 60
        while self.kill() and time.monotonic() < deadline:
            time.sleep(0.2)
        shutil.rmtree(self.local, ignore_errors=True)
        self.local.mkdir(parents=True)
