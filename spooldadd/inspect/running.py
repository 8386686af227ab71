"""What a running job is doing, as far as it shows from outside."""

from __future__ import annotations

import os

from spooldadd import claim, layout, process
from spooldadd.baretime import datetime
from spooldadd.inspect import attempts, holding, output, rescue, tables, words
from spooldadd.inspect.explanation import Explanation
from spooldadd.inspect.hidden import hidden
from spooldadd.inspect.job import Job
from spooldadd.inspect.workers import all_nodes


def explain(job: Job, now: datetime.datetime) -> Explanation:
    """Say since when and where it runs, what it printed, and whether its supervisor lives."""
    since = job.since()
    ran_s = max(0.0, (now - since).total_seconds()) if since else 0.0
    printed_bytes, line = _printed(job)
    supervision = _supervision(job)
    limits = _limits(job)
    rescued = rescue.prospect(job.places, job.record_name, str(job.claim().get("node", "")), all_nodes(job.places))
    facts = {
        "running_s": round(ran_s, 3),
        "is_supervised": supervision[0],
        "supervision": supervision[1],
        **({"takeover": rescued} if rescued else {}),
        "limits": limits,
        "printed_bytes": printed_bytes,
        "last_line": line,
    }
    node = words.show(job.claim().get("node", "an unknown node"))
    sentence = f"it has run on `{node}` for {words.duration(ran_s)}, as attempt {job.attempt()}"
    fields = [
        ("since", holding.moment(since) if since else ""),
        ("signed by", words.show(job.claim().get("signed_by", ""))),
        ("supervisor", supervision[1]),
        ("node", rescued),
        ("limits", ", ".join(_limit(key, value, ran_s) for key, value in limits.items()) or "none in its spec"),
        ("printed", words.size(printed_bytes)),
        ("last line", words.cut(words.show(line), 200)),
        ("cancel", "it was asked to end" if os.path.lexists(os.path.join(job.path, layout.CANCEL)) else ""),
    ]
    name = words.show(job.id)
    commands = (f"spooldadd logs --follow {name}", f"spooldadd cancel {name}")
    return Explanation(sentence, facts, tuple(words.pairs(fields)), commands)


def _printed(job: Job) -> tuple[int, str]:
    """Return how much it has printed, and its last line."""
    newest = attempts.last(job)
    logs = newest.logs() if newest else []
    sizes = [_size(path) for path in logs]
    ends = [output.last_lines(path, 1).decode("utf-8", "replace").rstrip("\n") for path in logs]
    return sum(sizes), hidden(job, next((end for end in ends if end), ""))


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _supervision(job: Job) -> tuple[bool | None, str]:
    """Tell whether its supervisor lives; None where this machine cannot know."""
    holder = claim.read_holder(job.places, job.record_name)
    if not holder.boot_id or holder.boot_id != process.boot_id():
        return None, _elsewhere(job, holder)
    if process.is_alive(holder.supervisor_pid, holder.supervisor_start):
        job_pid = f", its job is process {holder.job_pid}" if holder.job_pid else ", which is about to start the job"
        return True, f"process {holder.supervisor_pid} watches it{job_pid}"
    if not holder.supervisor_pid:
        return False, "none yet: it was claimed and is about to be started"
    if _is_held(job) is not False:
        return False, "it is gone, but the job lives on; when that ends, a worker finds out and calls the attempt lost"
    return False, f"it is gone, and so is the job; {_next_recovery(job)} calls the attempt lost and decides what follows"


def _elsewhere(job: Job, holder: claim.Holder) -> str:
    if not holder.boot_id:
        return "not known: its lock file is missing or not readable by this user"
    return f"on `{words.show(holder.node or job.claim().get('node', ''))}`; from here it cannot be seen"


def _next_recovery(job: Job) -> str:
    return "a worker" if any(node.is_serving for node in all_nodes(job.places)) else "the next worker that is started"


def _is_held(job: Job) -> bool | None:
    try:
        return claim.is_held(job.places, job.record_name)
    except OSError:
        return None


def _limits(job: Job) -> dict[str, object]:
    """Return the limits of its spec by their keys. Those of the node's configuration are the worker's to know."""
    from spooldadd.inspect import checked  # late: heavy

    spec = checked.check(job).spec
    if spec is None:
        return {}
    given = spec.limits.model_dump(exclude_none=True, exclude_unset=True)
    return {key: tables.plain(value) for key, value in given.items()}


def _limit(key: str, value: object, ran_s: float) -> str:
    name = key.removesuffix("_s").removesuffix("_bytes")
    if not isinstance(value, (int, float)):
        return f"{name} {words.show(value)}"
    if key == "timeout_s":
        return f"{name} {words.duration(value)} ({words.duration(max(0.0, value - ran_s))} left)"
    if key.endswith("_bytes"):
        return f"{name} {words.size(int(value))}"
    return f"{name} {words.duration(value) if key.endswith('_s') else value}"
