"""What is planned before it is claimed is what its claim would have planned."""

from __future__ import annotations

import marshal
import os

import pytest
from hypothesis import HealthCheck, given, settings

from spooldadd import intake, looking, plan
from spooldadd.ahead import plan_ahead
from spooldadd.config import Config
from spooldadd.launching import Launching
from spooldadd.log import Log
from spooldadd.repeats import Table
from spooldadd.spec.plain import is_plain
from spooldadd.tomltext import dumps
from tests.unit.spools import Bench
from tests.unit.test_spec_plain import COMMANDS, TABLES

DIFFERS = {"record", "job", "claimed_at_s", "submitted_at_s", "work_dir", "work_top", "name"}


class Node:
    """A launching of its own, with a drop."""

    def __init__(self, bench: Bench, tmp_path) -> None:
        self.bench = bench
        self.config = Config(node="here", work_dir=str(tmp_path / "work"), cache_dir=str(tmp_path / "cache"))
        self.launching = Launching(bench.spool, self.config, Log(level="error"))

    def entry(self, text: str):
        path = self.bench.drop("a.toml", text)
        found = looking.look(str(path))
        assert found is not None
        return self.launching.entry_of(intake._drop("a.toml", found))

    def ahead(self, text: str):
        return plan_ahead(self.bench.spool, self.config, self.launching, self.entry(text))

    def claimed(self, text: str) -> dict[str, object]:
        entry = self.entry(text)
        claimed = self.launching.claim(entry)
        made = self.launching.plan(claimed, entry)
        os.close(claimed.lease)
        return marshal.loads(plan.to_wire(made))


@pytest.fixture
def node(tmp_path):
    return Node(Bench(tmp_path), tmp_path)


def whole(table: Table) -> dict[str, object]:
    return {**table.common, **table.own}


def same(table: dict[str, object]) -> dict[str, object]:
    """What of a plan does not name its job."""
    made = plan.from_table(dict(table))
    return {key: value for key, value in marshal.loads(plan.to_wire(made)).items() if key not in DIFFERS}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(TABLES, COMMANDS)
def test_a_plan_made_of_another_of_its_shape_is_what_its_claim_would_plan(node, table, command):
    table = {**table, "command": command}
    if not is_plain(table):
        return
    first = node.ahead(dumps({**table, "command": "another", "env": {"B": "2"}, "stdin": "other"}))
    if first is None:
        return  # too long, or due later
    found = node.ahead(dumps(table))
    assert found is not None
    expected = node.claimed(dumps(table))
    assert same(whole(found.table)) == same(expected)
    assert found.table.own["name"] == expected["name"]


def test_specs_that_all_differ_are_read_by_the_models_once(node, monkeypatch):
    texts = [f'command = ["echo", "{number}"]\nname = "n{number}"\n[limits]\ntimeout = "3s"\n' for number in range(5)]
    assert node.ahead(texts[0]) is not None
    monkeypatch.setattr(node.launching, "planned", None)  # whoever calls it gets no plan
    for number, text in enumerate(texts[1:], 1):
        found = node.ahead(text)
        assert found is not None
        assert found.table.own["command"] == ["echo", str(number)]
        assert found.table.own["name"] == f"n{number}"
    assert node.ahead(texts[0].replace("3s", "4s")) is None, "this is another shape"


def plan_of(node: Node, entry):
    return plan_ahead(node.bench.spool, node.config, node.launching, entry)


def test_a_drop_whose_bytes_are_kept_is_not_opened_again(node, monkeypatch):
    entry = node.entry('command = ["true"]\n')
    monkeypatch.setattr(looking, "look", None)  # whoever calls it fails
    assert plan_of(node, entry).data == b'command = ["true"]\n'


def test_a_drop_that_is_of_another_length_than_the_kept_bytes_is_read_again(node):
    entry = node.entry('command = ["true"]\n')
    path = os.path.join(node.bench.places.root, entry.key)
    with open(path, "a", encoding="utf-8") as file:
        file.write("priority = 0\n")
    os.utime(path, (entry.since_s, entry.since_s))
    entry.since_s = os.stat(path).st_mtime
    assert plan_of(node, entry).data.endswith(b"priority = 0\n")


def test_a_drop_that_was_written_or_is_gone_is_not_planned_by_the_kept_bytes(node):
    entry = node.entry('command = ["true"]\n')
    path = os.path.join(node.bench.places.root, entry.key)
    os.utime(path, (0, 0))
    assert plan_of(node, entry) is None
    os.unlink(path)
    assert plan_of(node, entry) is None
