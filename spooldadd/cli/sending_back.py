"""Run jobs again whose records came from other machines: there, or here. What `retry` does with them."""

from __future__ import annotations

import os

from spooldadd import layout
from spooldadd.acting import wake
from spooldadd.cli import choosing
from spooldadd.cli.common import say
from spooldadd.inspect.jobs import Job
from spooldadd.remote import returning
from spooldadd.remote.returning import CannotReturn
from spooldadd.spool import Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def send_back(the_spool: Spool, found: list[Job], options: argparse.Namespace) -> bool:
    """Send each on its way, or say why not; print the new ids. Returns whether all went. Raises: ConfigError."""
    config = None if options.here else choosing.config_of(options, the_spool.places.root)
    is_whole = True
    for job in found:
        try:
            _refuse(job, options)
            manifest = returning.arrived(job.path)
            assert manifest is not None, job.path
            if config is None:
                print(returning.drop_here(the_spool.places, job.path, manifest, sync=the_spool.sync), flush=True)
            else:
                print(returning.send_back(config, job.path, manifest, sync=the_spool.sync), flush=True)
        except CannotReturn as error:
            say(f"spooldadd: {error}")
            is_whole = False
    if options.here:
        wake(the_spool.places)
    return is_whole


def _refuse(job: Job, options: argparse.Namespace) -> None:
    """Raises: CannotReturn for a successful job and for one that was sent before, unless forced."""
    if options.force:
        return
    if job.state == layout.DONE:
        raise CannotReturn(f"`{job.id}` was successful; `spooldadd retry --force {job.id}` runs it again all the same")
    may_be_at = returning.may_be_at(job.path)
    if options.here and may_be_at:
        remedy = f"`spooldadd retry {job.id}` finds out; `retry --here --force` runs it here all the same"
        raise CannotReturn(f"`{job.id}` may have been sent to {may_be_at}, and would run twice; {remedy}")
    sent_to = returning.went_to(job.path)
    if sent_to:
        again = f"`spooldadd retry --force {os.path.basename(job.path)}` sends it once more"
        raise CannotReturn(f"`{job.id}` was sent already, to {sent_to}; {again}")
