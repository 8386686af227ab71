"""The last traceback in the end of a log: Python, Java, Go, Node, Rust, shells, pytest. Pure.

A log is written by anybody, so nothing here is sure: what is found is a help for the reader and for `cause`, and the
log itself is always shown as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spooldadd.erroremail import without_ansi

MESSAGE_LINES = 12  # of text after the line that names the exception: notes and long messages, but not the rest of the log
FRAMES_KEPT = 200


@dataclass(frozen=True)
class Step:
    """One line of a traceback."""

    path: str
    line: int
    function: str


@dataclass(frozen=True)
class Found:
    """A traceback in a log. `type` is empty where the log ended in the middle of it."""

    kind: str
    type: str
    message: str
    frames: tuple[Step, ...]
    text: str
    last_line: int  # its index in the log, by which the last of several is chosen


def find_traceback(log: str) -> Found | None:
    """Return the traceback that ends last in a log, or None."""
    lines = without_ansi(log).splitlines()
    found = [each for finder in FINDERS if (each := finder(lines)) is not None]
    return max(found, key=lambda each: (each.last_line, len(each.frames)), default=None)


# --- Python

HEADER = re.compile(r"(?P<lead>[ |+]*)(?P<before>.*?)(?P<group>Exception Group )?Traceback \(most recent call last\):\s*$")
FILE = re.compile(r'[ |]*File "(?P<path>[^"\n]+)", line (?P<line>\d+)(?:, in (?P<function>.+))?')
RAISED = re.compile(r"[ |]*(?P<type>(?:[\w<>]+\.)+\w+|[A-Z_]\w*)(?:: (?P<message>.*))?$")
CHAINED = ("The above exception was the direct cause", "During handling of the above exception")


def _python(lines: Sequence[str]) -> Found | None:
    starts = [index for index, line in enumerate(lines) if HEADER.match(line)]
    if not starts:
        return None
    groups = [index for index in starts if _is_group(lines[index])]
    last = starts[-1]
    if groups and _is_member(lines[last]) and groups[-1] < last:
        last = max(index for index in groups if index < last and not _is_member(lines[index]))
        return _python_group(lines, last)
    first = _chain_start(lines, starts, last)
    kind, message, frames, end = _python_block(lines, last)
    return Found("python", kind, message, frames, "\n".join(lines[first:end]), end - 1)


def _is_group(line: str) -> bool:
    found = HEADER.match(line)
    return found is not None and found["group"] is not None


def _is_member(line: str) -> bool:
    """Tell whether a header is that of an exception inside a group: it stands behind a bar."""
    found = HEADER.match(line)
    return found is not None and "|" in found["lead"]


def _chain_start(lines: Sequence[str], starts: Sequence[int], last: int) -> int:
    """Go back over the exceptions that led to this one."""
    first = last
    for index in reversed(starts[: starts.index(last)]):
        between = lines[index:first]
        if not any(line.strip().startswith(CHAINED) for line in between[-4:]):
            break
        first = index
    return first


def _python_block(lines: Sequence[str], start: int) -> tuple[str, str, tuple[Step, ...], int]:
    """Read one exception; return its type, message, frames, and the index of the line after it."""
    header = HEADER.match(lines[start])
    lead = len(header["lead"]) if header else 0
    frames: list[Step] = []
    index = start + 1
    while index < len(lines) and lines[index][lead : lead + 2] == "  ":
        found = FILE.match(lines[index])
        if found:
            frames.append(Step(found["path"], int(found["line"]), found["function"] or ""))
        index += 1
    raised = RAISED.match(lines[index]) if index < len(lines) else None
    if raised is None:
        return "", "", tuple(frames[-FRAMES_KEPT:]), index
    message, end = _message(lines, index, raised["message"] or "")
    return raised["type"], message, tuple(frames[-FRAMES_KEPT:]), end


def _message(lines: Sequence[str], index: int, first: str) -> tuple[str, int]:
    """Take the lines after the exception's own that may belong to its message or notes: up to an empty one."""
    end = index + 1
    while end < len(lines) and end - index <= MESSAGE_LINES and lines[end].strip() and not HEADER.match(lines[end]):
        if re.match(r"\d{4}-\d\d-\d\d|\[?\d\d:\d\d:\d\d|(?:DEBUG|INFO|WARNING|ERROR|CRITICAL)\b", lines[end]):
            break  # the log goes on
        end += 1
    return first.strip(), end


def _python_group(lines: Sequence[str], start: int) -> Found:
    """Read an exception group: everything behind its bars is one text."""
    end = start + 1
    while end < len(lines) and re.match(r"\s+[|+]", lines[end]):
        end += 1
    block = lines[start:end]
    raised = next((RAISED.match(line) for line in block if "ExceptionGroup" in line and RAISED.match(line)), None)
    frames = tuple(
        Step(found["path"], int(found["line"]), found["function"] or "") for line in block if (found := FILE.match(line))
    )
    kind = raised["type"] if raised else "ExceptionGroup"
    message = (raised["message"] or "") if raised else ""
    return Found("python", kind, message, frames[-FRAMES_KEPT:], "\n".join(block), end - 1)


# --- other languages

JAVA_FRAME = re.compile(
    r"\s+at (?P<function>[\w.$/<>@ -]+)\((?P<path>[\w$.-]+|Native Method|Unknown Source)(?::(?P<line>\d+))?\)"
)
JAVA_HEAD = re.compile(
    r'(?:Exception in thread "[^"]*" |Caused by: |.*?\b)?(?P<type>(?:[\w$]+\.)+[A-Z][\w$]*)(?:: (?P<message>.*))?$'
)
JAVA_REST = re.compile(r"\s+(?:at |\.\.\. \d+ (?:more|common frames))|Caused by: |\s+Suppressed: ")
NODE_FRAME = re.compile(
    r"\s+at (?:(?:async |new )?(?P<function>[\w$.<>\[\] ]+) \()?(?P<path>(?:file://|node:)?[^\s():]+):(?P<line>\d+):\d+\)?$"
)
NODE_HEAD = re.compile(r"(?:Uncaught |\(node:\d+\) )?(?P<type>[A-Z][\w$.]*)(?: \[[A-Z_0-9]+\])?(?:: (?P<message>.*))?$")
GO_HEAD = re.compile(r"(?P<type>panic|fatal error): (?P<message>.*)$")
GO_CALL = re.compile(r"(?P<function>[\w./*()\[\]-]+)\(.*\)$|created by (?P<maker>[\w./*()-]+)")
GO_FILE = re.compile(r"\s+(?P<path>\S+\.go):(?P<line>\d+)")
RUST_HEAD = re.compile(
    r"thread '(?P<function>[^']*)'.* panicked at (?:'(?P<old>.*)', )?(?P<path>[^\s:]+):(?P<line>\d+)(?::\d+)?:?$"
)
BASH = re.compile(r"(?P<path>[^\s:][^:\n]{0,200}): line (?P<line>\d+): (?P<message>.+)$")
DASH = re.compile(
    r"(?P<path>[^\s:]+): (?P<line>\d+): (?P<message>.*(?:not found|[Ss]yntax error|cannot |bad |unexpected).*)$"
)
PYTEST = re.compile(r"(?P<path>[^\s:]+\.py):(?P<line>\d+): (?P<type>[A-Z]\w*)$")


def _java(lines: Sequence[str]) -> Found | None:
    last = _last(lines, JAVA_FRAME)
    if last is None:
        return None
    first = last
    while first > 0 and JAVA_REST.match(lines[first]):
        first -= 1
    end = last + 1
    while end < len(lines) and JAVA_REST.match(lines[end]):
        end += 1
    heads = [found for line in lines[first:end] if not line[:1].isspace() and (found := JAVA_HEAD.match(line))]
    if not heads:
        return None
    frames = [found for line in lines[first:end] if (found := JAVA_FRAME.match(line))]
    steps = tuple(Step(each["path"], int(each["line"] or 0), each["function"].strip()) for each in frames)
    root = heads[-1]  # the last `Caused by` is where it began
    return Found("java", root["type"], root["message"] or "", steps[:FRAMES_KEPT], "\n".join(lines[first:end]), end - 1)


def _node(lines: Sequence[str]) -> Found | None:
    last = _last(lines, NODE_FRAME)
    if last is None:
        return None
    first = last
    while first > 0 and NODE_FRAME.match(lines[first]):
        first -= 1
    top = first
    while top > 0 and not NODE_HEAD.match(lines[top]) and first - top < MESSAGE_LINES:
        top -= 1
    head = NODE_HEAD.match(lines[top])
    if head is None:
        return None
    frames = [found for line in lines[first : last + 1] if (found := NODE_FRAME.match(line))]
    steps = tuple(Step(each["path"], int(each["line"]), (each["function"] or "").strip()) for each in frames)
    return Found("node", head["type"], head["message"] or "", steps[:FRAMES_KEPT], "\n".join(lines[top : last + 1]), last)


def _go(lines: Sequence[str]) -> Found | None:
    start = _last(lines, GO_HEAD)
    if start is None:
        return None
    head = GO_HEAD.match(lines[start])
    assert head is not None
    frames: list[Step] = []
    function, end = "", start + 1
    while end < len(lines):
        line = lines[end]
        place, call = GO_FILE.match(line), GO_CALL.match(line)
        if place:
            frames.append(Step(place["path"], int(place["line"]), function))
        elif call:
            function = call["function"] or call["maker"] or ""
        elif line.strip() and not line.startswith(("goroutine ", "[signal", "\t", "panic:")):
            break
        end += 1
    if not frames:
        return None
    return Found(
        "go", head["type"], head["message"], tuple(frames[:FRAMES_KEPT]), "\n".join(lines[start:end]).rstrip(), end - 1
    )


def _rust(lines: Sequence[str]) -> Found | None:
    start = _last(lines, RUST_HEAD)
    if start is None:
        return None
    head = RUST_HEAD.match(lines[start])
    assert head is not None
    message = head["old"] or (lines[start + 1] if start + 1 < len(lines) else "")
    step = Step(head["path"], int(head["line"]), head["function"])
    end = min(len(lines), start + (1 if head["old"] else 2))
    return Found("rust", "panic", message.strip(), (step,), "\n".join(lines[start:end]), end - 1)


def _shell(lines: Sequence[str]) -> Found | None:
    for index in range(len(lines) - 1, max(-1, len(lines) - 200), -1):
        found = BASH.match(lines[index]) or DASH.match(lines[index])
        if found and "File " not in found["path"] and "Traceback" not in lines[index]:
            step = Step(found["path"], int(found["line"]), "")
            return Found("shell", "shell", found["message"].strip(), (step,), lines[index], index)
    return None


def _pytest(lines: Sequence[str]) -> Found | None:
    last = _last(lines, PYTEST)
    if last is None:
        return None
    head = PYTEST.match(lines[last])
    assert head is not None
    top = last
    while top > 0 and last - top < 60 and not re.match(r"_{3,} .* _{3,}$", lines[top]):
        top -= 1
    said = [line for line in lines[top:last] if re.match(r"E\s", line)]
    message = said[0][1:].strip() if said else ""
    message = message.removeprefix(f"{head['type']}: ")
    test = re.match(r"_{3,} (.*) _{3,}$", lines[top])
    step = Step(head["path"], int(head["line"]), test[1] if test else "")
    return Found("pytest", head["type"], message, (step,), "\n".join(lines[top : last + 1]), last)


def _last(lines: Sequence[str], pattern: re.Pattern[str]) -> int | None:
    return next((index for index in range(len(lines) - 1, -1, -1) if pattern.match(lines[index])), None)


FINDERS: tuple[Callable[[Sequence[str]], Found | None], ...] = (_python, _java, _node, _go, _rust, _shell, _pytest)
