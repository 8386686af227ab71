"""The launcher and its supervisors, as the worker starts them."""

from __future__ import annotations

import os
import selectors

import pytest

from spooldadd import crew
from spooldadd.errors import SpoolError


class NoGroups:
    def take_in(self, pid):
        raise AssertionError(f"{pid} was started")


@pytest.mark.parametrize("program", ["/nowhere/python", "/etc/passwd"])
def test_a_launcher_that_cannot_be_started_is_a_sentence(monkeypatch, program):
    before = set(os.listdir("/proc/self/fd"))
    with selectors.DefaultSelector() as selector:
        monkeypatch.setattr(crew.sys, "executable", program)
        with pytest.raises(SpoolError, match=f"`{program}`: .*may this user run it"):
            crew.Crew(selector, {}, ["plain", "info"], NoGroups()).start()
    assert set(os.listdir("/proc/self/fd")) == before
