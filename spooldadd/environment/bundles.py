"""The files of a bundle, for the time of one build: unpacked beside the work directory, and gone with the build.

They are where the files that a spec names are looked for first. What is unpacked is what was claimed: a bundle that
somebody writes to meanwhile is refused.

If we die here: a directory `….bundle` beside the work directory; the supervisor removes it, else the worker when it is old.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from spooldadd import bundle, workdir
from spooldadd.environment.blobs import sha256_of
from spooldadd.environment.plan import Plan, SignedFiles
from spooldadd.environment.unpack import Limits, unpack
from spooldadd.errors import BuildError
from spooldadd.signature import files_digest

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
        if plan.signed is not None:
            _check_signed(plan.signed, place, os.path.basename(plan.bundle))
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


def _check_signed(signed: SignedFiles, place: str, name: str) -> None:
    """Compare what was unpacked, which nobody else can write to, with what was signed."""
    files = []
    spec_found = False
    for directory, subdirectories, names in os.walk(place):
        for entry in (*names, *subdirectories):
            path = os.path.join(directory, entry)
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                continue
            if not stat.S_ISREG(status.st_mode):
                raise BuildError(f"`{name}` is signed and holds the link `{entry}`; a signature covers files only")
            sha256 = sha256_of(path)
            if directory == place and sha256 == signed.spec and not spec_found:
                spec_found = True
            else:
                files.append((os.path.relpath(path, place), status.st_mode, sha256))
    if not spec_found or files_digest(files) != signed.files:
        raise BuildError(f"the files in `{name}` are not those that were signed; sign it again: `spooldadd sign {name}`")


def _check_state(plan: Plan, fd: int) -> None:
    if plan.bundle_state and tuple(plan.bundle_state) != bundle.state(os.fstat(fd)):
        raise BuildError(f"`{os.path.basename(plan.bundle)}` was written to after it was claimed: refused")
