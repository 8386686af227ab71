"""`signal` and `socket` as C has them, for the launcher and its forks. Light: the launcher loads it.

The modules of these names wrap the same functions for enumerations, and import `enum`, `selectors` and half of
`collections`: a megabyte in the launcher, and with each call some more pages that a supervisor no longer shares with it.
Numbers come back as plain integers; all else is the same. Were they to be called otherwise one day, the import would fail at
the start of a worker, and not under a job.
"""

from __future__ import annotations

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    import signal
    import socket
else:
    import _signal as signal
    import _socket as socket

__all__ = ["signal", "socket"]
