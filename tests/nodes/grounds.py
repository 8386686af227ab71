"""What all grounds have in common: two sides, the server's own view, and what can be done to them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.nodes.sides import Network, Side


class Ground:
    """A share that is served and mounted twice. What a ground cannot do, its `can` does not name."""

    name = ""
    can: frozenset[str] = frozenset({"cut", "restart", "lose"})
    locks_are_shared = True
    scenarios = ("probe", "once", "restart", "lost-reply", "other-side", "clocks", "killed", "cut")
    errors_reach_jobs = False  # what a job prints while the server is away: an error for the job, or a wait
    lease_s = 15.0  # for how long a client that is cut off keeps its locks, at the most

    def __init__(self, root: Path) -> None:
        self.root = root
        self.truth = root / "served"  # as the server's disk has it, through no mount
        self.network: Network | None = None
        self.sides: list[Side] = []
        self.stack = ExitStack()

    def start(self) -> None:
        """Serve and mount. Raises: Missing where this machine cannot."""
        raise NotImplementedError

    def restart_server(self) -> None:
        """End the server and start it again, with the clients in the middle of something."""
        raise NotImplementedError

    def versions(self) -> str:
        """Return which versions of what are tried."""
        return ""

    def cut(self, side: Side) -> None:
        """Cut this side off."""
        assert self.network
        self.network.cut(side.name)

    def heal(self, side: Side) -> None:
        """Let it come back."""
        assert self.network
        self.network.heal(side.name)

    def lose_replies(self, side: Side, seconds: float, *, with_restart: bool = False) -> None:
        """Let this side's requests be done, and their answers get lost."""
        assert self.network
        self.network.lose_replies(side.name, seconds, self.restart_server if with_restart else None)

    def stop(self) -> None:
        """End what was started. The name spaces end the rest."""
        for side in self.sides:
            side.kill()
        self.stack.close()


def release_of(command: list[str], word: int = -1) -> str:
    """Return the version that a program says, the first line's word of this number."""
    from tests.nodes.sides import sh

    try:
        done = sh(*command, check=False)
        return (done.stdout or done.stderr).splitlines()[0].split()[word]
    except (OSError, IndexError):
        return "?"


@contextmanager
def started(ground: Ground) -> Iterator[Ground]:
    """Start a ground, and end it whatever happens."""
    try:
        ground.start()
        yield ground
    finally:
        ground.stop()


def kernel_release() -> str:
    """Return the release of the kernel that this runs on."""
    return os.uname().release
