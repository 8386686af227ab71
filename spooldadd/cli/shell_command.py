"""Open a shell where a job ran, or runs: in its work directory, with its environment variables and its Python.

A job that runs is shown as its command was started. Of one that has ended the work directory must have been kept: after a
failure it is, for `[keep] work_days`. Then the variables are made anew of its spec and of this node's configuration; what
the worker had in its own environment and this terminal has not is missing. The environment's packages are not removed while
the shell is open. Exits as the shell does.

examples:
  spooldadd shell nightly
  spooldadd shell nightly --command 'ls -la; python -c "import sys; print(sys.prefix)"'
"""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass

from spooldadd import jobprocess, names, process, spool
from spooldadd.cli import choosing
from spooldadd.cli.common import say, spool_path
from spooldadd.config import Config
from spooldadd.environment import ready
from spooldadd.errors import SpecError
from spooldadd.inspect import checked, words
from spooldadd.inspect.jobs import Job
from spooldadd.planning import base_environ, make_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


@dataclass(frozen=True)
class Place:
    """Where the shell starts, and with which variables."""

    work_dir: str
    environ: dict[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("job", metavar="JOB", help="the job: its id or a unique prefix, or the dropped file's name")
    parser.add_argument("-c", "--command", metavar="TEXT", dest="line", help="run this with `/bin/sh -c`, and ask nothing")


def run(options: argparse.Namespace) -> int:
    """Become the shell."""
    the_spool = choosing.open_for(options)
    config = choosing.config_of(options, spool_path(options))
    job = choosing.find_all(the_spool, [options.job])[0]
    place = _place_of(job, the_spool, config)
    shell = place.environ.get("SHELL") or "/bin/sh"
    command = [shell] if options.line is None else ["/bin/sh", "-c", options.line]
    if options.line is None:
        say(f"spooldadd: `{words.show(job.id)}`, {job.state}, in `{place.work_dir}`; `exit` leaves")
    try:
        os.chdir(place.work_dir)
        os.execvpe(command[0], command, place.environ)
    except OSError as error:
        raise SpecError(f"no shell can be opened in `{place.work_dir}`: {error.strerror}") from error


def _place_of(job: Job, the_spool: spool.Spool, config: Config) -> Place:
    node = str(job.claim().get("node") or job.result().get("node") or config.node)
    if node != config.node:
        raise SpecError(f"`{job.id}` is of the node `{node}`, and its work directory is there; open the shell there")
    if job.is_drop:
        raise SpecError(f"`{job.id}` has not run yet, so it has no work directory")
    running = _running(job)
    return running if running else _ended(job, the_spool, config)


def _running(job: Job) -> Place | None:
    """Take the variables from the command itself, as the kernel remembers them from its start."""
    if not job.attempt_claimed:
        return None
    holder = job.holder()
    pid, start = holder.get("job_pid"), holder.get("job_start")
    if not isinstance(pid, int) or not isinstance(start, int) or not process.is_alive(pid, start):
        raise SpecError(f"the command of `{job.id}` does not run now: it is being built, or has just ended; try again")
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            pairs = (os.fsdecode(pair).partition("=") for pair in file.read().split(b"\0") if pair)
    except OSError as error:
        raise SpecError(f"`{job.id}` runs as another user: {error.strerror}; open the shell as that user") from error
    environ = {name: value for name, _, value in pairs}
    return Place(environ.get("SPOOLDADD_WORKDIR", ""), environ)


def _ended(job: Job, the_spool: spool.Spool, config: Config) -> Place:
    work_dir = _kept_work_dir(job)
    spec = checked.check(job).spec
    if spec is None:
        raise SpecError(f"the spec of `{job.id}` cannot be read any more, or has errors; `spooldadd explain` shows them")
    plan = make_plan(spec, _claim(job, work_dir, spec.queue), job.places.root, the_spool.work_root(config.work_dir), config)
    plan.work_dir = work_dir
    environ = jobprocess.whole_environ(plan, job.path, base_environ(config, os.environ))
    key = job.result().get("environment")
    return Place(work_dir, _with_python(environ, str(key), config) if key else environ)


def _kept_work_dir(job: Job) -> str:
    """Return the work directory. Raises: SpecError, which says why there is none."""
    if job.is_closed:
        raise SpecError(f"`{job.id}` belongs to another user; only he and root may look into its record")
    work_dir = job.result().get("workdir")
    if not work_dir:
        raise SpecError(
            f"`{job.id}` has no work directory: it was removed when the job had ended; "
            '`workdir = "always"` in the `[keep]` of a spec keeps it'
        )
    if not os.path.isdir(str(work_dir)):
        raise SpecError(
            f"the work directory of `{job.id}` is gone: `{work_dir}`; a node keeps it for `[keep] work_days`, and "
            f"`spooldadd retry {job.id}` runs the job again"
        )
    return str(work_dir)


def _claim(job: Job, work_dir: str, queue: str) -> spool.Claim:
    """Return the claim of the attempt that left this directory, for what templates see of it."""
    name = names.parse_record_name(os.path.basename(work_dir))
    if name is None:
        raise SpecError(f"`{work_dir}` is no work directory of an attempt")
    at = job.claim().get("submitted_at")
    at_s = at.timestamp() if isinstance(at, datetime.datetime) else 0.0
    return spool.Claim(name, job.path, -1, queue, at_s, at_s, job.source())


def _with_python(environ: dict[str, str], key: str, config: Config) -> dict[str, str]:
    """Hold its Python environment as long as the shell lives."""
    found = ready.hold(config.cache_dir, key)
    if found is None:
        say(f"spooldadd: warning: its Python environment `{key}` is gone, pruned or edited; the shell does without")
        return environ
    os.set_inheritable(found.hold_fd, True)
    return found.applied(environ)
