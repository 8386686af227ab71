"""The cause of an ended attempt, and what to type next: the same in a mail and in `spooldadd failures`."""

from __future__ import annotations

import shlex

from spooldadd.mail.cause import Cause, find_cause
from spooldadd.mail.ended import Ended
from spooldadd.mail.redact import Hide


def cause_of(each: Ended, hide: Hide) -> Cause:
    """Return the cause of a failed attempt. Secrets are hidden first: always, or the ids would differ."""
    log = each.log.partition("\n")[2] if each.is_log_cut else each.log
    result = each.result
    found = find_cause(result, hide(log))
    return Cause(found.id, hide(found.label))


def commands_for(root: str, job: str, cause: Cause) -> tuple[str, ...]:
    """Return commands that help with a failure."""
    own = f"spooldadd --spool {shlex.quote(root)}"
    return (
        f"{own} explain {job}",
        f"{own} logs {job}",
        f"{own} retry {job}",
        f"{own} retry --cause {cause.id}    # every failed job of this cause",
    )
