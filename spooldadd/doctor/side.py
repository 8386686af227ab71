"""One side of an examination by two: does in a directory what it is asked to, and answers with plain values.

It runs as a process of its own, because a call on a network file system may hang for minutes or for ever; who asks waits
with a time limit and gives it up then. It reads a question a line from stdin and writes an answer a line to stdout.

If we die here: the directory of the examination, below `.spool/probe/`, which a later examination removes.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable

from spooldadd import durable, filesystem

# How often it looks whether something has come. A listing over a network takes a few milliseconds.
LOOK_S = 0.02
# In a race who has won pauses, so that who lost catches up, and both reach for the next one at the same time.
STRIDE_S = 0.01
GOT, HELD, OK, NEVER = "got", "held", "ok", -1.0
IN_CREATE, IN_MOVED_TO, IN_CLOSE_WRITE = 0x100, 0x80, 0x8


class Side:
    """Everything that a side can be asked. Names are relative to the directory of the examination."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._files: dict[str, int] = {}
        self._own = ""  # the directory of the examination, where this side has made it

    def answer(self, question: str, arguments: list[object]) -> object:
        """Do what is asked; of a call that failed, the name of its error."""
        function: Callable[..., object] = getattr(self, f"do_{question}")
        try:
            return function(*arguments)
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))

    def leave(self) -> None:
        """Nobody asks any more: remove what we made, also where who asked was killed."""
        if self._own:
            self.do_remove(self._own)

    # -- looking around

    def do_begin(self, name: str) -> str:
        """Make the directory of the examination, to be removed when nobody asks any more."""
        os.makedirs(self._path(name))
        self._own = name
        return OK

    def do_identity(self) -> list[object]:
        """Say which spool this is, and which device it is on."""
        from spooldadd import mark  # late: asked once
        from spooldadd.errors import SpooldaddError

        try:
            marked = mark.read(self._base)
        except SpooldaddError as error:
            return ["", str(error), 0]
        return [marked.id, marked.kind, os.stat(self._base).st_dev]

    def do_hello(self) -> dict[str, object]:
        """Say what this side sees."""
        return {"filesystem": filesystem.kind(self._base), "clock_s": time.time(), "machine": os.uname().nodename}

    def do_names(self, name: str = ".") -> list[str]:
        """List a directory."""
        return sorted(os.listdir(self._path(name)))

    def do_size(self, name: str) -> int:
        """Ask for one file by its name; what is not there is remembered as not there, on some file systems."""
        return os.stat(self._path(name)).st_size

    def do_see(self, wanted: dict[str, list[object]], within_s: float) -> dict[str, float]:
        """Say for each of these how long it took until it was seen: how to look, the file, what must be true of it."""
        began, seen = time.monotonic(), dict.fromkeys(wanted, NEVER)
        while True:
            for key, (how, name, least) in wanted.items():
                if seen[key] == NEVER and self._is_seen(str(how), str(name), least):
                    seen[key] = round(time.monotonic() - began, 2)
            if NEVER not in seen.values() or time.monotonic() - began > within_s:
                return seen
            time.sleep(LOOK_S)

    def _is_seen(self, how: str, name: str, least: object) -> bool:
        try:
            if how == "listing":
                return os.path.basename(name) in os.listdir(os.path.dirname(self._path(name)))
            if how == "size":
                return os.stat(self._path(name)).st_size >= int(str(least))
            with open(self._path(name), encoding="utf-8") as file:
                return file.read() == least
        except OSError:
            return False

    # -- files

    def do_make(self, name: str, text: str = "") -> str:
        """Make a file that is not there yet."""
        os.makedirs(os.path.dirname(self._path(name)), exist_ok=True)
        durable.write_new(self._path(name), text.encode(), sync=False)
        return OK

    def do_make_many(self, directory: str, names: list[str]) -> str:
        """Make an empty file of each name."""
        os.makedirs(self._path(directory), exist_ok=True)
        for name in names:
            os.close(os.open(self._path(f"{directory}/{name}"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        return OK

    def do_change(self, created: list[str], grown: list[str], replaced: list[list[str]]) -> str:
        """Make these files, write more to those, put new contents in the place of others."""
        for name in created:
            self.do_make(name, "x")
        for name in grown:
            with open(self._path(name), "a", encoding="utf-8") as file:
                file.write("more")
        for name, text in replaced:
            durable.write(self._path(name), text.encode(), sync=False)
        return OK

    def do_open(self, name: str) -> str:
        """Open a file and keep it open."""
        self._files[name] = os.open(self._path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return OK

    def do_close(self, name: str) -> str:
        """Close what was opened or locked."""
        durable.close(self._files.pop(name))
        return OK

    def do_read(self, name: str) -> str:
        """Read a file."""
        with open(self._path(name), "rb") as file:
            file.read()
        return OK

    def do_rename(self, source: str, target: str) -> str:
        """Rename."""
        os.rename(self._path(source), self._path(target))
        return OK

    def do_features(self) -> dict[str, str]:
        """Try what a file system may lack: each answer is `ok` or the name of the error."""
        first, second = self._path("feature-1"), self._path("feature-2")
        durable.write_new(first, b"", sync=False)
        answers = {
            "hard_links": self._tried(lambda: os.link(first, second)),
            "sync_directory": self._tried(lambda: _sync_directory(self._base)),
        }
        durable.unlink_if_there(second)
        answers["rename_new"] = self._tried(lambda: _rename_new(first, second))
        return answers

    def _tried(self, call: Callable[[], object]) -> str:
        try:
            call()
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
        return OK

    # -- against each other

    def do_lock(self, name: str) -> str:
        """Take a lock and keep it, as a worker takes a lease."""
        fd = os.open(self._path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return HELD
            raise
        self._files[name] = fd
        return GOT

    def do_lock_within(self, name: str, within_s: float) -> float:
        """Try until the lock is free; return how long that took."""
        began = time.monotonic()
        while time.monotonic() - began < within_s:
            if self.do_lock(name) == GOT:
                return round(time.monotonic() - began, 2)
            time.sleep(LOOK_S)
        return NEVER

    def do_race(self, how: str, names: list[str], own: str, flags: list[str]) -> list[str]:
        """Show a flag and wait for the other's, then try to win each of these; return which were won.

        A rename goes to a name of our own, and is won where that is there, whatever the call said.
        """
        flag, other = flags
        self.do_make(flag)
        self.do_see({"other": ["listing", other, None]}, 30.0)
        won = []
        for name in names:
            if self._wins(how, name, own):
                won.append(name)
                time.sleep(STRIDE_S * random.random())
        return won

    def _wins(self, how: str, name: str, own: str) -> bool:
        target = self._path(f"won/{name}.{own}" if how == "rename" else f"won/{name}")
        try:
            if how == "rename":
                os.rename(self._path(f"in/{name}"), target)
            else:
                os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        except OSError:
            return how == "rename" and os.path.lexists(target)
        return True

    def do_hear(self, directory: str, flag: str, within_s: float) -> float:
        """Wait for an event of the other's file in this directory; return after how long one came."""
        import ctypes  # late: only here
        import select

        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if fd < 0:
            return NEVER
        try:
            if libc.inotify_add_watch(fd, os.fsencode(self._path(directory)), IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE) < 0:
                return NEVER
            self.do_make(flag)
            began = time.monotonic()
            ready, _, _ = select.select([fd], [], [], within_s)
            return round(time.monotonic() - began, 2) if ready else NEVER
        finally:
            os.close(fd)

    def do_speak(self, flag: str, name: str) -> str:
        """Wait until the other one listens, then make a file."""
        self.do_see({"other": ["listing", flag, None]}, 30.0)
        return self.do_make(name)

    # -- letters, where the other side is another machine

    def do_post(self, name: str, text: str) -> str:
        """Put a letter there for the other side, complete at once."""
        os.makedirs(os.path.dirname(self._path(name)), exist_ok=True)
        durable.write(self._path(name), text.encode(), sync=False)
        return OK

    def do_fetch(self, name: str, within_s: float) -> str | None:
        """Wait for a letter by listing, because a name that was asked for too early may stay unknown; return it."""
        if self.do_see({"letter": ["listing", name, None]}, within_s)["letter"] == NEVER:
            return None
        with open(self._path(name), encoding="utf-8") as file:
            return file.read()

    def do_remove(self, name: str) -> str:
        """Remove what the examination has made."""
        for fd in self._files.values():
            durable.close(fd)
        self._files.clear()
        shutil.rmtree(self._path(name), ignore_errors=True)
        return OK

    def do_sweep(self, older_than_s: float) -> list[str]:
        """Remove what examinations left that were killed: by the file system's own clock, whoever's that is."""
        mark = self._path(f".now-{os.getpid()}")
        durable.write_new(mark, b"", sync=False)
        now_s = os.stat(mark).st_mtime
        os.unlink(mark)
        old = [name for name in os.listdir(self._base) if now_s - os.lstat(self._path(name)).st_mtime > older_than_s]
        for name in old:
            self.do_remove(name)
        return old

    def do_note(self, root: str, observer: str, peer: str, seen: dict[str, object]) -> str:
        """Write into the spool what was found out. Raises: OSError."""
        from spooldadd import proof  # late: not every question needs TOML
        from spooldadd.layout import Layout

        proof.note_seen(Layout(root), observer, peer, seen)
        return OK

    def _path(self, name: str) -> str:
        return os.path.normpath(os.path.join(self._base, name))


def _sync_directory(path: str) -> None:
    """As `durable.sync_directory`, but with a file system's word that it knows no such call."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _rename_new(source: str, target: str) -> None:
    """As `durable.rename_new`, without its way around a file system that knows no such call."""
    import ctypes  # late: only here

    libc = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(source), os.fsencode(target)
    if libc.renameat2(durable.AT_FDCWD, paths[0], durable.AT_FDCWD, paths[1], durable.RENAME_NOREPLACE) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def main() -> None:
    """Answer until nobody asks any more."""
    side = Side(sys.argv[1])
    try:
        for line in sys.stdin:
            question, arguments = json.loads(line)
            print(json.dumps(side.answer(question, arguments)), flush=True)
    except BrokenPipeError:
        pass  # who asked was killed while we answered
    finally:
        side.leave()
    os._exit(0)  # nobody reads what may still wait to be printed


if __name__ == "__main__":
    main()
