"""Wait for jobs of known ids to end, show what they print meanwhile, and exit as they did. Changes nothing."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass, field
from typing import BinaryIO

from spooldadd import layout
from spooldadd.cli import TIMED_OUT
from spooldadd.cli.common import print_json, say
from spooldadd.inspect import jobs
from spooldadd.inspect.jobs import Job
from spooldadd.layout import Layout

# Between two looks: short enough that nobody notices, and never more than a twentieth of the time spent on looking.
LOOK_S, LOOK_MAX_S, LOOK_SHARE = 0.05, 2.0, 0.05
# A network file system may show a directory as it was half a minute ago: a job is gone when it is out of sight for longer.
GONE_S = 40.0
LOGS = (layout.BUILD_LOG, layout.OUTPUT_LOG, layout.STDOUT_LOG, layout.STDERR_LOG)


@dataclass(frozen=True)
class Wish:
    """What whoever waits wants: how long at most, to see the logs, and the answer as JSON."""

    timeout_s: float | None = None
    is_following: bool = False
    as_json: bool = False

    @classmethod
    def of(cls, options: argparse.Namespace) -> Wish:
        """Read the options of `submit`."""
        return cls(options.timeout, options.follow, options.json)


@dataclass
class _Awaited:
    """One job that has not ended yet, or how it did."""

    id: str
    seen: float
    ended: Job | None = None
    is_gone: bool = False
    shown: dict[str, BinaryIO] = field(default_factory=dict)


def wait_for(places: Layout, ids: list[str], wish: Wish) -> int:
    """Wait until all of them have ended; return the exit code of the first that failed, in their order."""
    started = time.monotonic()
    awaited = [_Awaited(job, started) for job in ids]
    while not all(one.ended or one.is_gone for one in awaited):
        before = time.monotonic()
        for one in awaited:
            _look(places, one, wish)
        if wish.timeout_s is not None and before - started >= wish.timeout_s:
            break
        pause_s = max(LOOK_S, (time.monotonic() - before) / LOOK_SHARE)
        if wish.timeout_s is not None:
            pause_s = min(pause_s, max(0.0, started + wish.timeout_s - time.monotonic()))
        time.sleep(min(pause_s, LOOK_MAX_S))
    if wish.as_json:
        print_json({"spool": places.root, "jobs": [one.ended.table() if one.ended else {"job": one.id} for one in awaited]})
    return _exit_code(awaited)


def _look(places: Layout, one: _Awaited, wish: Wish) -> None:
    if one.ended or one.is_gone:
        return
    job = jobs.find_id(places, one.id)
    now = time.monotonic()
    if job is None:
        one.is_gone = now - one.seen > GONE_S
        return
    one.seen = now
    if wish.is_following and not job.is_drop:
        _show(one, job)
    if job.is_finished:
        one.ended = job


def _show(one: _Awaited, job: Job) -> None:
    """Print what is new in the logs. An open log follows its record wherever it goes; another attempt's is another file."""
    for name in LOGS:
        path = os.path.join(job.path, name)
        current = one.shown.get(name)
        _copy(name, current)
        try:
            if current is None or not os.path.samestat(os.stat(path), os.fstat(current.fileno())):
                one.shown[name] = current = open(path, "rb")  # noqa: SIM115  # read again at each look, to our end
        except OSError:
            continue
        _copy(name, current)


def _copy(name: str, log: BinaryIO | None) -> None:
    out = sys.stderr.buffer if name == layout.STDERR_LOG else sys.stdout.buffer
    while log is not None and (chunk := log.read(65536)):
        out.write(chunk)
    out.flush()


def _exit_code(awaited: list[_Awaited]) -> int:
    codes = [code for one in awaited if (code := _code_of(one))]
    return codes[0] if codes else 0


def _code_of(one: _Awaited) -> int:
    from spooldadd.foreground import exit_code_of  # late: heavy, and wanted only at the end

    if one.ended is None:
        say(f"spooldadd: `{one.id}` " + ("is gone from the spool" if one.is_gone else "has not ended yet"))
        return 1 if one.is_gone else TIMED_OUT
    result = one.ended.result()
    code = exit_code_of(str(result.get("outcome")), result)
    if code:
        say(f"spooldadd: `{one.id}` failed: {result.get('reason', 'nobody noted why')}")
    return code
