from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooldadd.inspect import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"), (0.0004, "0 ms"), (0.042, "42 ms"), (0.094, "94 ms"), (0.4, "0.4 s"), (9.96, "10 s"), (25.4, "25 s"),
        (59.6, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (7201, "2 h"), (90000, "1 d 1 h"), (-5, "-5 s"),
    ],
)  # fmt: skip
def test_a_duration_has_two_units_at_most(seconds, text):
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 bytes"), (1, "1 byte"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (10**6, "977 KiB"), (2**50, "1024 TiB")],
)
def test_a_size_is_in_powers_of_1024(size_bytes, text):
    assert words.size(size_bytes) == text


@given(st.text())
def test_nothing_that_is_shown_moves_the_cursor_or_breaks_the_terminal(text):
    shown = words.show(text)
    assert shown.isprintable()
    shown.encode("utf-8")


def test_bytes_of_a_file_name_that_are_no_text_are_shown():
    assert words.show(b"a\xff\x1b[31m".decode("utf-8", "surrogateescape")) == "a\\xff␛[31m"


def test_columns_that_are_empty_take_no_room_and_lines_are_cut():
    lines = words.columns([("a", "", "long reason"), ("bb", "", "x")], 8)
    assert lines == ["a   lon…", "bb  x"]


def test_a_value_of_two_lines_stays_in_its_column():
    assert words.pairs([("a", "1\n2"), ("none", ""), ("long", "3")]) == ["a     1\n      2", "long  3"]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError


def test_a_pipe_gets_plain_text_as_wide_as_it_is():
    screen = words.Screen(io.StringIO(), {"COLUMNS": "20"})
    assert (screen.has_colour, screen.width, screen.paint("x", "red")) == (False, None, "x")


def test_a_terminal_gets_colours_unless_it_says_no():
    assert words.Screen(Terminal(), {"COLUMNS": "20"}).width == 20
    assert words.Screen(Terminal(), {}).paint("x", "red") == "\x1b[31mx\x1b[0m"
    assert words.Screen(Terminal(), {"NO_COLOR": "1"}).paint("x", "red") == "x"
    assert words.Screen(Terminal(), {"TERM": "dumb"}).paint("x", "red") == "x"
