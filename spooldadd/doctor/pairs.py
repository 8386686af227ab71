"""What two sides of one directory are asked, and what follows from the answers.

Each question is one function that takes both sides and yields checks; what it measured goes into `Measured`. A side that
hangs ends its question, not the examination: the next one gets a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from spooldadd import proof
from spooldadd.doctor.model import Check, failed, ok, warned
from spooldadd.doctor.roads import ANSWER_S, Hung, Road
from spooldadd.doctor.side import GOT, HELD, NEVER, OK

# Enough for both to meet at many of them, few enough for a slow server.
RACED = 40
# NFS answers a question for a name that was not there from memory for half a minute, and at worst for a minute.
SEE_S = 70.0
EVENT_S = 3.0
# A lock is free again within a second of its holder's death; a server that waits for a lost client is not waited for.
FREED_S = 15.0
# How long both sides of a race may take with a slow server between them.
RACE_S = 120.0
# Clocks that differ by less do no harm: nothing of ours compares them.
CLOCK_S = 5.0


@dataclass
class Measured:
    """What was found out, as it is written into the spool. None where nobody knows."""

    locks: str = proof.UNKNOWN
    renames: bool | None = None
    values: dict[str, object] = field(default_factory=dict)

    def table(self) -> dict[str, object]:
        """Return what `--json` shows, and what is written down."""
        return {"locks": self.locks, "renames_exclude": self.renames, **self.values}


@dataclass
class Pair:
    """Two sides: ours, and the other one, which may be on another machine. `can_kill` tells that the other is here."""

    own: Road
    other: Road
    name: str  # of the other one, as a sentence calls it
    can_kill: Callable[[], None] | None = None


def examine(pair: Pair, measured: Measured) -> Iterator[Check]:
    """Ask everything."""
    for name, question in QUESTIONS.items():
        try:
            yield from question(pair, measured)
        except Hung as error:
            yield failed(
                name, f"this could not be found out: {error}", HANGS.get(name, "see what the file server's log says")
            )


def _table(answer: object) -> dict[str, Any]:
    """Return an answer that must be a table. Raises: Hung where the side answered with an error."""
    if not isinstance(answer, dict):
        raise Hung(f"a call failed ({answer})")
    return answer


def ask_renames(pair: Pair, measured: Measured) -> Iterator[Check]:
    """Of two who rename one file, each to a name of its own, does one win?"""
    names = [f"j{number:02}" for number in range(RACED)]
    pair.own.ask("make_many", "in", names, within_s=RACE_S)
    pair.own.ask("make_many", "won", [], within_s=RACE_S)
    wanted = {"last": ["listing", f"in/{names[-1]}", None], "won": ["listing", "won", None]}
    seen = _table(pair.other.ask("see", wanted, SEE_S, within_s=SEE_S + ANSWER_S))
    if NEVER in seen.values():
        remedy = "is it the same directory? `ls` it on both sides"
        yield failed("renames", f"{pair.name} did not see our files within {SEE_S:g} s", remedy)
        return
    first, second = _race(pair, "rename", names)
    both, nobody = first & second, set(names) - first - second
    measured.renames = not both and not nobody
    score = f"of {RACED} files we won {len(first)}, {pair.name} {len(second)}"
    if both or nobody:
        sentence = f"{score}; {len(both)} were won by both and {len(nobody)} by nobody, so jobs would run twice or be lost"
        yield failed("renames", sentence, "let one node only serve this spool; others may drop into it")
    else:
        yield ok("renames", f"a rename has one winner: {score}, none by both")
    first, second = _race(pair, "exclusive", [f"x{number:02}" for number in range(RACED)])
    measured.values["creates_exclude"] = not first & second
    if first & second:
        remedy = "nothing of ours rests on it; programs of yours may"
        yield warned("creates", f"{len(first & second)} files were made anew (`O_EXCL`) by both", remedy)
    else:
        yield ok(
            "creates", f"a file that must be new (`O_EXCL`) is made by one: {len(first)} by us, {len(second)} by {pair.name}"
        )


def _race(pair: Pair, how: str, names: list[str]) -> tuple[set[str], set[str]]:
    flags = [f"flag-{how}-a", f"flag-{how}-b"]
    pair.other.send("race", how, names, f"{how}-b", [flags[1], flags[0]])
    own = pair.own.ask("race", how, names, f"{how}-a", flags, within_s=RACE_S)
    other = pair.other.receive(RACE_S)
    for won in (own, other):
        if not isinstance(won, list):
            raise Hung(f"a race ended with {won}")
    return set(own), set(other)


def ask_locks(pair: Pair, measured: Measured) -> Iterator[Check]:
    """Does a lock of one side keep the other out, both ways, and is it free when it is let go?"""
    ours = pair.own.ask("lock", "lock-a")
    theirs = pair.other.ask("lock", "lock-b")
    tried = (pair.other.ask("lock", "lock-a"), pair.own.ask("lock", "lock-b"))
    if (ours, theirs) != (GOT, GOT):
        sentence = f"a lock cannot be taken here: {ours if ours != GOT else theirs}"
        yield failed("locks", sentence, "mount it with locks: NFS 4 without `nolock`, SMB without `nobrl`")
        return
    if HELD not in tried:
        measured.locks = proof.PRIVATE
        sentence = f"we and {pair.name} held one lock at the same time, and neither was told"
        remedy = "a lost node's jobs are not taken over here: `spooldadd recover --node NAME` once you know that it is dead"
        yield warned("locks", sentence, remedy)
        return
    if tried != (HELD, HELD):
        sentence = f"a lock keeps out one side and not the other: {tried[0]} there, {tried[1]} here"
        measured.locks = proof.PRIVATE
        yield warned("locks", sentence, "mount it with the same options on both sides")
        return
    measured.locks = proof.SHARED
    yield ok("locks", f"a lock of ours keeps {pair.name} out, and the other way round")
    pair.own.ask("close", "lock-a")
    freed_s = pair.other.ask("lock_within", "lock-a", FREED_S, within_s=FREED_S + ANSWER_S)
    measured.values["lock_freed_s"] = freed_s
    if freed_s == NEVER:
        remedy = "see the file server's log; a lost job is noticed only when its lock is free"
        yield warned("locks-freed", f"a lock that we let go of was not free within {FREED_S:g} s", remedy)
    else:
        yield ok("locks-freed", f"a lock that is let go of is free for the other side after {freed_s:g} s")


def ask_killed(pair: Pair, measured: Measured) -> Iterator[Check]:
    """Is the lock of a process that was killed free? Only where the other side is ours to kill."""
    if pair.can_kill is None or measured.locks != proof.SHARED:
        return
    if pair.other.ask("lock", "lock-killed") != GOT:
        return
    pair.can_kill()
    freed_s = pair.own.ask("lock_within", "lock-killed", FREED_S, within_s=FREED_S + ANSWER_S)
    if freed_s == NEVER:
        remedy = "see the file server's log; jobs of a killed supervisor are noticed only when its lock is free"
        yield warned("locks-killed", f"the lock of a process that was killed was not free within {FREED_S:g} s", remedy)
    else:
        yield ok("locks-killed", f"the lock of a process that was killed is free after {freed_s:g} s")


def ask_sight(pair: Pair, measured: Measured) -> Iterator[Check]:
    """After how long is seen what the other side did?"""
    pair.own.ask("make", "grows", "x")
    pair.own.ask("make", "replaced", "old")
    pair.own.ask("names")
    for name in ("asked", "grows", "replaced"):
        pair.own.ask("size", name)  # from now on this side believes that it knows
    pair.own.ask("read", "replaced")
    pair.other.ask("see", {"replaced": ["listing", "replaced", None]}, SEE_S, within_s=SEE_S + ANSWER_S)
    pair.other.send("change", ["listed", "asked"], ["grows"], [["replaced", "new contents"]])
    wanted = {
        "listed_s": ["listing", "listed", None],
        "found_s": ["size", "asked", 0],
        "size_s": ["size", "grows", 5],
        "contents_s": ["contents", "replaced", "new contents"],
    }
    seen = _table(pair.own.ask("see", wanted, SEE_S, within_s=SEE_S + ANSWER_S))
    answer = pair.other.receive()
    if answer != OK:
        remedy = "close files before they are replaced; workers try again"
        yield warned("replacing", f"{pair.name} could not replace a file: {answer}", remedy)
        seen.pop("contents_s")
    measured.values |= seen
    yield _seen("sight", seen["listed_s"], "a new file is seen by listing")
    yield _seen("sight-by-name", seen["found_s"], "a file that was asked for before it was there is found by its name")
    yield _seen("sight-of-growth", seen["size_s"], "that a file has grown is seen")
    if "contents_s" in seen:
        yield _seen("sight-of-contents", seen["contents_s"], "new contents of a file that was read before are seen")


def _seen(name: str, value_s: float, what: str) -> Check:
    if value_s == NEVER:
        remedy = "mount it with a shorter time for attributes: `acdirmax`, `actimeo`, `dcache_timeout`"
        return warned(name, f"{what} not within {SEE_S:g} s", remedy)
    return ok(name, f"{what} after {value_s:g} s")


def ask_events(pair: Pair, measured: Measured) -> Iterator[Check]:
    """Does inotify tell of the other side's files?"""
    pair.own.ask("make", "events/first")
    pair.other.ask("see", {"there": ["listing", "events", None]}, SEE_S, within_s=SEE_S)
    pair.other.send("speak", "listening", "events/second")
    heard_s = pair.own.ask("hear", "events", "listening", EVENT_S, within_s=EVENT_S + ANSWER_S)
    pair.other.receive(SEE_S)
    is_heard = isinstance(heard_s, float) and heard_s != NEVER
    measured.values["events"] = is_heard
    if is_heard:
        yield ok("events", f"inotify tells of files that {pair.name} makes")
    else:
        yield ok("events", f"inotify is silent about files that {pair.name} makes; scans find them")


def ask_open_files(pair: Pair, measured: Measured) -> Iterator[Check]:
    """What cannot be done with a file that the other side has open or locked?"""
    pair.own.ask("make", "record/output.log", "x")
    pair.own.ask("make", "locked", "x")
    wanted = {"log": ["listing", "record/output.log", None], "locked": ["listing", "locked", None]}
    pair.other.ask("see", wanted, SEE_S, within_s=SEE_S)
    pair.other.ask("open", "record/output.log")
    moved = pair.own.ask("rename", "record", "moved")
    pair.other.ask("close", "record/output.log")
    is_locked = pair.own.ask("lock", "locked") == GOT
    read = pair.other.ask("read", "locked")
    if is_locked:
        pair.own.ask("close", "locked")
    measured.values |= {"moves_open_records": moved == OK, "reads_locked_files": read == OK}
    if moved == OK:
        yield ok("open-files", "a record is moved while the other side has its log open")
    else:
        remedy = "`spooldadd logs -f` on another node delays the filing of that job until it ends; workers try again"
        yield warned("open-files", f"a record cannot be moved while the other side has its log open: {moved}", remedy)
    if read == OK:
        yield ok("locked-files", "a file that one side has locked can be read by the other")
    else:
        yield ok(
            "locked-files", f"a file that one side has locked cannot be read by the other ({read}): locks are mandatory"
        )


def ask_features(pair: Pair, measured: Measured) -> Iterator[Check]:
    """What does the file system know at all?"""
    words = {
        "hard_links": ("hard links", "bundles and `hold` go another way"),
        "rename_new": ("a rename that never replaces", "a look comes first"),
        "sync_directory": ("making names last", "what is lost in a power cut is the server's matter"),
    }
    answers = _table(pair.own.ask("features"))
    measured.values |= {name: answers[name] == OK for name in words}
    known = [words[name][0] for name in words if answers[name] == OK]
    lacking = [f"{words[name][0]} ({answers[name]}): {words[name][1]}" for name in words if answers[name] != OK]
    yield ok("features", f"it knows {', '.join(known) or 'none of what we would like'}")
    for sentence in lacking:
        yield ok("features", f"it lacks {sentence}")


def ask_clock(pair: Pair, measured: Measured) -> Iterator[Check]:
    """How far apart are the clocks, for information only?"""
    own, other = _table(pair.own.ask("hello")), _table(pair.other.ask("hello"))
    after = _table(pair.own.ask("hello"))
    early_s, late_s = other["clock_s"] - after["clock_s"], other["clock_s"] - own["clock_s"]
    apart_s = 0.0 if early_s <= 0 <= late_s else min((early_s, late_s), key=abs)
    measured.values |= {"filesystem": own["filesystem"], "clock_apart_s": round(apart_s, 1) + 0.0}  # never -0.0
    where = f"here it is {own['filesystem'] or 'unknown'}, there {other['filesystem'] or 'unknown'}"
    if abs(apart_s) > CLOCK_S:
        word = "ahead of" if apart_s > 0 else "behind"
        sentence = f"the clock of {pair.name} is at least {abs(apart_s):.0f} s {word} ours; {where}"
        yield ok("clocks", f"{sentence}; no promise rests on clocks, times in results will not agree")
    else:
        yield ok("clocks", f"the clocks agree, as far as can be seen; {where}")


QUESTIONS: dict[str, Callable[[Pair, Measured], Iterator[Check]]] = {
    "clocks": ask_clock,
    "renames": ask_renames,
    "locks": ask_locks,
    "locks-killed": ask_killed,
    "sight": ask_sight,
    "events": ask_events,
    "open-files": ask_open_files,
    "features": ask_features,
}
HANGS = {
    "locks": "locks cannot be relied on here: mount NFS with `vers=4.2`, or let one node only serve this spool",
    "locks-killed": "locks cannot be relied on here: mount NFS with `vers=4.2`, or let one node only serve this spool",
}


def examined(pair: Pair, measured: Measured) -> list[Check]:
    """Ask everything, and return all of the answers."""
    return list(examine(pair, measured))
