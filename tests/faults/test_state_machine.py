"""A few lives of the state machine; `python3 -m tests.faults.machine` lives thousands."""

from __future__ import annotations

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.faults import machine


@pytest.mark.parametrize("life", [machine.Life, machine.Once])
def test_whatever_happens_in_whatever_order_nothing_is_lost_and_nothing_happens_twice(life: type[machine.Life]) -> None:
    run_state_machine_as_test(life, settings=machine.settings_of(4, 30))
