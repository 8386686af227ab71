"""The courier's program: take in what arrived, send what waits, end. Started by a worker, and nobody waits for it.

Its one argument says everything, as JSON. Exit code 0 where nothing is left to be sent, 75 where something is.

If we die here: `incoming` and `uploading` say what is left; the next one goes on with it.
"""

from __future__ import annotations

import json
import os
import sys

from spooldadd import mark
from spooldadd.errors import SpooldaddError
from spooldadd.layout import Layout
from spooldadd.log import Log
from spooldadd.remote import incoming, targets, uploading
from spooldadd.remote.rsync import Rsync

LEFT = 75


def main(argument: str) -> int:
    """Do both; return the exit code."""
    orders = json.loads(argument)
    log = Log(2, *orders["log"])
    root, target = orders["spool"], orders["target"]
    try:
        marked = mark.read(root)
        places = Layout(root, marked.id)
        take_in(places, log, sync=marked.durability == "power")
        if not target:
            return 0
        rsync = Rsync(orders["ssh"], orders["timeout_s"])
        sender = uploading.Sender(places, orders["node"], targets.parse(target), orders["upload"], rsync)
        return LEFT if uploading.upload(sender, log) else 0
    except (SpooldaddError, OSError) as error:
        log.debug("upload-waits", error=str(error), then="trying again")
        return LEFT


def take_in(places: Layout, log: Log, *, sync: bool) -> None:
    """Take in what is whole, and log what came. Raises: OSError."""
    arrivals = incoming.take_in_all(places, sync=sync, is_patient=False)
    for took in arrivals.news:
        found = took.manifest
        log.info("arrived", job=os.path.basename(took.path), attempt=found.attempt, node=found.node, state=found.state)
    for trouble in arrivals.troubles:
        log.warning("arrived-damaged", error=trouble, then="going on with the others")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
