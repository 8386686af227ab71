"""See what a target is before anything is sent there: a spool, of a format that we understand, and not our own.

A directory that is no spool is refused: rsync would fill the empty place where a share was to be mounted.
"""

from __future__ import annotations

import os
import tempfile

from spooldadd import mark
from spooldadd.errors import SpoolError
from spooldadd.layout import INTERNAL
from spooldadd.mark import Format
from spooldadd.remote.rsync import Rsync, Unreachable, own_words, trouble
from spooldadd.remote.targets import Target

_MARK = f"{INTERNAL}/format.toml"


def probe(rsync: Rsync, target: Target) -> Format:
    """Return what marks the target as a spool. Raises: Unreachable where it is none, or cannot be reached or understood."""
    with tempfile.TemporaryDirectory(prefix="spooldadd-probe-") as scratch:
        copy = os.path.join(scratch, INTERNAL)
        os.mkdir(copy)
        answer = rsync.run(["-t", "--no-links", target.at(_MARK), f"{copy}/"], target)
        if answer.code and _is_missing(answer.err):
            remedy = "is the share mounted there, and is the path spelled right? `spooldadd init` makes a new spool"
            raise Unreachable(f"it is not a spool: it has no `{_MARK}`; {remedy} ({own_words(answer)})")
        if answer.code:
            raise trouble(answer, target)
        try:
            return mark.read(scratch)
        except SpoolError as error:
            raise Unreachable(str(error).replace(scratch, target.address)) from error


def _is_missing(said: str) -> bool:
    return "No such file or directory" in said and ("link_stat" in said or "change_dir" in said)
