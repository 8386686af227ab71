"""What the commands that need a configuration share: to find and read it, and who we are in the locks that we take."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from spooldadd.cli import import_quickly

if TYPE_CHECKING:
    import argparse

    from spooldadd.claim import Holder
    from spooldadd.config import Config


def load_config(options: argparse.Namespace, root: str | None) -> Config:
    """Return the configuration that holds for this spool, options on top. Raises: ConfigError."""
    import_quickly("spooldadd.config")  # late: a command that turns out to need none does not wait for it
    from spooldadd.config import find_config, load

    path = getattr(options, "config", None) or find_config(root, environ=os.environ, uid=os.getuid())
    overrides = {"jobs": getattr(options, "jobs", None), "node": getattr(options, "node", None)}
    return load(path, environ=os.environ, overrides=overrides)


def holder(node: str) -> Holder:
    """Return what this process writes into the locks it takes."""
    from spooldadd import claim, process

    pid = os.getpid()
    return claim.Holder(node, process.boot_id(), pid, process.start_ticks(pid) or 0)
