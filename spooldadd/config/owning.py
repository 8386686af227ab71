"""The configuration's table about the user that jobs run as."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from spooldadd.config.trusting import Account
from spooldadd.spec.models import Table

OWNER, WORKER = "owner", "worker"


class Owner(Table):
    """As which user jobs run, and whose. For a worker of root; any other runs all jobs as its own user."""

    run_as: Account | None = Field(
        default=None,
        description="`owner`: each job as the user who owns its spec; `worker`: all as the worker's own user; or the name "
        "of one user for all. Unset, `owner` for a worker of root, else `worker`.",
    )
    allowed: Annotated[tuple[Account, ...], Field(strict=False)] | None = Field(
        default=None,
        description="Users, by name or number, whose specs are run, and of no others; `@staff` means all of that group. "
        "Unset: on a spool for many users everybody but root, else whom `[trust]` accepts.",
    )
    setuid: bool = Field(
        default=False, description="Let programs such as `sudo` and `ping` work in jobs that run as another user."
    )
