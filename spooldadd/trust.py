"""Who may have written this? A spool or a spec that somebody else could have changed is refused, as cron and ssh do.

Pure but for the look-up of users and groups. A group that holds nobody but the owner counts as the owner: systems that
give each user a group of the same name write files with mode 0664.

Source: crontab(5); sshd_config(5), StrictModes.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from spooldadd.errors import ConfigError


@dataclass(frozen=True)
class Trust:
    """Whose files are accepted: of these owners, and writable by these groups besides the owner."""

    owners: frozenset[int]
    groups: frozenset[int] = frozenset()
    any_owner: bool = False  # each job runs as the owner of its spec, so nobody gains by another's

    def objection(self, status: os.stat_result, what: str) -> str | None:
        """Return why this file or directory is not to be trusted, with the remedy, or None."""
        if status.st_uid not in self.owners and not self.any_owner:
            allowed = ", ".join(sorted(user_name(uid) for uid in self.owners))
            return f"{what} belongs to `{user_name(status.st_uid)}`; accepted are files of {allowed} (`[trust] owners`)"
        mode = stat.S_IMODE(status.st_mode)
        if mode & stat.S_IWOTH:
            return f"{what} may be changed by everybody (mode {mode:04o}); `chmod o-w` it"
        if mode & stat.S_IWGRP and not self._accepts_group(status.st_gid, status.st_uid):
            group = group_name(status.st_gid)
            return f"{what} may be changed by the group `{group}` (mode {mode:04o}); `chmod g-w` it, or `[trust] groups`"
        return None

    def _accepts_group(self, gid: int, uid: int) -> bool:
        return gid in self.groups or is_private_group(gid, uid)


def of_config(owners: Iterable[str | int] = (), groups: Iterable[str | int] = ()) -> Trust:
    """Return the rule for this process: its own user's files, root's, and those of the configured owners.

    Raises: ConfigError where the system knows no such user or group.
    """
    return Trust(frozenset({0, os.geteuid()}) | user_ids(owners), group_ids(groups))


def user_ids(users: Iterable[str | int]) -> frozenset[int]:
    """Return the numbers of these users. Raises: ConfigError where the system knows no such name."""
    try:
        return frozenset(user if isinstance(user, int) else pwd.getpwnam(user).pw_uid for user in users)
    except KeyError as error:
        raise ConfigError(f"`[trust] owners`: {error.args[0]}") from error


def group_ids(groups: Iterable[str | int]) -> frozenset[int]:
    """Return the numbers of these groups. Raises: ConfigError where the system knows no such name."""
    try:
        return frozenset(group if isinstance(group, int) else grp.getgrnam(group).gr_gid for group in groups)
    except KeyError as error:
        raise ConfigError(f"`[trust] groups`: {error.args[0]}") from error


@lru_cache(maxsize=256)
def is_private_group(gid: int, uid: int) -> bool:
    """Tell whether this user is the only member of this group."""
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(uid)
    except KeyError:
        return False
    others = set(group.gr_mem) - {user.pw_name}
    return user.pw_gid == gid and not others and not _has_other_primary_member(gid, uid)


def _has_other_primary_member(gid: int, uid: int) -> bool:
    return any(entry.pw_gid == gid and entry.pw_uid != uid for entry in pwd.getpwall())


def user_name(uid: int) -> str:
    """Return the user's name, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Return the group's name, or the number where it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
