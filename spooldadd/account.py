"""The user that a job runs as, and the step by which a process of root becomes that user for good. Light.

Decided by the worker, which alone looks users up: a supervisor gets plain values. What is left of root after the step:
no capability, no group, no keyring, no way back. Descriptors are the business of whoever takes the step: see `deputy`.

Source: credentials(7); capabilities(7), "Effect of user ID changes on capabilities"; keyctl(2); prctl(2).

If we die here: a process less; it had not begun to do anything.
"""

from __future__ import annotations

import ctypes
import os

PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
# The version of the calls that has 64 bits for capabilities; linux/capability.h.
_CAPABILITY_VERSION = 0x20080522
_KEYCTL_JOIN_SESSION_KEYRING = 1
# The number of keyctl(2), for which the C library has no function. Elsewhere a job keeps the worker's keyring in sight.
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "s390x": 280, "ppc64le": 271, "i686": 288, "armv7l": 311}
# What a login gives everybody: files that others may read and only the owner may change.
UMASK = 0o022
_LIBC = ctypes.CDLL(None, use_errno=True)


class Account:
    """One user of this system, as a job is started for him."""

    __slots__ = ("environ", "gid", "groups", "home", "may_gain", "name", "shell", "uid")

    def __init__(self) -> None:
        self.uid = -1
        self.gid = -1
        self.groups: list[int] = []  # all of them, the first one too
        self.name = ""
        self.home = "/"
        self.shell = "/bin/sh"
        self.environ: dict[str, str] = {}  # what his jobs start from, instead of the worker's own environment
        self.may_gain = False  # whether programs such as `sudo` work for him


class CannotBecome(OSError):
    """The kernel did not let go of all that root has: nothing may be run like this."""


def become(account: Account) -> None:
    """Become this user, for good. To be called in a child that ends, or runs another program. Raises: OSError."""
    if account.uid <= 0 or account.gid < 0:  # -1 means "leave it" to the calls below
        raise CannotBecome(f"`{account.name}` is no user to whom root can step down")
    _forget_keys()
    os.setgroups(account.groups)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    _drop_capabilities()
    if not account.may_gain:
        _call(_LIBC.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.umask(UMASK)
    _check(account)


def _forget_keys() -> None:
    """Keys that the service manager gave to root are reached through the session's keyring, whoever one is."""
    number = _KEYCTL.get(os.uname().machine)
    if number is not None:
        _LIBC.syscall(number, _KEYCTL_JOIN_SESSION_KEYRING, None)  # a kernel without keys has none to hide


def _drop_capabilities() -> None:
    """Those of the process went with the user; what could come back through files and programs goes, too."""
    _LIBC.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _call(_LIBC.capset, header, (ctypes.c_uint32 * 6)())


def _call(function: ctypes._NamedFuncPointer, *arguments: object) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise CannotBecome(number, os.strerror(number))


def _check(account: Account) -> None:
    """What the calls said is one thing; that there is no way back is another."""
    users, groups = (account.uid,) * 3, (account.gid,) * 3
    if os.getresuid() != users or os.getresgid() != groups or set(os.getgroups()) - set(account.groups):
        raise CannotBecome("the process is not whom it should be")
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise CannotBecome("the process could become root again")
