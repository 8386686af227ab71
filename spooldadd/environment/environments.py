"""The environments of a node: each built once under its key, checked, published by one rename, read-only.

    environments/<key>/                     published: complete, with `ready.json` (the marker) and `manifest.json`
    environments/.building.<key>.<token>/   being built; whoever may still write there holds a lock on it
    environments/.removed.<token>/          on its way out
    environments/<key>/edited.json          in place of the marker: a job edited it, and no further one uses it
    bytecode/<key>/                         what Python compiles while jobs run: beside, not inside

One builder at a time has the lock of a key. A child of a killed builder may live on, but it writes where that builder
built, a place with a random name that no later build uses, and which stays until that child has ended too.

If we die here: a `.building…` or `.removed…` directory; the next build of that key, or `prune`, removes it.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from filelock import FileLock

from spooldadd import durable, locking
from spooldadd.environment import edits, manifest, ready
from spooldadd.environment.blobs import GRACE_S, Pruned
from spooldadd.environment.installers import Place
from spooldadd.environment.report import Report
from spooldadd.errors import BuildError

BUILDING: Final = ".building."
REMOVED: Final = ".removed."


@dataclass(frozen=True)
class Environment:
    """A published environment, as its marker tells it."""

    key: str
    path: str
    packages: tuple[str, ...]
    interpreter: str
    built_at: str
    size_bytes: int
    used_at_s: float


@dataclass(frozen=True)
class Recipe:
    """What is to be built: under which key, what to note about it, and how to make it in a place."""

    key: str
    note: dict[str, object]
    make: Callable[[Place], None]


class Environments:
    """All environments below one cache directory."""

    def __init__(self, cache_dir: str, report: Report, *, clock: Callable[[], float] = time.time) -> None:
        self._cache_dir = cache_dir
        self._root = os.path.join(cache_dir, ready.ENVIRONMENTS)
        self._report = report
        self._clock = clock

    def provide(self, recipe: Recipe) -> tuple[ready.Ready, bool]:
        """Return the environment held, and whether it was built now. Raises: `BuildError`; OSError."""
        found = ready.hold(self._cache_dir, recipe.key)
        if found:
            return found, False
        with self._lock(recipe.key):
            found = ready.hold(self._cache_dir, recipe.key)
            if found:
                return found, False
            self._sweep(recipe.key)
            self._build(recipe)
            found = ready.hold(self._cache_dir, recipe.key)
        if found is None:
            raise BuildError(f"environment {recipe.key}: it was removed as soon as it was built")
        return found, True

    def entries(self) -> Iterator[Environment]:
        """Yield every published environment."""
        for key in _names(self._root):
            path = os.path.join(self._root, key)
            try:
                with open(os.path.join(path, edits.MARKER), encoding="utf-8") as file:
                    told = json.load(file)
                    used_at_s = os.fstat(file.fileno()).st_mtime
                packages, size_bytes = tuple(map(str, told["packages"])), int(told["size_bytes"])
                yield Environment(
                    key, path, packages, str(told["interpreter"]), str(told["built_at"]), size_bytes, used_at_s
                )
            except (OSError, ValueError, KeyError, TypeError):
                continue

    def verify(self) -> Iterator[tuple[Environment, str]]:
        """Read every file of every environment; yield what is damaged. No further job gets it: it is built anew."""
        for entry in self.entries():
            problem = manifest.first_difference(entry.path)
            if problem:
                is_gone = self._retire(entry)
                yield entry, problem if is_gone else f"{problem}; a job uses it, so it stays until that has ended"

    def retire_edited(self) -> Iterator[str]:
        """Look at the change times of every environment, which is quick; yield the paths that were edited, for the log.

        No further job gets such an environment. One that a supervisor, or whoever else looks, put aside first is not ours to
        tell of. If we die here: the clean-up removes what was put aside, and nobody is told.
        """
        for entry in self.entries():
            try:
                name = edits.first_edit(entry.path)
                is_ours = bool(name) and edits.put_aside(entry.path)
            except OSError:
                continue  # it is being removed; or not ours: then its owner's worker does it
            if is_ours:
                yield os.path.normpath(os.path.join(entry.path, name))

    def is_used(self, key: str) -> bool:
        """Tell whether a job uses it now."""
        return _is_locked(os.path.join(self._root, key, edits.MARKER))

    def _retire(self, entry: Environment) -> bool:
        """Remove it; where a job uses it, let no further one do so. Tell whether it is gone."""
        if self.remove(entry.key):
            return True
        with suppress(OSError):  # not ours: then its owner's worker does it
            edits.put_aside(entry.path)
        return False

    def remove(self, key: str) -> bool:
        """Remove an environment unless a job uses it; tell whether it is gone."""
        marker = os.path.join(self._root, key, edits.MARKER)
        try:
            fd = os.open(marker, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            if not locking.try_lock(fd):
                return False
            if os.path.samestat(os.fstat(fd), os.stat(marker)):
                self._put_away(key)
        except FileNotFoundError:
            return False
        finally:
            os.close(fd)
        return True

    def prune(self, *, max_bytes: int, max_age_s: float) -> Pruned:
        """Remove what was not used for so long, then the least recently used until the rest fits; never one in use."""
        self._sweep("")
        self._sweep_edited()
        removed = freed = 0
        for entry in self.surplus(max_bytes=max_bytes, max_age_s=max_age_s):
            if self.remove(entry.key):
                removed += 1
                freed += entry.size_bytes
        return Pruned(removed, freed)

    def surplus(self, *, max_bytes: int, max_age_s: float) -> Iterator[Environment]:
        """Yield what `prune` would remove: what no job uses and was not used for so long, or is too many."""
        entries = sorted(self.entries(), key=lambda entry: entry.used_at_s)
        left = sum(entry.size_bytes for entry in entries)
        for entry in entries:
            age_s = self._clock() - entry.used_at_s
            if age_s < GRACE_S or (left <= max_bytes and age_s <= max_age_s) or self.is_used(entry.key):
                continue
            left -= entry.size_bytes
            yield entry

    def _lock(self, key: str) -> FileLock:
        directory = os.path.join(self._cache_dir, "locks")
        os.makedirs(directory, exist_ok=True)
        return FileLock(os.path.join(directory, f"environment-{key}.lock"), fallback_to_soft=False)

    def _build(self, recipe: Recipe) -> None:
        self._report.line(f"environment {recipe.key}: building")
        started_s = time.monotonic()
        with self._place(recipe.key) as place:
            recipe.make(place)
            self._publish(recipe, place)
        self._report.line(f"environment {recipe.key}: ready after {time.monotonic() - started_s:.1f} s")

    @contextmanager
    def _place(self, key: str) -> Iterator[Place]:
        """Give a new place to build in, marked by a lock that every writer inherits; remove it unless it was published."""
        os.makedirs(self._root, exist_ok=True)
        path = os.path.join(self._root, f"{BUILDING}{key}.{secrets.token_hex(4)}")
        os.mkdir(path)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield Place(path, os.path.join(self._root, key), (fd,))
        finally:
            os.close(fd)
            if os.path.exists(path):
                remove_tree(path)

    def _publish(self, recipe: Recipe, place: Place) -> None:
        size_bytes = manifest.write(place.path)
        marker = {"schema": ready.SCHEMA, "size_bytes": size_bytes, "built_at": _utc(self._clock()), **recipe.note}
        with open(os.path.join(place.path, edits.MARKER), "w", encoding="utf-8") as file:
            json.dump(marker, file)
        os.makedirs(os.path.join(self._cache_dir, ready.BYTECODE, recipe.key), exist_ok=True)
        make_read_only(place.path)
        _sync_file_system(place.keep_fds[0])
        edits.settle(place.path)
        # What is there has no marker, else we would not be here. A job that runs in it finds its files an instant later.
        away = self._take_away(recipe.key) if os.path.lexists(place.final) else None
        os.rename(place.path, place.final)
        durable.sync_directory(self._root)
        if away:
            remove_tree(away)
            _forget_bytecode(self._cache_dir, recipe.key)  # it may be of what was edited

    def _put_away(self, key: str) -> None:
        """Take it out of the way by one rename, then remove it."""
        remove_tree(self._take_away(key))
        _forget_bytecode(self._cache_dir, key)

    def _take_away(self, key: str) -> str:
        away = os.path.join(self._root, f"{REMOVED}{secrets.token_hex(8)}")
        os.rename(os.path.join(self._root, key), away)
        return away

    def _sweep(self, key: str) -> None:
        """Remove what died half-way: removals, and builds of this key (of all keys if it is empty) without a writer."""
        for name in _names(self._root, hidden=True):
            path = os.path.join(self._root, name)
            if name.startswith(REMOVED) or (name.startswith(f"{BUILDING}{key}") and _is_left(path)):
                remove_tree(path)

    def _sweep_edited(self) -> None:
        """Remove environments that a job edited, when the last job in them has ended."""
        for key in _names(self._root):
            path = os.path.join(self._root, key)
            has = [os.path.lexists(os.path.join(path, name)) for name in (edits.MARKER, edits.EDITED)]
            if has == [False, True] and not _is_locked(os.path.join(path, edits.EDITED)):
                with suppress(OSError):
                    self._put_away(key)


def _forget_bytecode(cache_dir: str, key: str) -> None:
    shutil.rmtree(os.path.join(cache_dir, ready.BYTECODE, key), ignore_errors=True)


def _is_locked(path: str) -> bool:
    """Tell whether somebody holds this file. To ask takes the lock for an instant: a job that comes then asks a builder."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not locking.try_lock(fd)
    except OSError:  # no locks there: in doubt somebody does
        return True
    finally:
        os.close(fd)


def _is_left(path: str) -> bool:
    """Tell whether nobody who could write there is left. A place of an instant ago may not have its lock yet."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return locking.try_lock(fd) and (bool(os.listdir(fd)) or time.time() - os.fstat(fd).st_mtime > GRACE_S)
    except OSError:
        return False
    finally:
        os.close(fd)


def make_read_only(directory: str) -> None:
    """Take every write bit away, the directory's own last."""
    for place, _, files in os.walk(directory, topdown=False):
        for name in files:
            path = os.path.join(place, name)
            if not os.path.islink(path):
                os.chmod(path, stat.S_IMODE(os.lstat(path).st_mode) & ~0o222)
        os.chmod(place, stat.S_IMODE(os.lstat(place).st_mode) & ~0o222)


def remove_tree(directory: str) -> None:
    """Remove a read-only tree; what cannot be removed now stays for the next sweep."""
    for place, _, _ in os.walk(directory):
        with suppress(OSError):
            os.chmod(place, 0o700)
    shutil.rmtree(directory, ignore_errors=True)


def _sync_file_system(fd: int) -> None:
    """Make ten thousand small files last with one call, before the rename says that they are there."""
    ctypes.CDLL(None, use_errno=True).syncfs(fd)


def _names(directory: str, *, hidden: bool = False) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if name.startswith(".") == hidden)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _utc(at_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))
