"""Every code block of `docs/environments.md` is what the program takes."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from spooldadd.environment.models import BuildStep, FileEntry, PythonTable
from spooldadd.spec import parse_script

PROJECT = Path(__file__).resolve().parents[2]
TEXT = (PROJECT / "docs/environments.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def blocks(kind):
    return [text for found, text in BLOCKS if found == kind]


def test_every_block_is_of_a_kind_that_is_checked_here():
    assert {kind for kind, _ in BLOCKS} == {"toml", "python", "json"}


@pytest.mark.parametrize("text", blocks("toml"))
def test_the_tables_are_valid(text):
    told = tomllib.loads(text)
    assert set(told) <= {"files", "python", "build"}
    for file in told.get("files", []):
        FileEntry.model_validate(file)
    for step in told.get("build", []):
        BuildStep.model_validate(step)
    PythonTable.model_validate(told.get("python", {}))


@pytest.mark.parametrize("text", blocks("python"))
def test_the_scripts_are_specs(text):
    assert parse_script(text.encode(), source="page", own_name="backfill.py").queue == "etl"


@pytest.mark.parametrize("text", blocks("json"))
def test_the_plans_are_built(text, tmp_path):
    for name in ("work", "spec"):
        (tmp_path / name).mkdir()
    (tmp_path / "plan").write_text(text)
    command = [sys.executable, "-P", "-m", "spooldadd.environment", "plan", "result"]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin"}, timeout=60)
    assert done.returncode == 0
    assert (tmp_path / "work/copy.ini").read_text() == "region = north\n"
    assert set(json.loads((tmp_path / "result").read_text())["elapsed_s"]) == {"files", "build"}


def test_every_key_of_every_table_is_documented():
    for model in (FileEntry, PythonTable, BuildStep):
        for name, field in model.model_fields.items():
            key = field.alias or name
            assert re.search(rf"\b{key}\b", TEXT), f"`{key}` of {model.__name__} is not in docs/environments.md"
