"""Whose job it is, and as whom it runs: decided by a worker of root, before it reads a word of the spec.

The owner of the file that was dropped is the owner of the job. The file is looked at through a descriptor, read once, and
replaced in the record by a copy of our own: the owner may still hold his file open, or have another name for it, and what
runs must be what was looked at. From then on `owner.toml` in the record, which only root can write, says whose the job is.

A file that is no plain file, or has a second name, says nothing about who dropped it, and is never run.

If we die here: before `owner.toml`, a record with the user's own file, which says whose it is; after it, a record that says
so twice, and whoever claims it makes the copy; after the copy, nothing is missing.
"""

from __future__ import annotations

import fnmatch
import grp
import os
import pwd
import stat
from collections.abc import Mapping

from spooldadd import durable, filesystem, layout, looking, ownership, spool, trust, writers
from spooldadd.account import Account
from spooldadd.config import Config
from spooldadd.errors import ConfigError, SpoolError
from spooldadd.log import Log

OWNER, WORKER = "owner", "worker"
# What of the worker's environment says nothing about root. `[environ] pass` can name more.
PASSED = ("LANG", "LANGUAGE", "LC_*", "TZ")
PATH = "/usr/local/bin:/usr/bin:/bin"
COPY_BYTES = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class NotOwned(Exception):  # an answer, not a fault
    """This job is not run, for whom it belongs to or for what its file is. The message is a predicate or a sentence."""


class NotReady(Exception):  # an answer, not a fault
    """Somebody still writes to this spec."""


class Owning:
    """Says of each claimed job whose it is and as whom it runs. `base` is what `[environ]` leaves of our environment."""

    def __init__(self, the_spool: spool.Spool, config: Config, base: Mapping[str, str], log: Log) -> None:
        self._spool = the_spool
        self._config = config
        self._log = log
        self._base = dict(base)
        self._is_many = the_spool.format.many_users
        rules = config.owner
        self._run_as = str(OWNER if rules.run_as is None else rules.run_as)
        self._allowed = None if rules.allowed is None else tuple(map(str, rules.allowed))
        self._is_said = False
        _check_names(self._allowed or ())
        self._fixed = None if self._run_as in (OWNER, WORKER) else self._account(_user(self._run_as))

    def take(self, claimed: spool.Claim, modified_at_s: float | None) -> tuple[str, Account | None]:
        """Return the name of the owner, empty where it is ourselves, and as whom his job runs; make its bytes ours.

        `modified_at_s` is what its file was when it was found, where that is known. Raises: NotOwned; NotReady; OSError.
        """
        uid = ownership.read(claimed.path)
        path = layout.find_spec(claimed.path)
        status = os.lstat(path)
        if uid is None and status.st_uid == os.geteuid() and modified_at_s is None and self._is_many:
            raise NotOwned("does not say whose it is: its `owner.toml` is gone; submit it again")
        is_ours = uid is not None and status.st_uid == os.geteuid()
        owner = status.st_uid if uid is None else uid
        if owner != os.geteuid() or self._is_many:
            self._make_ours(claimed.path, path, owner, is_ours=is_ours, modified_at_s=modified_at_s)
        return self._judge(owner)

    def _judge(self, uid: int) -> tuple[str, Account | None]:
        if uid == os.geteuid() and self._allowed is None and not self._is_many:
            return "", self._fixed
        name = trust.user_name(uid)
        self._refuse_others(uid, name)
        if self._run_as == WORKER or (self._fixed is None and uid == os.geteuid()):
            return name, None
        return name, self._fixed or self._account(_entry(uid))

    def _refuse_others(self, uid: int, name: str) -> None:
        if self._allowed is None:
            if self._is_many and uid == 0:
                raise NotOwned("belongs to root, whose specs are not run here: `[owner] allowed` does not name it")
            return
        if name in self._allowed or str(uid) in self._allowed:
            return
        if not any(group[1:] in _group_names(uid) for group in self._allowed if group.startswith("@")):
            raise NotOwned(f"belongs to `{name}`, whose specs are not run here (`[owner] allowed`)")

    # -- the bytes

    def _make_ours(self, record: str, path: str, owner: int, *, is_ours: bool, modified_at_s: float | None) -> None:
        fd = None if is_ours else self._opened(path, owner, modified_at_s)
        try:
            if ownership.read(record) is None or not is_ours:
                name = trust.user_name(owner)
                runner = self._fixed.uid if self._fixed else None
                if not ownership.note(record, owner, name, sync=self._spool.sync, runner=runner) and not self._is_said:
                    self._is_said = True
                    then = "records of jobs are for root alone here"
                    self._log.warning("no-access-lists", path=self._spool.places.root, then=then)
            if fd is not None:
                _copy(fd, path, sync=self._spool.sync)
        finally:
            if fd is not None:
                os.close(fd)

    def _opened(self, path: str, owner: int, modified_at_s: float | None) -> int | None:
        """Open what was dropped; None for what no copy is made of, because it is not run. Raises: NotOwned, NotReady."""
        try:
            fd = os.open(path, _READ)
        except OSError:
            return None  # a link, a device, a socket: whoever reads it says so
        status = os.fstat(fd)
        try:
            if not stat.S_ISREG(status.st_mode) or status.st_size > looking.most_bytes(path):
                os.close(fd)
                return None
            if status.st_uid != owner and ownership.read(os.path.dirname(path)) is None:
                raise NotOwned("changed its owner while it was taken")
            if writers.has_writer(fd):
                raise NotReady("somebody has it open for writing")
            if modified_at_s is not None and status.st_mtime != modified_at_s:
                raise NotReady("it was changed while it waited")
            objection = self._trust.objection(status, "")
            if status.st_nlink != 1:
                objection = f"has {status.st_nlink} names; who has dropped it cannot be told: copy the file"
            if objection:
                ownership.note(os.path.dirname(path), owner, trust.user_name(owner), sync=self._spool.sync)
                raise NotOwned(objection.strip())
        except (NotOwned, NotReady):
            os.close(fd)
            raise
        return fd

    @property
    def _trust(self) -> trust.Trust:
        return rule(self._spool, self._config)

    # -- users

    def _account(self, entry: pwd.struct_passwd) -> Account:
        who = Account()
        who.uid, who.gid, who.name = entry.pw_uid, entry.pw_gid, entry.pw_name
        who.groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        who.home, who.shell = entry.pw_dir or "/", entry.pw_shell or "/bin/sh"
        who.may_gain = self._config.owner.setuid
        own = {"HOME": who.home, "USER": who.name, "LOGNAME": who.name, "SHELL": who.shell}
        who.environ = {"PATH": PATH, **self._base, **own, **self._config.environ.added}
        return who


def _copy(fd: int, path: str, *, sync: bool) -> None:
    """Put a copy of our own in the place of the user's file, with its time of change. Raises: OSError."""
    temporary = os.path.join(os.path.dirname(path), f"{durable.TEMPORARY}{os.getpid()}-spec")
    durable.unlink_if_there(temporary)
    status = os.fstat(fd)

    def fill(target: int) -> None:
        left = status.st_size
        while left > 0 and (data := os.read(fd, min(COPY_BYTES, left))):
            durable.write_all(target, data)
            left -= len(data)
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))

    os.lseek(fd, 0, os.SEEK_SET)
    durable.write_new_by(temporary, fill, sync=sync)
    os.rename(temporary, path)
    if sync:
        durable.sync_directory(os.path.dirname(path))


def rule(the_spool: spool.Spool, config: Config) -> trust.Trust:
    """Return whose files are accepted: on a spool for many users everybody's, since each runs with his own rights."""
    found = trust.of_config(config.trust.owners, config.trust.groups)
    return trust.Trust(found.owners, found.groups, any_owner=the_spool.format.many_users)


def of_spool(the_spool: spool.Spool, config: Config, base: Mapping[str, str], log: Log) -> Owning | None:
    """Return who says whose a job is; None for a worker that is not root's, or for whom all jobs are its own.

    Raises: ConfigError where what is asked for cannot be had.
    """
    run_as, is_many = config.owner.run_as, the_spool.format.many_users
    if os.geteuid() != 0:
        if is_many:
            raise ConfigError(f"`{the_spool.places.root}` is a spool for many users: only root can serve or prune it")
        if run_as not in (None, WORKER):
            raise ConfigError(f'`[owner] run_as = "{run_as}"` needs a worker of root: no other can become another user')
        return None
    if run_as == WORKER:
        if is_many:
            raise ConfigError(
                f'`[owner] run_as = "worker"` would run everybody\'s jobs as root: `{the_spool.places.root}` is a spool for '
                "many users; say `owner`, or name one user"
            )
        return None
    if run_as in (None, OWNER) and not (is_many or config.owner.allowed is not None or config.trust.owners):
        return None  # only root's own specs are accepted there, and those run as root: nothing is to be found out
    is_narrowed = config.environ.passed != ("*",)
    kept = {name: value for name, value in base.items() if is_narrowed or _matches(name)}
    return Owning(the_spool, config, kept, log)


def _matches(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in PASSED)


def refuse_unsafe(the_spool: spool.Spool, config: Config) -> None:
    """Refuse a spool for many users, or places of its worker, that anybody but root could put something else in place of.

    Raises: SpoolError.
    """
    if not the_spool.format.many_users:
        return
    places = the_spool.places
    root = os.stat(places.root)
    if root.st_uid != 0 or (root.st_mode & stat.S_IWOTH and not root.st_mode & stat.S_ISVTX):
        remedy = f"`chown root {places.root}; chmod 1777 {places.root}`"
        raise SpoolError(
            f"the spool `{places.root}` is for many users, and one of them could move the others' files; {remedy}"
        )
    for path in (places.internal, *(places.state_directory(state) for state in layout.STATES)):
        _refuse_foreign(path, os.lstat(path), "is a part of a spool for many users")
    for path in (places.root, config.work_dir, config.cache_dir):
        _refuse_reachable(path)
    kind = filesystem.kind(places.root)
    if filesystem.is_network(kind):
        raise SpoolError(
            f"the spool `{places.root}` is on a network file system ({kind}); one for many users is on a local disk"
        )


def _refuse_reachable(path: str) -> None:
    """Look at every directory on the way: who can rename one of them can put another in its place."""
    path = os.path.abspath(path)
    if os.path.realpath(path) != path:
        raise SpoolError(
            f"`{path}` leads through a link, which may lead elsewhere tomorrow; name `{os.path.realpath(path)}`"
        )
    directory = path
    while directory != "/":
        directory = os.path.dirname(directory)
        if os.path.lexists(directory):
            _refuse_foreign(directory, os.lstat(directory), f"is on the way to `{path}`")


def _refuse_foreign(path: str, status: os.stat_result, what: str) -> None:
    if status.st_uid != 0:
        raise SpoolError(
            f"`{path}` {what} and belongs to `{trust.user_name(status.st_uid)}`; `chown root` it, or move the spool"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX:
        raise SpoolError(f"`{path}` {what} and may be changed by others than root; `chmod go-w` it")


def _user(name: str) -> pwd.struct_passwd:
    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError as error:
        raise ConfigError(f"`[owner] run_as`: this system has no user `{name}`") from error
    if entry.pw_uid == 0:
        raise ConfigError("`[owner] run_as` cannot be root: say `worker` to run all jobs as the worker's own user")
    return entry


def _entry(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError as error:
        raise NotOwned(
            f"belongs to {uid}, which is no user of this system: nobody knows whose groups and home it has"
        ) from error


def _check_names(allowed: tuple[str, ...]) -> None:
    for name in allowed:
        try:
            if name.startswith("@"):
                grp.getgrnam(name[1:])
            elif not name.isdigit():
                pwd.getpwnam(name)
        except KeyError as error:
            kind = "group" if name.startswith("@") else "user"
            raise ConfigError(f"`[owner] allowed`: this system has no {kind} `{name.removeprefix('@')}`") from error


def _group_names(uid: int) -> set[str]:
    entry = _entry(uid)
    found = set()
    for gid in os.getgrouplist(entry.pw_name, entry.pw_gid):
        found.add(trust.group_name(gid))
    return found
