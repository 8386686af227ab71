"""Two nodes whose clocks are two hours apart serve one spool: each job runs once, where it runs it stays."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import SPOOLDADD, Node, result_of, until

pytestmark = pytest.mark.skipif(shutil.which("faketime") is None, reason="not installed: faketime")
QUICK = {"SPOOLDADD_TAKEOVER__AFTER": "2s", "SPOOLDADD_INTAKE__SETTLE": "0s", "SPOOLDADD_INTAKE__SCAN_INTERVAL": "500ms"}
BEATS = 12  # six of them are the time after which a silent node's jobs would be taken over


def heartbeat(node: Node, name: str) -> int:
    try:
        return tomllib.loads((node.spool / ".spool" / "nodes" / f"{name}.toml").read_text())["heartbeat"]
    except (OSError, ValueError):
        return 0


def test_clocks_two_hours_apart_change_nothing(make_node: Callable[..., Node], tmp_path: Path) -> None:
    node = make_node(durability="process", environ=QUICK)
    mark = node.spool / ".spool" / "format.toml"
    mark.write_text(mark.read_text().replace('"local"', '"shared"'))
    for name, shift in (("ahead", "+1h"), ("behind", "-1h")):
        node.command = ["faketime", "-f", shift, SPOOLDADD]
        node.start("--node", name, "--jobs", "2")
    gate, lines = tmp_path / "gate", tmp_path / "lines"
    for name in ("ahead", "behind"):
        script = f"echo long-{name} >> {lines}; until test -e {gate}; do sleep 0.05; done"
        node.drop(f"long-{name}.toml", f'command = "{script}"\nrestartable = true\n[place]\nnode = "{name}"\n')
    until(lambda: len(node.records("running")) == 2 and lines.exists() and len(lines.read_text().split()) == 2, "both run")
    running = node.records("running")
    for number in range(20):
        node.drop(f"j{number}.toml", f'command = "echo j{number} >> {lines}"\n')
    until(lambda: len(node.records("done")) == 20, "the others are done")
    before = {name: heartbeat(node, name) for name in ("ahead", "behind")}
    until(
        lambda: all(heartbeat(node, name) >= count + BEATS for name, count in before.items()), "longer than a takeover takes"
    )
    assert node.records("running") == running
    gate.touch()
    until(lambda: len(node.records("done")) == 22, "all are done")
    expected = [f"j{number}" for number in range(20)] + ["long-ahead", "long-behind"]
    assert sorted(lines.read_text().split()) == sorted(expected)
    for name in ("ahead", "behind"):
        result = result_of(node.finished(f"long-{name}"))
        assert (result["node"], result["attempt"]) == (name, 1)
    assert "event=taken-over" not in node.said()
    assert "event=lost" not in node.said()
