"""A spool that everybody on a machine may drop into: who may do what in which of its directories. Light.

The root is like `/tmp`: everybody may make a name there, and only its owner and root may remove or rename it. All
else belongs to root. State directories can be listed, so names are known; what a record holds, its owner and root alone
can read.

| place | mode | who |
|---|---|---|
| the root | 1777 | everybody drops |
| `waiting/`, `running/`, `done/`, `failed/` | 0755 | everybody sees names |
| `.spool/` | 0755 | everybody reads what kind of spool it is |
| `.spool/nodes/` | 0755 | everybody sees who serves |
| `.spool/locks/`, `.spool/notify/`, … | 0700 | root |
| `.spool/requests/` | 1733 | everybody asks, and sees nobody else's request |
| `.spool/answers/` | 0711 | who asked reads the answer, by a name that nobody else knows |
| `.wake` | 0666 | everybody wakes the worker |

If we die here: `open_to_all` is repeated by the next `init`; what is not yet open is closed.
"""

from __future__ import annotations

import os
import stat

from spooldadd import layout
from spooldadd.errors import SpoolError
from spooldadd.layout import Layout

REQUESTS, ANSWERS = "requests", "answers"
ROOT_MODE, SEEN, CLOSED, ASKING, ANSWERING, WAKING = 0o1777, 0o755, 0o700, 0o1733, 0o711, 0o666


def is_paused_by(path: str) -> bool:
    """Tell whether this file stops the claiming: where everybody may make one, only the root's owner's and root's does."""
    try:
        file, root = os.lstat(path), os.stat(os.path.dirname(path))
    except OSError:
        return False
    is_common = root.st_mode & stat.S_ISVTX and root.st_mode & stat.S_IWOTH
    return not is_common or file.st_uid in (0, root.st_uid)


def open_to_all(places: Layout) -> None:
    """Give each part of a spool for many users its mode. Raises: SpoolError."""
    internal = places.internal
    modes = [(places.state_directory(state), SEEN) for state in layout.STATES]
    modes += [(internal, SEEN), (places.nodes, SEEN), (places.locks, CLOSED), (places.notify, CLOSED)]
    modes += [(os.path.join(internal, REQUESTS), ASKING), (os.path.join(internal, ANSWERS), ANSWERING)]
    try:
        for path, mode in modes:
            os.makedirs(path, exist_ok=True)
            os.chmod(path, mode)
        wake = os.path.join(places.root, layout.WAKE)
        fd = os.open(wake, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, WAKING)
        try:
            os.fchmod(fd, WAKING)
        finally:
            os.close(fd)
        os.chmod(places.root, ROOT_MODE)  # last: until here nobody else can come in
    except OSError as error:
        raise SpoolError(f"cannot open `{places.root}` to all: {error.strerror} (`{error.filename}`)") from error
