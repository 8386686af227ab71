import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooldadd.config import (
    Config,
    InvalidConfig,
    default_jobs,
    default_node,
    default_work_dir,
    describe,
    effective,
    find_config,
    load,
    schema,
)
from spooldadd.config.overrides import _TEXTS, Override, from_environ
from spooldadd.errors import ConfigError
from spooldadd.problems import render
from spooldadd.spec import Limits
from spooldadd.spec.reading import parse

HOME = {"HOME": "/home/worker"}
FULL = """\
node = "etl-1"
jobs = 4
work_dir = "~/work"
[queues]
etl = 2
closed-one = 0
[intake]
settle = "1s"
scan_interval = "10s"
suffixes = [".toml", ".job"]
events = false
[limits]
timeout = "1h"
memory = "2G"
[keep]
work_days = 2.5
[trust]
owners = ["etl", 1000, "1001"]
groups = ["ops"]
[environ]
pass = ["PATH", "LC_*"]
drop = ["SECRET*"]
set = { TZ = "UTC" }
[log]
format = "json"
level = "debug"
"""


@pytest.fixture
def loaded(tmp_path):
    def load_text(text, overrides=None, **environ):
        path = tmp_path / "c.toml"
        path.write_text(text)
        return load(path, environ=HOME | environ, overrides=overrides)

    return load_text


def problems(loaded, text, overrides=None, **environ):
    with pytest.raises(InvalidConfig) as caught:
        loaded(text, overrides, **environ)
    return [(problem.origin or problem.line, problem.message) for problem in caught.value.problems]


def test_a_full_configuration_is_read_into_values_with_units(loaded):
    config = loaded(FULL)
    assert (config.node, config.jobs, config.work_dir) == ("etl-1", 4, "/home/worker/work")
    assert config.queues == {"etl": 2, "closed-one": 0}
    assert (config.intake.settle_s, config.intake.scan_interval_s) == (1.0, 10.0)
    assert (config.intake.suffixes, config.intake.events) == ((".toml", ".job"), False)
    assert (config.limits.timeout_s, config.limits.memory_bytes, config.limits.stall_s) == (3600.0, 2 * 2**30, None)
    assert config.keep.work_days == 2.5
    assert (config.trust.owners, config.trust.groups) == (("etl", 1000, 1001), ("ops",))
    assert (config.environ.passed, config.environ.dropped) == (("PATH", "LC_*"), ("SECRET*",))
    assert config.environ.added == {"TZ": "UTC"}
    assert (config.log.format, config.log.level) == ("json", "debug")


def test_without_a_file_the_machine_gives_the_defaults():
    config = load(None, environ=HOME)
    assert (config.node, config.jobs) == (default_node(), default_jobs())
    assert config.work_dir == default_work_dir(HOME, os.getuid())
    assert (config.intake.suffixes, config.environ.passed, config.keep.work_days) == ((".toml", ".py", ".tar"), ("*",), 7.0)
    assert config.warnings == ()
    assert config.origins == {}


def test_an_empty_file_is_a_configuration(loaded):
    assert loaded("# nothing\n") == load(None, environ=HOME)


@pytest.mark.parametrize(
    ("host", "node"),
    [("web-3.example.org", "web-3"), ("web", "web"), ("Böx!", "B-x-"), ("", "unnamed"), ("x" * 300, "x" * 100)],
)
def test_a_node_is_named_after_its_host_in_characters_a_name_may_have(host, node):
    assert default_node(host) == node


@given(st.text(max_size=150))
@settings(deadline=None)
def test_any_host_name_gives_a_valid_node_name(host):
    assert Config(node=default_node(host)).node


def test_the_work_directory_is_of_the_system_for_root_and_else_of_the_user():
    assert default_work_dir(HOME, 0) == "/var/lib/spooldadd/work"
    assert default_work_dir(HOME, 1000) == "/home/worker/.local/state/spooldadd/work"
    assert default_work_dir(HOME | {"XDG_STATE_HOME": "/state"}, 1000) == "/state/spooldadd/work"
    assert default_work_dir(HOME | {"XDG_STATE_HOME": "relative"}, 1000) == "/home/worker/.local/state/spooldadd/work"


def test_environment_variables_override_single_keys(loaded):
    config = loaded(
        FULL,
        SPOOLDADD_JOBS="9",
        SPOOLDADD_NODE="other",
        SPOOLDADD_QUEUES__ETL="5",
        SPOOLDADD_QUEUES__CLOSED_ONE="1",
        SPOOLDADD_QUEUES__NEW="3",
        SPOOLDADD_INTAKE__SETTLE="3s",
        SPOOLDADD_INTAKE__EVENTS="yes",
        SPOOLDADD_INTAKE__SUFFIXES=".a, .b",
        SPOOLDADD_KEEP__WORK_DAYS="1.5",
        SPOOLDADD_TRUST__OWNERS="root,7",
        SPOOLDADD_ENVIRON__SET__Http_Proxy="x",
        SPOOLDADD_WORK_DIR="~/w",
        SPOOLDADD_LOG__FORMAT="plain",
    )
    assert (config.jobs, config.node, config.work_dir) == (9, "other", "/home/worker/w")
    assert config.queues == {"etl": 5, "closed-one": 1, "new": 3}
    assert (config.intake.settle_s, config.intake.events, config.intake.suffixes) == (3.0, True, (".a", ".b"))
    assert config.keep.work_days == 1.5
    assert config.trust.owners == ("root", 7)
    assert config.environ.added == {"TZ": "UTC", "Http_Proxy": "x"}
    assert config.log.format == "plain"
    assert config.warnings == ()


def test_what_is_taken_as_a_text_without_the_schema_is_what_the_schema_makes_of_it():
    for name, path in _TEXTS.items():
        variables = {f"SPOOLDADD_{name}": "5"}
        alone, beside = (from_environ(found, {}).overrides for found in (variables, {**variables, "SPOOLDADD_JOBS": "1"}))
        assert alone == [Override(path, "5", f"SPOOLDADD_{name}")] == [one for one in beside if one.path != ("jobs",)]


def test_options_are_stronger_than_the_environment_and_none_was_not_given(loaded):
    config = loaded(FULL, {"jobs": 2, "node": None, "log.level": "warning"}, SPOOLDADD_JOBS="9")
    assert (config.jobs, config.node, config.log.level) == (2, "etl-1", "warning")


def test_variables_that_are_no_configuration_are_left_alone(loaded):
    names = ("SPOOL", "CONFIG", "JOB", "ATTEMPT", "RECORD", "WORKDIR")
    assert loaded("", **{f"SPOOLDADD_{name}": "x" for name in names}).warnings == ()


def test_what_a_job_finds_in_its_environment_does_not_break_a_command_within(loaded):
    environ = {"SPOOLDADD_NODE": "web-3", "SPOOLDADD_JOB": "x.1", "SPOOLDADD_WORKDIR": "/w"}
    assert loaded("", **environ).node == "web-3"


def test_unknown_variables_are_warned_about_and_ignored(loaded):
    warnings = loaded("", SPOOLDADD_JOBZ="1", SPOOLDADD_LIMITS="x", SPOOLDADD_QUEUES__="1", SPOOLDADD_QUEUES="1").warnings
    assert len(warnings) == 4
    assert warnings[0].endswith(
        "`SPOOLDADD_JOBZ` is no key of the configuration and is ignored; did you mean `SPOOLDADD_JOBS`?"
    )


def test_a_wrong_variable_is_named_in_the_problem(loaded):
    found = problems(
        loaded,
        "jobs = 1\n",
        SPOOLDADD_JOBS="many",
        SPOOLDADD_INTAKE__EVENTS="maybe",
        SPOOLDADD_INTAKE__SETTLE="soon",
        SPOOLDADD_QUEUES__A="-1",
        SPOOLDADD_KEEP__WORK_DAYS="x",
        SPOOLDADD_INTAKE__SUFFIXES="toml",
    )
    assert sorted(found) == [
        ("SPOOLDADD_INTAKE__EVENTS", "must be `true` or `false`, not `maybe`"),
        ("SPOOLDADD_INTAKE__SETTLE", "`intake.settle` has a bad value: `soon` is not a duration"),
        ("SPOOLDADD_INTAKE__SUFFIXES", "`intake.suffixes[0]` is no suffix of a file name"),
        ("SPOOLDADD_JOBS", "must be a whole number, not `many`"),
        ("SPOOLDADD_KEEP__WORK_DAYS", "must be a number, not `x`"),
        ("SPOOLDADD_QUEUES__A", "`queues.a` must be at least 0"),
    ]


def test_a_wrong_option_is_named_in_the_problem(loaded):
    assert problems(loaded, "", {"node": "a b"}) == [("option node", "`node` is not a usable name")]


def test_all_problems_of_the_file_are_reported_with_their_lines(loaded):
    assert problems(
        loaded,
        'jobs = 0\nnode = "a b"\nwork_dir = "x"\n[queue]\n[queues]\na = 1.5\n"b c" = 1\n[limits]\ntimeout = "2x"\n'
        '[trust]\nowners = [1.5, "", -1]\n[environ]\npass = ["A=B"]\n[log]\nlevel = "loud"\nformt = "json"\n',
    ) == [
        (1, "`jobs` must be at least 1"),
        (2, "`node` is not a usable name"),
        (3, "`work_dir` must be an absolute path"),
        (4, "unknown key `queue`; did you mean `queues`?"),
        (6, "`queues.a` must be a whole number, not a number with a fraction"),
        (7, '`queues."b c"` is not a usable name'),
        (9, "`limits.timeout` has a bad value: `2x` is not a duration"),
        (11, "`trust.owners[0]` must be a name or a number, not a number with a fraction"),
        (11, "`trust.owners[1]` is neither a name nor a number from 0 to 4294967294"),
        (11, "`trust.owners[2]` is neither a name nor a number from 0 to 4294967294"),
        (13, "`environ.pass[0]` matches no environment variable"),
        (15, "`log.level` must be `debug`, `info` or `warning`"),
        (16, "unknown key `log.formt`; did you mean `format`?"),
    ]


def test_a_problem_of_the_file_is_shown_like_that_of_a_spec(loaded, tmp_path):
    with pytest.raises(InvalidConfig) as caught:
        loaded("jbos = 4\n")
    path = tmp_path / "c.toml"
    assert isinstance(caught.value, ConfigError)
    assert str(caught.value) == f"`{path}` has a problem at line 1, column 1: unknown key `jbos`; did you mean `jobs`?"
    assert render(caught.value.problems, caught.value.source) == (
        f"{path}:1:1: unknown key `jbos`; did you mean `jobs`?\n    1 | jbos = 4\n      | ^\n"
    )


@pytest.mark.parametrize("text", ["jobs = ", "\x00", "a." * 1000 + "a = 1"])
def test_a_file_that_is_no_toml_is_refused(loaded, text):
    assert len(problems(loaded, text)) == 1


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path):
    for path in (tmp_path, tmp_path / "missing.toml"):
        with pytest.raises(ConfigError, match=str(path)):
            load(path, environ=HOME)


def test_a_variable_below_what_is_no_table_in_the_file_is_a_problem_of_the_file(loaded):
    assert problems(loaded, "queues = 5\n", SPOOLDADD_QUEUES__A="1") == [(1, "`queues` must be a table, not a whole number")]


def test_limits_of_the_node_fill_what_a_spec_leaves_open(loaded):
    defaults = loaded('[limits]\ntimeout = "1h"\noutput = "1G"\nmemory = "2G"\n').limits
    spec = parse(b'command = "true"\n[limits]\ntimeout = "5s"\nstall = "1m"\n', source="x")
    assert defaults.fill(spec.limits) == Limits(timeout_s=5, stall_s=60, output_bytes=2**30, memory_bytes=2 * 2**30)
    assert Config().limits.fill(spec.limits) is spec.limits


def test_the_effective_configuration_says_where_each_value_came_from(loaded, tmp_path):
    config = loaded(FULL, {"jobs": 2}, SPOOLDADD_INTAKE__SETTLE="3s")
    settings = {setting.key: (setting.value, setting.origin) for setting in effective(config)}
    file = tmp_path / "c.toml"
    assert settings["jobs"] == ("2", "option jobs")
    assert settings["intake.settle"] == ('"3s"', "SPOOLDADD_INTAKE__SETTLE")
    assert settings["queues.etl"] == ("2", f"{file}:5")
    assert settings["limits.memory"] == ('"2G"', f"{file}:14")
    assert settings["limits.stall"] == ("unset", "default")
    assert settings["environ.set.TZ"] == ('"UTC"', f"{file}:23")
    assert settings["trust.owners"] == ('["etl", 1000, 1001]', f"{file}:18")
    assert settings["log.level"] == ('"debug"', f"{file}:26")


def test_the_file_is_looked_for_from_the_nearest_to_the_farthest(tmp_path):
    spool, home = tmp_path / "spool", tmp_path / "home"
    environ = {"HOME": str(home)}
    assert find_config(spool, environ=environ, uid=1000) is None
    of_user = home / ".config" / "spooldadd" / "spooldadd.toml"
    of_spool = spool / ".spool" / "worker.toml"
    named = tmp_path / "named.toml"
    for path in (of_user, of_spool):
        path.parent.mkdir(parents=True)
        path.touch()
        assert find_config(spool, environ=environ, uid=1000) == path
    assert find_config(None, environ=environ, uid=1000) == of_user
    named.touch()
    assert find_config(spool, environ=environ | {"SPOOLDADD_CONFIG": str(named)}, uid=1000) == named


def test_a_named_file_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="SPOOLDADD_CONFIG"):
        find_config(tmp_path, environ={"SPOOLDADD_CONFIG": str(tmp_path / "gone")}, uid=1000)


def test_each_key_is_described_and_has_its_place_in_the_schema():
    assert all(row.description.endswith(".") for row in describe())
    assert {"node", "queues", "intake.settle", "environ.pass", "environ.set", "log.level"} <= {row.key for row in describe()}
    assert set(schema()["properties"]) == {row.key for row in describe() if "." not in row.key}


def test_a_list_in_a_variable_may_look_as_in_the_file(loaded):
    """It was taken for one word with brackets in it, and the message spoke of a name that is not usable."""
    assert loaded("", SPOOLDADD_LABELS='["gpu", "big"]').labels == ("gpu", "big")
    assert loaded("", SPOOLDADD_LABELS="gpu, big").labels == ("gpu", "big")
    ((origin, message),) = problems(loaded, "", SPOOLDADD_LABELS='["gpu"')
    assert (origin, "a list as in the file" in message) == ("SPOOLDADD_LABELS", True)
