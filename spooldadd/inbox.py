"""The directory for one node's own drops: `@web-3/` in the root of a spool. Made when it is missing, judged at each scan.

Who may drop into the root may drop here: the directory gets the mode and the group of the root. One that somebody else could
have changed, or that is a link, is left alone and said so once.

If we die here: in `make`, a directory that its owner alone may write to; a person removes it while it is empty.
"""

from __future__ import annotations

import os
import stat

from spooldadd import layout
from spooldadd.layout import Layout
from spooldadd.log import Log
from spooldadd.trust import Trust


class Inbox:
    """The inbox of the node that serves."""

    def __init__(self, places: Layout, node: str, trust: Trust, log: Log) -> None:
        self.name = layout.inbox(node)
        self.path = os.path.join(places.root, self.name)
        self._root = places.root
        self._trust = trust
        self._log = log
        self._said = ""

    def is_ready(self) -> bool:
        """Tell whether drops in it are to be looked at; make it where it is missing. Raises: OSError."""
        try:
            status = os.lstat(self.path)
        except FileNotFoundError:
            make(self._root, self.name)
            status = os.lstat(self.path)
        objection = "is not a directory" if not stat.S_ISDIR(status.st_mode) else self._trust.objection(status, "")
        if objection and objection != self._said:
            then = "what is in it is not run; put it right, or remove it"
            self._log.warning("inbox-refused", path=self.path, reason=objection.strip(), then=then)
        self._said = objection or ""
        return not objection


def make(root: str, name: str) -> None:
    """Make an inbox with the mode and the group of the root. Raises: OSError; not where it is there already.

    Where everybody may drop into the root, its inboxes are for whoever makes them: without the bit that keeps users from
    each other's files, nobody could trust what lies there.
    """
    path = os.path.join(root, name)
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    status = os.stat(root)
    if status.st_mode & stat.S_ISVTX:
        return
    try:
        os.chown(path, -1, status.st_gid)
    except PermissionError:
        pass  # a group that is not ours; its members cannot drop here unless the root hands its group on
    if os.stat(path).st_gid == status.st_gid:
        os.chmod(path, stat.S_IMODE(status.st_mode))
