"""Remove what nobody needs any more, of every kind: what `prune` does, and what a worker has done now and then.

Each kind is one function in `KINDS`; who adds something that grows adds one there. A worker starts this module as a program
of its own (`upkeeping`), so a million records keep no loop waiting.

If we die here: each kind says what is left of it; the next run goes on with it.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from spooldadd import claim, deputy, discarding, finished, retention, spool
from spooldadd.account import Account
from spooldadd.config import Config, load
from spooldadd.config.keep import Keep
from spooldadd.discarding import remove
from spooldadd.environment import upkeep
from spooldadd.environment.blobs import Blobs
from spooldadd.environment.environments import Environments
from spooldadd.environment.report import Report
from spooldadd.errors import ConfigError, SpooldaddError
from spooldadd.launching import Launching
from spooldadd.log import Log
from spooldadd.mail.outbox import WAITING, Outbox
from spooldadd.mail.places import places_of
from spooldadd.planning import USERS
from spooldadd.remote import uploading
from spooldadd.retention import Ages, Bounds, Guards, Pruner, Tally, Telling

DAY_S: Final = 86_400.0
# For the cache of one user: more than the largest takes.
USERS_PATIENCE_S: Final = 3600.0
# The mark of a name that fails is wanted until it succeeds, and a name with a date in it never does. As for refused letters.
FAILING_S: Final = 90 * DAY_S


@dataclass(frozen=True)
class Scope:
    """What is to be pruned: one spool as this node serves it, within these bounds."""

    spool: spool.Spool
    config: Config
    bounds: Bounds
    log: Log
    is_dry: bool = False
    gone: Callable[[str, str], None] = lambda _kind, _name: None
    progress: Callable[[Tally], None] = lambda _tally: None

    @property
    def cache(self) -> upkeep.Bounds:
        """What may stay in the node's cache."""
        return upkeep.Bounds(self.config.keep.cache_size_bytes, self.config.keep.cache_days * DAY_S)


@dataclass
class Gone:
    """What went, or would go, of one kind; and what stays although a bound would have it go, by what keeps it."""

    removed: int = 0
    freed_bytes: int = 0
    kept: Mapping[str, int] = field(default_factory=dict)


def bounds_of(keep: Keep) -> Bounds:
    """Return the bounds of records that the configuration sets."""
    queues = {name: _ages(part.done_days, part.failed_days) for name, part in keep.queue.items()}
    ages = _ages(keep.done_days, keep.failed_days)
    return Bounds(ages, keep.done_count, keep.failed_count, keep.records_size_bytes, queues)


def _ages(done_days: float | None, failed_days: float | None) -> Ages:
    return Ages(None if done_days is None else done_days * DAY_S, None if failed_days is None else failed_days * DAY_S)


# -- the kinds


def records(scope: Scope) -> Gone:
    """Remove finished records. Raises: Busy where another process prunes this spool; OSError."""
    places = scope.spool.places
    guards = Guards(lambda: _outbox_jobs(scope), _upload_guard(scope.config))
    pruner = Pruner(places, scope.bounds, guards, sync=scope.spool.sync)
    telling = Telling(lambda state, name: scope.gone("records", f"{state}/{name}"), scope.progress)
    if scope.is_dry:  # it changes nothing, so nobody is in its way
        tally = pruner.run(telling, is_dry=True)
    else:
        with retention.alone(places, f"`{scope.spool.holder.node}` (pid {os.getpid()})"):
            tally = pruner.run(telling)
    return Gone(tally.removed, tally.freed_bytes, dict(tally.kept))


def work(scope: Scope) -> Gone:
    """Remove work directories of this node, of attempts that are over, when they are old enough."""
    found = Launching(scope.spool, scope.config, scope.log).surplus_work_dirs(time.time())
    return _remove_all(scope, "work", found)


def environments(scope: Scope) -> Gone:
    """Remove Python environments of this node that no job used for long, or that are too many."""
    cache_dir, bounds = scope.config.cache_dir, scope.cache
    report = Report(lambda text: scope.log.debug("cache-pruned", reason=text))
    surplus = list(Environments(cache_dir, report).surplus(max_bytes=bounds.max_bytes, max_age_s=bounds.max_age_s))
    for entry in surplus:
        scope.gone("environments", entry.key)
    if scope.is_dry:
        return Gone(len(surplus), sum(entry.size_bytes for entry in surplus))
    done = upkeep.prune_environments(cache_dir, bounds, report, scope.log)
    return Gone(done.removed, done.freed_bytes)


def cache(scope: Scope) -> Gone:
    """Remove downloads of this node that no build used for long, or that are too many."""
    cache_dir, bounds = scope.config.cache_dir, scope.cache
    surplus = list(Blobs(cache_dir).surplus(max_bytes=bounds.max_bytes, max_age_s=bounds.max_age_s))
    for blob in surplus:
        scope.gone("cache", blob.sha256)
    if scope.is_dry:
        return Gone(len(surplus), sum(blob.size_bytes for blob in surplus))
    done = upkeep.prune_files(cache_dir, bounds)
    return Gone(done.removed, done.freed_bytes)


def mail(scope: Scope) -> Gone:
    """Remove letters of this node that were sent or refused long ago. One that waits stays."""
    outbox = Outbox(places_of(scope.config, scope.spool).outbox, sync=scope.spool.sync)
    surplus = outbox.surplus()
    for entry in surplus:
        scope.gone("mail", entry.id)
    return Gone(len(surplus) if scope.is_dry else outbox.prune())


def leftovers(scope: Scope) -> Gone:
    """Remove small files that outlived what they were for: so far, the marks of names that failed long ago."""
    return _remove_all(scope, "leftovers", list(_old_marks(scope)))


KINDS: Final[Mapping[str, Callable[[Scope], Gone]]] = {
    "records": records,
    "work": work,
    "environments": environments,
    "cache": cache,
    "mail": mail,
    "leftovers": leftovers,
}


def _old_marks(scope: Scope) -> Iterator[str]:
    directory = places_of(scope.config, scope.spool).failing
    try:
        entries = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in entries:
        path = os.path.join(directory, name)
        try:
            if time.time() - os.lstat(path).st_mtime > FAILING_S:
                yield path
        except OSError:
            continue


def _remove_all(scope: Scope, kind: str, paths: list[str]) -> Gone:
    gone = Gone()
    kept: Counter[str] = Counter()
    for path in paths:
        size_bytes = finished.size_of(path)
        try:
            if not scope.is_dry:
                remove(path)
        except OSError:
            kept[retention.STUCK] += 1
            continue
        gone.removed += 1
        gone.freed_bytes += size_bytes
        scope.gone(kind, path)
    gone.kept = dict(kept)
    return gone


# -- what keeps a record


def _outbox_jobs(scope: Scope) -> frozenset[str]:
    outbox = Outbox(places_of(scope.config, scope.spool).outbox)
    return frozenset(entry.job for entry in outbox.entries(WAITING))


def _upload_guard(config: Config) -> Callable[[str, str], bool]:
    """Return what tells whether a record still has to be sent to the master of this node."""
    if config.master.target is None:
        return lambda _path, _state: False

    return lambda path, state: uploading.waits(path, state, config.master.upload)


# -- the program


def main(argument: str) -> int:
    """Prune as one worker asks: `{"cache": BOOL, "spool": ROOT or "", "node": …, "config": FILE or "", "log": […]}`."""
    orders = json.loads(argument)
    log = Log(2, *orders["log"])
    os.nice(10)
    try:
        config = load(orders["config"] or None, environ=os.environ, overrides={"node": orders["node"]})
    except ConfigError as error:  # edited since the worker read it, and the worker goes on with the old one
        log.warning("pruned", spool=orders["spool"] or None, error=str(error), then="removing nothing until it is mended")
        return 1
    code = 0
    if orders["cache"]:
        keep = config.keep
        bounds = [str(keep.cache_days * DAY_S), str(keep.cache_size_bytes)]
        code = upkeep.main([config.cache_dir, *bounds, *orders["log"]])
        prune_caches_of_users(config.cache_dir, [*bounds, *orders["log"]])
    return _prune_spool(orders["spool"], config, log) or code if orders["spool"] else code


def prune_caches_of_users(cache_dir: str, arguments: list[str]) -> None:
    """Prune the caches of users whose jobs a worker of root runs, each with the rights of its user."""
    directory = os.path.join(cache_dir, USERS)
    for entry in os.listdir(directory) if os.path.isdir(directory) else ():
        path = os.path.join(directory, entry)
        try:
            status = os.lstat(path)  # fails where its user has mounted something there
            if os.geteuid() != 0 or status.st_uid == 0 or not stat.S_ISDIR(status.st_mode):
                continue
            _prune_as(discarding.who_owns(status), path, arguments)
        except OSError:
            continue  # a day later it is tried again


def _prune_as(who: Account, cache_dir: str, arguments: list[str]) -> None:
    deputy.act(who, lambda: upkeep.main([cache_dir, *arguments]), USERS_PATIENCE_S)


def _prune_spool(root: str, config: Config, log: Log) -> int:
    try:
        the_spool = spool.open_spool(root, claim.Holder(config.node))
        marks = leftovers(Scope(the_spool, config, Bounds(), log))
        gone = _records_if_free(Scope(the_spool, config, bounds_of(config.keep), log))
    except (SpooldaddError, OSError) as error:
        log.warning("pruned", spool=root, error=str(error), then="trying again in an hour")
        return 1
    if gone.removed or marks.removed or gone.kept:
        kept = " ".join(f"{why}: {count}" for why, count in sorted(gone.kept.items()))
        log.info("pruned", spool=root, records=gone.removed, freed_bytes=gone.freed_bytes, kept=kept or None)
    return 0


def _records_if_free(scope: Scope) -> Gone:
    """Where another process prunes them there is nothing to do."""
    try:
        return records(scope)
    except retention.Busy as error:
        scope.log.debug("pruned", reason=str(error))
        return Gone()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
