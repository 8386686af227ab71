"""Give a lost node's record a name of our own: from then on nobody who still works on it can file it.

The name is the fence. A supervisor that lives after all, cut off from the spool for longer than its lease, finds that
`running/<record>` is gone, whatever it tries: it stops its job and files nothing.

If we die here: a lock file without a record, which is removed; or the record under its new name, whose lock file says what
the old one said and whose claim names the same node, so that it is taken over once more, or recovered by that node when it
is back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from spooldadd import claim, durable, filing, names, record
from spooldadd.claiming import rename_in
from spooldadd.errors import ClaimLost
from spooldadd.spool import Spool


def seize(
    the_spool: Spool, name: names.RecordName, held_by: claim.Holder, claimed: Mapping[str, object] | None
) -> tuple[names.RecordName, int]:
    """Rename a running record, under its lease; return its new name and the lease of that.

    `held_by` is what the old lock file says, `claimed` the claim. Raises: ClaimLost where it is gone; OSError.
    """
    places = the_spool.places
    own = names.RecordName(name.job, name.attempt, names.random_part())
    path = os.path.join(places.running, str(own))
    lease = claim.take_new(places, str(own), held_by)
    try:
        if the_spool.sync:
            os.fsync(lease)
        if not rename_in(os.path.join(places.running, str(name)), path):
            raise ClaimLost(f"`{name}` is no longer in `{places.running}`: somebody else has it")
    except (OSError, ClaimLost):
        if not os.path.lexists(path):  # or it is ours after all, and whoever recovers it needs to know who held it
            filing.remove_lock(places, str(own))
        os.close(lease)
        raise
    try:
        if the_spool.sync:
            durable.sync_directory(places.running)
        if claimed is not None:
            first = claimed.get("taken_from") or str(name)  # by that name its processes and its word for a mail are known
            ours = {"token": own.token, "taken_from": first, "taken_over_by": the_spool.holder.node}
            record.write_claim(path, {**claimed, **ours}, sync=the_spool.sync)
    except OSError:
        os.close(lease)
        raise
    filing.remove_lock(places, str(name))
    return own, lease
