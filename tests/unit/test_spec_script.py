"""Scripts with inline metadata: the spec they are, and where in the script a mistake is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooldadd.spec import InvalidSpec, Script, parse_file, parse_script, peek_script
from spooldadd.template import SAMPLE, render

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
# args = ["--day", "{{ vars.day }}"]
# limits.timeout = "2h"
# vars.day = "2026-11-20"
# [[tool.spooldadd.files]]
# url = "https://example.org/data.csv"
# ///
"""Load a day. {{ this is no template }}"""
print("hello")
'''


def parsed(text, *arguments, name="backfill.py"):
    return parse_script(text.encode(), source="in/backfill.py", own_name=name, arguments=arguments)


def problems(text, *arguments):
    with pytest.raises(InvalidSpec) as caught:
        parsed(text, *arguments)
    return caught.value.problems


def block(*lines):
    return "\n".join(["# /// script", *(f"# {line}" for line in lines), "# ///", ""])


def test_a_script_is_a_spec_that_brings_itself():
    spec = parsed(SCRIPT, "more")
    assert spec.command == ("python", "backfill.py", "--day", "{{ vars.day }}", "more")
    assert (spec.python.version, spec.python.requirements) == (">=3.11", ("pandas==2.3.*", "requests"))
    assert (spec.name, spec.queue, spec.limits.timeout_s, len(spec.files)) == (None, "etl", 7200.0, 1)
    assert spec.script == Script("backfill.py", SCRIPT.encode())


def test_a_rendered_script_keeps_its_program():
    spec = render(parsed(SCRIPT), SAMPLE)
    assert spec.command[-1] == "2026-11-20"
    assert spec.script.data == SCRIPT.encode()


def test_a_script_without_anything_has_an_environment_of_its_own():
    spec = parsed("# /// script\n# ///\n")
    assert spec.command == ("python", "backfill.py")
    assert spec.python is not None


def test_a_name_that_looks_like_an_option_is_none_for_python():
    assert parsed(block(), name="-c.py").command == ("python", "./-c.py")


def test_what_the_table_says_wins():
    spec = parsed(block("[tool.spooldadd]", 'name = "x"', 'command = ["python", "-O", "y.py"]'))
    assert (spec.name, spec.command) == ("x", ("python", "-O", "y.py"))


def test_other_blocks_windows_line_ends_and_a_byte_order_mark_do_no_harm():
    text = "# /// other\n# x\n# ///\n\n" + SCRIPT
    assert parsed("\ufeff" + text.replace("\n", "\r\n")).queue == "etl"


def test_strings_of_several_lines_are_read_without_the_comment_signs():
    spec = parsed(block("[tool.spooldadd]", 'stdin = """', "a", "  b", '"""'))
    assert spec.stdin == "a\n  b\n"


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "words"),
    [
        ("requires-python", "requirse-python", 3, 3, "did you mean `requires-python`?"),
        ("dependencies", "python = 3\n# dependencies", 4, 3, "unknown key `python`"),
        ("queue", "queu", 10, 3, "did you mean `queue`?"),
        ('"2h"', "2 h", 12, 22, "this is not TOML"),
        ('"2h"', '"2 h"', 12, 10, "is not a duration"),
        ('"--day"', "3", 11, 11, "`command[2]` must be a string"),
        ("{{ vars.day }}", "{{ vars. }}", 11, 20, "template of `command[3]`"),
        ("example.org", "", 15, 3, "names no host"),
        ('">=3.11"', "3", 3, 3, "`requires-python` must be a string, not a whole number"),
        (
            '[\n#   "pandas==2.3.*",\n#   "requests",\n# ]',
            '"x"',
            4,
            3,
            "`dependencies` must be a list of strings, not a string",
        ),
        ("args = [", "args = 3 # [", 11, 3, "`args` must be a list of strings"),
        ('"2h"', '"2h"\n# python.version = "3"', 3, 3, "both `requires-python` and `tool.spooldadd.python.version`"),
        ('"2h"', '"2h"\n# command = "x"', 11, 3, "`args` and `command` exclude each other"),
        ("# ///\n", "", 2, 1, "has no end"),
        ("# /// script\n", "# /// script \n", 2, 1, "has no end"),
        ('print("hello")\n', "# /// script\n# a = 1\n# ///\n", 18, 1, "a second block"),
        ("# /// script\n", "", 1, 1, "no inline script metadata"),
    ],
)
def test_a_mistake_has_its_place_in_the_script(old, new, line, column, words):
    assert old in SCRIPT
    found = problems(SCRIPT.replace(old, new, 1))
    assert (line, column) in [(problem.line, problem.column) for problem in found if words in problem.message]
    assert all(problem.text == SCRIPT.replace(old, new, 1).split("\n")[problem.line - 1] for problem in found)


@pytest.mark.parametrize(
    "table", ["tool = 1", "tool.spooldadd = 1", "tool.spooldadd.python = 1", "tool.spooldadd.files = 1"]
)
def test_what_is_no_table_says_so(table):
    (problem,) = problems(block(table))
    assert problem.line == 2


def test_a_script_that_is_not_utf_8_says_in_which_line():
    with pytest.raises(InvalidSpec, match="line 2"):
        parse_script(b"a\n\xff\n", source="x.py", own_name="x.py")


def test_a_script_over_the_limit_is_refused():
    assert "too large" in problems(block() + "#" * 2**20)[0].message


def test_arguments_need_a_script():
    with pytest.raises(InvalidSpec, match="`-- a 'b c'`: only a script takes arguments"):
        parse_file(b'command = "true"', source="a.toml", own_name="a.toml", arguments=["a", "b c"])
    assert problems(block('tool.spooldadd.command = "true"'), "x")[0].origin == "-- x"


def test_a_peek_sees_what_queueing_needs():
    text = SCRIPT.replace("# queue", '# name = "nightly"\n# priority = 7\n# queue')
    assert peek_script(text.encode())[:3] == ("nightly", "etl", 7)
    assert peek_script(SCRIPT.encode())[:3] == (None, "etl", 0)


@pytest.mark.parametrize("text", ["", "queue", SCRIPT + SCRIPT, SCRIPT.replace('"etl"', "etl"), block("tool = 1 # queue")])
def test_a_peek_takes_what_is_wrong_for_absent(text):
    assert peek_script(text.encode())[:3] == (None, "default", 0)


@given(st.text("# /script\n=[]\"'.adeptnolsqu1\\\t{}", max_size=300))
def test_whatever_is_in_the_block_is_a_spec_or_has_problems(text):
    told = "# /// script\n" + "".join(f"# {line}\n" for line in text.split("\n")) + "# ///\n"
    peek_script(told.encode())
    try:
        parsed(told)
    except InvalidSpec as error:
        assert all(problem.line or problem.origin for problem in error.problems)
