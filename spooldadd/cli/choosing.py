"""Which jobs a command is to act on, and acting on each of them. Shared by the commands that act."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from spooldadd import durable, spool
from spooldadd.acting import NotPossible, shown_id
from spooldadd.cli.common import say, spool_path
from spooldadd.cli.plain import Options
from spooldadd.inspect import jobs, workers
from spooldadd.inspect.jobs import Job
from spooldadd.spool import Spool

if TYPE_CHECKING:
    import argparse

    from spooldadd.config import Config


def open_for(options: argparse.Namespace) -> Spool:
    """Return the spool that was asked for, for acts that claim nothing. Raises: SpoolError."""
    return spool.open_spool(spool_path(options))


def find_all(the_spool: Spool, texts: Iterable[str]) -> list[Job]:
    """Find every job before anything is done to the first, each once. Raises: NoSuchJob."""
    suffixes = workers.suffixes(workers.all_nodes(the_spool.places))
    found = [jobs.find(the_spool.places, text, suffixes) for text in texts]
    return list({job.id: job for job in found}.values())


def act_on_each(found: Iterable[Job], act: Callable[[Job], object]) -> list[Job]:
    """Do it to each job; print the id of each that it was done to, say why not of the others, and return the former."""
    done = []
    for job in found:
        try:
            act(job)
        except NotPossible as error:
            say(f"spooldadd: {error}")
        else:
            print_id(job)
            done.append(job)
    return done


def print_id(job: Job) -> None:
    """Print the id of a job; of a drop without one, the file's name."""
    print(durable.printable(shown_id(job)), flush=True)


def config_of(options: argparse.Namespace, root: str) -> Config:
    """Return the configuration that holds for this spool on this node. Raises: ConfigError."""
    from spooldadd.cli.configured import load_config  # late: heavy, and only those that claim need it

    return load_config(Options(config=getattr(options, "config", None)), root)
