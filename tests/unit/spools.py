"""A spool in a temporary directory, for unit tests of what moves in it."""

from __future__ import annotations

import os
from pathlib import Path

from spooldadd import lifecycle, mark, recovery, spool
from spooldadd.claim import Holder
from spooldadd.layout import STATES, Layout

HERE = Holder("here", "boot-1", 10, 100)
SPEC = 'command = ["true"]\n'


class Events:
    """A log that remembers what was said."""

    def __init__(self):
        self.said = []

    def __getattr__(self, level):
        return lambda event, **fields: self.said.append((level, event, fields))

    def names(self):
        return [event for _, event, _ in self.said]


class Bench:
    """One spool and what a test does with it."""

    def __init__(self, root: Path, *, durability: str = "process") -> None:
        self.root = root / "spool"
        mark.create(str(self.root), durability=durability)
        self.spool = spool.open_spool(str(self.root), HERE)
        self.places: Layout = self.spool.places
        self.log = Events()
        self.policy = lifecycle.Policy()

    @property
    def context(self) -> recovery.Context:
        return recovery.Context(self.spool, self.log, lambda _path: self.policy)

    def drop(self, name: str = "a.toml", text: str = SPEC) -> Path:
        (self.root / name).parent.mkdir(exist_ok=True)
        (self.root / name).write_text(text)
        return self.root / name

    def claim(self, name: str = "a.toml") -> spool.Claim:
        """Drop a spec and claim it."""
        self.drop(name)
        return self.spool.claim_drop(name, os.path.basename(name).removesuffix(".toml"), "default")

    def tree(self) -> list[str]:
        """Return all files below the states and the root, and the directories that are empty."""
        found = []
        for directory, subdirectories, files in os.walk(self.root):
            here = os.path.relpath(directory, self.root)
            if here.startswith(".spool") or (not files and not subdirectories and here in STATES):
                continue
            found += [os.path.normpath(os.path.join(here, name)) for name in files]
            if not files and not subdirectories:
                found.append(here + "/")
        return sorted(found)

    def locks(self) -> list[str]:
        return sorted(os.listdir(self.places.locks))


def shift(claimed: spool.Claim, *names: str) -> list[str]:
    """Return paths in a claimed record as `tree` shows them."""
    return [f"running/{claimed.record}/{name}" for name in names]
