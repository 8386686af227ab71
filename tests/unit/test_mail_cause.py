"""Which failures count as the same one."""

import pytest

from spooldadd.mail.cause import WITHHELD, Cause, find_cause, last_error_line, normalise
from spooldadd.mail.result import Result
from tests.unit.test_mail_traceback import GO, JAVA, NODE, PYTHON


def result(**fields):
    return Result(**{"job": "nightly.x", "name": "nightly", "outcome": "exit", "exit_code": 1, **fields})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("day 2026-11-20 has 17 rows", "day 2026-11-21 has 4,211 rows"),
        ("at 2026-11-20T10:15:00Z failed", "at 2026-11-21 10:16:01,123 failed"),
        ("no such file: /tmp/tmpab12/in.csv", "no such file: /tmp/tmpcd34/other/in.csv"),
        ("key 'a' is missing", "key 'b' is missing"),
        ("object at 0x7f00deadbeef", "object at 0x7f00cafe0000"),
        ("request 123e4567-e89b-12d3-a456-426614174000", "request 00000000-e89b-12d3-a456-426614174000"),
        ("GET https://u:p@api.example.org/v1/7?x=1 failed", "GET https://api.example.org/v1/8 failed"),
        ("\x1b[31mbad 1\x1b[0m", "bad 2"),
        ("commit fd1f30612c7b", "commit 0a1b2c3d4e5f"),
    ],
)
def test_what_changes_from_time_to_time_does_not_count(one, other):
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("disk is full", "disk is gone"), ("https://a.example.org/x", "https://b.example.org/x"), ("no rows", "no columns")],
)
def test_what_stays_counts(one, other):
    assert normalise(one) != normalise(other)


@pytest.mark.parametrize("log", [PYTHON, JAVA, GO, NODE])
def test_line_numbers_and_directories_do_not_count_but_functions_do(log):
    first = find_cause(result(), log)
    moved = log.replace("/srv/etl/", "/work/x8d2k/").replace("line 8", "line 9").replace(":42", ":43").replace(":14", ":15")
    assert find_cause(result(), moved) == first
    other = log.replace("main", "other").replace("load", "other").replace("Load", "Other")
    assert find_cause(result(), other).id != first.id


def test_library_frames_do_not_count():
    library = '  File "/venv/lib/python3.11/site-packages/requests/api.py", line {}, in get\n    return 1\n'
    with_library = PYTHON.replace("ValueError:", library.format(3) + "ValueError:")
    assert find_cause(result(), with_library).id == find_cause(result(), PYTHON).id


def test_the_label_is_a_line_for_a_person():
    assert find_cause(result(), PYTHON).label == "ValueError: invalid literal for int() with base 10: 'x'"


def test_without_a_traceback_the_last_error_line_and_the_exit_count():
    log = "copying\nrsync: error: no space left on device (28)\nbye\n"
    cause = find_cause(result(exit_code=11), log)
    assert cause.label == "rsync: error: no space left on device (28)"
    assert find_cause(result(exit_code=12), log).id != cause.id
    assert find_cause(result(exit_code=11), log.replace("28", "29")).id == cause.id


def test_without_a_word_in_the_log_the_job_and_its_exit_count():
    assert find_cause(result(), "").id != find_cause(result(name="other"), "").id
    assert find_cause(result(name="day-2026-11-20"), "").id == find_cause(result(name="day-2026-11-21"), "").id


def test_all_that_a_node_lost_has_one_cause():
    lost = {"outcome": "lost", "exit_code": None, "node": "etl-1"}
    assert find_cause(result(**lost), PYTHON).id == find_cause(result(**lost, name="other"), "").id
    assert find_cause(result(**{**lost, "node": "etl-2"}), "").id != find_cause(result(**lost), "").id


def test_a_limit_that_was_reached_is_a_cause_of_that_job():
    timeout = {"outcome": "timeout", "exit_code": None, "reason": "it ran for 2 h"}
    assert find_cause(result(**timeout), "some output 1").id == find_cause(result(**timeout), "other output").id
    assert find_cause(result(**timeout, name="other"), "").id != find_cause(result(**timeout), "").id


def test_a_traceback_that_was_cut_off_has_a_cause():
    cause = find_cause(result(outcome="signal", exit_code=None, signal=9), PYTHON[: PYTHON.index("    return int")])
    assert "cut off" in cause.label and "main" in cause.label


def test_the_last_error_line_is_the_last_that_speaks_of_one():
    assert last_error_line("Error: one\nfine\n\n") == "Error: one"
    assert last_error_line("first\nlast\n") == "last"
    assert last_error_line("") == ""


def test_a_cause_is_the_same_in_every_process():
    assert find_cause(result(), PYTHON) == Cause("1fd05cab05e1", find_cause(result(), PYTHON).label)


def test_a_log_that_is_not_shown_is_no_cause_the_reason_is():
    """Mails about a secret that was missing once had our own sentence about the hidden log in their subject."""
    failed = result(outcome="build", exit_code=None, reason="the secret `db` is not on this node")
    log = f"{WITHHELD}: the secret `db` is not on this node, so it could not be hidden]"
    assert find_cause(failed, log) == find_cause(failed, "")
    assert find_cause(failed, log).label == failed.reason
