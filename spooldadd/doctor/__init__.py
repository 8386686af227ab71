"""Examine a spool and this node, and say what to do about what is not as it should be.

Each module holds checks of one kind: `place` of the directories and their file system, `probes` of what the kernel and
the file system really do here, `sharing` of what several nodes make of one spool, `contents` of what lies in it, `travel` of
what goes to other spools and comes from them, `node` of this machine. A check never changes the spool; the probes work in a
directory of their own below `.spool/`, which is removed afterwards. `peer` is an examination with another node.

If we die here: `.spool/tmp-doctor-…`, which the next examination removes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from spooldadd.doctor import contents, node, place, probes, service, sharing, travel
from spooldadd.doctor.model import FAIL, OK, WARN, Check, Subject, failed
from spooldadd.errors import SpooldaddError

__all__ = ["FAIL", "OK", "WARN", "Check", "Subject", "examine"]

Examination = Callable[[Subject], Iterable[Check]]


def examine(subject: Subject) -> list[Check]:
    """Run every check that makes sense: where there is no spool, only those of the node."""
    checks = _run("spool", place.check_format, subject)
    if all(check.status != FAIL for check in checks):
        for module in (place, probes, sharing, contents, travel):
            for name, examination in module.CHECKS.items():
                checks += _run(name, examination, subject)
    for name, examination in {**node.CHECKS, **service.CHECKS}.items():
        checks += _run(name, examination, subject)
    return checks


def _run(name: str, examination: Examination, subject: Subject) -> list[Check]:
    """One check that cannot be done says so and does not keep the others from being done."""
    try:
        return list(examination(subject))
    except OSError as error:
        where = f" (`{error.filename}`)" if error.filename else ""
        return [
            failed(name, f"this could not be examined: {error.strerror}{where}", "see what is wrong there, then ask again")
        ]
    except SpooldaddError as error:
        return [failed(name, f"this could not be examined: {error}", "mend that first")]
