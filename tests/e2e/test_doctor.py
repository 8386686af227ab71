"""`spooldadd doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import json


def test_a_served_spool_is_healthy(node):
    node.start()
    done = node.run("doctor")
    assert done.stdout.rstrip().endswith(" to look at, 0 to mend")
    told = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("warn")}
    assert told <= {"fsync", "space", "inotify"}  # other tests may use much of the machine
    for check in ("rename", "lock", "lease", "events", "worker"):
        assert f"ok    {check} " in done.stdout


def test_what_is_to_mend_makes_it_fail_and_names_the_remedy(node):
    (node.spool / "done").chmod(0o777)
    (node.spool / "paused").touch()
    done = node.run("doctor", check=False)
    assert done.returncode == 1
    assert "fail  rights" in done.stdout
    assert "= `spooldadd release --all`" in done.stdout


def test_json_lists_every_check(node):
    table = json.loads(node.run("doctor", "--json").stdout)
    assert table["schema"] == 1
    assert {"check", "status", "sentence"} <= table["checks"][0].keys()
    assert {check["status"] for check in table["checks"]} <= {"ok", "warn", "fail"}


def test_a_broken_configuration_is_one_check_among_others(node):
    done = node.run("doctor", check=False, env={**node.environ, "SPOOLDADD_JOBS": "many"})
    assert done.returncode == 1
    assert "fail  configuration" in done.stdout
    assert "ok    rename" in done.stdout


def test_a_directory_that_is_no_spool_is_examined_too(node, tmp_path):
    done = node.run("doctor", str(tmp_path), check=False)
    assert done.returncode == 1
    assert "`spooldadd init" in done.stdout
