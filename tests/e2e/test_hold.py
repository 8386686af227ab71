"""`spooldadd hold` and `release`: what is held does not start, what runs goes on."""

from __future__ import annotations

import pytest

from tests.support import until


def finished(node) -> set[str]:
    return {record.name.split(".")[0] for state in ("done", "failed") for record in node.records(state)}


def test_a_held_drop_starts_only_after_its_release(node):
    node.drop("held.toml", 'command = "true"')
    node.run("hold", "held.toml")
    node.start()
    node.drop("other.toml", 'command = "true"')
    node.wait_finished("other")
    assert (node.spool / "held.toml.held").exists()
    node.run("release", "held.toml")
    node.wait_finished("held")


def test_a_held_record_does_not_get_its_next_attempt_before_its_release(node, tmp_path):
    node.start()
    node.drop("load.toml", f'command = "test -e {tmp_path}/mended"\n[retry]\nattempts = 9\nbackoff = "1h"')
    (record,) = until(lambda: node.records("waiting", "load"), "it waits for its next attempt")
    node.run("hold", "load")
    (record / "now").touch()
    (node.spool / ".wake").touch()
    node.drop("other.toml", 'command = "true"')
    node.wait_finished("other")
    assert node.records("waiting", "load")
    (tmp_path / "mended").touch()
    node.run("release", "load")
    node.wait_finished("load")
    assert node.records("done", "load")


@pytest.mark.parametrize("option", [("--all",), ("--queue", "etl")])
def test_a_pause_stops_what_it_says_and_a_release_ends_it(node, option):
    node.run("hold", *option)
    node.start()
    node.drop("load.toml", 'command = "true"\nqueue = "etl"')
    node.drop("free.toml", 'command = "true"\nqueue = "free"')
    if option[0] == "--queue":
        node.wait_finished("free")
    until(lambda: "event=paused" in node.said(), "the worker says that it is paused")
    assert "load" not in finished(node)
    node.run("release", *option)
    node.wait_finished("load")
    node.wait_finished("free")


def test_what_runs_goes_on_while_everything_is_held(node):
    node.start()
    node.drop("long.toml", 'command = "sleep 0.5"')
    until(lambda: "event=started" in node.said(), "it has started")
    node.run("hold", "--all")
    node.wait_finished("long")


def test_a_running_job_cannot_be_held(node):
    node.start()
    node.drop("long.toml", 'command = "sleep 600"')
    until(lambda: "event=started" in node.said(), "it has started")
    done = node.run("hold", "long", check=False)
    assert done.returncode == 1
    assert "runs already; `spooldadd cancel" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("x", "--all"), ("--queue", "a/b"), ("--queue", ""), ("--all", "--queue", "x")])
@pytest.mark.parametrize("command", ["hold", "release"])
def test_a_command_line_that_makes_no_sense_is_refused(node, command, arguments):
    assert node.run(command, *arguments, check=False).returncode == 2
