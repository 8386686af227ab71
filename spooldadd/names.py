"""The names that carry state: of jobs, of records, of nodes. Pure: text in, text out.

A job id is `<name>.<UTC time>.<5 random characters>` and is never used twice. A running record is
`<job>.<attempt>.<token>`; the token is drawn by each claimer for itself, so that no two of them ever rename to the same
place, and an attempt that was taken over finds its own name gone. Light: the launcher loads it.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from typing import NewType

    JobId = NewType("JobId", str)
    NodeName = NewType("NodeName", str)
else:
    JobId = NodeName = str

# No vowels, so that no word appears; nothing that can be misread. 27 characters: five of them give 14 million.
ALPHABET = "bcdfghjkmnpqrstvwxz23456789"
RANDOM_LENGTH = 5
# 255 bytes are the limit of most file systems. A running record's lock is the longest name made from a job's name:
# name + 17 for the time + 6 + 8 for the attempt + 6 + 5 for `.lock`; the rest is reserve for temporary names.
MAX_NAME_LENGTH = 150
SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_OF_BYTE = bytes(ord(ALPHABET[byte % len(ALPHABET)]) for byte in range(256))
_RANDOM = frozenset(ALPHABET)
STAMP_LENGTH = len("20261121T101500Z")
UNNAMED = "unnamed"
MOST_SECONDS = 16


class RecordName:
    """The parts of a running record's name: whose job, which attempt, and the claim's own token."""

    __slots__ = ("attempt", "job", "token")

    def __init__(self, job: JobId, attempt: int, token: str) -> None:
        self.job = job
        self.attempt = attempt
        self.token = token

    def __str__(self) -> str:
        return f"{self.job}.{self.attempt}.{self.token}"

    def __repr__(self) -> str:
        return f"RecordName({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RecordName) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


class _Seconds(dict[int, str]):
    """The last few seconds since the epoch in UTC, as `2026-11-20T10:15:00`.

    Most of what is named or written falls into the second of what was before, and to make the text takes as long as a line
    of the log. Two threads at most make one twice.
    """

    def __missing__(self, second: int) -> str:
        if len(self) >= MOST_SECONDS:
            self.clear()
        text = self[second] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return text


SECONDS = _Seconds()


def random_part() -> str:
    """Return five random characters from the kernel's source: a fork cannot repeat them."""
    return os.urandom(RANDOM_LENGTH).translate(_OF_BYTE).decode()


def random_parts() -> tuple[str, str]:
    """Return two of them, drawn at once: for a job and for its claim."""
    both = os.urandom(2 * RANDOM_LENGTH).translate(_OF_BYTE).decode()
    return both[:RANDOM_LENGTH], both[RANDOM_LENGTH:]


def chance() -> float:
    """Return a number in [0, 1) from there. `random` is drawn anew in each fork, which costs a supervisor 150 KB."""
    return int.from_bytes(os.urandom(4), "little") / (1 << 32)


def safe_name(text: str) -> str:
    """Return `text` with everything but letters, digits, `.`, `_`, `-` replaced, short enough for a file name."""
    cleaned = text if SAFE.issuperset(text) else "".join(char if char in SAFE else "-" for char in text)
    return cleaned.lstrip(".-")[:MAX_NAME_LENGTH].rstrip(".") or UNNAMED


def new_job_id(name: str, at_s: float, random: str) -> JobId:
    """Return the id of a job of this name that was submitted at `at_s` (seconds since the epoch)."""
    stamp = SECONDS[int(at_s)].replace("-", "").replace(":", "")
    return JobId(f"{safe_name(name)}.{stamp}Z.{random}")


def parse_job_id(text: str) -> tuple[str, str, str] | None:
    """Return name, time and random part of a job id, or None where `text` is none."""
    parts = text.rsplit(".", 2)
    if len(parts) != 3 or not parts[0] or not _is_stamp(parts[1]) or not _is_random(parts[2]):
        return None
    return parts[0], parts[1], parts[2]


def job_name(job: str) -> str:
    """Return the name in a job id; a text that is no job id is its own name."""
    parts = parse_job_id(job)
    return parts[0] if parts else job


def job_of(record: str) -> JobId:
    """Return the job in the name of a running record of ours, which is not looked at: `parse_record_name` does."""
    return JobId(record.rsplit(".", 2)[0])


_last: list[tuple[str, RecordName | None]] = [("", None)]


def parse_record_name(text: str) -> RecordName | None:
    """Return the parts of a running record's name, or None where `text` is none."""
    last = _last[0]  # one look: another thread may put its own there
    if last[0] != text:  # whoever asks asks again: a supervisor has one record at a time
        last = _last[0] = text, _parsed(text)
    return last[1]


def _parsed(text: str) -> RecordName | None:
    job, dot, rest = text.rpartition(".")
    job, dot2, number = job.rpartition(".")
    if not (dot and dot2 and _is_random(rest) and number.isascii() and number.isdigit() and parse_job_id(job)):
        return None
    return RecordName(JobId(job), int(number), rest)


def source_job_id(file_name: str, suffix: str) -> JobId | None:
    """Return the job id that a dropped file already carries in its name, as `spooldadd submit` gives it, or None."""
    stem = file_name.removesuffix(suffix)
    return JobId(stem) if parse_job_id(stem) and safe_name(stem) == stem else None


def _is_stamp(text: str) -> bool:
    digits = text[:8] + text[9:15]
    return len(text) == STAMP_LENGTH and text[8] == "T" and text[15] == "Z" and digits.isascii() and digits.isdigit()


def _is_random(text: str) -> bool:
    return len(text) == RANDOM_LENGTH and _RANDOM.issuperset(text)
