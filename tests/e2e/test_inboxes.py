"""Promise: a drop in `@NODE/` is for that node alone, and is told, held, cancelled and retried like any other."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Node, result_of, temporary_node, until

HELLO = 'command = "echo hello on $SPOOLDADD_NODE"\n'
ONCE_MORE = 'command = "exit 3"\n'


@pytest.fixture
def node() -> Iterator[Node]:
    with temporary_node(environ={"SPOOLDADD_NODE": "web-3", "SPOOLDADD_INTAKE__SETTLE": "100ms"}) as node:
        yield node


def drop_into(node: Node, inbox: str, name: str, text: str = HELLO) -> Path:
    (node.spool / inbox).mkdir(exist_ok=True)
    return node.drop(f"{inbox}/{name}", text)


def test_each_node_takes_what_is_in_its_own_inbox_and_no_other(node: Node) -> None:
    node.start()
    until(lambda: (node.spool / "@web-3").is_dir(), "the worker makes its inbox")
    drop_into(node, "@web-4", "other.toml")
    drop_into(node, "@web-3", "mine.toml")
    record = node.wait_finished("mine")
    assert result_of(record)["node"] == "web-3"
    assert tomllib.loads((record / "claim.toml").read_text())["source"] == "@web-3/mine.toml"
    node.drain()
    assert (node.spool / "@web-4" / "other.toml").exists()
    node.drain("--node", "web-4")
    assert result_of(node.finished("other"))["node"] == "web-4"


def test_two_files_of_one_name_in_root_and_inbox_are_two_jobs(node: Node) -> None:
    drop_into(node, "@web-3", "same.toml", 'command = "echo inbox"\n')
    node.drop("same.toml", 'command = "echo root"\n')
    told = json.loads(node.run("status", "--json").stdout)
    assert {job["job"] for job in told["jobs"]} == {"same.toml", "@web-3/same.toml"}
    assert json.loads(node.run("status", "same.toml", "--json").stdout)["record"] == str(node.spool / "same.toml")
    assert node.run("hold", "@web-3/same.toml").stdout == "@web-3/same.toml\n"
    assert (node.spool / "@web-3" / "same.toml.held").exists()
    assert (node.spool / "same.toml").exists()
    node.run("release", "@web-3/same.toml")
    node.drain()
    logs = sorted((path / "output.log").read_text() for path in node.records("done", "same"))
    assert logs == ["inbox\n", "root\n"]


def test_a_spec_in_the_root_that_is_called_like_an_inbox_is_bound_to_no_node(node: Node) -> None:
    node.drop("@often.toml", 'command = "exit 3"\n[retry]\nattempts = 2\nbackoff = "0s"\n')
    node.drain()
    record = node.finished("often")
    assert record is not None, node.run("explain", "often").stdout
    assert result_of(record)["attempt"] == 2
    assert not list(record.glob("@*"))


def test_doctor_names_what_looks_like_an_inbox_and_is_none(node: Node) -> None:
    (node.spool / "@bad name").mkdir()
    node.drop("@web-9", HELLO)
    (node.spool / "@web-8").mkdir()
    found = [check for check in json.loads(node.run("doctor", "--json").stdout)["checks"] if check["status"] == "warn"]
    told = {check["check"]: check["sentence"] for check in found}
    assert "`@bad name`, `@web-9`" in told["inboxes"]
    assert "ignored-names" not in told
    log = node.drain()
    assert "no node can be called so" in log


def test_a_retry_stays_on_the_node_of_the_inbox(node: Node) -> None:
    job = node.run("submit", "-", "--node", "web-3", "--name", "again", input=ONCE_MORE).stdout.strip()
    assert [path.name for path in (node.spool / "@web-3").iterdir()] == [f"{job}.toml"]
    node.drain()
    node.run("retry", job)
    node.drain("--node", "web-4")
    assert (node.spool / "waiting" / job).is_dir(), "another node ran it"
    node.drain()
    record = node.spool / "failed" / job
    assert result_of(record)["attempt"] == 2
    assert (record / "@web-3").exists()


def test_a_held_drop_in_an_inbox_is_found_by_its_file_name_and_cancelled(node: Node) -> None:
    drop_into(node, "@web-9", "lonely.toml")
    node.run("hold", "lonely.toml")
    assert json.loads(node.run("status", "lonely.toml", "--json").stdout)["held"] is True
    node.run("cancel", "lonely.toml")
    assert result_of(node.finished("lonely"))["outcome"] == "cancelled"
    assert not list((node.spool / "@web-9").iterdir())


def test_a_spec_in_an_inbox_is_held_to_the_rules_of_the_root(node: Node) -> None:
    drop_into(node, "@web-3", "broken.toml", "command = \n")
    drop_into(node, "@web-3", "a.sync-conflict-20261121-101500-ABCDEFG.toml")
    drop_into(node, "@web-3", "notes.txt", "no spec\n")
    log = node.drain()
    assert result_of(node.finished("broken"))["outcome"] == "invalid"
    assert "event=conflict-copy file=@web-3/a.sync-conflict-20261121-101500-ABCDEFG.toml" in log
    assert "event=ignored file=@web-3/notes.txt" in log


def test_an_inbox_that_others_may_write_to_is_refused_and_the_root_is_served(node: Node) -> None:
    path = drop_into(node, "@web-3", "evil.toml")
    (node.spool / "@web-3").chmod(0o777)
    node.drop("good.toml", HELLO)
    log = node.drain()
    assert "event=inbox-refused" in log
    assert path.exists()
    assert result_of(node.finished("good"))["outcome"] == "success"


def test_an_inbox_gets_the_mode_of_the_spool(node: Node) -> None:
    node.spool.chmod(0o2750)
    node.drain()
    assert os.stat(node.spool / "@web-3").st_mode & 0o7777 == 0o2750
