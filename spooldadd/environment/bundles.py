"""The files of a bundle, for the time of one build: unpacked beside the work directory, and gone with the build.

They are where the files that a spec names are looked for first. What is unpacked is what was claimed: a bundle that
somebody writes to meanwhile is refused.

If we die here: a directory `….bundle` beside the work directory; the supervisor removes it, else the worker when it is old.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from spooldadd import bundle, workdir
from spooldadd.environment.plan import Plan
from spooldadd.environment.unpack import Limits, unpack
from spooldadd.errors import BuildError

# A plain tar cannot grow but by sparse files, which are refused.
LIMITS: Final = Limits(total_bytes=bundle.MAX_BUNDLE_BYTES, members=bundle.MAX_MEMBERS)


@contextmanager
def unpacked(plan: Plan) -> Iterator[Plan]:
    """Give the plan with the files of its bundle as the first base directory. Raises: `BuildError`, OSError."""
    if not plan.bundle:
        yield plan
        return
    place = plan.work_dir + workdir.BUNDLE_SUFFIX
    os.makedirs(place, mode=0o700)
    try:
        _unpack(plan, place)
        yield plan.model_copy(update={"base_dirs": (place, *plan.base_dirs)})
    finally:
        workdir.remove(place)


def _unpack(plan: Plan, place: str) -> None:
    name = os.path.basename(plan.bundle)
    fd = os.open(plan.bundle, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _check_state(plan, fd)
        bundle.check(fd)
        unpack(f"/proc/self/fd/{fd}", place, limits=LIMITS, name=name)
        _check_state(plan, fd)
    except bundle.NoBundle as error:
        raise BuildError(f"`{name}` {error}") from error
    finally:
        os.close(fd)


def _check_state(plan: Plan, fd: int) -> None:
    if plan.bundle_state and tuple(plan.bundle_state) != bundle.state(os.fstat(fd)):
        raise BuildError(f"`{os.path.basename(plan.bundle)}` was written to after it was claimed: refused")
