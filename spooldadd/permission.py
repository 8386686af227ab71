"""May this process act on jobs by itself? On a spool for many users nobody but root does, and all others ask.

If we die here: see `request`.
"""

from __future__ import annotations

import os

from spooldadd import ownership, request, spool, trust
from spooldadd.errors import SpooldaddError
from spooldadd.layout import Layout
from spooldadd.request import Answer, Request
from spooldadd.spool import Spool

TYPE_CHECKING = False  # not from `typing`, as in all that reading commands load
if TYPE_CHECKING:
    from collections.abc import Callable


class NotPossible(SpooldaddError):
    """The person who asked must act: the job is in no state for this, or not his; the message says what can be done."""


def must_ask(the_spool: Spool) -> bool:
    """Tell whether we cannot act on jobs ourselves, because the records of a spool for many users are root's."""
    return the_spool.format.many_users and os.geteuid() != 0


def ask(the_spool: Spool, asked: Request, wake: Callable[[Layout], None]) -> Answer:
    """Ask the worker. Raises: NotPossible where it was refused, or nobody has answered; SpoolError."""
    try:
        answer = request.ask(the_spool.places, asked, wake)
    except request.Unanswered as error:
        raise NotPossible(f"`{asked.job}`: {error}") from error
    except OSError as error:
        raise the_spool.trouble(error) from error
    if not answer.is_done:
        raise NotPossible(answer.said)
    return answer


def require_root(the_spool: Spool) -> None:
    """Refuse what concerns all users, such as to pause or to examine all, unless root does it. Raises: NotPossible."""
    if must_ask(the_spool):
        raise NotPossible(f"`{the_spool.places.root}` is a spool for many users: this is for root")


def note_owner(claimed: spool.Claim) -> None:
    """A job that was cancelled before a worker had looked at it has an owner all the same, who may see what became of it.

    Raises: OSError.
    """
    if ownership.read(claimed.path) is None:
        status = spool.spec_status(claimed.path)
        if status is not None:
            ownership.note(claimed.path, status.st_uid, trust.user_name(status.st_uid), sync=True)
