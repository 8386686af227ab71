"""All about one job in lines for a person."""

from __future__ import annotations

import os

from spooldadd import layout
from spooldadd.baretime import datetime
from spooldadd.inspect import attempts, holding, travel, words
from spooldadd.inspect.job import Job

# What a spec with errors was told; a screen holds it, and the file holds the rest.
MAX_PROBLEM_BYTES = 20_000


def describe(job: Job, now: datetime.datetime) -> list[str]:
    """Return the lines: the job and its state first, then what is known, then its attempts and errors."""
    head = f"{words.show(job.id)}  {_state(job)}"
    fields = [*_why(job, now), *_who(job), *_when(job, now), *_where(job), *travelled(job)]
    return [head, *words.pairs(fields), *_attempts(job), *_problems(job)]


def problems(job: Job) -> str:
    """Return what the worker wrote about the errors of an invalid spec; empty where it had none."""
    if job.is_drop:
        return ""
    try:
        with open(os.path.join(job.path, layout.PROBLEMS), "rb") as file:
            return words.show_lines(file.read(MAX_PROBLEM_BYTES).decode("utf-8", "replace").rstrip("\n"))
    except OSError:
        return ""


def usage(job: Job) -> str:
    """Return what the last attempt used, in words."""
    result = job.result()
    took_s, cpu_s, memory = result.get("duration_s"), result.get("cpu_s"), result.get("max_rss_bytes")
    parts = [words.duration(took_s)] if isinstance(took_s, (int, float)) else []
    parts += [f"{words.duration(cpu_s)} of processor"] if isinstance(cpu_s, (int, float)) else []
    parts += [f"{words.size(memory)} of memory"] if isinstance(memory, int) else []
    return ", ".join(parts)


def _state(job: Job) -> str:
    outcome = job.result().get("outcome")
    return f"{job.state} ({words.show(outcome)})" if outcome and job.is_finished else job.state


def _why(job: Job, now: datetime.datetime) -> list[tuple[str, str]]:
    if job.state == layout.WAITING:
        return [("waits", words.show(holding.at_a_glance(job, now) or "for its turn; `spooldadd explain` says more"))]
    return [("reason", words.show(job.reason()))]


def _who(job: Job) -> list[tuple[str, str]]:
    table = job.table()
    fields = [(name, words.show(table.get(name, ""))) for name in ("queue", "node", "attempt")]
    pids = [f"{what} {table[key]}" for what, key in (("supervisor", "supervisor_pid"), ("job", "job_pid")) if key in table]
    return [*fields, ("processes", ", ".join(pids))]


def travelled(job: Job) -> list[tuple[str, str]]:
    """Where its record came from, where it was sent, and where its spec was sent back to."""
    if job.is_drop:
        return []
    return [(what, words.show(where)) for what, where in travel.journeys(job.path)]


def _when(job: Job, now: datetime.datetime) -> list[tuple[str, str]]:
    found = job.claim() | job.result()
    if job.is_drop:
        found = {"submitted_at": job.since()}
    fields = []
    for name in ("submitted", "claimed", "started", "finished"):
        at = found.get(f"{name}_at")
        if isinstance(at, datetime.datetime):
            ago = words.duration(max(0.0, (now - at).total_seconds()))
            fields.append((name, f"{holding.moment(at)}, {ago} ago"))
    return [*fields, ("used", usage(job))]


def _where(job: Job) -> list[tuple[str, str]]:
    fields = [("file" if job.is_drop else "record", words.show(job.path))]
    newest = attempts.last(job)
    logs = newest.logs() if newest else []
    fields.append(("log", "\n".join(f"{words.show(path)}, {_size(path)}" for path in logs)))
    fields.append(("work directory", words.show(job.result().get("workdir") or "")))
    kept = job.result().get("kept")
    fields.append(("kept", words.show(", ".join(map(str, kept)) if isinstance(kept, list) else "")))
    return fields


def _size(path: str) -> str:
    try:
        return words.size(os.lstat(path).st_size)
    except OSError:
        return "gone"


def _attempts(job: Job) -> list[str]:
    found = attempts.every(job)
    if len(found) < 2:
        return []
    rows = [tuple(map(words.show, (one.number, *_ending(one), one.path))) for one in found]
    return ["attempts", *(f"  {line}" for line in words.columns(rows, None))]


def _ending(one: attempts.Attempt) -> tuple[object, object, object]:
    took_s = one.result.get("duration_s")
    took = words.duration(took_s) if isinstance(took_s, (int, float)) else ""
    return one.result.get("outcome", "running"), took, one.result.get("reason", "")


def _problems(job: Job) -> list[str]:
    text = problems(job)
    return ["errors", *(f"  {line}" for line in text.split("\n"))] if text else []
