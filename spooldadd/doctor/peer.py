"""Find out, with another mount or another node, what a directory can do between two; write it into the spool.

Another mount is examined by two processes here. Another node is met in `.spool/probe/`: each side makes a directory that
names both, and the node whose name comes first in the alphabet asks. The other side is `spooldadd doctor --peer` there, by
hand or started by its worker, which looks for such directories with each heartbeat.

No call on the spool is made by this process itself, so it never hangs: the processes that do are given up after a while.

If we die here: the process that made the directory removes it when it reads that nobody asks any more; if it dies, too, the
next examination does.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

from spooldadd import layout, names, proof
from spooldadd.answering import PROBE
from spooldadd.doctor.model import Check, failed, ok, warned
from spooldadd.doctor.pairs import Measured, Pair, examined
from spooldadd.doctor.roads import ANSWER_S, ROAD_S, Child, Hung, Letters, answer_letters
from spooldadd.errors import SpoolError

# Above a heartbeat, the start of a program and the time until a file is seen, taken together.
MEET_S = 90.0
# Longer than any examination takes: what is older was left by one that was killed.
OLD_S = 3600.0
LOOK_S = 0.5
MOUNT, NODE = "mount", "node"


@dataclass
class Examined:
    """What came of it."""

    peer: str
    road: str
    measured: Measured = field(default_factory=Measured)
    checks: list[Check] = field(default_factory=list)

    def table(self) -> dict[str, object]:
        """Return what `--json` shows."""
        return {"peer": self.peer, "road": self.road, "measured": self.measured.table()}


def examine_with(root: str, own: str, peer: str, within_s: float = MEET_S) -> Examined:
    """Examine with a directory (`peer` has a slash in it or is one) or with a node. Raises: SpoolError."""
    probe = os.path.join(root, layout.INTERNAL, PROBE)
    keeper = Child(probe)
    session = f"{own}.to.{'mount' if is_directory(peer) else peer}.{names.random_part()}"
    try:
        _ask_spool(root)
        keeper.ask("begin", session)
        keeper.ask("sweep", OLD_S)
        if is_directory(peer):
            return _with_mount(root, own, os.path.abspath(peer), session)
        return _with_node(keeper, root, own, Examined(peer, NODE), (session, within_s))
    except Hung as error:
        raise SpoolError(f"`{root}` does not answer: {error}; see whether its share is there") from error
    finally:
        _end(keeper, session)


def is_directory(peer: str) -> bool:
    """Tell whether a path is meant, not a node's name."""
    return os.sep in peer or peer in (".", "..")


def _ask_spool(root: str) -> list[object]:
    child = Child(root)
    try:
        identity, said, device = child.ask("identity")
    finally:
        child.kill()
    if not identity:
        raise SpoolError(str(said))
    return [identity, said, device]


def _end(keeper: Child, session: str) -> None:
    try:
        keeper.ask("remove", session)
    except Hung:
        pass  # the next examination removes it
    keeper.kill()


# -- another mount of this machine


def _with_mount(root: str, own: str, peer: str, session: str) -> Examined:
    here, there = _ask_spool(root), _ask_spool(peer)
    if here[0] != there[0]:
        raise SpoolError(f"`{peer}` is another spool than `{root}`: name two paths to the same one")
    found = Examined(peer, MOUNT)
    is_one_mount = here[2] == there[2]
    if is_one_mount:
        sentence = f"`{root}` and `{peer}` are one mount of this machine: this says nothing about other machines"
        found.checks.append(ok("road", sentence))
    else:
        found.checks.append(ok("road", f"`{root}` and `{peer}` are two mounts of one directory"))
    first = Child(os.path.join(root, layout.INTERNAL, PROBE, session))
    second = Child(os.path.join(peer, layout.INTERNAL, PROBE, session))
    try:
        _wait_for(peer, session)
        found.checks += examined(Pair(first, second, "the other mount", second.kill), found.measured)
        first.ask("note", root, own, proof.MOUNTS, found.measured.table())
    finally:
        first.kill()
        second.kill()
    return found


def _wait_for(peer: str, session: str) -> None:
    child = Child(os.path.join(peer, layout.INTERNAL))
    try:
        for name in (PROBE, f"{PROBE}/{session}"):
            seen = child.ask("see", {"it": ["listing", name, None]}, ROAD_S, within_s=ROAD_S + ANSWER_S)
            if seen["it"] < 0:
                raise SpoolError(
                    f"`{peer}` does not show what is made in the spool, after {ROAD_S:g} s: is it the same share?"
                )
    finally:
        child.kill()


# -- another node


def _with_node(keeper: Child, root: str, own: str, found: Examined, session: tuple[str, float]) -> Examined:
    theirs = _meet(keeper, own, found.peer, *session)
    side = Child(os.path.join(root, layout.INTERNAL, PROBE, theirs or session[0]))
    try:
        if theirs:
            _answer(keeper, side, found, theirs)
        else:
            _ask(keeper, side, found, session[0])
        side.ask("note", root, own, found.peer, found.measured.table())
    finally:
        side.kill()
    return found


def _meet(keeper: Child, own: str, peer: str, session: str, within_s: float) -> str:
    """Wait for the other node; return its session where we are to answer, and nothing where we ask."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        theirs = [name for name in keeper.ask("names") if name.startswith(f"{peer}.to.{own}.")]
        if theirs and peer < own:
            keeper.ask("post", f"{theirs[-1]}/came", own)
            return str(theirs[-1])
        if "came" in keeper.ask("names", session):
            return ""
        time.sleep(LOOK_S)
    raise SpoolError(
        f"`{peer}` did not answer within {within_s:g} s: is its worker running (`spooldadd nodes`)? Else run "
        f"`spooldadd doctor --peer {own}` there while this one waits; `--timeout` lets it wait longer"
    )


def _ask(keeper: Child, side: Child, found: Examined, session: str) -> None:
    found.checks.append(ok("road", f"`{found.peer}` answered; what follows was seen from here"))
    letters = Letters(keeper, session)
    found.checks += examined(Pair(side, letters, f"`{found.peer}`"), found.measured)
    said = {"checks": [check.table() for check in found.checks[1:]], "measured": found.measured.table()}
    try:
        letters.ask("bye", said)
    except Hung as error:
        found.checks.append(warned("farewell", f"`{found.peer}` was not told the result: {error}", "run it there, too"))


def _answer(keeper: Child, side: Child, found: Examined, session: str) -> None:
    found.checks.append(ok("road", f"`{found.peer}` asked; what follows was seen from there"))
    try:
        said = answer_letters(keeper, side, session)
    except Hung as error:
        keeper.ask("remove", session)
        found.checks.append(failed("road", f"`{found.peer}` broke off: {error}", "run it again on both sides"))
        return
    assert isinstance(said, dict)
    found.checks += [Check(**table) for table in said["checks"]]
    found.measured.locks = str(said["measured"].get("locks", proof.UNKNOWN))
    found.measured.renames = said["measured"].get("renames_exclude")
    found.measured.values = {"seen_by": found.peer}
