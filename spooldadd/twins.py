"""One spec under two names, which a power cut may leave: in the root, and in the record that it was claimed into.

The file is the same, so the name in the root goes. Its claimer waits with the root until the result (`claiming.make_last`),
so the job may have run.

If we die here: both names are there still; the next look finds them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from spooldadd import claim, durable, layout, names, record
from spooldadd.log import Log
from spooldadd.spool import spec_status


def remove_twin(places: layout.Layout, path: str, claimed: Mapping[str, object], log: Log) -> None:
    """Remove the name in the root of the spec of this record, whose lease we hold; `claimed` is what its claim says."""
    source = claimed.get("source")
    inside = spec_status(path)
    if not isinstance(source, str) or not layout.is_drop(source) or inside is None:  # a job can write into its claim
        return
    twin = os.path.join(places.root, source)
    if not durable.is_listed(twin):  # GlusterFS still shows by its name what another node has moved away
        return
    try:
        outside = os.lstat(twin)
    except OSError:
        return
    if (outside.st_dev, outside.st_ino) == (inside.st_dev, inside.st_ino):
        durable.unlink_if_there(twin)
        log.info("removed", job=claimed.get("job"), source=source, reason="it is the claimed spec itself")


def remove_twin_by_lease(places: layout.Layout, name: names.RecordName, log: Log) -> None:
    """Do so for the record of another node, unless somebody works on it. Raises: OSError."""
    lease = claim.take_existing(places, str(name))
    if lease is None:
        return
    try:
        path = os.path.join(places.running, str(name))
        remove_twin(places, path, record.read_claim(path, name.attempt) or {}, log)
    finally:
        os.close(lease)
