"""What is written here is what `json` writes."""

import datetime
import enum
import json

from hypothesis import given
from hypothesis import strategies as st

from spooldadd import jsontext


class Colour(enum.StrEnum):
    RED = "red"


TEXTS = st.text(st.characters(), max_size=8)  # lone surrogates among them: bytes of names that are no text
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, st.datetimes(), st.sampled_from([Colour.RED, b"x", {1}])
)
KEYS = st.one_of(TEXTS, TEXTS, st.integers(), st.booleans(), st.none(), st.floats(), st.just(Colour.RED))
VALUES = st.recursive(
    LEAVES, lambda inner: st.one_of(st.lists(inner), st.dictionaries(KEYS, inner), st.tuples(inner, inner)), max_leaves=12
)


@given(VALUES)
def test_what_is_written_is_what_json_writes(value):
    assert jsontext.dumps(value) == json.dumps(value, indent=2, default=str)


def test_a_table_of_an_answer():
    table = {"schema": 1, "jobs": [{"job": "é\x1b", "cpu_s": 0.5, "none": None, "is": True}], "empty": [[], {}, ()]}
    table["at"] = datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC)
    assert jsontext.dumps(table) == json.dumps(table, indent=2, default=str)
