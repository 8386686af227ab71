"""Serve a spool: watch it, claim what may run, start it, file what became of it.

Runs until a signal ends it. TERM and INT end it at once; jobs that run go on by themselves and are filed all the same.
USR1 lets it drain: nothing more is claimed, and it ends when the last job has ended. HUP has the configuration read again:
jobs go on, and one that cannot be used is refused with its errors. A worker that was started from a terminal takes HUP
for the terminal's end, and ends, too.

examples:
  spooldadd worker /srv/spool
  spooldadd worker /srv/spool --jobs 4 --node web-3
  spooldadd worker /srv/spool --drain            # until nothing is left to run
"""

from __future__ import annotations

import os
import signal

from spooldadd import account, owning, planning, requesting, serving, spool, synced, trust
from spooldadd.cli.common import spool_path
from spooldadd.cli.configured import holder, load_config
from spooldadd.config import Config
from spooldadd.errors import SpoolError
from spooldadd.log import Log
from spooldadd.worker import Settings, Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("directory", metavar="DIR", nargs="?", help="the spool (default: --spool)")
    parser.add_argument("--jobs", type=int, metavar="N", help="how many jobs run at once (default: one per processor)")
    parser.add_argument("--node", metavar="NAME", help="this node's name (default: the host's)")
    parser.add_argument("--drain", action="store_true", help="end when nothing is left to run")
    parser.add_argument("--log-format", choices=("plain", "json", "journal", "auto"), help="form of the log lines")


def run(options: argparse.Namespace) -> int:
    """Serve until the end."""
    # What follows reads the configuration and the spool. Python's own answer to Ctrl-C waits until a call on a hung share
    # has returned; the kernel's does not. `serving` takes over the signals.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    root = spool_path(options, options.directory)
    worker, log = make_worker(options, root)
    serving.serve(worker, log, reread=lambda: make_worker(options, root))
    return 0


def make_worker(options: argparse.Namespace, root: str) -> tuple[Worker, Log]:
    """Return a worker of the configuration as it is now, and its log. Raises: ConfigError, SpoolError."""
    config = load_config(options, root)
    log_format = _log_format(config, options.log_format)
    log = Log(2, log_format, config.log.level)
    for warning in config.warnings:
        log.warning("config-warning", reason=warning, then="ignoring it")
    the_spool = spool.open_spool(root, holder(config.node))
    refuse_unsafe(the_spool, config)
    synced.make_ready(the_spool, config.node)
    is_many = the_spool.format.many_users
    if is_many:
        os.umask(account.UMASK)  # what users may read of a record is said by the record alone
    settings = Settings(
        jobs=config.jobs,
        is_drain_at_end=options.drain,
        environ=planning.base_environ(config, os.environ),
        log_arguments=[log_format, config.log.level],
        at_scan=requesting.Requesting(the_spool, log).turn if is_many else None,
    )
    return Worker(the_spool, config, settings, log), log


def refuse_unsafe(the_spool: spool.Spool, config: Config) -> None:
    """Refuse a spool that somebody else could fill, or that one of its many users could change. Raises: SpoolError."""
    if the_spool.format.many_users:
        owning.refuse_unsafe(the_spool, config)
        return
    root = the_spool.places.root
    rule = trust.of_config(config.trust.owners, config.trust.groups)
    objection = rule.objection(os.stat(root), f"the spool `{root}`")
    if objection:
        hint = "; for the jobs of many users make a spool by `spooldadd init --many-users`" if os.geteuid() == 0 else ""
        raise SpoolError(objection + hint)


def _log_format(config: Config, asked: str | None) -> str:
    wish = asked or config.log.format
    if wish != "auto":
        return wish
    return "journal" if os.environ.get("JOURNAL_STREAM") else "plain"
