"""How an examination reaches its two sides: each is a process; one on another machine is reached by letters in the spool.

A side that does not answer in time is given up: it is killed, and not waited for, because a process that hangs in a call on
a network file system may not even die.

If we die here: the processes read that nobody asks any more, and end; the directory is left, as `side` says.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from typing import Any, Protocol

PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Runs the package that lies beside us, however it was installed, and nothing from the current directory.
START = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module('spooldadd.doctor.side', run_name='__main__', alter_sys=True)"
)
# Above what a lock call on a share took while its server restarted, with which a doctor's patience ends.
ANSWER_S = 20.0
# A side begins as a program: a tenth of a second as a rule, and much longer on a machine that is busy with jobs.
BEGIN_S = 60.0
# A letter may take as long as a file needs to be seen, there and back: 20 s on sshfs, 30 s on NFS 3.
ROAD_S = 90.0


class Hung(Exception):
    """A side did not answer in time, or ended."""


class Road(Protocol):
    """What an examination needs of a side."""

    def send(self, question: str, *arguments: object) -> None:
        """Ask, and do not wait for the answer."""

    def receive(self, within_s: float = ANSWER_S) -> Any:
        """Return the answer to the oldest question. Raises: Hung."""

    def ask(self, question: str, *arguments: object, within_s: float = ANSWER_S) -> Any:
        """Ask, and return the answer. Raises: Hung."""


class Child:
    """A side that is a process of this machine, in a directory of ours."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._process: subprocess.Popen[bytes] | None = None
        self._read = b""
        self._has_answered = False

    def send(self, question: str, *arguments: object) -> None:
        """Ask, and do not wait for the answer. Raises: Hung."""
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([question, arguments]).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            self.kill()
            raise Hung(question) from error

    def receive(self, within_s: float = ANSWER_S) -> Any:
        """Return the answer to the oldest question. Raises: Hung."""
        assert self._process is not None
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        within_s += 0.0 if self._has_answered else BEGIN_S
        end = time.monotonic() + within_s
        while b"\n" not in self._read:
            ready, _, _ = select.select([fd], [], [], max(0.0, end - time.monotonic()))
            data = os.read(fd, 65536) if ready else b""
            if not data:
                self.kill()
                raise Hung(f"no answer within {within_s:g} s")
            self._read += data
        self._has_answered = True
        line, _, self._read = self._read.partition(b"\n")
        return json.loads(line)

    def ask(self, question: str, *arguments: object, within_s: float = ANSWER_S) -> Any:
        """Ask, and return the answer. Raises: Hung."""
        self.send(question, *arguments)
        return self.receive(within_s)

    def kill(self) -> None:
        """End the process, as a crash would; the next question starts another."""
        if self._process is not None:
            self._process.kill()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    try:
                        stream.close()
                    except OSError:
                        pass  # what was not written yet has nobody to read it
            self._process = None
        self._read = b""
        self._has_answered = False

    def _start(self) -> None:
        command = [sys.executable, "-I", "-c", START, PACKAGE_PARENT, self._base]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )


class Letters:
    """A side on another machine: questions and answers are files that both see."""

    def __init__(self, child: Child, session: str) -> None:
        self._child = child
        self._session = session
        self._sent = self._received = 0

    def send(self, question: str, *arguments: object) -> None:
        """Ask, and do not wait for the answer. Raises: Hung."""
        self._sent += 1
        self._child.ask("post", f"{self._session}/ask.{self._sent}", json.dumps([question, arguments]))

    def receive(self, within_s: float = ANSWER_S) -> Any:
        """Return the answer to the oldest question. Raises: Hung."""
        self._received += 1
        limit_s = within_s + ROAD_S
        text = self._child.ask("fetch", f"{self._session}/say.{self._received}", limit_s, within_s=limit_s + ANSWER_S)
        if text is None:
            raise Hung(f"the other node did not answer within {limit_s:g} s")
        answer = json.loads(text)
        if "hung" in answer:
            raise Hung(answer["hung"])
        return answer["answer"]

    def ask(self, question: str, *arguments: object, within_s: float = ANSWER_S) -> Any:
        """Ask, and return the answer. Raises: Hung."""
        self.send(question, *arguments)
        return self.receive(within_s)


def answer_letters(relay: Child, side: Child, session: str) -> object:
    """Answer the questions of another machine until it says good-bye; return what it said then. Raises: Hung."""
    number = 0
    while True:
        number += 1
        text = relay.ask("fetch", f"{session}/ask.{number}", ROAD_S, within_s=ROAD_S + ANSWER_S)
        if text is None:
            raise Hung("the other node asks no more")
        question, arguments = json.loads(text)
        if question == "bye":
            relay.ask("post", f"{session}/say.{number}", json.dumps({"answer": "bye"}))
            return arguments[0]
        try:
            answer: dict[str, object] = {"answer": side.ask(question, *arguments, within_s=ROAD_S)}
        except Hung as error:
            answer = {"hung": str(error)}
        relay.ask("post", f"{session}/say.{number}", json.dumps(answer))
