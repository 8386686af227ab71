"""Make a worker a service of systemd, and look after it.

`install` puts the units in place for the way in which this spooldadd is installed, and says what it wrote and what to type
next. Each worker runs as the owner of its spool, or as `--as` says. Installing again brings the files to this release; what
you have edited is left alone, and drop-ins (`systemctl edit`) are always yours. `uninstall` takes away what `install` wrote;
without a spool, everything. It stops workers, and touches no job. `show` prints the files and writes nothing; `status` says
how all of it stands.

examples:
  sudo spooldadd service install /srv/spool --now
  spooldadd service install --user ~/spool --enable
  spooldadd service show /srv/spool
  spooldadd service install /srv/spool --root /mnt/image --program /usr/bin/spooldadd
  spooldadd service status
  sudo spooldadd service uninstall /srv/spool
"""

from __future__ import annotations

import os
import shlex

from spooldadd import installing, unitfiles
from spooldadd.cli.common import UsageError, add_json, print_json, say
from spooldadd.cli.plain import Options
from spooldadd.errors import ConfigError
from spooldadd.installing import CannotInstall, Target, Wanted
from spooldadd.unitfiles import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

ACTIONS = ("install", "uninstall", "status", "show")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("action", choices=ACTIONS, help="what to do")
    parser.add_argument("spools", metavar="SPOOL", nargs="*", help="the spools to serve (default: --spool)")
    parser.add_argument("--user", action="store_true", help="a service of yours, without root")
    parser.add_argument("--root", metavar="DIR", default="/", help="the root directory of another system, such as an image")
    parser.add_argument("--program", metavar="PATH", help="how spooldadd is started there (default: as it was now)")
    parser.add_argument(
        "--as", metavar="USER", dest="owner", default="", help="whom workers run as (default: the spool's owner)"
    )
    parser.add_argument("--enable", action="store_true", help="install: start it at each boot")
    parser.add_argument("--now", action="store_true", help="install: start it at each boot, and now")
    parser.add_argument("-n", "--dry-run", action="store_true", help="install: only say what would be written")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Do what was asked for."""
    target = Target(options.user, os.path.abspath(options.root))
    if options.action == "status":
        return _status(options, target)
    if options.action == "uninstall":
        return _uninstall(options, target)
    if options.now and target.root != "/":
        raise UsageError(
            "`--now` starts a service of this machine; with `--root`, `--enable` has it started at the next boot"
        )
    if options.owner and options.user:
        raise UsageError("a service of yours runs as you; `--as` is for one of the system")
    wanted = _wanted(options, target)
    if options.action == "show":
        return _show(wanted)
    return _install(options, wanted)


def _wanted(options: argparse.Namespace, target: Target) -> Wanted:
    spools = _spools(options)
    if not spools:
        raise UsageError(f"`service {options.action}` needs a spool: `spooldadd service {options.action} /srv/spool`")
    for spool in spools:
        installing.owner_of(target.at(spool))
        installing.unit_of(spool)
    program = [os.path.abspath(options.program)] if options.program else installing.program()
    return Wanted(target, spools, program, options.owner)


def _spools(options: argparse.Namespace) -> tuple[str, ...]:
    named = options.spools or [getattr(options, "spool", None) or os.environ.get("SPOOLDADD_SPOOL")]
    return tuple(os.path.abspath(spool) for spool in named if spool)


# -- install


def _install(options: argparse.Namespace, wanted: Wanted) -> int:
    found = [(file, file.state()) for file in wanted.files()]
    table = {file.path: _word(state) for file, state in found}
    if not options.dry_run:
        for file, state in found:
            installing.write(file, state)
        _settle(options, wanted, has_news=any(state in (State.MISSING, State.OUTDATED) for _file, state in found))
    units = [installing.unit_of(spool) for spool in wanted.spools]
    edited = [path for path, word in table.items() if word == "edited"]
    if options.json:
        print_json({"files": table, "units": units, "is_dry_run": options.dry_run})
    else:
        for path, word in table.items():
            print(f"{word:<9}  {path}")
    _advise(options, wanted, units)
    for path in edited:
        say(f"spooldadd: `{path}` was edited and is left as it is; move your changes to a drop-in, remove it, install again")
    return int(bool(edited))


def _word(state: State) -> str:
    return {State.MISSING: "written", State.OUTDATED: "updated", State.CURRENT: "unchanged", State.EDITED: "edited"}[state]


def _settle(options: argparse.Namespace, wanted: Wanted, *, has_news: bool) -> None:
    """Tell systemd, and enable what shall be."""
    target = wanted.target
    units = [installing.unit_of(spool) for spool in wanted.spools]
    if not target.is_live:
        if options.now or (options.enable and target.root == "/"):
            raise CannotInstall(
                "the files are in place, but systemd does not run here, so nothing can be enabled or started"
            )
        if options.enable:
            for unit in units:
                installing.enable_offline(target, unit)
        return
    if not target.is_user:
        for tool, path in (("systemd-sysusers", installing.SYSUSERS), ("systemd-tmpfiles", installing.TMPFILES)):
            words = ["--create"] if tool == "systemd-tmpfiles" else []
            installing.run([tool, *words, f"/{path}/spooldadd.conf"])
    if has_news:
        target.must("daemon-reload")
    if options.enable or options.now:
        target.must("enable", *(["--now"] if options.now else []), *units)


def _advise(options: argparse.Namespace, wanted: Wanted, units: list[str]) -> None:
    """Say what to type next, and what may surprise."""
    systemctl = "systemctl --user" if wanted.target.is_user else "systemctl"
    quoted = " ".join(shlex.quote(unit) for unit in units)
    if wanted.target.root == "/" and not options.now and not options.dry_run:
        say(f"next:\n  {systemctl} enable --now {quoted}")
    if not options.dry_run and wanted.target.root == "/":
        journal = "journalctl --user" if wanted.target.is_user else "journalctl"
        say(f"look:\n  {systemctl} status {quoted}\n  {journal} -u {shlex.quote(units[0])} -f")
    if wanted.target.is_user:
        say("to start it at boot and keep it after the last logout:\n  loginctl enable-linger")
        return
    who = installing.stranger(wanted.program[0])
    if who is not None and wanted.target.root == "/":
        say(f"spooldadd: warning: `{wanted.program[0]}` can be changed by `{who}`, and would run as the owner of each spool")
    if wanted.target.root == "/":
        _check_configuration(wanted)


def _check_configuration(wanted: Wanted) -> None:
    """A configuration that cannot be used is said now, not in the journal."""
    from spooldadd.cli.configured import load_config  # late: the other actions need none

    for spool in wanted.spools:
        try:
            load_config(Options(config=None), spool)
        except ConfigError as error:
            say(f"spooldadd: warning: the worker of `{spool}` will not start: {error}; `spooldadd config` shows all of it")


# -- show


def _show(wanted: Wanted) -> int:
    for file in wanted.files():
        print(f"# {file.path}\n{file.data.decode()}")
    for spool in wanted.spools:
        print(f"# {spool} is served by {installing.unit_of(spool)}")
    return 0


# -- uninstall


def _uninstall(options: argparse.Namespace, target: Target) -> int:
    there = installing.instances(target)
    units = [installing.unit_of(spool) for spool in _spools(options)] if options.spools else there
    table: dict[str, str] = {}
    for unit in units:
        if target.is_live and not options.dry_run:
            target.systemctl("disable", "--now", unit)
        link = os.path.join(target.units, installing.WANTS[target.is_user], unit)
        if os.path.islink(link) and not options.dry_run:
            os.unlink(link)
        _take_away(table, installing.drop_in(target, unit), is_dry=options.dry_run)
    if not set(there) - set(units):
        for path in _shared_files(target):
            _take_away(table, path, is_dry=options.dry_run)
    if target.is_live and not options.dry_run:
        target.must("daemon-reload")
    if options.json:
        print_json({"files": table, "units": units, "is_dry_run": options.dry_run})
    else:
        for path, word in table.items():
            print(f"{word:<9}  {path}")
    say("running jobs were not touched, and spools and their records stay as they are")
    return int("edited" in table.values())


def _shared_files(target: Target) -> list[str]:
    found = [os.path.join(target.units, name) for name in (unitfiles.TEMPLATE_UNIT, "spooldadd.slice")]
    if not target.is_user:
        found += [target.at(f"{directory}/spooldadd.conf") for directory in (installing.SYSUSERS, installing.TMPFILES)]
    return found


def _take_away(table: dict[str, str], path: str, *, is_dry: bool) -> None:
    if not os.path.lexists(path):
        return
    if is_dry:
        with open(path, "rb") as file:
            is_ours = unitfiles.is_untouched(file.read())
    else:
        is_ours = installing.remove(path)
    table[path] = "removed" if is_ours else "edited"


# -- status


def _status(options: argparse.Namespace, target: Target) -> int:
    units = [installing.unit_of(spool) for spool in _spools(options)] if options.spools else installing.instances(target)
    wanted = Wanted(target, (), [os.path.abspath(options.program)] if options.program else installing.program())
    state = {file.path: file.state().value for file in wanted.files()}
    rows = [{"unit": unit, "spool": unitfiles.path_of(unit), **installing.properties(target, unit)} for unit in units]
    if options.json:
        print_json({"program": wanted.program, "files": state, "units": rows})
    else:
        for path, word in state.items():
            print(f"{word:<9}  {path}")
        for row in rows:
            print(f"{row.get('ActiveState') or 'unknown':<9}  {row['spool']}  ({row['unit']})")
            if row.get("StatusText"):
                print(f"{'':<9}  {row['StatusText']}")
        if not target.is_live:
            say("systemd does not run here: nobody can be asked whether they run")
    return int(any(row.get("ActiveState") not in (None, "", "active") for row in rows))
