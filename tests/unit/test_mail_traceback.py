"""Finding the last traceback in a log that anybody may have written."""

import subprocess
import sys
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooldadd.mail.traceback import Step, find_traceback

PYTHON = """\
2026-11-21 10:15:00 INFO starting
Traceback (most recent call last):
  File "/srv/etl/load.py", line 12, in <module>
    main()
  File "/srv/etl/load.py", line 8, in main
    return int(day)
           ^^^^^^^^
ValueError: invalid literal for int() with base 10: 'x'
2026-11-21 10:15:01 INFO cleaning up
"""
JAVA = """\
10:15:01 starting
Exception in thread "main" java.lang.RuntimeException: cannot load
\tat org.example.etl.Load.run(Load.java:42)
\tat org.example.etl.Main.main(Main.java:7)
Caused by: java.sql.SQLException: connection refused
\tat org.postgresql.Driver.connect(Driver.java:285)
\t... 2 more
done
"""
GO = """\
starting
panic: runtime error: index out of range [3] with length 3

goroutine 1 [running]:
main.load(0xc000012345, 0x3)
\t/srv/etl/main.go:14 +0x1d
main.main()
\t/srv/etl/main.go:9 +0x25
exit status 2
"""
NODE = """\
starting
/srv/etl/load.js:3
  throw new TypeError("bad day");
  ^

TypeError: bad day
    at load (/srv/etl/load.js:3:9)
    at Object.<anonymous> (/srv/etl/load.js:6:1)
    at node:internal/main/run_main_module:23:47

Node.js v20.0.0
"""
RUST = """\
thread 'main' panicked at src/main.rs:4:5:
index out of bounds
note: run with `RUST_BACKTRACE=1`
"""
PYTEST = """\
=================================== FAILURES ===================================
_______________________________ test_totals ____________________________________

    def test_totals():
>       assert total() == 3
E       AssertionError: assert 2 == 3
E        +  where 2 = total()

tests/test_totals.py:9: AssertionError
=========================== short test summary info ============================
FAILED tests/test_totals.py::test_totals - AssertionError: assert 2 == 3
"""


@pytest.mark.parametrize(
    ("log", "kind", "type", "message", "last"),
    [
        (PYTHON, "python", "ValueError", "invalid literal for int() with base 10: 'x'", Step("/srv/etl/load.py", 8, "main")),
        (
            JAVA,
            "java",
            "java.sql.SQLException",
            "connection refused",
            Step("Driver.java", 285, "org.postgresql.Driver.connect"),
        ),
        (GO, "go", "panic", "runtime error: index out of range [3] with length 3", Step("/srv/etl/main.go", 9, "main.main")),
        (NODE, "node", "TypeError", "bad day", Step("node:internal/main/run_main_module", 23, "")),
        (RUST, "rust", "panic", "index out of bounds", Step("src/main.rs", 4, "main")),
        (PYTEST, "pytest", "AssertionError", "assert 2 == 3", Step("tests/test_totals.py", 9, "test_totals")),
        (
            "go\nrun.sh: line 3: frob: command not found\n",
            "shell",
            "shell",
            "frob: command not found",
            Step("run.sh", 3, ""),
        ),
        ("/srv/run.sh: 3: frob: not found\n", "shell", "shell", "frob: not found", Step("/srv/run.sh", 3, "")),
    ],
)
def test_the_traceback_of_a_language_is_found(log, kind, type, message, last):
    found = find_traceback(log)
    assert (found.kind, found.type, found.message) == (kind, type, message)
    assert found.frames[-1] == last
    assert "starting" not in found.text and "cleaning up" not in found.text and "exit status" not in found.text


def test_colours_do_not_hide_a_traceback():
    coloured = "\n".join(f"\x1b[31m{line}\x1b[0m" for line in PYTHON.splitlines())
    assert find_traceback(coloured).type == "ValueError"


def test_the_last_of_several_is_returned():
    assert find_traceback(JAVA + PYTHON).kind == "python"
    assert find_traceback(PYTHON + JAVA).kind == "java"
    assert find_traceback(PYTHON + PYTHON.replace("ValueError", "KeyError")).type == "KeyError"


def test_a_log_that_ends_in_the_middle_of_a_traceback_still_gives_its_frames():
    found = find_traceback(PYTHON[: PYTHON.index("    return int")])
    assert (found.type, found.message) == ("", "")
    assert [step.function for step in found.frames] == ["<module>", "main"]


@pytest.mark.parametrize("log", ["", "all is well\n", "\n" * 100, "Traceback of nothing", "time: 3: not here"])
def test_a_log_without_one_gives_none(log):
    assert find_traceback(log) is None


def python_says(source):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, timeout=60)
    return done.stderr


def test_a_real_chain_is_one_traceback_with_all_its_parts():
    log = python_says("""
        def load():
            try:
                {}["day"]
            except KeyError as error:
                raise RuntimeError("no day") from error
        load()
    """)
    found = find_traceback("INFO before\n" + log)
    assert (found.type, found.message) == ("RuntimeError", "no day")
    assert "KeyError: 'day'" in found.text and "INFO" not in found.text


def test_a_real_group_is_one_traceback_with_its_members():
    log = python_says("""
        error = ValueError("first")
        error.add_note("a note")
        raise ExceptionGroup("two things", [error, ExceptionGroup("inner", [OSError("disk")])])
    """)
    found = find_traceback(log + "INFO after\n")
    assert (found.type, found.message) == ("ExceptionGroup", "two things (2 sub-exceptions)")
    for text in ("ValueError: first", "a note", "OSError: disk"):
        assert text in found.text
    assert "INFO" not in found.text


def test_a_real_syntax_error_and_notes_are_read():
    assert find_traceback(python_says("exec('1 +')")).type == "SyntaxError"
    log = python_says("error = ValueError('bad')\nerror.add_note('look here')\nraise error")
    assert "look here" in find_traceback(log).text


@given(st.text(alphabet=st.sampled_from("Traceback (most recent call last):\n |+aE\t.'\"0123[]{}/\\~^"), max_size=400))
def test_no_log_makes_it_fail(log):
    find_traceback(log)
    find_traceback(PYTHON[:150] + log)
