"""What a user asks of a worker of root: to cancel a job of his, to run it again, to hold it, to let it go. Light.

On a spool for many users nobody but root writes into records. So who wants something done leaves a file in
`.spool/requests/`, which only root can list. Who has made the file is who asks, and what he asks is in the file, never in
its name: a file of somebody else's can be moved there, but what is in it, that user has written himself. The answer is a
file of root's, under the same name, which nobody else knows.

If we die here: a request that is carried out all the same, and an answer that nobody reads; the worker removes it.
"""

from __future__ import annotations

import os
import stat
import time
import tomllib

from spooldadd import commons, durable, names
from spooldadd.layout import Layout
from spooldadd.tomltext import flat

CANCEL, RETRY, HOLD, RELEASE = "cancel", "retry", "hold", "release"
ACTS = (CANCEL, RETRY, HOLD, RELEASE)
SCHEMA = 1
# What a request is long: the id of a job has at most 120 characters.
MAX_BYTES = 4096
# A worker that is woken answers within milliseconds; one whose disk is slow, in seconds.
ANSWER_S, LOOK_S = 10.0, 0.02
_TOKENS = 4  # 5 characters each, of 29 that there are
_MAX_TOKEN = 64  # so that the answer's name is no trouble for any file system


class Unanswered(Exception):  # an answer, not a fault
    """No worker has answered in time. The request stays, and is carried out by the next one that serves."""


class Request:
    """What is asked, of which job, and by whom."""

    __slots__ = ("act", "is_forced", "job", "uid")

    def __init__(self, act: str, job: str, *, is_forced: bool = False, uid: int = -1) -> None:
        self.act = act
        self.job = job
        self.is_forced = is_forced
        self.uid = uid


class Answer:
    """What came of it: done or not, what is to be said of it, and whether the job runs and was asked to end."""

    __slots__ = ("is_done", "is_running", "said")

    def __init__(self, *, is_done: bool, said: str = "", is_running: bool = False) -> None:
        self.is_done = is_done
        self.said = said
        self.is_running = is_running


# -- as the user


def ask(places: Layout, request: Request, wake: object = None) -> Answer:
    """Ask, and wait for the answer. Raises: Unanswered; OSError where nothing can be asked here."""
    token = "".join(names.random_part() for _ in range(_TOKENS))
    directory = os.path.join(places.internal, commons.REQUESTS)
    table = {"schema": SCHEMA, "act": request.act, "job": request.job, "forced": request.is_forced}
    temporary = os.path.join(directory, durable.TEMPORARY + token)
    durable.write_new(temporary, flat(table).encode(), sync=False, mode=0o600)
    os.rename(temporary, os.path.join(directory, token))
    if callable(wake):
        wake(places)
    return _wait(os.path.join(places.internal, commons.ANSWERS, token))


def _wait(path: str) -> Answer:
    deadline = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline:
        try:
            with open(path, "rb") as file:
                table = tomllib.load(file)
        except FileNotFoundError:
            time.sleep(LOOK_S)
            continue
        return Answer(
            is_done=table.get("done") is True, said=str(table.get("said", "")), is_running=table.get("running") is True
        )
    raise Unanswered(f"no worker has answered within {ANSWER_S:g} s; it is done when one serves the spool")


# -- as root


def read(path: str) -> Request | str:
    """Return the request in this file, or why it is none. Raises: OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size > MAX_BYTES:
            return "it is no plain file of one name, or too long"
        data = os.read(fd, MAX_BYTES)
    finally:
        os.close(fd)
    try:
        table = tomllib.loads(data.decode())
    except ValueError:
        return "it is no request"
    act, job = table.get("act"), table.get("job")
    if table.get("schema") != SCHEMA or act not in ACTS or not isinstance(job, str) or "\0" in job:
        return "it is no request"
    return Request(str(act), job, is_forced=table.get("forced") is True, uid=status.st_uid)


def is_token(name: str) -> bool:
    """Tell whether somebody who asked under this name can be answered under it."""
    return name.isascii() and name.isalnum() and len(name) <= _MAX_TOKEN


def answer(places: Layout, token: str, said: Answer) -> None:
    """Leave the answer where who asked looks for it. Raises: OSError."""
    table = {"schema": SCHEMA, "done": said.is_done, "said": said.said, "running": said.is_running}
    durable.write(os.path.join(places.internal, commons.ANSWERS, token), flat(table).encode(), sync=False, mode=0o644)
