"""`spooldadd check`: every error at once, with its place; the same words as in `failed/`."""

from __future__ import annotations

import json
from pathlib import Path

BAD = """\
comand = ["true"]
priority = "high"

[limits]
timeout = "5 parsecs"
"""


def test_every_error_has_its_place_its_line_and_a_remedy(node, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(BAD)
    done = node.run("check", str(path), check=False)
    assert done.returncode == 1
    assert done.stderr == ""
    assert [line for line in done.stdout.split("\n") if line.startswith(str(path))] == [
        f"{path}:1:1: unknown key `comand`; did you mean `command`?",
        f"{path}:2:1: `priority` must be a whole number, not a string",
        f"{path}:5:1: `limits.timeout` has a bad value: `5 parsecs` is not a duration",
    ]
    assert '    2 | priority = "high"' in done.stdout
    assert "write it without quotes" in done.stdout


def test_a_valid_spec_makes_no_noise(node, tmp_path):
    (tmp_path / "good.toml").write_text('command = ["sh", "-c", "true"]\n')
    done = node.run("check", str(tmp_path / "good.toml"))
    assert done.stdout == done.stderr == ""


def test_several_files_are_checked_and_one_bad_one_decides(node, tmp_path):
    for name, text in (("good.toml", 'command = "true"'), ("bad.toml", BAD), ("worse.toml", "[")):
        (tmp_path / name).write_text(text)
    done = node.run("check", *(str(tmp_path / name) for name in ("good.toml", "bad.toml", "worse.toml")), check=False)
    assert done.returncode == 1
    assert "bad.toml:1:1" in done.stdout
    assert "worse.toml:1:" in done.stdout
    assert "good.toml" not in done.stdout


def test_templates_are_tried_out_with_the_variables_that_are_given(node):
    text = 'command = ["echo", "{{ vars.day }}"]\n'
    done = node.run("check", "-", input=text, check=False)
    assert done.returncode == 1
    assert "standard input:1:20: template of `command[1]`" in done.stdout
    node.run("check", "-", "--var", "day=x", input=text)


def test_json_holds_every_problem_of_every_file(node, tmp_path):
    (tmp_path / "bad.toml").write_text(BAD)
    done = node.run("check", "--json", str(tmp_path / "bad.toml"), check=False)
    table = json.loads(done.stdout)
    (file,) = table["files"]
    assert table["schema"] == 1
    assert not file["valid"]
    first = file["problems"][0]
    assert (first["line"], first["column"], first["key"], first["text"]) == (1, 1, "comand", 'comand = ["true"]')


def test_what_looks_like_a_slip_is_a_warning_and_no_error(node):
    text = """\
command = ["no-such-program-anywhere"]
[run]
not_before = 2020-01-01T00:00:00Z
[retry]
backoff = "5s"
[limits]
timeout = "1m"
stall = "2m"
"""
    done = node.run("check", "-", input=text)
    assert done.stdout == ""
    for part in (
        "is not found on the `PATH` here",
        "is over",
        "`[retry]` without `attempts`",
        "`limits.stall` (2m) never ends",
    ):
        assert part in done.stderr
    assert len(json.loads(node.run("check", "--json", "-", input=text).stdout)["files"][0]["warnings"]) == 4


def test_the_record_of_an_invalid_spec_holds_the_words_of_check(node):
    node.drop("bad.toml", BAD)
    node.drain()
    (record,) = node.records("failed")
    checked = node.run("check", str(record / "spec.toml"), check=False).stdout
    assert checked.replace(str(record / "spec.toml"), "bad.toml") == (record / "errors.txt").read_text()


def test_check_needs_no_spool(node, tmp_path: Path):
    environ = {key: value for key, value in node.environ.items() if key != "SPOOLDADD_SPOOL"}
    node.run("check", "-", input='command = "true"', env=environ, cwd=tmp_path)


def test_what_the_sandbox_of_this_node_adds_or_refuses_is_a_warning(node, tmp_path: Path):
    (tmp_path / "node.toml").write_text('node = "etl-1"\nsandbox = { network = false, system = "read-only" }\n')
    (tmp_path / "open.toml").write_text('command = "true"\n[sandbox]\nnetwork = true\nwrite = ["/etc"]\n')
    (tmp_path / "bare.toml").write_text('command = "true"\n[sandbox]\nsystem = "read-only"\n')
    check = ("--config", str(tmp_path / "node.toml"), "check")
    refused = node.run(*check, str(tmp_path / "open.toml")).stderr.splitlines()
    assert len(refused) == 2
    assert "warning: line 3: node `etl-1` would refuse it: `sandbox.network = true` would loosen" in refused[0]
    assert "line 4: node `etl-1` would refuse it: `sandbox.write` would open `/etc`" in refused[1]
    added = node.run(*check, str(tmp_path / "bare.toml")).stderr
    assert "node `etl-1` adds to its sandbox: `network = false`;" in added
    assert node.run("check", str(tmp_path / "open.toml")).stderr == ""


def test_what_the_signature_lacks_for_this_node_is_a_warning(node, tmp_path: Path):
    (tmp_path / "signers").write_text("")
    (tmp_path / "node.toml").write_text(f'trust = {{ allowed_signers = "{tmp_path}/signers", signed = "required" }}\n')
    (tmp_path / "plain.toml").write_text('command = "true"\n')
    (tmp_path / "torn.toml").write_text('command = "true"\n# spooldadd-signature: 1\n')
    check = ("--config", str(tmp_path / "node.toml"), "check")
    assert "it is not signed, and this node runs signed specs only" in node.run(*check, str(tmp_path / "plain.toml")).stderr
    assert "it has a signature that is damaged" in node.run(*check, str(tmp_path / "torn.toml")).stderr
