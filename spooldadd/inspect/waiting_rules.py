"""Every rule that can keep a job waiting, each with the value it saw now.

The widths are those that the nodes themselves have noted; who runs is what `running/` shows.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from spooldadd import filesystem, layout, trust
from spooldadd.inspect import checked, holding, listing, placing, tables, turn, words, workers
from spooldadd.inspect.explanation import Explanation, Rule
from spooldadd.inspect.job import Job
from spooldadd.inspect.peeking import Peek, peek
from spooldadd.placement import ANYWHERE

# As the worker has them; where its configuration says otherwise and the node notes it, that counts.
SETTLE_S, NETWORK_SETTLE_S = 2.0, 5.0
SCAN_S, NETWORK_SCAN_S = 30.0, 3.0
IDLE_STATES = {
    "draining": "it starts nothing more and ends when its jobs have",
    "away": "it cannot see the spool",
    "troubled": "it had trouble with the spool and tries again",
}


@dataclass(frozen=True)
class Sight:
    """What the rules look at."""

    job: Job
    spec: Peek
    checked: checked.Checked
    nodes: tuple[workers.Node, ...]
    running: tuple[Job, ...]
    now: datetime.datetime
    is_network: bool
    placing: placing.Placing

    @property
    def serving(self) -> tuple[workers.Node, ...]:
        """The nodes whose worker lives."""
        return tuple(node for node in self.nodes if node.is_serving)


def look(job: Job, now: datetime.datetime) -> Sight:
    """Look at everything once."""
    places = job.places
    running = listing.Listing(places, states=(layout.RUNNING,)).jobs()
    is_network = filesystem.is_network(filesystem.kind(places.root))
    nodes = tuple(workers.all_nodes(places))
    found = checked.check(job)
    place = found.spec.place.place() if found.spec else ANYWHERE
    placed = placing.look(job, place, nodes)
    return Sight(job, peek(job.spec_path), found, nodes, tuple(running), now, is_network, placed)


def rules(sight: Sight) -> list[Rule]:
    """Return every rule that applies to this job, those that let it pass included."""
    return [rule for check in RULES for rule in check(sight)]


def explain(job: Job, now: datetime.datetime) -> Explanation:
    """Say what keeps a waiting job waiting."""
    sight = look(job, now)
    found = rules(sight)
    keeping = [rule for rule in found if rule.keeps_waiting]
    lines = [*(f"- {rule.sentence}" for rule in keeping), *_passed(found), *_errors(sight)]
    facts = {"rules": [rule.table() for rule in found], "nodes": placing.by_node(sight.placing, found)}
    name = words.show(job.id)
    commands = (f"spooldadd logs --follow {name}", f"spooldadd cancel {name}")
    return Explanation(_verdict(sight, keeping), facts, tuple(lines), commands)


def _verdict(sight: Sight, keeping: list[Rule]) -> str:
    if keeping:
        return f"it waits for {words.counted(len(keeping), 'reason')}:"
    within = words.duration(_number(sight, "scan_s", NETWORK_SCAN_S if sight.is_network else SCAN_S))
    return f"nothing keeps it waiting: a worker should take it at once, at the latest within {within}"


def _passed(found: Iterable[Rule]) -> list[str]:
    passed = [rule.sentence for rule in found if not rule.keeps_waiting]
    return ["what else was looked at:", *(f"  {sentence}" for sentence in passed)] if passed else []


def _errors(sight: Sight) -> list[str]:
    text = sight.checked.rendered().rstrip("\n")
    return ["errors:", *(f"  {line}" for line in text.split("\n"))] if text else []


# -- the rules, in the order in which a person would look


def _served(sight: Sight) -> Iterable[Rule]:
    if not sight.serving:
        known = ", ".join(f"`{words.show(node.name)}`" for node in sight.nodes)
        before = f"; {known} did before" if known else ""
        start = f"start one: `spooldadd worker {words.show(sight.job.places.root)}`"
        yield Rule("worker", True, [], f"no worker serves this spool, as far as this machine can see{before}; {start}")
        return
    is_idle = all(node.state in IDLE_STATES for node in sight.serving)
    for node in sight.serving:
        said = f"the worker of node `{words.show(node.name)}` is {node.state}"
        yield Rule("worker", is_idle, {"node": node.name, "state": node.state}, _because(said, IDLE_STATES.get(node.state)))


def _placed(sight: Sight) -> Iterable[Rule]:
    yield from placing.rules(sight.placing)


def _held(sight: Sight) -> Iterable[Rule]:
    if sight.job.is_held:
        file = sight.job.path if sight.job.is_drop else os.path.join(sight.job.path, layout.HOLD)
        yield Rule("held", True, file, f"it is held; `spooldadd release {words.show(sight.job.id)}` lets it go")


def _paused(sight: Sight) -> Iterable[Rule]:
    everything, queue = sight.job.places.pause_files(sight.spec.queue)
    if os.path.lexists(everything):
        yield Rule("paused", True, everything, "nothing is started while the file `paused` is in the spool")
    if os.path.lexists(queue):
        name = words.show(sight.spec.queue)
        yield Rule("queue-paused", True, queue, f"its queue `{name}` is paused: `paused.{name}` is in the spool")


def _quiet(sight: Sight) -> Iterable[Rule]:
    """A file is taken when nobody writes to it any more."""
    seen = sight.checked.look
    if not sight.job.is_drop or seen is None:
        return
    settle_s = _number(sight, "settle_s", NETWORK_SETTLE_S if sight.is_network else SETTLE_S)
    changed_s = max(0.0, sight.now.timestamp() - max(seen.status.st_ctime, seen.status.st_mtime))
    value = {"has_writer": seen.writer, "changed_s": round(changed_s, 3), "settle_s": settle_s}
    if seen.writer:
        yield Rule("quiet", True, value, "somebody has it open for writing; it is taken when it is closed")
    elif changed_s < settle_s:
        sentence = (
            f"it was changed {words.duration(changed_s)} ago; it may have to stand still for {words.duration(settle_s)}"
        )
        yield Rule("quiet", True, value, sentence)
    else:
        yield Rule("quiet", False, value, f"nobody has changed it for {words.duration(changed_s)}")


def _valid(sight: Sight) -> Iterable[Rule]:
    found = [problem.message for problem in sight.checked.problems]
    if found:
        first = f"{words.counted(len(found), 'problem')}, the first: {words.show(found[0])}"
        yield Rule("valid", False, found, f"its spec is wrong, so it will fail as soon as it is taken: {first}")
    elif sight.checked.spec is None:
        yield Rule("valid", False, [], "its spec cannot be read, at least not by this user")


def _trusted(sight: Sight) -> Iterable[Rule]:
    """Whom the worker trusts besides its own user and root is in its configuration, which only it knows."""
    seen = sight.checked.look
    objections = [_objection(node, seen.status) for node in sight.serving] if seen else []
    if objections and all(objections):
        said = (
            f"unless `[trust]` of the worker says otherwise it will be refused: `{words.show(sight.job.id)}` {objections[0]}"
        )
        yield Rule("trust", False, objections[0], said)


def _not_before(sight: Sight) -> Iterable[Rule]:
    at = sight.spec.not_before
    if at is None:
        return
    is_later = at > sight.now
    text = holding.moment(at)
    sentence = f"its `not_before` is {text}, {_away(at, sight.now)}" if is_later else f"its `not_before`, {text}, has passed"
    yield Rule("not-before", is_later, tables.rfc3339(at), sentence)


def _between_attempts(sight: Sight) -> Iterable[Rule]:
    job = sight.job
    last = job.attempt()
    if job.is_drop or not last:
        return
    due = holding.next_attempt_at(job)
    spec = sight.checked.spec
    of = f" of {spec.retry.attempts}" if spec and spec.retry.attempts else ""
    ended = f"attempt {last} ended with `{words.show(job.result().get('outcome', 'no result'))}`"
    if due is not None and due > sight.now:
        sentence = f"{ended}; attempt {last + 1}{of} is due at {holding.moment(due)}, {_away(due, sight.now)}"
        yield Rule("backoff", True, tables.rfc3339(due), sentence)
    else:
        yield Rule("backoff", False, None, f"{ended}; attempt {last + 1}{of} is due")


def _room(sight: Sight) -> Iterable[Rule]:
    """A node takes the job only if both the node and its queue have room. It waits for that where no node has."""
    nodes = [node for node in sight.serving if node.state not in IDLE_STATES and not sight.placing.never(node.name)]
    found = [_room_of(sight, node) for node in nodes]
    has_room = any(rule.rule == "room" for rule in found)
    for rule in found:
        yield rule if has_room else Rule(rule.rule, True, rule.value, rule.sentence)


def _room_of(sight: Sight, node: workers.Node) -> Rule:
    queue, width = sight.spec.queue, node.width(sight.spec.queue)
    there = [job for job in sight.running if job.claim().get("node") == node.name]
    same = [job for job in there if job.claim().get("queue") == queue]
    value = {
        "node": node.name,
        "jobs": node.jobs,
        "running": [job.id for job in there],
        "queue": queue,
        "queue_width": width,
        "queue_running": [job.id for job in same],
    }
    name, shown = f"node `{words.show(node.name)}`", f"queue `{words.show(queue)}`"
    if width == 0:
        return Rule("queue-closed", False, value, f"{shown} is closed on {name}: its width is 0")
    if width is not None and len(same) >= width:
        return Rule("queue-full", False, value, f"{shown} is full on {name}: {len(same)} of {width} run: {_names(same)}")
    if node.jobs is not None and len(there) >= node.jobs:
        return Rule("node-full", False, value, f"{name} is full: {len(there)} of {node.jobs} run: {_names(there)}")
    busy = sight.placing.has_room(node, there)
    if busy is not None:
        return Rule(busy.rule, False, value, f"on {name} {busy.sentence}")
    return Rule("room", False, value, f"{name} has room: {len(there)} of {node.jobs} run, {len(same)} of them in {shown}")


def _position(sight: Sight) -> Iterable[Rule]:
    found = turn.of(sight.job, sight.now)
    queue = f"queue `{words.show(sight.spec.queue)}`"
    value = {"priority": sight.spec.priority, "ahead": found.ahead, "ready": found.ready}
    if found.ahead is None:
        yield Rule("position", True, value, f"{found.ready} jobs wait; its place in {queue} was not counted")
        return
    place = f"it is number {found.ahead + 1} of {found.ready} in {queue}, with priority {sight.spec.priority}"
    # Where no node that serves will ever take it, those before it are not what it waits for.
    is_queued = not sight.serving or not all(sight.placing.never(node.name) for node in sight.serving)
    is_behind = found.ahead > 0 and is_queued
    sentence = f"{place}: {words.counted(found.ahead, 'job goes', 'jobs go')} first" if is_behind else place
    yield Rule("position", is_behind, value, sentence)


RULES: tuple[Callable[[Sight], Iterable[Rule]], ...] = (
    _served,
    _placed,
    _held,
    _paused,
    _quiet,
    _valid,
    _trusted,
    _not_before,
    _between_attempts,
    _room,
    _position,
)


def _objection(node: workers.Node, status: os.stat_result) -> str | None:
    """Only for a worker on this machine do we know which user it is."""
    try:
        uid = os.stat(f"/proc/{node.table.get('pid')}").st_uid
    except OSError:
        return None
    objection = trust.Trust(frozenset({0, uid})).objection(status, "")
    return objection.strip() if objection else None


def _number(sight: Sight, key: str, default: float) -> float:
    found = [node.table.get(key) for node in sight.serving]
    return max((float(value) for value in found if isinstance(value, (int, float))), default=default)


def _away(at: datetime.datetime, now: datetime.datetime) -> str:
    return f"in {words.duration((at - now).total_seconds())}"


def _because(said: str, why: str | None) -> str:
    return f"{said}: {why}" if why else said


def _names(found: Iterable[Job]) -> str:
    """Name a few; a wide node runs more than a line holds."""
    names = [words.show(job.id) for job in found]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
