"""`nodes`: who serves, how that is known, whose clock is wrong; and forgetting one that is gone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from spooldadd.tomltext import dumps
from tests.support import SPOOLDADD, Node, until

needs_faketime = pytest.mark.skipif(shutil.which("faketime") is None, reason="not installed: faketime")


def shown(node: Node, *arguments: str) -> dict[str, dict]:
    text = node.run("nodes", "--json", *arguments).stdout
    assert '"clock_s": -0.0,' not in text
    table = json.loads(text)
    assert table["schema"] == 1
    return {entry["node"]: entry for entry in table["nodes"]}


def write_entry(node: Node, name: str, **table: object) -> Path:
    path = node.spool / ".spool" / "nodes" / f"{name}.toml"
    path.write_text(dumps({"schema": 1, "heartbeat": 1, "pid": 1, "boot_id": "elsewhere", "node": name, **table}))
    return path


def test_worker_is_alive_while_it_serves_and_its_node_can_be_forgotten_afterwards(make_node: Callable[..., Node]) -> None:
    node = make_node()
    worker = node.start("--node", "web-1", "--jobs", "3")
    entry = until(lambda: shown(node).get("web-1"), "it has said so")
    assert (entry["state"], entry["how"], entry["jobs"]) == ("alive", "its lock is held", 3)
    assert entry["is_other_release"] is False
    refused = node.run("nodes", "--forget", "web-1", check=False)
    assert refused.returncode == 1
    assert "`web-1` is alive" in refused.stderr
    worker.kill()
    worker.wait()
    assert shown(node)["web-1"]["state"] == "silent"
    proofs = node.spool / ".spool" / "proofs"
    proofs.mkdir()
    (proofs / "web-2.toml").write_text('schema = 1\nobserver = "web-2"\n[peers]\n"web-1" = "shared"\n"web-3" = "private"\n')
    node.run("nodes", "--forget", "web-1")
    assert tomllib.loads((proofs / "web-2.toml").read_text())["peers"] == {"web-3": "private"}
    assert shown(node) == {}
    assert list((node.spool / ".spool" / "nodes").iterdir()) == []


def test_heartbeat_tells_where_no_lock_does(make_node: Callable[..., Node]) -> None:
    node = make_node()
    write_entry(node, "still", beat_s=0.1)
    write_entry(node, "slow", beat_s=600.0)
    path = write_entry(node, "moving", beat_s=600.0)
    script = f"""
import itertools, os, time
from pathlib import Path
path = Path({str(path)!r}); text = path.read_text()
for beat in itertools.count(2):
    new = path.with_name(".tmp-moving"); new.write_text(text.replace("heartbeat = 1", f"heartbeat = {{beat}}"))
    new.rename(path); time.sleep(0.1)
"""
    beating = subprocess.Popen([sys.executable, "-c", script])
    try:
        found = shown(node, "--watch", "2s")
    finally:
        beating.kill()
        beating.wait()
    assert {name: entry["state"] for name, entry in found.items()} == {
        "still": "silent",
        "slow": "unknown",
        "moving": "alive",
    }
    said = node.run("nodes", "--watch", "0s").stderr
    assert "`--watch 30min` tells" in said


def test_node_with_records_or_in_doubt_is_not_forgotten(make_node: Callable[..., Node]) -> None:
    node = make_node()
    write_entry(node, "gone", beat_s=0.1)
    record = node.spool / "running" / "a.20261121T101500Z.bcdfg.1.bcdfg"
    record.mkdir()
    (record / "claim.toml").write_text('schema = 1\nattempt = 1\nnode = "gone"\n')
    refused = node.run("nodes", "--forget", "gone", check=False)
    assert "still has 1 record" in refused.stderr
    assert "recover --node gone" in refused.stderr
    write_entry(node, "slow", beat_s=600.0)
    assert "may be alive" in node.run("nodes", "--forget", "slow", "--watch", "0s", check=False).stderr
    assert "has no entry" in node.run("nodes", "--forget", "../slow", check=False).stderr
    assert set(shown(node)) == {"gone", "slow"}


def test_entry_of_a_newer_release_is_marked_and_a_damaged_one_reported(make_node: Callable[..., Node]) -> None:
    node = make_node()
    write_entry(node, "newer", schema=2, release="9.0", state="hibernating", mood="good").touch()
    (node.spool / ".spool" / "nodes" / "broken.toml").write_text("heartbeat = ")
    done = node.run("nodes", "--watch", "0s")
    assert "9.0*" in done.stdout
    assert "`newer` says schema 2" in done.stderr
    assert "`broken` cannot be read" in done.stderr
    assert shown(node, "--watch", "0s")["newer"]["mood"] == "good"


@needs_faketime
def test_clock_an_hour_ahead_is_shown(make_node: Callable[..., Node]) -> None:
    node = make_node(command=["faketime", "-f", "+1h", SPOOLDADD])
    node.start("--node", "ahead")
    node.command = [SPOOLDADD]
    entry = until(lambda: shown(node).get("ahead"), "it has said so")
    assert 3000 < entry["clock_s"] < 4200
    row = node.run("nodes").stdout.splitlines()[1]
    assert "+1 h" in row or "+59 min" in row


def test_nodes_imports_no_library_of_others(make_node: Callable[..., Node]) -> None:
    node = make_node()
    write_entry(node, "other")
    code = (
        "import sys; from spooldadd.cli import main; main(['nodes', '--watch', '0s']); "
        "found = {name.partition('.')[0] for name in sys.modules}; "
        "print(*sorted(found & {'toml', 'pydantic', 'filelock', 'jinja2', 'requests'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=node.environ, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
