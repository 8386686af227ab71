"""Scripts with inline metadata: the spec they are, and where its keys stand in the script."""

import pytest

from spooldadd.environment.script import read_script
from spooldadd.errors import SpecError

SCRIPT = '''#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "pandas==2.3.*",
#   "requests",
# ]
#
# [tool.spooldadd]
# queue = "etl"
# limits.timeout = "2h"
# [[tool.spooldadd.files]]
# url = "https://example.org/data.csv"
# ///
"""Load a day. {{ this is no template }}"""
print("hello")
'''


def test_a_script_is_a_spec_that_brings_itself():
    script = read_script(SCRIPT.encode(), "in/backfill.py", ["--day", "2026-11-20"])
    assert script.table == {
        "name": "backfill",
        "command": ["python", "backfill.py", "--day", "2026-11-20"],
        "queue": "etl",
        "limits": {"timeout": "2h"},
        "python": {"version": ">=3.11", "requirements": ["pandas==2.3.*", "requests"]},
        "files": [{"path": "backfill.py", "content": SCRIPT}, {"url": "https://example.org/data.csv"}],
    }


@pytest.mark.parametrize(
    ("path", "word"),
    [
        (("queue",), "queue"),
        (("limits", "timeout"), "timeout"),
        (("python", "version"), "requires-python"),
        (("python", "requirements", 1), '"requests"'),
        (("files", 1, "url"), "url"),
    ],
)
def test_places_lead_to_the_keys_in_the_script(path, word):
    place = read_script(SCRIPT.encode(), "backfill.py").places[path]
    assert SCRIPT.splitlines()[place.line - 1][place.column - 1 :].startswith(word)


def test_what_the_metadata_says_wins():
    text = '# /// script\n# [tool.spooldadd]\n# name = "x"\n# command = ["python", "-O", "y.py"]\n# ///\n'
    table = read_script(text.encode(), "y.py", ["more"]).table
    assert (table["name"], table["command"]) == ("x", ["python", "-O", "y.py"])


def test_other_blocks_and_windows_line_ends_do_no_harm():
    text = "# /// other\n# x\n# ///\n\n" + SCRIPT
    assert read_script(text.replace("\n", "\r\n").encode(), "b.py").table["queue"] == "etl"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("print(1)\n", "has no inline metadata"),
        ("# /// script\n# a = 1\n# ///\n\n# /// script\n# a = 1\n# ///\n", "2 times"),
        ("x = 1\n# /// script\n# a = 1\n# b = = 2\n# ///\n", "line 4, column 7"),
        ('# /// script\n# requires-python = ">=3"\n# tool.spooldadd.python.version = "3"\n# ///\n', "says both"),
        ("# /// script\n# tool.spooldadd = 1\n# ///\n", "must be tables"),
        ("# /// script\n# tool.spooldadd.files = 1\n# ///\n", "list of tables"),
    ],
)
def test_a_script_that_is_no_spec_says_why_and_where(text, words):
    with pytest.raises(SpecError, match=words):
        read_script(text.encode(), "x.py")


def test_a_script_that_is_not_utf_8_says_in_which_line():
    with pytest.raises(SpecError, match="line 2"):
        read_script(b"a\n\xff\n", "x.py")
