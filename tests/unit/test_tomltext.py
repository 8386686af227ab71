import datetime
import json
import subprocess
import sys
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooldadd import tomltext
from spooldadd.tomltext import dumps, flat, key, quote
from tests.unit.toml_data import datetimes, exact, keys, tables, texts


@given(texts)
@settings(deadline=None)
def test_a_quoted_text_reads_back_as_toml_and_as_json(text):
    assert tomllib.loads(f"k = {quote(text)}")["k"] == text
    assert json.loads(quote(text)) == text


@given(st.text())
@settings(deadline=None)
def test_every_text_has_a_form_lone_surrogates_included(text):
    shown = tomllib.loads(f"k = {quote(text)}")["k"]
    assert json.loads(quote(text)) == shown
    assert len(shown) >= len(text)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a", '"a"'),
        ('"\\', '"\\"\\\\"'),
        ("\n\t\r\b\f", '"\\n\\t\\r\\b\\f"'),
        ("\x00\x1b\x7f", '"\\u0000\\u001b\\u007f"'),
        ("é\u2028😀", '"é\u2028😀"'),
        ("a\udce9b", '"a\\\\xe9b"'),
        ("\udc80\udcff", '"\\\\x80\\\\xff"'),
        ("\ud800\udfff\udc7f", '"���"'),
        ("", '""'),
    ],
)
def test_a_text_is_quoted_so(text, quoted):
    assert quote(text) == quoted


def test_all_characters_that_a_text_can_hold_are_quoted_without_a_gap():
    every = "".join(map(chr, range(0xD800))) + "".join(map(chr, range(0xE000, 0x11000)))
    assert tomllib.loads(f"k = {quote(every)}")["k"] == every


flat_values = (
    texts | st.integers() | st.booleans() | st.floats() | datetimes | st.lists(texts, max_size=3)
)  # fmt: skip


@given(st.dictionaries(keys, flat_values, max_size=6))
@settings(deadline=None)
def test_a_flat_table_reads_back_as_the_same(table):
    assert exact(tomllib.loads(flat(table))) == exact(table)


def test_a_flat_table_leaves_out_none_and_keeps_the_order():
    assert flat({"b": 1, "c": None, "a": "x"}) == 'b = 1\na = "x"\n'


@pytest.mark.parametrize("value", [{}, [1], [["a"]], object(), b"x"])
def test_a_flat_table_refuses_nested_and_foreign_values(value):
    with pytest.raises(TypeError):
        flat({"k": value})


def test_a_time_zone_with_seconds_which_toml_cannot_hold_becomes_utc():
    odd = datetime.timezone(datetime.timedelta(minutes=19, seconds=32))
    at = datetime.datetime(1930, 1, 1, 12, 0, 0, tzinfo=odd)
    assert tomllib.loads(flat({"at": at}))["at"] == at


def test_utc_is_written_with_a_z():
    assert flat({"at": datetime.datetime(2026, 11, 21, 10, 15, tzinfo=datetime.UTC)}) == "at = 2026-11-21T10:15:00Z\n"


@given(tables)
@settings(deadline=None)
def test_any_data_that_toml_can_hold_reads_back_as_the_same(table):
    assert exact(tomllib.loads(dumps(table))) == exact(table)


def test_one_empty_table_used_twice_is_no_circle():
    # The package took the same object at two depths for a circular reference and refused it.
    shared = {}
    table = {"a": shared, "b": {"c": shared, "d": [shared, [shared]]}}
    assert tomllib.loads(dumps(table)) == table


def test_a_key_that_ends_in_a_newline_is_quoted():
    # The package's pattern for bare keys ends in `$`, which also matches before a last newline.
    assert tomllib.loads(dumps({"a\n": {"b\n": 1}})) == {"a\n": {"b\n": 1}}


def test_tables_become_sections_and_lists_of_tables_become_double_brackets():
    assert dumps({"a": 1, "t": {"u": {"x": "y"}}, "l": [{"k": 1}, {}]}) == (
        'a = 1\n\n[t]\n\n[t.u]\nx = "y"\n\n[[l]]\nk = 1\n\n[[l]]\n'
    )


def test_none_is_left_out_of_tables_and_refused_in_lists():
    assert dumps({"a": None, "b": [{"c": None}, 1]}) == "b = [{}, 1]\n"
    with pytest.raises(TypeError):
        dumps({"a": [None]})


@pytest.mark.parametrize(("name", "written"), [("a-b_1", "a-b_1"), ("", '""'), ("a.b", '"a.b"'), ("é", '"é"'), ("²", '"²"')])
def test_a_key_is_bare_only_where_toml_allows_it(name, written):
    assert key(name) == written


def test_the_module_imports_nothing_because_the_launcher_loads_it():
    program = (
        "import sys; before = set(sys.modules); import spooldadd.tomltext as t; t.flat({'a': ['b'], 'c': 1.5});"
        "print(sorted(set(sys.modules) - before))"
    )
    result = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "['__future__', 'spooldadd', 'spooldadd.release', 'spooldadd.tomltext']"


ROOT = tomltext.__file__.removesuffix("/spooldadd/tomltext.py")
