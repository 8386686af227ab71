"""The files in `conf/` are what people copy: each must be valid, and the configuration must hold every key there is."""

import re
import tomllib
from pathlib import Path

import pytest

import spooldadd
from spooldadd.config import describe, load
from spooldadd.spec import parse
from spooldadd.template import check_templates

CONF = Path(spooldadd.__file__).parent.parent / "conf"
ENVIRON = {"HOME": "/home/worker"}


@pytest.mark.parametrize("path", sorted((CONF / "examples").glob("*.toml")), ids=lambda path: path.name)
def test_each_example_is_a_valid_spec_with_valid_templates(path):
    assert check_templates(parse(path.read_bytes(), source=path.name)) == ()


def test_there_are_examples_of_the_usual_kinds():
    assert {path.stem for path in (CONF / "examples").iterdir()} >= {
        "hello", "etl-with-config", "nightly-retry", "shell-pipeline", "timeout",
    }  # fmt: skip


def test_the_commented_configuration_changes_nothing():
    assert load(CONF / "spooldadd.toml", environ=ENVIRON) == load(None, environ=ENVIRON)


def without_comments():
    return re.sub(r"(?m)^#(\w+ = )", r"\1", (CONF / "spooldadd.toml").read_text())


def test_the_commented_configuration_is_valid_with_every_key_taken_in(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(without_comments())
    assert load(path, environ=ENVIRON).queues == {"etl": 2}


def test_the_commented_configuration_holds_every_key_and_the_defaults():
    table = tomllib.loads(without_comments())
    for row in describe():
        at = table
        for part in row.key.split("."):
            assert part in at, row.key
            at = at[part]
        if row.default not in ("unset", "empty"):
            assert at == tomllib.loads(f"k = {row.default}")["k"], row.key
