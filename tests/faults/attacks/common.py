"""Attacks on what all users share: the requests, the names in the root, the locks."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select

from spooldadd import names
from tests.faults.attacks.others import long_job
from tests.faults.attacks.stage import Stage, Worked, soon
from tests.support import until

IN_OPEN = 0x20  # linux/inotify.h


def stopping_by_a_request(where: Stage) -> str:
    """the worker is stopped by a request: directories that are full, of names for which there is no longer one"""
    box = where.spool / ".spool" / "requests"

    def fill() -> None:
        for name in ("\u00e9" * 127, "a" * 255, "plain"):
            (box / name).mkdir()
            (box / name / "full").touch()
        where.wake()

    where.attacker.does(fill)
    record = where.job(where.victim, "beside-the-full", "true")
    assert record.parent.name == "done"
    return "put aside, a line in the log for each; the victim's job ran meanwhile"


def another_by_his_id(where: Stage) -> str:
    """another's job is ended by its id: a drop that carries it, which is gone when its cancel is carried out"""
    running = long_job(where, "known-by-id")
    job = str(names.parse_record_name(running.name).job)
    box, decoy = where.spool / ".spool" / "requests", where.spool / f"{job}.toml.held"

    def race() -> None:
        libc = ctypes.CDLL(None)
        for number in range(where.rounds):
            decoy.write_text('command = "true"\n')
            text = f'schema = 1\nact = "cancel"\njob = "{decoy.name}"\nforced = false\n'
            (box / f".tmp-{number:020d}").write_text(text)
            (box / f".tmp-{number:020d}").rename(box / f"{number:020d}")
            watch = libc.inotify_init()
            libc.inotify_add_watch(watch, os.fsencode(decoy), IN_OPEN)
            where.wake()
            select.select([watch], [], [], 0.5)  # it was seen to be his, and is about to be claimed
            decoy.unlink(missing_ok=True)
            os.close(watch)

    where.attacker.does(race)
    where.attacker.does(lambda: decoy.write_text('command = "true"\n'))  # and it stays, in the victim's way
    if soon(lambda: not running.exists(), 1.0):
        raise Worked("the victim's job was cancelled")
    code, said = where.victim.runs("--spool", str(where.spool), "cancel", job)
    decoy.unlink(missing_ok=True)
    if code:
        raise Worked(f"its owner could not end it: {said}")
    until(lambda: not running.exists(), "its owner ends it")
    return f"{where.rounds} rounds: it is not yours; its owner ended it, with such a drop in the way"


def holding_locks(where: Stage) -> str:
    """work of root's is kept waiting: hold the lock of every file of the spool that can be opened"""

    def hold() -> list[str]:
        held = []
        for directory, _, files in os.walk(where.spool / ".spool"):
            for name in files:
                try:
                    fd = os.open(os.path.join(directory, name), os.O_RDONLY)
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue
                held.append(name)
        return sorted(name for name in held if name.endswith(".lock"))

    found = where.attacker.does(hold)
    if found:
        raise Worked(str(found))
    return "files can be read that nobody locks; no lock can be opened"


ATTACKS = (stopping_by_a_request, another_by_his_id, holding_locks)
