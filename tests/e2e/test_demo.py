"""`spooldadd demo` shows all of it, and succeeds without network, too, and within a minute behind a slow index."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from tests.e2e.environment_index import Index
from tests.e2e.environment_web import Web
from tests.support import SPOOLDADD

MINUTE_S = 60.0


def demo(index_url, root):
    """Run the demo with this index as the machine's own; return it, and how long it took."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    environ = {**kept, "UV_DEFAULT_INDEX": index_url, "TMPDIR": str(root)}
    started = time.monotonic()
    done = subprocess.run([SPOOLDADD, "demo"], capture_output=True, text=True, timeout=120, env=environ)
    return done, time.monotonic() - started


@pytest.fixture
def web():
    with Web() as server:
        yield server


def test_it_fetches_a_file_brings_a_package_along_and_runs_a_script(web, tmp_path):
    index = Index(web)
    index.add("six", "1.99.0", code="__version__ = '1.99.0'\n\n\ndef main():\n    pass\n")
    done, _ = demo(index.url, tmp_path)
    assert done.returncode == 0, done.stdout
    for line in (
        "ok fetched   done",
        "ok dropped   done",
        "; 8 specs are dropped",
        "mv dropped.py",
        "Every job ended as it should",
    ):
        assert line in done.stdout
    assert not list(tmp_path.iterdir())  # read-only environments go, too


@pytest.mark.slow
def test_without_network_it_says_so_leaves_two_jobs_out_and_succeeds(tmp_path):
    done, _ = demo("http://127.0.0.1:9/simple/", tmp_path)
    assert done.returncode == 0, done.stdout
    assert "no network, or no package index: " in done.stdout
    assert "`fetched` and `dropped` are left out" in done.stdout
    assert "; 6 specs are dropped" in done.stdout
    assert "Every job ended as it should" in done.stdout


@pytest.mark.slow
def test_behind_an_index_that_hardly_answers_it_ends_within_a_minute(web, tmp_path):
    index = Index(web)
    index.add("six", "1.99.0")

    def slowly(_handler):
        time.sleep(40)
        return b"", {}

    web.pages["/simple/six/"].make = slowly
    done, took_s = demo(index.url, tmp_path)
    assert done.returncode == 0, done.stdout
    assert "it did not answer within 25 s" in done.stdout
    assert took_s < MINUTE_S
