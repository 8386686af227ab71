import json
import os
import re
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooldadd.log import EVENTS, FORMATS, LEVELS, Log, timestamp

FIELDS = st.dictionaries(
    st.sampled_from(["job", "reason", "attempt", "elapsed_s", "ok"]), st.text() | st.integers() | st.none()
)


def said(format, *, level="info", call=None):
    reading, writing = os.pipe()
    try:
        (call or (lambda log: log.info("claimed", job="a b", attempt=2, source=None, took_s=0.25, ok=True)))(
            Log(writing, format, level)
        )
        os.close(writing)
        return os.read(reading, 1 << 20).decode()
    finally:
        os.close(reading)


def test_a_plain_line_is_words_of_key_and_value():
    assert re.fullmatch(
        r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info event=claimed job="a b" attempt=2 took_s=0.250 ok=True\n',
        said("plain"),
    )


def test_a_line_for_the_journal_begins_with_its_priority():
    assert said("journal") == '<6>event=claimed job="a b" attempt=2 took_s=0.250 ok=True\n'
    assert said("journal", call=lambda log: log.error("failed")) == "<3>event=failed\n"


def test_a_json_line_has_the_same_fields_with_their_types():
    line = json.loads(said("json"))
    assert line.pop("at").endswith("Z")
    assert line == {"level": "info", "event": "claimed", "job": "a b", "attempt": 2, "took_s": 0.25, "ok": True}


@given(FIELDS)
def test_whatever_is_said_stays_on_one_line_and_can_be_read_back(fields):
    plain = said("plain", call=lambda log: log.info("filed", **fields))
    assert plain.count("\n") == 1
    line = json.loads(said("json", call=lambda log: log.info("filed", **fields)))
    expected = {key: value for key, value in fields.items() if value is not None}
    assert {key: line[key] for key in expected} == expected


@given(st.text())
def test_a_value_is_bare_or_a_toml_string(text):
    value = said("plain", call=lambda log: log.info("filed", reason=text)).removesuffix("\n").split("reason=", 1)[1]
    assert value == text or tomllib.loads(f"x = {value}")["x"] == text


@pytest.mark.parametrize("value", ["", " ", "a=b", 'a"b', "a\\b", "\x1b[31m", "\udcff", "ä b"])
@pytest.mark.parametrize("format", FORMATS)
def test_a_value_cannot_look_like_another_field(format, value):
    line = said(format, call=lambda log: log.info("filed", reason=value, state="done"))
    assert line.rstrip("\n").isprintable()
    assert line.count("state") == 1


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_what_is_below_the_level_is_not_said(level):
    def say_all(log):
        for each in LEVELS:
            getattr(log, each)("claimed", said=each)

    lines = said("plain", level=level, call=say_all).splitlines()
    assert len(lines) == sum(number <= LEVELS[level] for number in LEVELS.values())


def test_a_reader_that_went_away_stops_nobody():
    reading, writing = os.pipe()
    os.close(reading)
    Log(writing).info("claimed")
    os.close(writing)
    Log(writing).info("claimed")


def test_a_time_is_utc_in_milliseconds_and_never_rounds_up_to_the_next_second():
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1_795_255_200.9999) == "2026-11-21T10:00:00.999Z"
    assert timestamp(1_795_255_200.25) == "2026-11-21T10:00:00.250Z"


def test_each_event_is_one_word_that_can_be_grepped():
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", event) for event in EVENTS)
