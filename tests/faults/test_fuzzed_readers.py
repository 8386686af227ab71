"""Some files for every reader; `python3 -m tests.faults.fuzz` has more of them."""

from __future__ import annotations

import pytest

from tests.faults import fuzz


@pytest.mark.parametrize("reader", fuzz.READERS)
def test_a_reader_refuses_what_it_cannot_read_and_never_falls_over(reader: str) -> None:
    assert fuzz.feed(reader, examples=25) > 10
