"""The model of claims holds, and is not blind: with a rule taken out, it says so. All of it: `python3 -m tests.model`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model.checking import BROKEN, TRUE, Case, check, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())}")


@pytest.mark.parametrize("case", [case for case in TRUE if case.is_quick], ids=lambda case: case.switches)
def test_model_as_built_loses_nothing_and_files_once(case: Case, tmp_path: Path) -> None:
    found = check(case, tmp_path)
    assert found.violation == ""
    assert found.states > 10_000


@pytest.mark.parametrize("case", [case for case in BROKEN if case.is_quick], ids=lambda case: case.title)
def test_model_finds_what_a_missing_rule_breaks(case: Case, tmp_path: Path) -> None:
    assert check(case, tmp_path).violation != ""
