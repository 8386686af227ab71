import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from spooldadd.reading import MAX_PROBLEMS, Source, Unreadable, decode, load, read, validate


def refusal(data, **options):
    with pytest.raises(Unreadable) as caught:
        read(data, "x.toml", **({"max_bytes": 10_000_000} | options))
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


def test_a_byte_order_mark_of_utf_8_is_no_part_of_the_text():
    assert decode(b"\xef\xbb\xbfa = 1", max_bytes=100) == "a = 1"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_recognised_and_named(encoding):
    problem = refusal('command = "true"'.encode(encoding))
    assert encoding[:6].upper() in problem.message
    assert "UTF-8" in problem.hint


@pytest.mark.parametrize(
    ("data", "message", "line", "column"),
    [
        (b'a = "x"\nb = "\xe9"\n', "byte 13 (0xe9) is not valid UTF-8", 2, 6),
        ('ä = "'.encode() + b"\xff", "byte 6 (0xff) is not valid UTF-8", 1, 6),
        (b"\x7fELF\x02\x01\x01\x00\x00", "not text: byte 7 is NUL", 1, 8),
        (b"a = 1\n\x00", "not text: byte 6 is NUL", 2, 1),
    ],
)
def test_bytes_that_are_no_text_are_refused_with_their_place(data, message, line, column):
    problem = refusal(data)
    assert message in problem.message
    assert (problem.line, problem.column) == (line, column)


def test_too_many_bytes_are_refused_before_anything_else_is_tried():
    problem = refusal(b"\xff" * 3000, max_bytes=2048)
    assert "2.9K, where 2K is the limit" in problem.message


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a = 1\nb", 2, 2, "a key without a value"),
        ('a = "x', 1, 7, "no end"),
        ('a = "x\n"', 1, 7, "does not end on its line"),
        ('a = "\\d"', 1, 8, "backslash"),
        ("a = yes\n", 1, 5, "no value"),
        ("a = 1\na = 2\n", 2, 6, "has a value already"),
        ("[a]\n[a]\n", 2, 3, "is there already"),
        ("a = [1,\n", 1, 8, "no value"),
        ("a = [1\nb = 2\n", 2, 1, "list has no end"),
        ("a = 1 b = 2\n", 1, 7, "where the line should end"),
        ("a = 2026-02-30\n", 1, 5, "no such date"),
        ("= 1\n", 1, 1, "no key"),
        ("a = {b = 1}\n[a]\n", 2, 3, "already"),
        ("\r\nb = \r\n", 2, 5, "no value"),
    ],
)
def test_a_syntax_error_has_its_place_and_our_words(text, line, column, words):
    problem = refusal(text.encode())
    assert (problem.line, problem.column) == (line, column)
    assert problem.message.startswith("this is not TOML: ")
    assert words in problem.message
    assert problem.text == text.split("\n")[line - 1].rstrip("\r")


@pytest.mark.parametrize("text", ["a = " + "[" * 60_000, "a = " + "[" * 300 + "]" * 300, "a." * 3000 + "a = 1"])
def test_nesting_too_deep_to_be_meant_is_a_problem_with_a_place(text):
    problem = refusal(b"b = 1\n" + text.encode())
    assert "nested deeper" in problem.message
    assert problem.line == 2


def test_dots_in_texts_and_comments_are_no_long_keys():
    text = f"# {'a.' * 500}\nk = \"{'a.' * 500}\"\nl = '''\n{'a.' * 500}\n'''\n"
    assert set(load(Source("x", text))) == {"k", "l"}


def test_a_long_key_is_refused_at_once_and_not_after_minutes():
    started = time.process_time()
    assert "nested" in refusal(b"a." * 500_000 + b"a = 1").message
    assert time.process_time() - started < 10


def test_a_number_of_very_many_digits_is_a_problem_with_a_place():
    problem = refusal(b"a = 1\nb = " + b"9" * 5000)
    assert "digits" in problem.message
    assert (problem.line, problem.column) == (2, 5)


@given(st.binary(max_size=300) | st.text("a=[\"'{]}\n.# 1", max_size=80).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused_with_a_place(data):
    try:
        read(data, "x", max_bytes=1000)
    except Unreadable as error:
        assert all(problem.line >= 1 and problem.column >= 1 and problem.message for problem in error.problems)


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    wait_s: float | None = Field(default=None, alias="wait")
    count: int = 1


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    inner: Inner = Field(default_factory=Inner)
    many: list[Inner] = Field(default_factory=list)


def problems_of(text):
    source = Source("x.toml", text)
    with pytest.raises(Unreadable) as caught:
        validate(Outer, load(source), source)
    return [(problem.line, problem.column, problem.key, problem.message) for problem in caught.value.problems]


def test_every_problem_of_the_data_is_found_at_once_each_at_its_key():
    assert problems_of('name = 5\n[inner]\nwait = "x"\ncont = 2\n[[many]]\ncount = 1.5\n') == [
        (1, 1, "name", "`name` must be a string, not a whole number"),
        (3, 1, "inner.wait", "`inner.wait` must be a number, not a string"),
        (4, 1, "inner.cont", "unknown key `inner.cont`; did you mean `count`?"),
        (6, 1, "many[0].count", "`many[0].count` must be a whole number, not a number with a fraction"),
    ]


def test_a_key_is_known_by_the_name_in_the_file_and_not_by_the_attribute():
    assert problems_of('name = "x"\ninner.wait_s = 5.0\n') == [
        (2, 7, "inner.wait_s", "unknown key `inner.wait_s`; did you mean `wait`?")
    ]


def test_a_missing_key_is_left_out_where_its_misspelling_was_found():
    assert problems_of('nmae = "x"\n') == [(1, 1, "nmae", "unknown key `nmae`; did you mean `name`?")]
    assert problems_of("[inner]\n") == [(1, 1, "name", "`name` is missing")]


def test_a_key_in_the_wrong_table_is_told_where_it_belongs():
    assert problems_of('name = "x"\nwait = 5\n') == [(2, 1, "wait", "unknown key `wait`; `wait` belongs in `[inner]`")]
    assert "at the top" in problems_of('[inner]\nname = "x"\n')[1][3]


def test_very_many_problems_are_counted_and_not_all_listed():
    found = problems_of("".join(f"k{number} = 1\n" for number in range(1000)))
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1][3] == f"and {1001 - MAX_PROBLEMS} more problems"


def test_two_sources_are_equal_so_that_models_are_compared_by_their_values():
    assert Source("a", "x") == Source("b", "y")


def test_a_message_about_a_very_long_key_stays_readable():
    assert len(problems_of(f'name = "x"\n{"k" * 100_000} = 1\n')[0][3]) == 500


@pytest.mark.parametrize("tail", ['"\\"', "'''''", '\n"', "aaaaaa ", '"a".', "'", '"""\\"', "\\", '"""\\\n'])
def test_strings_without_an_end_behind_a_long_key_are_refused_at_once(tail):
    # The search for strings once began anew at every quote when one had no end: minutes for a megabyte.
    started = time.process_time()
    refusal(b"a." * 200 + b"b = 1\n" + tail.encode() * (900_000 // len(tail)) + b"\x01")
    refusal(b"a = " + b"[" * 2000 + tail.encode() * (900_000 // len(tail)) + b"\x01")
    assert time.process_time() - started < 10
