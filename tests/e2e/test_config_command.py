"""`spooldadd config`: what is in effect, and where it comes from."""

from __future__ import annotations

import json
import tomllib

from spooldadd.config import load


def test_each_value_says_where_it_comes_from(node):
    (node.spool / ".spool" / "worker.toml").write_text('node = "web-3"\n\n[intake]\nsettle = "5s"\n')
    environ = {**node.environ, "SPOOLDADD_JOBS": "7"}
    lines = node.run("config", "--origin", env=environ).stdout.split("\n")
    origins = {line.split("  #")[0].strip(): line.rpartition("# ")[2] for line in lines[1:] if line}
    assert origins['node = "web-3"'].endswith("worker.toml:1")
    assert origins['intake.settle = "5s"'].endswith("worker.toml:4")
    assert origins["jobs = 7"] == "SPOOLDADD_JOBS"
    assert origins['log.level = "info"'] == "default"


def test_what_it_prints_is_a_configuration_that_means_the_same(node, tmp_path):
    (node.spool / ".spool" / "worker.toml").write_text('[queues]\netl = 2\n"odd.name" = 1\n[limits]\nmemory = "2G"\n')
    printed = node.run("config", "--origin").stdout
    (tmp_path / "printed.toml").write_text(printed)
    environ = {"HOME": "/", "SPOOLDADD_WORK_DIR": str(node.work)}
    again = load(tmp_path / "printed.toml", environ=environ)
    assert again == load(node.spool / ".spool" / "worker.toml", environ=environ)


def test_json_holds_values_and_origins(node):
    table = json.loads(node.run("config", "--json").stdout)
    assert table["schema"] == 1
    assert table["settings"]["work_dir"] == {"value": f'"{node.work}"', "origin": "SPOOLDADD_WORK_DIR"}


def test_an_unknown_variable_is_a_warning(node):
    done = node.run("config", env={**node.environ, "SPOOLDADD_JOBBS": "7"})
    assert "`SPOOLDADD_JOBBS` is no key" in done.stderr
    assert "SPOOLDADD_JOBBS" not in done.stdout


def test_every_error_is_shown_with_its_place(node):
    (node.spool / ".spool" / "worker.toml").write_text('jobs = "many"\nnodde = "x"\n')
    done = node.run("config", check=False)
    assert done.returncode == 78
    assert "worker.toml:1:1: `jobs` must be a whole number" in done.stderr
    assert "did you mean `node`?" in done.stderr


def test_the_example_is_a_configuration(node):
    tomllib.loads(node.run("config", "--example").stdout)


def test_config_needs_no_spool(node, tmp_path):
    environ = {key: value for key, value in node.environ.items() if key != "SPOOLDADD_SPOOL"}
    assert "jobs = " in node.run("config", env=environ, cwd=tmp_path).stdout
