"""Small and vanishing file systems. They need the right to mount, which root has outside most containers."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import end_processes_of, until


def can_mount() -> bool:
    """Try it: neither the user nor a capability bit tells what a container's policy allows."""
    place = tempfile.mkdtemp(prefix="spooldadd-mount-")
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True, check=False)
        if done.returncode == 0:
            subprocess.run(["umount", place], check=True)
        return done.returncode == 0
    except OSError:
        return False
    finally:
        os.rmdir(place)


NEEDS_MOUNT = pytest.mark.skipif(not can_mount(), reason="needs the capability to mount a file system")


@contextmanager
def tmpfs(place: Path, options: str) -> Iterator[Path]:
    """A file system of its own, gone at the end with all that is in it."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        yield place
    finally:
        end_processes_of(place.parent)
        until(lambda: subprocess.run(["umount", place], capture_output=True, check=False).returncode == 0, "it is free")


def fill(place: Path) -> Path:
    """Take all the space there is; return the file to remove."""
    filler = place / ".filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    return filler


def use_up_inodes(place: Path) -> Path:
    """Take all the inodes there are; return the directory to empty."""
    directory = place / ".inodes"
    directory.mkdir()
    number = 0
    try:
        while True:
            (directory / str(number)).touch()
            number += 1
    except OSError:
        return directory


def free_inodes(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
