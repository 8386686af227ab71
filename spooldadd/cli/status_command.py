"""Show the jobs of a spool, or all about single jobs.

Running jobs come first, then waiting ones, then the newest of those that have ended. A job is named by its id or the
beginning of it, by the file that waits in the spool, or by the file that it was made of. To the state belong the
directories `running/`, `waiting/`, `done/` and `failed/`: `ls` shows the same.

examples:
  spooldadd status
  spooldadd status nightly                        # all about one job
  spooldadd status --state failed --limit 100
  spooldadd status --queue etl --all
  spooldadd status --node web-1                   # of records that came from several nodes
  spooldadd status --json | jq '.jobs[] | select(.outcome == "timeout") | .job'
"""

from __future__ import annotations

import os
import sys

from spooldadd import layout
from spooldadd.baretime import datetime
from spooldadd.cli import common
from spooldadd.cli.plain import unfit
from spooldadd.inspect import drops, rescue, travel, words, workers
from spooldadd.inspect.job import FINISHED, Job
from spooldadd.inspect.listing import Listing
from spooldadd.inspect.opening import open_places
from spooldadd.layout import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

# A screen holds some twenty lines more than what runs and waits; a program can take more, but reading a result costs 50 us.
SHOWN, SHOWN_JSON = 20, 200
HEADER = ("JOB", "STATE", "TRY", "TIME", "NODE", "REASON")
COLOURS = {layout.RUNNING: "cyan", layout.WAITING: "", layout.DONE: "green", layout.FAILED: "red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("jobs", metavar="JOB", nargs="*", help="all about these jobs")
    parser.add_argument("--state", choices=layout.STATES, help="only jobs in this state")
    parser.add_argument("--queue", metavar="Q", help="only jobs of this queue")
    parser.add_argument("--node", metavar="NAME", help="only jobs that run, or ran last, on this node")
    many = parser.add_mutually_exclusive_group()
    many.add_argument(
        "--limit", type=_at_least_none, metavar="N", help=f"how many finished jobs (default: {SHOWN}, {SHOWN_JSON} in JSON)"
    )
    many.add_argument("--all", action="store_true", help="every job")
    many.add_argument("--summary", action="store_true", help="only the numbers, and who serves the spool")
    common.add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Print the table or the jobs."""
    places = open_places(common.spool_path(options))
    if options.jobs:
        return _show_jobs(places, options)
    nodes = workers.all_nodes(places)
    listing = Listing(places, workers.suffixes(nodes))
    limit = _limit(options)
    found = [] if options.summary else _wanted(listing, options, limit)
    if options.json:
        _print_json(places, listing, found, nodes if options.summary else None)
        return 0
    _print_all(places, listing.counts(), found, nodes, limit)
    return 0


def _print_json(places: Layout, listing: Listing, found: list[Job], nodes: list[workers.Node] | None) -> None:
    if nodes is not None:
        from spooldadd.inspect import summary  # late: few ask for it

        common.print_json(summary.summary(places, nodes, listing))
        return
    common.print_json({"spool": places.root, "counts": listing.counts(), "jobs": [job.table() for job in found]})


def _at_least_none(text: str) -> int:
    number = int(text)
    if number < 0:
        raise unfit("must be 0 or more")
    return number


def _limit(options: argparse.Namespace) -> int | None:
    if options.all:
        return None
    if options.limit is not None:
        return int(options.limit)
    return SHOWN_JSON if options.json else SHOWN


def _wanted(listing: Listing, options: argparse.Namespace, limit: int | None) -> list[Job]:
    """`--limit` counts what is left of the finished jobs after `--state`, `--queue` and `--node`."""
    if options.state is None and options.queue is None and options.node is None:
        return listing.jobs(limit)
    found, finished = [], 0
    for job in listing.jobs():
        if limit is not None and finished >= limit and job.is_finished:
            break
        if (
            options.state in (None, job.state)
            and options.queue in (None, _queue(job))
            and options.node in (None, _node(job))
        ):
            found.append(job)
            finished += job.is_finished
    return found


def _queue(job: Job) -> str:
    """A job that has ended has noted its queue; one that waits is asked what its spec says now."""
    from spooldadd.inspect.peeking import DEFAULT_QUEUE, peek  # late: only `--queue` asks

    if job.state == layout.WAITING:
        return peek(job.spec_path).queue
    return str(job.claim().get("queue") or job.result().get("queue") or DEFAULT_QUEUE)


def _node(job: Job) -> str:
    return "" if job.is_drop else str(job.result().get("node") or job.claim().get("node", ""))


# -- many jobs


def _print_all(
    places: Layout, counts: dict[str, int], found: list[Job], nodes: list[workers.Node], limit: int | None
) -> None:
    screen = words.Screen(sys.stdout, os.environ)
    numbers = ", ".join(f"{counts[state]} {state}" for state in (layout.RUNNING, layout.WAITING, *FINISHED))
    print(screen.paint(words.show(places.root), "bold") + f": {numbers}")
    for sentence in [*notices(places, nodes), *rescue.notices(places, found, nodes)]:
        print(screen.paint(sentence, "yellow"))
    shown = _cut_waiting(found, limit)
    if shown:
        print()
        _print_rows(shown, screen)
    hidden = sum(1 for job in found if job.state == layout.WAITING) - sum(1 for job in shown if job.state == layout.WAITING)
    if hidden:
        print(f"and {hidden} more waiting; `--all` shows them")


def notices(places: Layout, nodes: list[workers.Node]) -> list[str]:
    """Return what concerns every job: that nobody serves the spool, that it is paused."""
    found = []
    if not any(node.is_serving for node in nodes):
        root = words.show(places.root)
        found.append(f"no worker serves this spool, as far as this machine can see; start one: `spooldadd worker {root}`")
    for node in nodes:
        if node.is_serving and node.state in ("draining", "away", "troubled"):
            found.append(f"the worker of node `{words.show(node.name)}` is {node.state}")
    found += map(words.show, travel.notices(places))
    names = sorted(os.listdir(places.root))
    conflicts = sum(map(drops.is_conflict_copy, drops.keys(places.root)))
    if conflicts:
        what = "1 conflict copy" if conflicts == 1 else f"{conflicts} conflict copies"
        found.append(f"{what} of a sync tool in the spool, never run; `spooldadd doctor` names them")
    for name in names:
        if name == layout.PAUSED:
            found.append("paused: nothing is started while the file `paused` exists; remove it to go on")
        elif name.startswith(f"{layout.PAUSED}.") and len(name) > len(layout.PAUSED) + 1:
            queue = words.show(name.removeprefix(f"{layout.PAUSED}."))
            found.append(f"queue `{queue}` is paused: the file `paused.{queue}` exists")
    return found


def _cut_waiting(found: list[Job], limit: int | None) -> list[Job]:
    """A screen full of waiting jobs would hide what has ended."""
    if limit is None:
        return found
    waiting = [job.id for job in found if job.state == layout.WAITING]
    hidden = set(waiting[max(limit, 1) :])
    return [job for job in found if job.state != layout.WAITING or job.id not in hidden]


def _print_rows(found: list[Job], screen: words.Screen) -> None:
    now = datetime.datetime.now(datetime.UTC)
    lines = words.columns([HEADER, *(_row(job, now) for job in found)], screen.width)
    print(screen.paint(lines[0], "dim"))
    for job, line in zip(found, lines[1:], strict=True):
        print(screen.paint(line, COLOURS[job.state]))


def _row(job: Job, now: datetime.datetime) -> tuple[str, ...]:
    result = job.result()
    outcome = result.get("outcome") if job.is_finished else None
    state = f"{job.state} ({outcome})" if outcome and job.state == layout.FAILED else job.state
    cells = (job.id, state, str(job.attempt() or ""), _time(job, now), _node(job), _why(job, now))
    return tuple(map(words.show, cells))


def _time(job: Job, now: datetime.datetime) -> str:
    """For how long it has run or waited; of a job that has ended, how long its last attempt took."""
    if job.is_finished:
        took_s = job.result().get("duration_s")
        return words.duration(took_s) if isinstance(took_s, (int, float)) else ""
    since = job.since()
    return words.duration(max(0.0, (now - since).total_seconds())) if since else ""


def _why(job: Job, now: datetime.datetime) -> str:
    if job.state == layout.WAITING:
        from spooldadd.inspect import holding  # late: it looks into specs, and often nothing waits

        return holding.at_a_glance(job, now)
    return job.reason() if job.state == layout.FAILED or not job.result() else ""


# -- single jobs


def _show_jobs(places: Layout, options: argparse.Namespace) -> int:
    from spooldadd.inspect import jobs, single  # late: the table does without

    suffixes = workers.suffixes(workers.all_nodes(places))
    found = [jobs.find(places, text, suffixes) for text in options.jobs]
    if options.json:
        tables = [job.table() for job in found]
        common.print_json(tables[0] if len(tables) == 1 else {"jobs": tables})
        return 0
    screen = words.Screen(sys.stdout, os.environ)
    now = datetime.datetime.now(datetime.UTC)
    for place, job in enumerate(found):
        lines = single.describe(job, now)
        print(("\n" if place else "") + screen.paint(lines[0], COLOURS[job.state] or "bold"))
        print("\n".join(lines[1:]))
    return 0
