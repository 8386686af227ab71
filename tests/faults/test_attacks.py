"""Every attack of `tests/faults/attacks` is refused, and stands in `docs/attacks.md`. A few run in the plain suite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.attacks import common, files, others, specs, stage

ATTACKS = [attack.__name__ for module in (others, common, specs, files) for attack in module.ATTACKS]
QUICK = (
    "reading_a_record", "reading_a_drop", "writing_into_records", "overwriting_a_drop", "what_is_left_of_root",
    "processes_of_the_worker", "something_else_for_a_spec", "hard_links", "files_of_root", "an_owner_without_a_name",
    "links_to_keep", "log_replaced", "stopping_by_a_request", "holding_locks",
)  # fmt: skip
PAGE = Path(__file__).resolve().parents[2] / "docs" / "attacks.md"

needs_root = pytest.mark.skipif(bool(stage.missing_capability()), reason=stage.missing_capability() or "-")


def tried(names: list[str]) -> dict[str, dict[str, object]]:
    done = stage.run_inside([*names, "--json", "--rounds", "5"])
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def quick():
    return tried(list(QUICK))


@pytest.fixture(scope="module")
def others_of_them():
    return tried([name for name in ATTACKS if name not in QUICK])


@needs_root
@pytest.mark.parametrize("name", QUICK)
def test_attack_is_refused(quick, name):
    assert quick[name]["refused"], quick[name]["seen"]


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in QUICK])
def test_attack_that_takes_longer_is_refused(others_of_them, name):
    assert others_of_them[name]["refused"], others_of_them[name]["seen"]


@pytest.mark.parametrize("attack", [attack for module in (others, common, specs, files) for attack in module.ATTACKS])
def test_every_attack_is_on_the_page(attack):
    what, _, how = " ".join((attack.__doc__ or "").split()).partition(": ")
    assert f"| {what} | {how} |" in PAGE.read_text()
