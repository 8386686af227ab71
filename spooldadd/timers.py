"""When each duty of the worker's loop is due, and how often: one place for the numbers."""

from __future__ import annotations

from dataclasses import dataclass

# How long the spool gets to recover before we try again: soon at first, because most troubles are short.
TROUBLE_S, TROUBLE_MAX_S = 0.5, 10.0
# A spool that is away is looked for this often.
AWAY_S = 1.0
# The node's heartbeat, and the look at records that nobody of ours runs.
BEAT_S = 10.0
RECOVER_S = 30.0
HOUSEKEEPING_S = 3600.0
ADOPTED_S = 1.0
# Another worker of this node is about to claim, which takes it milliseconds, or has just taken what a job needs.
NO_ROOM_S = 0.1
# A pause that ended is noticed within this time where no event tells.
PAUSED_S = 1.0


@dataclass
class Timers:
    """When, by the monotonic clock, each duty is due."""

    beat: float = 0.0
    recover: float = 0.0
    housekeeping: float = 0.0
    adopted: float = 0.0
    trouble: float = 0.0
    trouble_s: float = TROUBLE_S

    def back_off(self) -> float:
        """Return how long to wait before the next try, and double it for the one after."""
        wait_s = self.trouble_s
        self.trouble_s = min(wait_s * 2, TROUBLE_MAX_S)
        return wait_s
