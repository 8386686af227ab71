"""Which failures are mailed now, later together, or held back. Pure: state and event in, state and verdict out.

| event | what is so | verdict |
|---|---|---|
| a failure | its cause is new, or was over, or long ago | `SEND`, if the hourly limit has room, else `HOLD` |
| a failure | its cause was told before | `COUNT`: the next digest tells it |
| a success | the name had failed | `SEND` a recovery, if there is room, else `HOLD`; a cause ends with its last name |
| a success | the name had not failed | `COUNT`: nothing to tell |
| time passes | the oldest counted failure waits for `digest_s` | one `Digest` of all counted ones, when the limit has room |
| time passes | the first held mail waits for an hour | one `HeldBack`, beyond the limit |

So each failure is told exactly once: by its own mail, in a digest, or in a `HeldBack`. Times are seconds of the wall clock,
because they outlive a boot; those from the future, after a clock was set back, count as long ago.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from spooldadd.mail.cause import Cause
from spooldadd.mail.events import Digest, HeldBack, Repeat

HOUR_S = 3600.0
NAMES_LISTED = 20  # of one cause in a digest
CAUSES_LISTED = 50  # in one mail; the rest is one line with their sum
CAUSES_KEPT = 2_000  # those with nothing left to tell; a node with more has other worries than a second first mail
NAMES_KEPT = 10_000
TAKEN_KEPT = 200  # word of a failure that is taken is removed at once, so that only a crash can bring it again


class Verdict(Enum):
    """What becomes of an event now."""

    SEND = "send"
    COUNT = "count"
    HOLD = "hold"


@dataclass(frozen=True)
class Rules:
    """`per_hour` must leave room for a few causes at once; `forget_s` is longer than any usual schedule of a job."""

    digest_s: float = HOUR_S
    per_hour: int = 20
    forget_s: float = 14 * 86400.0


@dataclass(frozen=True)
class Fact:
    """One failure: whose, and why."""

    name: str
    job: str
    cause: Cause


@dataclass(frozen=True)
class Counted:
    """Failures that no mail has told yet."""

    count: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    names: tuple[str, ...] = ()
    names_left_out: int = 0
    example_job: str = ""


@dataclass(frozen=True)
class Known:
    """A cause that was seen. `is_told` is false while its first mail is held back; `is_over` after its last recovery."""

    label: str
    last_s: float
    counted: Counted = Counted()
    is_told: bool = True
    is_over: bool = False


@dataclass(frozen=True)
class Failing:
    """A name that fails: since when, how often, and its last cause."""

    since_s: float
    last_s: float
    failures: int
    cause: Cause


@dataclass(frozen=True)
class State:
    """All that is remembered. `held_since_s` is 0 while nothing is held back; `taken` are the keys of the last failures."""

    causes: Mapping[str, Known] = field(default_factory=dict)
    names: Mapping[str, Failing] = field(default_factory=dict)
    sent_s: tuple[float, ...] = ()
    held_mails: int = 0
    held_since_s: float = 0.0
    held_recovered: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()


def take(state: State, key: str) -> tuple[State, bool]:
    """Take note that what has this key is dealt with; return also whether it is new. Only the last ones are remembered."""
    if key in state.taken:
        return state, False
    return replace(state, taken=(*state.taken[-TAKEN_KEPT + 1 :], key)), True


def fail(state: State, rules: Rules, fact: Fact, now_s: float) -> tuple[State, Verdict]:
    """Take note of a failure."""
    before = state.names.get(fact.name)
    failing = Failing(before.since_s if before else now_s, now_s, before.failures + 1 if before else 1, fact.cause)
    state = replace(state, names={**state.names, fact.name: failing})
    known = state.causes.get(fact.cause.id)
    if known is not None and not _is_first(known, rules, now_s):
        counted = _count(known.counted, fact, now_s)
        return _with_cause(state, fact.cause.id, replace(known, last_s=now_s, counted=counted)), Verdict.COUNT
    counted = known.counted if known is not None else Counted()
    if _has_room(state, rules, now_s):
        fresh = Known(fact.cause.label, now_s, counted)
        return _with_cause(_sent(state, now_s), fact.cause.id, fresh), Verdict.SEND
    fresh = Known(fact.cause.label, now_s, _count(counted, fact, now_s), is_told=False)
    return _with_cause(_held(state, now_s), fact.cause.id, fresh), Verdict.HOLD


def succeed(state: State, rules: Rules, name: str, now_s: float) -> tuple[State, Verdict, Failing | None]:
    """Take note of a success; return also what it ends."""
    failing = state.names.get(name)
    if failing is None:
        return state, Verdict.COUNT, None
    state = replace(state, names={other: each for other, each in state.names.items() if other != name})
    state = _end_cause(state, failing.cause.id)
    if _has_room(state, rules, now_s):
        return _sent(state, now_s), Verdict.SEND, failing
    state = _held(state, now_s)
    return replace(state, held_recovered=(*state.held_recovered, name)), Verdict.HOLD, failing


def tell(state: State, rules: Rules, now_s: float) -> tuple[State, tuple[Digest | HeldBack, ...]]:
    """Return the mails whose time has come."""
    events: list[Digest | HeldBack] = []
    if state.held_mails and _is_past(state.held_since_s, HOUR_S, now_s):
        untold = {key: known for key, known in state.causes.items() if not known.is_told}
        events.append(HeldBack(state.held_mails, rules.per_hour, _listed(untold), state.held_recovered))
        state = replace(_told(state, untold), held_mails=0, held_since_s=0.0, held_recovered=())
    waiting = {key: known for key, known in state.causes.items() if known.is_told and known.counted.count}
    oldest_s = min((known.counted.first_s for known in waiting.values()), default=now_s)
    if waiting and _is_past(oldest_s, rules.digest_s, now_s) and _has_room(state, rules, now_s):
        events.append(Digest(_listed(waiting)))
        state = _sent(_told(state, waiting), now_s)
    return _tidied(state, rules, now_s), tuple(events)


def next_due_s(state: State, rules: Rules) -> float | None:
    """Return when `tell` may next have something to say; None when nothing waits."""
    waits = [
        known.counted.first_s + rules.digest_s for known in state.causes.values() if known.is_told and known.counted.count
    ]
    if state.held_mails:
        waits.append(state.held_since_s + HOUR_S)
    return min(waits, default=None)


def _is_first(known: Known, rules: Rules, now_s: float) -> bool:
    """Tell whether the next failure of a known cause is a first one again; not while its first mail is still held back."""
    return known.is_told and (known.is_over or not 0 <= now_s - known.last_s <= rules.forget_s)


def _has_room(state: State, rules: Rules, now_s: float) -> bool:
    return sum(1 for at_s in state.sent_s if 0 <= now_s - at_s < HOUR_S) < rules.per_hour


def _is_past(since_s: float, wait_s: float, now_s: float) -> bool:
    return not 0 <= now_s - since_s < wait_s


def _sent(state: State, now_s: float) -> State:
    recent = tuple(at_s for at_s in state.sent_s if 0 <= now_s - at_s < HOUR_S)
    return replace(state, sent_s=(*recent, now_s))


def _held(state: State, now_s: float) -> State:
    return replace(state, held_mails=state.held_mails + 1, held_since_s=state.held_since_s or now_s)


def _with_cause(state: State, key: str, known: Known) -> State:
    return replace(state, causes={**state.causes, key: known})


def _count(counted: Counted, fact: Fact, now_s: float) -> Counted:
    names, left_out = counted.names, counted.names_left_out
    if fact.name not in names:
        if len(names) < NAMES_LISTED:
            names = (*names, fact.name)
        else:
            left_out += 1  # may count a name twice; the list would have to grow without bound to know
    first_s = counted.first_s if counted.count else now_s
    return Counted(counted.count + 1, first_s, now_s, names, left_out, counted.example_job or fact.job)


def _end_cause(state: State, key: str) -> State:
    """Close a cause that no name has any more: its next failure is a first one again."""
    known = state.causes.get(key)
    if known is None or any(each.cause.id == key for each in state.names.values()):
        return state
    if known.counted.count:
        return _with_cause(state, key, replace(known, is_over=True))
    return replace(state, causes={other: each for other, each in state.causes.items() if other != key})


def _told(state: State, keys: Iterable[str]) -> State:
    """Take off what a mail has told."""
    causes = dict(state.causes)
    for key in keys:
        known = causes.pop(key)
        if not known.is_over:
            causes[key] = replace(known, counted=Counted(), is_told=True)
    return replace(state, causes=causes)


def _listed(causes: Mapping[str, Known]) -> tuple[Repeat, ...]:
    """Return what a mail lists, most frequent first; what does not fit is one line with its sum."""
    ordered = sorted(causes.items(), key=lambda pair: -pair[1].counted.count)
    listed = [_repeat(Cause(key, known.label), known.counted) for key, known in ordered[:CAUSES_LISTED]]
    rest = [known.counted for _, known in ordered[CAUSES_LISTED:]]
    if rest:
        total = Counted(
            sum(each.count for each in rest),
            min(each.first_s for each in rest),
            max(each.last_s for each in rest),
            names_left_out=sum(len(each.names) + each.names_left_out for each in rest),
        )
        listed.append(_repeat(Cause("", f"{len(rest)} other causes"), total))
    return tuple(listed)


def _repeat(cause: Cause, counted: Counted) -> Repeat:
    return Repeat(
        cause=cause,
        count=counted.count,
        names=counted.names,
        names_left_out=counted.names_left_out,
        first_at=timestamp(counted.first_s),
        last_at=timestamp(counted.last_s),
        example_job=counted.example_job,
    )


def timestamp(at_s: float) -> str:
    """Return seconds since the epoch as RFC 3339 in UTC."""
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _tidied(state: State, rules: Rules, now_s: float) -> State:
    """Forget what is long over, so that the state stays small for ever."""
    causes = {
        key: known
        for key, known in state.causes.items()
        if known.counted.count or not known.is_told or 0 <= now_s - known.last_s <= rules.forget_s
    }
    quiet = sorted((known.last_s, key) for key, known in causes.items() if not known.counted.count and known.is_told)
    for _, key in quiet[: max(0, len(quiet) - CAUSES_KEPT)]:
        del causes[key]
    newest = sorted(state.names.items(), key=lambda pair: pair[1].last_s)[-NAMES_KEPT:]
    return replace(state, causes=causes, names=dict(newest))
