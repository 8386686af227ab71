"""How a job ended and why, what came before, and what to do next."""

from __future__ import annotations

import os
import shlex

from spooldadd import layout, lifecycle
from spooldadd.inspect import attempts, output, single, tables, words
from spooldadd.inspect.explanation import Explanation
from spooldadd.inspect.hidden import hidden
from spooldadd.inspect.job import Job

# What a person reads at a glance; `logs` has the rest.
SHOWN_LINES = 15
REMEDIES = {
    lifecycle.TIMEOUT: "if it needs more time, raise `timeout` in `[limits]`",
    lifecycle.STALL: "if it is silent for long by nature, raise `stall` in `[limits]`",
    lifecycle.OUTPUT: "if it has to print so much, raise `output` in `[limits]`, or let it write into a file",
    lifecycle.OOM: "if it needs more memory, raise `memory` in `[limits]`, or give the machine more",
    lifecycle.LOST: "a job that may run twice can say `restartable = true`; it is started again then",
}


def explain(job: Job) -> Explanation:
    """Say how it ended."""
    tail = _last_lines(job)
    earlier = attempts.earlier(job)
    meaning = _meaning(job)
    directory, is_there = _work_directory(job)
    problems = single.problems(job)
    facts = {
        "meaning": meaning,
        "last_lines": tail,
        "attempts": [one.table() for one in attempts.every(job)],
        "work_directory": {"path": directory, "is_here": is_there} if directory else None,
        "errors": problems or None,
    }
    lines = [
        *words.pairs(_fields(job, meaning, directory, is_there=is_there)),
        *_block("errors:", problems.split("\n") if problems else []),
        *_block("the end of its log:", tail),
        *_block("attempts before:", [_attempt(one) for one in earlier]),
    ]
    commands = tuple(_commands(job, directory if is_there else None))
    return Explanation(_sentence(job), {**facts, "commands": commands}, tuple(lines), commands)


def _sentence(job: Job) -> str:
    outcome = words.show(job.result().get("outcome", "unknown"))
    how = "it was successful" if job.state == layout.DONE else f"it failed with the outcome `{outcome}`"
    return f"{how}: {words.show(job.reason())}"


def _fields(job: Job, meaning: str, directory: str, *, is_there: bool) -> list[tuple[str, str]]:
    node = words.show(job.result().get("node", ""))
    where = words.show(directory) if is_there else f"{words.show(directory)} on `{node}`; it is not, or no longer, here"
    return [
        ("meaning", meaning),
        ("remedy", REMEDIES.get(str(job.result().get("outcome")), "")),
        ("node", node),
        ("signed by", words.show(job.claim().get("signed_by", ""))),
        ("attempt", str(job.attempt() or "")),
        ("used", single.usage(job)),
        ("record", words.show(job.path)),
        ("work directory", where if directory else ""),
        *single.travelled(job),
    ]


def _meaning(job: Job) -> str:
    """The same words as in the mail."""
    from spooldadd.mail.explain import explain as explain_result
    from spooldadd.mail.result import Result

    table = {"job": job.id, "name": job.name, **job.result()}
    return explain_result(Result.from_table(table)) if "outcome" in table else ""


def _last_lines(job: Job) -> list[str]:
    newest = attempts.last(job)
    found = [output.last_lines(path, SHOWN_LINES) for path in newest.logs()] if newest else []
    text = b"".join(found).decode("utf-8", "replace").rstrip("\n")
    return [words.show(line) for line in hidden(job, text).split("\n")] if text else []


def _work_directory(job: Job) -> tuple[str, bool]:
    path = job.result().get("workdir")
    return (path, os.path.isdir(path)) if isinstance(path, str) else ("", False)


def _attempt(one: attempts.Attempt) -> str:
    at = tables.plain(one.result.get("finished_at", ""))
    return words.show(f"{one.number}  {one.result.get('outcome', '')}  {at}  {one.result.get('reason', '')}")


def _block(title: str, lines: list[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines)] if lines else []


def _commands(job: Job, directory: str | None) -> list[str]:
    """What a person would type next."""
    name = shlex.quote(job.id)
    if job.state == layout.DONE:
        return [f"spooldadd logs {name}"]
    if job.result().get("outcome") == lifecycle.INVALID:
        copy = shlex.quote(job.name + os.path.splitext(job.spec_path)[1])
        return [f"cp {shlex.quote(job.spec_path)} {copy}", f"spooldadd check {copy}", f"spooldadd submit {copy}"]
    enter = [f"cd {shlex.quote(directory)}"] if directory else []
    runs_elsewhere = os.path.lexists(os.path.join(job.path, layout.RETURNED))
    return [f"spooldadd logs {name}", *enter, *([] if runs_elsewhere else [f"spooldadd retry {name}"])]
