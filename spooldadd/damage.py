"""File a record that cannot be recovered as it is, because a job or a person has wrecked it: as failed, with the reason.

One record's trouble is its own: the others are recovered, and nobody is told of it twice. What is left of it is kept.

If we die here: a record in `failed/` that says what happened, and what is left of the other still in `running/`; the next
recovery puts it in.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from spooldadd import durable, filing, layout, lifecycle, names, record
from spooldadd.spool import Spool

# What calls answer when a name in the record is not what it has to be. Rights are not among them: they may be the spool's.
OWN_FAULTS = frozenset({errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTEMPTY, errno.EEXIST})
LEFT = "record"  # what stood in the place of the record


def is_own_fault(error: BaseException) -> bool:
    """Tell whether an error comes from the record itself, and not from the spool or the machine."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return isinstance(cause, OSError) and cause.errno in OWN_FAULTS


def set_aside(the_spool: Spool, name: names.RecordName, error: BaseException) -> str:
    """File this record, whose lease the caller has, as failed; return the reason. Raises: OSError, SpoolError, ClaimLost."""
    path = os.path.join(the_spool.places.running, str(name))
    reason = f"its record was damaged while it ran, so nobody knows what it came to: {error}"
    result = {
        "job": name.job,
        "name": names.job_name(name.job),
        "state": lifecycle.FAILED,
        "outcome": lifecycle.LOST,
        "reason": reason,
        "attempt": name.attempt,
        "node": the_spool.holder.node,
        "finished_at": record.moment(time.time()),
    }
    if stat.S_ISDIR(os.lstat(path).st_mode):
        record.write_result(path, result, sync=the_spool.sync)
        the_spool.file_held(str(name), layout.FAILED)
        return reason
    target = os.path.join(the_spool.places.failed, name.job)
    if os.path.lexists(target) and record.read_result(target, name.attempt) is None:
        target = f"{target.rpartition('.')[0]}.{names.random_part()}"
    if not os.path.lexists(target):
        os.mkdir(target)
    record.write_result(target, result, sync=the_spool.sync)
    durable.move(path, os.path.join(target, LEFT), sync=the_spool.sync)
    if the_spool.sync:
        durable.sync_directory(the_spool.places.failed)
    filing.remove_lock(the_spool.places, str(name))
    return reason
