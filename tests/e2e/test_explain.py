"""`explain`: why a job waits, what it does, why it died."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support import until

TRUE = 'command = ["true"]\n'


def explain(node, job: str) -> dict:
    return json.loads(node.run("explain", job, "--json").stdout)


def keeping(explanation: dict) -> set[str]:
    return {rule["rule"] for rule in explanation["rules"] if rule["keeps_waiting"]}


def test_each_rule_that_keeps_a_job_waiting_is_named_until_it_is_gone(node):
    node.drop("a.toml.held", TRUE)
    (node.spool / "paused").touch()
    assert {"worker", "held", "paused"} <= keeping(explain(node, "a.toml"))
    text = node.run("explain", "a.toml").stdout
    assert "no worker serves this spool" in text and "it is held; `spooldadd release" in text
    node.start()
    until(lambda: "worker" not in keeping(explain(node, "a.toml")), "the worker is seen")
    (node.spool / "a.toml.held").rename(node.spool / "a.toml")
    until(lambda: keeping(explain(node, "a.toml")) == {"paused"}, "only the pause is left")
    (node.spool / "paused").unlink()
    assert node.wait_finished("a").parent.name == "done"


def test_a_full_queue_names_what_runs_in_it(node):
    """The widths are those that the worker noted, not those of a configuration file here."""
    (node.spool / ".spool" / "worker.toml").write_text("[queues]\netl = 1\n")
    node.drop("long.toml", 'command = ["sleep", "60"]\nqueue = "etl"\n')
    node.start("--jobs", "4")
    running = until(lambda: node.records("running", "long"), "the first runs")[0].name.rsplit(".", 2)[0]
    node.drop("next.toml", 'command = ["true"]\nqueue = "etl"\n')
    found = until(lambda: _only(explain(node, "next.toml"), "queue-full"), "the full queue is all that is left")
    assert found["value"]["queue_width"] == 1
    assert found["value"]["queue_running"] == [running]


def _only(explanation: dict, name: str) -> dict | None:
    return next((rule for rule in explanation["rules"] if rule["rule"] == name and keeping(explanation) == {name}), None)


def test_a_job_between_two_attempts_says_when_the_next_one_is_due(served):
    served.drop("bad.toml", 'command = ["sh", "-c", "exit 3"]\n[retry]\nattempts = 2\nbackoff = "1h"\n')
    until(lambda: served.records("waiting", "bad"), "the first attempt is over")
    assert keeping(explain(served, "bad")) == {"backoff"}
    text = served.run("explain", "bad").stdout
    assert "attempt 1 ended with `exit`; attempt 2 of 2 is due at" in text


def test_a_running_job_shows_what_it_printed_and_that_it_is_watched(served):
    served.drop("long.toml", 'command = "echo hello; exec sleep 60"\n[limits]\ntimeout = "1h"\n')
    found = until(lambda: _printed(served), "the job has printed")
    assert (found["is_supervised"], found["printed_bytes"], found["last_line"]) == (True, 6, "hello")
    assert found["limits"] == {"timeout_s": 3600.0}


def _printed(node) -> dict | None:
    found = explain(node, "long.toml")
    return found if found.get("printed_bytes") else None


def test_a_failure_is_explained_with_its_log_and_the_commands_to_type(served):
    record = served.ran("last", 'command = "echo the last words; no-such-program"\n')
    found = explain(served, "last")
    assert "The command was not found" in found["meaning"]
    assert found["last_lines"][0] == "the last words"
    text = served.run("explain", "last").stdout
    assert "it failed with the outcome `exit`" in text and f"spooldadd retry {record.name}" in text


def test_the_commands_for_an_invalid_spec_lead_to_a_valid_one(served, tmp_path):
    served.ran("wrong", 'comand = ["true"]\n')
    found = explain(served, "wrong")
    assert "wrong.toml:1:1: unknown key `comand`" in found["errors"]
    copy, check, submit = (command.split() for command in found["commands"])
    served.run(*check[1:], check=False, cwd=tmp_path)
    assert copy[0] == "cp"
    (tmp_path / copy[2]).write_text(Path(copy[1]).read_text().replace("comand", "command"))
    served.run(*check[1:], cwd=tmp_path)
    served.run(*submit[1:], cwd=tmp_path)
    until(lambda: len(served.records("done", "wrong")) == 1, "it is done")


def test_a_file_that_is_written_is_said_to_be_open(served):
    with (served.spool / "slow.toml").open("w") as file:
        file.write("command = [")
        file.flush()
        found = explain(served, "slow.toml")
        assert "quiet" in keeping(found)


def test_an_unknown_job_has_its_own_exit_code(node):
    assert node.run("explain", "nothing", check=False).returncode == 3
