"""`spooldadd man`: valid roff, and everything that the parsers know."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from spooldadd.cli import shapes
from tests.support import SPOOLDADD


def rendered(page: str) -> str:
    """Render a page as `man` does, without pictures of bold letters."""
    command = ["groff", "-man", "-ww", "-Tascii", "-P-c", "-rLL=2000n"]
    done = subprocess.run(command, input=page, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return re.sub(r".\x08", "", done.stdout)


def printed() -> str:
    return subprocess.run([SPOOLDADD, "man"], capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(scope="module")
def page() -> str:
    if shutil.which("groff") is None:
        pytest.skip("needs the capability `groff`")
    return rendered(printed())


def test_the_page_names_every_command_with_its_options_and_examples(page):
    for shape in shapes.all_shapes():
        assert f"   {shape.name}\n" in page
        for option in shape.options:
            if not shapes.GLOBAL.intersection(option.flags):
                assert ", ".join(option.flags) in page
        for line in re.findall(r"^  (spooldadd .*)$", shape.text, re.MULTILINE):
            assert line in page


@pytest.mark.parametrize(
    "heading", ["NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES"]
)
def test_the_page_has_the_usual_sections(page, heading):
    assert f"\n{heading}\n" in page


def test_every_exit_code_is_explained(page):
    section = page.partition("\nEXIT STATUS\n")[2].partition("\nEXAMPLES\n")[0]
    assert re.findall(r"^ +(\d+) +\S", section, re.MULTILINE) == ["0", "1", "2", "3", "4", "5", "75", "78"]


def test_the_same_release_prints_the_same_page():
    assert printed() == printed()
