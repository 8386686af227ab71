"""What exit codes, signals and outcomes mean to a person."""

import pytest

from spooldadd.lifecycle import OUTCOMES
from spooldadd.mail.explain import explain, explain_exit_code, explain_signal, readable_size
from spooldadd.mail.result import Result


def result(**fields):
    return Result(**{"job": "nightly.x", "name": "nightly", "outcome": "exit", **fields})


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "exception that nobody caught"),
        (2, "wrong use"),
        (75, "EX_TEMPFAIL"),
        (78, "EX_CONFIG"),
        (126, "cannot be run"),
        (127, "not found"),
        (137, "killed by SIGKILL (137 is 128+9): somebody killed it, or the kernel did because memory ran out"),
        (139, "SIGSEGV"),
        (143, "asked to end"),
        (163, "signal 35"),
        (99, "A failure of its own"),
    ],
)
def test_an_exit_code_is_explained(code, words):
    assert words in explain_exit_code(code)
    assert words in explain(result(exit_code=code))


def test_every_code_every_signal_and_every_outcome_gives_one_sentence():
    sentences = [explain_exit_code(code) for code in range(256)]
    sentences += [explain_signal(number) for number in range(1, 65)]
    sentences += [explain(result(outcome=outcome)) for outcome in (*OUTCOMES, "new in a later release")]
    for sentence in sentences:
        assert sentence.endswith((".", ").")) and "\n" not in sentence and sentence[0].isupper()


def test_a_kill_tells_how_much_memory_there_was():
    assert "2.1 GB" in explain(result(outcome="signal", signal=9, max_rss_bytes=2_100_000_000))
    assert "2.1 GB" in explain(result(outcome="oom", max_rss_bytes=2_100_000_000))
    assert "GB" not in explain(result(outcome="signal", signal=15, max_rss_bytes=2_100_000_000))


def test_sizes_are_readable():
    assert [readable_size(size) for size in (999, 1500, 150_000, 3_000_000_000)] == ["999 B", "1.5 KB", "150 KB", "3.0 GB"]


def test_a_result_is_read_from_a_table_of_any_release():
    table = {
        "schema": 9,
        "job": "j",
        "name": "n",
        "outcome": "exit",
        "exit_code": 1,
        "duration_s": 2,
        "new": [],
        "cpu_s": "x",
    }
    got = Result.from_table(table)
    assert (got.exit_code, got.duration_s, got.cpu_s) == (1, 2.0, None)
