"""Tell in some 50 microseconds whether a job's Python environment is built already, and hold it while the job runs.

Standard library only: the worker and the supervisor ask here before they start a builder at all. A pointer file, named
by a hash of the `[python]` table and of the files it names, leads from what a spec asks for to the environment that
answers it, for as long as that answer may be reused.

An environment is held by a shared lock on its marker: the open descriptor is the hold. Keep it open in the supervisor
and in the job; the kernel lets go when the last of them ends. Clean-up takes that lock alone, or leaves the environment.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from spooldadd import layout
from spooldadd.environment.edits import MARKER

SCHEMA: Final = 1
ENVIRONMENTS: Final = "environments"
POINTERS: Final = "requests"
BYTECODE: Final = "bytecode"
# What would lead a job's Python to other places than its environment.
CLEARED: Final = ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__")
_INCLUDE: Final = re.compile(rb"^\s*(?:-r|-c|--requirement|--constraint)[ =]*(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Ready:
    """A built environment, held by `hold_fd` until that is closed everywhere."""

    key: str
    path: str
    pycache: str
    hold_fd: int

    @property
    def interpreter(self) -> str:
        """The path of its Python."""
        return os.path.join(self.path, "bin", "python")

    def applied(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return process variables as `activate` would make them. Bytecode goes beside the environment, not into it."""
        kept = {name: value for name, value in environ.items() if name not in CLEARED}
        search = os.path.join(self.path, "bin") + os.pathsep + environ.get("PATH", os.defpath)
        return {**kept, "PATH": search, "VIRTUAL_ENV": self.path, "PYTHONPYCACHEPREFIX": self.pycache}


def find_ready(
    cache_dir: str, table: Mapping[str, object], base_dirs: tuple[str, ...], now_s: float | None = None
) -> Ready | None:
    """Return the environment for a rendered `[python]` table, held; None where a builder must look.

    `base_dirs` are where relative paths of the table are looked for, in order: pass the same ones as to the builder.
    """
    request = request_key(table, base_dirs)
    try:
        with open(os.path.join(cache_dir, POINTERS, request), "rb") as file:
            pointer = json.load(file)
        if pointer["schema"] != SCHEMA or pointer["fresh_until_s"] <= (time.time() if now_s is None else now_s):
            return None
        interpreter = os.stat(pointer["interpreter"])
        if [interpreter.st_size, interpreter.st_mtime_ns] != pointer["interpreter_state"]:
            return None
        return hold(cache_dir, pointer["environment"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def hold(cache_dir: str, key: str) -> Ready | None:
    """Hold a built environment and note that it is used; None where it is not there, or is just being removed."""
    path = os.path.join(cache_dir, ENVIRONMENTS, key)
    marker = os.path.join(path, MARKER)
    try:
        fd = os.open(marker, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        # Between the opening and the lock it may have been removed, and even built anew: then we hold a ghost.
        if not os.path.samestat(os.fstat(fd), os.stat(marker)):
            raise FileNotFoundError(marker)
    except OSError:
        os.close(fd)
        return None
    _touch(fd)
    return Ready(key, path, os.path.join(cache_dir, BYTECODE, key), fd)


def _touch(fd: int) -> None:
    try:
        os.utime(fd)
    except OSError:
        pass  # another user's environment: used all the same, only not noted


def request_key(table: Mapping[str, object], base_dirs: tuple[str, ...]) -> str:
    """Return the hash of what a `[python]` table asks for, with the content of every local file it names."""
    digest = hashlib.sha256(json.dumps(table, sort_keys=True, default=str).encode())
    requirements = table.get("requirements")
    if isinstance(requirements, str) and "://" not in requirements:
        path = find_file(requirements, base_dirs)
        for content in local_inputs(path) if path else ():
            digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def find_file(name: str, base_dirs: tuple[str, ...]) -> str | None:
    """Return the first file of that name below the base directories, never one outside of them."""
    for base in base_dirs:
        root = os.path.realpath(base)
        path = os.path.realpath(os.path.join(root, name))
        if path.startswith(root + os.sep) and not _leads_into_record(root, name, path) and os.path.isfile(path):
            return path
    return None


def _leads_into_record(root: str, name: str, path: str) -> bool:
    """Tell whether a link beside the drops leads to what the spool keeps: who may see that is not the link's to say."""
    top = os.path.relpath(path, root).partition(os.sep)[0]
    is_kept = top in layout.ROOT_ENTRIES or top.startswith(layout.INBOX)
    return is_kept and os.path.normpath(name).partition(os.sep)[0] != top


def local_inputs(path: str) -> Iterator[bytes]:
    """Yield the contents that decide what a requirements file means: its own, and of all that it includes."""
    seen = set()
    todo = [path]
    if os.path.basename(path) == "uv.lock":
        todo.append(os.path.join(os.path.dirname(path), "pyproject.toml"))
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        try:
            if path.endswith(".whl"):  # too large to read for each job; a wheel is replaced, not edited
                state = os.stat(path)
                yield f"{path} {state.st_size} {state.st_mtime_ns}".encode()
                continue
            with open(path, "rb") as file:
                content = file.read()
        except OSError:
            continue  # the installer will say so better
        yield content
        if not path.endswith((".toml", ".lock")):
            here = os.path.dirname(path)
            todo += [os.path.join(here, name) for name in included(content)]


def included(content: bytes) -> list[str]:
    """Return the files that this requirements file includes, as it names them."""
    return [os.fsdecode(name) for name in _INCLUDE.findall(content)]
