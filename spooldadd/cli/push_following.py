"""Show here what a pushed job prints there, until it ends, and exit as it did. Changes nothing."""

from __future__ import annotations

import json

from spooldadd.cli import TIMED_OUT
from spooldadd.cli.common import UsageError, say
from spooldadd.inspect import words
from spooldadd.remote.pushing import Delivery
from spooldadd.remote.rsync import Rsync, Unreachable, own_words


def refuse_many(specs: int, nodes: int) -> None:
    """Lines of several jobs would stand in one another. Raises: UsageError."""
    if specs != 1 or nodes != 1:
        raise UsageError("`--follow` shows one job: name one spec and one node, or use `--wait`")


def follow(rsync: Rsync, delivery: Delivery, timeout_s: float | None) -> int:
    """Have the node's own `spooldadd logs --follow` write to our streams; return the exit code of the job."""
    try:
        code = rsync.stream(delivery.target, "logs", "--follow", delivery.job, timeout_s=timeout_s)
        if code is None:
            say(f"spooldadd: `{delivery.job}` has not ended: the time to wait is over; it goes on")
            return TIMED_OUT
        return _exit_code(rsync, delivery)
    except Unreachable as error:
        say(f"spooldadd: {delivery.target.name}: {delivery.job} cannot be followed: {error}; it goes on")
        return 1


def _exit_code(rsync: Rsync, delivery: Delivery) -> int:
    """Ask how it ended: what showed its output may have ended before it, with the connection. Raises: Unreachable."""
    from spooldadd.foreground import exit_code_of  # late: heavy, and wanted only at the end

    answer = rsync.ask(delivery.target, "status", delivery.job, "--json")
    try:
        result = json.loads(answer.out)
        state, outcome = str(result["state"]), str(result.get("outcome", ""))
    except (ValueError, KeyError, TypeError) as error:
        raise Unreachable(own_words(answer)) from error
    if state not in ("done", "failed"):
        say(f"spooldadd: {delivery.target.name}: {delivery.job} is {words.show(state)}; it goes on")
        return 1
    return exit_code_of(outcome, result)
