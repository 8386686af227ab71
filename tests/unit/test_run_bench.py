"""`python3 run.py bench` says what is wrong with what it is given, from any directory."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def program():
    """What `run.py` becomes; its set-up is left out, because these tests run in what it has set up."""
    spec = importlib.util.spec_from_file_location("run_py", ROOT / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [sys.executable, "-c", module.MEASURE, str(ROOT)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "`nonsense` is none of: flow, latency,"),
        (["flow", "--directory", "missing"], "`missing` is no directory that we may write to"),
        (["flow", "--directory", "file"], "`file` is no directory that we may write to"),
    ],
)
def test_bad_input_is_told_before_anything_is_measured(program, tmp_path, arguments, said):
    (tmp_path / "file").touch()
    done = subprocess.run([*program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr
    assert not done.stdout


def test_help_names_all_that_can_be_measured(program, tmp_path):
    done = subprocess.run([*program, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in ("latency", "waiting", "workers", "peers"))
