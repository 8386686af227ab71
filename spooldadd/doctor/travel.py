"""Checks of what travels between spools: what waits for the master, what arrived damaged or not whole. Reads only."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator

from spooldadd import layout
from spooldadd.doctor.model import Check, Subject, counted, listed, ok, warned
from spooldadd.inspect import travel
from spooldadd.inspect.listing import entries

# A record takes minutes; after a day, whoever sent it has given up, or is down.
OLD_S = 86_400.0


def check_uploads(subject: Subject) -> Iterator[Check]:
    """Do finished records wait for a master that is away?"""
    now = datetime.datetime.fromtimestamp(subject.now_s, datetime.UTC)
    sentences = [sentence for table in travel.uploads(subject.places) if (sentence := travel.waiting(table, now))]
    for sentence in sentences:
        yield warned(
            "uploads", sentence, "the worker tries again by itself; mend what the sentence names, or `[master] target`"
        )
    if not sentences:
        master = subject.config.master.target
        yield ok("uploads", f"nothing waits for the master `{master}`" if master else "no master is configured")


def check_arrivals(subject: Subject) -> Iterator[Check]:
    """Did something arrive damaged, or only in part?"""
    aside, halves = travel.damaged(subject.places), _halves(subject)
    if aside:
        what = counted(len(aside), "record arrived", "records arrived")
        remedy = (
            f"remove `{layout.UPLOADED}` from it on its node, or collect it again; then remove it from `.spool/damaged/`"
        )
        yield warned("arrivals", f"{what} damaged: {listed(aside)}", remedy)
    if halves:
        what = counted(len(halves), "record has", "records have")
        remedy = "its node goes on when it can; what nobody goes on with is removed after 30 days"
        yield warned("arrivals", f"{what} arrived only in part, over a day ago: {listed(halves)}", remedy)
    if not aside and not halves:
        yield ok("arrivals", "everything that arrived from other machines is whole")


def _halves(subject: Subject) -> list[str]:
    found = []
    for origin in entries(subject.places.incoming):
        directory = os.path.join(subject.places.incoming, origin)
        for entry in entries(directory) if not origin.startswith(".") else []:
            path = os.path.join(directory, entry)
            is_whole = os.path.lexists(os.path.join(path, layout.MANIFEST))
            if not is_whole and subject.now_s - os.lstat(path).st_ctime > OLD_S:
                found.append(entry)
    return found


CHECKS = {"uploads": check_uploads, "arrivals": check_arrivals}
