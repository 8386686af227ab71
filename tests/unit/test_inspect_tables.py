from __future__ import annotations

import datetime
import os
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooldadd.inspect import tables
from spooldadd.tomltext import dumps, flat

MOMENTS = st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2200, 1, 1), timezones=st.just(datetime.UTC))
SCALARS = st.one_of(
    st.text(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), MOMENTS, st.lists(st.text())
)
KEYS = st.text(min_size=1) | st.from_regex(r"[a-z_]{1,10}", fullmatch=True)


@given(st.dictionaries(KEYS, SCALARS))
def test_what_flat_writes_is_read_as_tomllib_reads_it(table):
    text = flat(table)
    assert tables.parse(text.encode()) == tomllib.loads(text)


@given(st.dictionaries(KEYS, SCALARS | st.dictionaries(KEYS, SCALARS)))
def test_sections_are_read_as_tomllib_reads_them(table):
    text = dumps(table)
    assert tables.parse(text.encode()) == tomllib.loads(text)


VALUES = [
    "1", "01", "-0", "+1", "1_000", "1.", ".5", "1.5", "1e3", "inf", "true", "True", '""', '"a"', '"a"b"', '"\\""',
    '"\\u0041"', "'a'", "[]", '["a"]', '["a", "b"]', '["a","b"]', '["a", "b\\""]', '["a"', '[""]', "[1]", "{}",
    "2026-11-21", "2026-11-21T10:15:00Z", "2026-11-21T10:15:00.250000Z", "2026-11-21T10:15:00,250000Z",
    "2026-W47-6T10:15:00Z", "2026-11-21T24:00:00Z", "2026-13-21T10:15:00Z", "20261121T101500Z", "z", "",
    '"a\x01b"', '"a\tb"',
]  # fmt: skip
LINES = st.one_of(
    st.builds("{} = {}".format, st.sampled_from(["a", "b", "a.b", '"a"', ""]), st.sampled_from(VALUES)),
    st.sampled_from(["", "[a]", "[b]", "[a.b]", "[[a]]", "[", "[]", "# note", "a =1", " a = 1", "a = 1 # note", "a = 1\r"]),
    st.sampled_from(["#", "# a = 1", "#\tnote", "# \x01", "# é", "# \u200b", "#[a]", " # note"]),
)


@given(st.lists(LINES), st.booleans())
def test_no_text_is_read_otherwise_than_by_tomllib(lines, has_end):
    check("\n".join(lines) + ("\n" if has_end else ""))


NOTES = ["#\n", "# a = 1\n", "#\tnote\n", "# \x01\n", "# \u200b\na = 1\n", "# \ud7ff\n", "#"]
TEXTS = [
    *(f"a = {value}\n" for value in VALUES),
    *NOTES,
    "a = 1\na = 1\n",
    "[a]\n[a]\n",
    "a = 1\n[a]\n",
    "[a]\nb = 1\nb = 1\n",
]


@pytest.mark.parametrize("text", TEXTS)
def test_each_form_is_read_as_by_tomllib(text):
    check(text)


def check(text: str) -> None:
    try:
        expected = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        expected = None
    assert tables.parse(text.encode()) == expected


@given(st.binary())
def test_bytes_that_are_no_toml_are_none_and_never_raise(data):
    try:
        expected = tomllib.loads(data.decode())
    except (ValueError, RecursionError):
        expected = None
    assert tables.parse(data) == expected


def test_a_missing_file_is_none(tmp_path):
    assert tables.read(str(tmp_path / "nothing")) is None


def test_a_pipe_and_a_link_do_not_catch_the_reader(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    assert tables.read(str(tmp_path / "pipe")) == {}  # nobody writes: it is empty
    assert tables.read(str(tmp_path / "link")) is None


def test_a_file_larger_than_any_table_of_ours_is_not_read(tmp_path):
    (tmp_path / "big").write_bytes(b"#" * (tables.MAX_BYTES + 1))
    assert tables.read(str(tmp_path / "big")) is None


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime.datetime(2026, 11, 21, 10, 15, tzinfo=datetime.UTC), "2026-11-21T10:15:00.000Z"),
        (datetime.datetime(2026, 11, 21, 10, 15, 0, 250999, datetime.UTC), "2026-11-21T10:15:00.250Z"),
        (
            datetime.datetime(2026, 11, 21, 12, 15, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
            "2026-11-21T10:15:00.000Z",
        ),
    ],
)
def test_times_are_written_in_utc(moment, text):
    assert tables.rfc3339(moment) == text


def test_plain_values_hold_no_times():
    at = datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC)
    assert tables.plain({"a": [at, 1], "b": at.date()}) == {"a": ["2026-11-21T00:00:00.000Z", 1], "b": "2026-11-21"}
