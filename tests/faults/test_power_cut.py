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


FORWARDS, BACKWARDS = images.How(), images.How(is_backwards=True)


@pytest.mark.parametrize(
    ("kind", "step", "how"),
    [
        ("ext4", "filing-a-success", FORWARDS),
        (images.NO_JOURNAL, "claim", BACKWARDS),
        ("btrfs", "claim", BACKWARDS),
        ("btrfs", "put-back", FORWARDS),
    ],
)
def test_after_a_power_cut_a_spec_is_in_exactly_one_place(kind: str, step: str, how: images.How, tmp_path: Path) -> None:
    if not can_mount() or not shutil.which(images.KINDS[kind][0]) or not os.path.exists("/dev/loop-control"):
        pytest.skip(f"needs the capability to make and mount a {kind} in a file")
    tally: Counter[str] = Counter()
    try:
        found = images.cut_everywhere(images.Disk(kind, tmp_path), STEPS[step], how, tally)
    except RuntimeError as error:
        pytest.skip(f"needs the capability to make and mount a {kind} in a file: {error}")
    assert tally["pictures"] > 1
    assert found == []
