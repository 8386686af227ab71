"""Notice that a job has edited its Python environment. Light: the supervisor asks after each job that ran in one.

Read-only files stop neither root nor an owner who insists. But nobody changes, adds, renames or removes a file without the
kernel noting the time, and that time cannot be set back as the modification time can. One look at each file, after the job
and not before it, costs 3 ms for a thousand files. What was edited is put aside: no later job gets it, the next one builds
it anew, and those that run in it now keep what they have.

What is not promised: two jobs in one environment at the same moment share it, so one of them that insists is seen by the
other.

If we die here: the edited environment is found by the next look, of a job that ran in it or of `upkeep`.
"""

from __future__ import annotations

import os

MARKER = "ready.json"
MANIFEST = "manifest.json"
# The marker's name once no job may use the environment any more. Whoever uses it still holds the lock on the same file.
EDITED = "edited.json"
# How we go on, as the log says it.
THEN = "the next job gets a new one"
_OWN = frozenset({MARKER, MANIFEST, EDITED})

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Iterator


def settle(root: str) -> None:
    """Note the last change of a finished environment, as the modification time of its manifest. Raises: OSError."""
    latest_ns = max((info.st_ctime_ns for _, info in _walk(root)), default=0)
    latest_ns = max(latest_ns, os.stat(root).st_mtime_ns)
    os.utime(os.path.join(root, MANIFEST), ns=(latest_ns, latest_ns))


def first_edit(root: str) -> str:
    """Return the first name that changed since it was settled, relative to the environment; empty where none did.

    Raises: OSError where a directory cannot be read.
    """
    try:
        settled_ns = os.stat(os.path.join(root, MANIFEST)).st_mtime_ns
    except FileNotFoundError:
        return MANIFEST
    # The rename that published it changed the root's own change time; names that come and go there change the other one.
    if os.stat(root).st_mtime_ns > settled_ns:
        return "."
    for path, info in _walk(root):
        if info.st_ctime_ns > settled_ns:
            return os.path.relpath(path, root)
    return ""


def put_aside(root: str) -> bool:
    """Let no further job use this environment; tell whether it was us who did it. Raises: OSError."""
    os.chmod(root, 0o755)
    try:
        os.rename(os.path.join(root, MARKER), os.path.join(root, EDITED))
    except FileNotFoundError:
        return False
    return True


def _walk(root: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield everything below the root, but our own files in it."""
    todo = [root]
    while todo:
        directory = todo.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                if directory == root and entry.name in _OWN:
                    continue
                yield entry.path, entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
