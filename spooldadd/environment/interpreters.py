"""Find the Python interpreter that a spec asks for, and say what makes it different from another.

Ours first, then what is on PATH, newest first: a node's own choice of interpreters, the same for uv and for pip. A
candidate that does not start (a shim for a version that is not there) is passed over.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from spooldadd.errors import BuildError

# Runs in the candidate, so it is plain Python 3 of any age.
_PROBE: Final = """
import json, os, platform, sys, sysconfig
print(json.dumps({
    "path": os.path.realpath(sys.executable),
    "version": "%d.%d.%d" % sys.version_info[:3],
    "identity": [sys.version, sys.implementation.name, sys.implementation.cache_tag, sysconfig.get_platform(),
                 sysconfig.get_config_var("SOABI"), "-".join(platform.libc_ver()), platform.machine()],
}))
"""
# A working interpreter answers in 20 ms; one on a sleeping network share is not worth more.
_PROBE_S: Final = 20.0
_OLDEST_MINOR, _NEWEST_MINOR = 8, 30


@dataclass(frozen=True)
class Interpreter:
    """One Python: where it is, and all that makes what was built for it useless to another."""

    path: str
    version: tuple[int, ...]
    identity: tuple[str, ...]
    size_bytes: int
    modified_ns: int

    def key(self) -> list[object]:
        """Return what belongs into an environment's key."""
        return [self.path, *self.identity]


def find_interpreter(specifier: str | None) -> Interpreter:
    """Return the first interpreter that fits, such as `3.12` or `>=3.11,<3.14`. Raises: `BuildError`, which lists all."""
    seen = []
    for path in _candidates(specifier):
        found = probe(path)
        if found is None:
            continue
        if specifier is None or fits(found.version, specifier):
            return found
        seen.append(".".join(map(str, found.version)))
    have = ", ".join(dict.fromkeys(seen)) or "none"
    raise BuildError(f"no Python {specifier or ''} is installed on this node; found: {have}")


def probe(path: str) -> Interpreter | None:
    """Ask an interpreter what it is; None where it does not answer."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        done = subprocess.run(
            [path, "-I", "-c", _PROBE], env=environ, capture_output=True, timeout=_PROBE_S, check=True, cwd="/"
        )
        told = json.loads(done.stdout)
        state = os.stat(told["path"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return None
    version = tuple(int(part) for part in told["version"].split("."))
    identity = tuple(str(part) for part in told["identity"])
    return Interpreter(told["path"], version, identity, state.st_size, state.st_mtime_ns)


def _candidates(specifier: str | None) -> Iterator[str]:
    """Yield paths, each once: our own base interpreter, an exact version, then PATH from the newest."""
    names = ["python3"]
    exact = re.fullmatch(r"(?:==\s*)?(\d+)\.(\d+)(?:\.[\d*]+)?", specifier or "")
    if exact:
        names.insert(0, f"python{exact[1]}.{exact[2]}")
    names += [f"python3.{minor}" for minor in range(_NEWEST_MINOR, _OLDEST_MINOR - 1, -1)]
    own = getattr(sys, "_base_executable", sys.executable)
    found = [own, *(path for name in dict.fromkeys(names) for path in _all_on_path(name))]
    yield from dict.fromkeys(found)


def _all_on_path(name: str) -> Iterator[str]:
    for directory in os.get_exec_path():
        path = shutil.which(name, path=directory)
        if path:
            yield path


def fits(version: tuple[int, ...], specifier: str) -> bool:
    """Tell whether a version fits: a bare one is a prefix, `~=` allows later last numbers, as in PEP 440."""
    return all(_fits_one(version, part.strip()) for part in specifier.split(",") if part.strip())


def _fits_one(version: tuple[int, ...], clause: str) -> bool:
    match = re.fullmatch(r"(~=|==|!=|<=|>=|<|>)?\s*([\d.]+?)(\.\*)?", clause)
    if match is None:
        raise BuildError(f"`{clause}` is no Python version")
    operator, wanted = match[1] or "==", tuple(int(part) for part in match[2].split("."))
    is_prefix = bool(match[3]) or match[1] is None
    padded = (*wanted, 0, 0)[:3]
    has_prefix = version[: len(wanted)] == wanted
    return {
        "==": has_prefix if is_prefix else version == padded,
        "!=": not has_prefix if is_prefix else version != padded,
        "<=": version <= padded,
        ">=": version >= padded,
        "<": version < padded,
        ">": version > padded,
        "~=": version >= padded and version[: len(wanted) - 1] == wanted[:-1],
    }[operator]
