"""`datetime` as C has it. Light: reading commands load it.

The module of that name is written in Python, too, up to 3.11: it reads 2,500 lines of which it keeps nothing, and takes as
long as seven modules of ours. What is in here is the same: the same classes, whoever imports them from where.
"""

from __future__ import annotations

TYPE_CHECKING = False  # not from `typing`: that import alone would take a tenth of the time of `status`
if TYPE_CHECKING:
    import datetime
else:
    import _datetime as datetime

__all__ = ["datetime"]
