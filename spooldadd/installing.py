"""Put the files of a service in place, find out how they stand, take them away again.

If we die here: some of the files, each of them whole. Installing again writes the rest; nothing is started before all are
there.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from spooldadd import durable, unitfiles
from spooldadd.config.models import user_dir
from spooldadd.errors import SpooldaddError
from spooldadd.unitfiles import State, UnitFile

SYSTEM_UNITS, SYSUSERS, TMPFILES = "etc/systemd/system", "etc/sysusers.d", "etc/tmpfiles.d"
WANTS = {False: "multi-user.target.wants", True: "default.target.wants"}
# systemd answers in milliseconds; a stop waits for TimeoutStopSec=.
CALL_S = 120.0


class CannotInstall(SpooldaddError):
    """The service cannot be put in place; the message says what to do."""


@dataclass(frozen=True)
class Target:
    """Whose service manager is meant, and on which root directory."""

    is_user: bool = False
    root: str = "/"

    @property
    def is_live(self) -> bool:
        """Tell whether this is the machine that we run on, and systemd its service manager."""
        return self.root == "/" and os.path.isdir("/run/systemd/system") and shutil.which("systemctl") is not None

    @property
    def units(self) -> str:
        """The directory of the administrator's units."""
        if self.is_user:
            return self.at(os.path.join(user_dir(os.environ, "XDG_CONFIG_HOME", ".config"), "systemd", "user"))
        return self.at(SYSTEM_UNITS)

    def at(self, path: str) -> str:
        """Return where a path lies below the root directory."""
        return os.path.join(self.root, path.lstrip("/"))

    def systemctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Ask the service manager. Raises: CannotInstall where it cannot be asked."""
        command = ["systemctl", "--no-pager", *(["--user"] if self.is_user else []), *words]
        return run(command)

    def must(self, *words: str) -> None:
        """Have the service manager do something. Raises: CannotInstall with what it said."""
        done = self.systemctl(*words)
        if done.returncode != 0:
            raise CannotInstall(f"`systemctl {' '.join(words)}` failed: {done.stderr.strip() or done.returncode}")


@dataclass(frozen=True)
class Wanted:
    """What is to be installed: for which spools, by which program, as whom."""

    target: Target
    spools: tuple[str, ...]
    program: list[str] = field(default_factory=list)
    owner: str = ""  # the user that workers run as; empty, each as the owner of its spool

    def files(self) -> list[UnitFile]:
        """Return all files, those of the node first. Raises: CannotInstall."""
        target = self.target
        kind = "user" if target.is_user else "system"
        try:
            text = unitfiles.unit_text(kind, self.program, has_subgroups=has_subgroups(target))
        except ValueError as error:
            raise CannotInstall(str(error)) from error
        found = [
            UnitFile(os.path.join(target.units, unitfiles.TEMPLATE_UNIT), text),
            UnitFile(os.path.join(target.units, "spooldadd.slice"), unitfiles.template("slice")),
        ]
        if not target.is_user:
            found.append(UnitFile(target.at(f"{SYSUSERS}/spooldadd.conf"), unitfiles.template("sysusers.conf")))
            found.append(UnitFile(target.at(f"{TMPFILES}/spooldadd.conf"), unitfiles.template("tmpfiles.conf")))
            found += [file for spool in self.spools for file in self._owner_files(spool)]
        return found

    def _owner_files(self, spool: str) -> Iterator[UnitFile]:
        owner = self.owner or owner_of(self.target.at(spool))
        if owner not in ("root", "0"):
            yield UnitFile(drop_in(self.target, unit_of(spool)), unitfiles.owner_text(owner))


def drop_in(target: Target, unit: str) -> str:
    """Return where we say as whom a worker runs. All other drop-ins are the administrator's."""
    return os.path.join(target.units, f"{unit}.d", unitfiles.OWNER_DROP_IN)


def unit_of(spool: str) -> str:
    """Name the service of a spool. Raises: CannotInstall."""
    try:
        return unitfiles.unit_of(spool)
    except ValueError as error:
        raise CannotInstall(str(error)) from error


def write(file: UnitFile, state: State) -> bool:
    """Write a file that is missing or of another release of ours; return whether that was needed. Raises: CannotInstall."""
    if state not in (State.MISSING, State.OUTDATED):
        return False
    try:
        os.makedirs(os.path.dirname(file.path), exist_ok=True)
        durable.write(file.path, file.data, sync=True)
    except OSError as error:
        who = "" if os.geteuid() == 0 else "; run it with sudo, or with `--user` for a service of your own"
        raise CannotInstall(f"`{file.path}` cannot be written: {error.strerror}{who}") from error
    return True


def remove(path: str) -> bool:
    """Remove a file that is ours and untouched, and its directory where that was a drop-in's; return whether it is gone."""
    try:
        with open(path, "rb") as file:
            if not unitfiles.is_untouched(file.read()):
                return False
        os.unlink(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise CannotInstall(f"`{path}` cannot be removed: {error.strerror}") from error
    directory = os.path.dirname(path)
    if directory.endswith(".d") and not os.path.basename(directory).startswith(("sysusers", "tmpfiles")):
        try:
            os.rmdir(directory)
        except OSError:
            pass  # other drop-ins are in it, which are the administrator's
    return True


def enable_offline(target: Target, unit: str) -> str:
    """Have a unit started at the next boot of a root directory that is not running; return the link."""
    link = os.path.join(target.units, WANTS[target.is_user], unit)
    own = os.path.join(target.units, unitfiles.TEMPLATE_UNIT)
    leads_to = "/" + os.path.relpath(own, target.root)
    try:
        os.makedirs(os.path.dirname(link), exist_ok=True)
        if not os.path.lexists(link):
            os.symlink(leads_to, link)
    except OSError as error:
        raise CannotInstall(f"`{link}` cannot be made: {error.strerror}") from error
    return link


def instances(target: Target) -> list[str]:
    """Return the services of ours that are enabled, running, or have a drop-in."""
    found = set()
    wants = os.path.join(target.units, WANTS[target.is_user])
    for directory in (wants, target.units):
        found |= {entry.removesuffix(".d") for entry in _entries(directory)}
    if target.is_live:
        listed = target.systemctl("list-units", "--all", "--plain", "--no-legend", "spooldadd@*.service").stdout
        found |= {line.split()[0] for line in listed.splitlines() if line.split()}
    return sorted(unit for unit in found if unitfiles.path_of(unit) is not None)


def properties(target: Target, unit: str) -> dict[str, str]:
    """Return what the service manager says of a unit; nothing where it cannot be asked."""
    if not target.is_live:
        return {}
    names = "ActiveState,SubState,StatusText,MainPID,NRestarts,UnitFileState,Result"
    lines = target.systemctl("show", f"--property={names}", unit).stdout.splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def program() -> list[str]:
    """Return how this very spooldadd is started: its command where it was called by that, else its interpreter."""
    called = sys.argv[0]
    found = called if "/" in called else shutil.which(called) or ""
    if os.path.basename(found) == "spooldadd" and os.access(found, os.X_OK) and os.path.isfile(found):
        return [os.path.abspath(found)]  # not resolved: the link is what stays when pipx makes the environment anew
    return [sys.executable, "-m", "spooldadd"]


def stranger(path: str) -> str | None:
    """Return who else than root could change this program, or None."""
    for place in (path, os.path.realpath(path)):
        parts = place.split("/")
        for number in range(len(parts), 0, -1):
            try:
                uid = os.stat("/".join(parts[:number]) or "/").st_uid
            except OSError:
                break
            if uid != 0:
                return _user_name(uid)
    return None


def owner_of(spool: str) -> str:
    """Return the user that a spool belongs to. Raises: CannotInstall where it is no spool."""
    try:
        if not os.path.isfile(os.path.join(spool, ".spool", "format.toml")):
            raise CannotInstall(f"`{spool}` is not a spool; make it first: `spooldadd init {spool}`")
        return _user_name(os.stat(spool).st_uid)
    except OSError as error:
        raise CannotInstall(f"`{spool}` cannot be looked at: {error.strerror}") from error


def has_subgroups(target: Target) -> bool:
    """Tell whether the systemd of this machine puts a worker into a subgroup; of another root directory nobody knows."""
    if target.root != "/" or shutil.which("systemctl") is None:
        return False
    words = run(["systemctl", "--version"]).stdout.split()
    return len(words) > 1 and words[1].isdigit() and int(words[1]) >= unitfiles.SUBGROUP_SINCE


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a program of systemd's. Raises: CannotInstall where it is not there or does not end."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=CALL_S, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotInstall(f"`{command[0]}` cannot be run: {error}") from error


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
