"""The power goes after each call of two steps; `tests.faults.images` does it for all steps on three file systems."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.faults import images
from tests.faults.places import can_mount

STEPS = {cut.name: cut for cut in images.CUTS}


@pytest.mark.parametrize(("kind", "step"), [("ext4", "filing-a-success"), ("btrfs", "put-back")])
def test_after_a_power_cut_a_spec_is_in_exactly_one_place(kind: str, step: str, tmp_path: Path) -> None:
    if not can_mount() or not shutil.which(f"mkfs.{kind}") or not os.path.exists("/dev/loop-control"):
        pytest.skip(f"needs the capability to make and mount a {kind} in a file")
    tally: Counter[str] = Counter()
    try:
        found = images.cut_everywhere(images.Disk(kind, tmp_path), STEPS[step], durability="power", tally=tally)
    except RuntimeError as error:
        pytest.skip(f"needs the capability to make and mount a {kind} in a file: {error}")
    assert tally["pictures"] > 1
    assert found == []
