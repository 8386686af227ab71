"""States, outcomes, and the one decision: done, failed, or again and when. Pure, and light: the launcher loads it."""

from __future__ import annotations

SUCCESS, EXIT, SIGNAL, TIMEOUT, STALL = "success", "exit", "signal", "timeout", "stall"
OUTPUT, OOM, BUILD, INVALID, CANCELLED, LOST = "output", "oom", "build", "invalid", "cancelled", "lost"
OUTCOMES = (SUCCESS, EXIT, SIGNAL, TIMEOUT, STALL, OUTPUT, OOM, BUILD, INVALID, CANCELLED, LOST)

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"

# A restartable job that names no number of attempts: nodes that die are not its fault, so it gets more than one, but
# one that takes its node down with it must stop somewhere.
LOST_ATTEMPTS = 10
# Spread over a tenth, so that jobs that failed together do not come back together.
JITTER = 0.1


class Policy:
    """What a spec says about further attempts. `attempts` is None where it says nothing."""

    __slots__ = ("attempts", "backoff_max_s", "backoff_s", "on", "restartable")

    def __init__(
        self,
        *,
        attempts: int | None = None,
        backoff_s: float = 30.0,
        backoff_max_s: float = 3600.0,
        on: tuple[str, ...] = (),
        restartable: bool = False,
    ) -> None:
        self.attempts = attempts
        self.backoff_s = backoff_s
        self.backoff_max_s = backoff_max_s
        self.on = on
        self.restartable = restartable


class Decision:
    """Where a finished attempt's record goes, and how long the next attempt has to wait."""

    __slots__ = ("delay_s", "state")

    def __init__(self, state: str, delay_s: float = 0.0) -> None:
        self.state = state
        self.delay_s = delay_s


def decide(outcome: str, attempt: int, policy: Policy, chance: float) -> Decision:
    """Say what follows from this outcome of this attempt (counted from 1). `chance` is a random number in [0, 1)."""
    if outcome == SUCCESS:
        return Decision(DONE)
    if outcome in (INVALID, CANCELLED):
        return Decision(FAILED)
    if outcome == LOST:
        return _decide_lost(attempt, policy)
    if outcome in policy.on and attempt < (policy.attempts or 1):
        return Decision(WAITING, backoff_s(attempt, policy, chance))
    return Decision(FAILED)


def backoff_s(attempt: int, policy: Policy, chance: float) -> float:
    """Return how long to wait after this attempt: doubles each time up to the maximum, then spread by the jitter."""
    doubled = policy.backoff_s * 2.0 ** min(attempt - 1, 60)
    return min(doubled, policy.backoff_max_s) * (1.0 - JITTER + 2.0 * JITTER * chance)


def _decide_lost(attempt: int, policy: Policy) -> Decision:
    """A lost attempt waits for nothing: the job did nothing wrong, and its node is back or another one has it."""
    if policy.restartable and attempt < (policy.attempts or LOST_ATTEMPTS):
        return Decision(WAITING)
    return Decision(FAILED)
