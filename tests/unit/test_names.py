import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooldadd import names
from spooldadd.names import JobId, RecordName, new_job_id, parse_job_id, parse_record_name, safe_name, source_job_id

NOON_S = 1_795_255_200.0  # 2026-11-21T10:00:00Z
TEXTS = st.text(max_size=300) | st.from_regex(
    r"[a-z.]{1,20}\.\d{8}T\d{6}Z\.[b-z2-9]{5}(\.\d{1,3}\.[b-z2-9]{5})?", fullmatch=True
)


@given(TEXTS)
def test_a_safe_name_is_a_file_name_and_safe_already(text):
    safe = safe_name(text)
    assert safe == safe_name(safe)
    assert 0 < len(os.fsencode(safe)) <= names.MAX_NAME_LENGTH
    assert not safe.startswith((".", "-"))
    assert "/" not in safe
    assert safe not in ("", ".", "..")


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("nightly", "nightly"),
        ("a b", "a-b"),
        ("../../etc/passwd", "etc-passwd"),
        ("...", "unnamed"),
        ("", "unnamed"),
        ("-rf", "rf"),
        ("a\nb", "a-b"),
        ("größe", "gr--e"),
        ("x" * 151, "x" * 150),
        ("x" * 149 + "..", "x" * 149),
        ("\udcff", "unnamed"),
    ],
)
def test_what_a_file_name_cannot_hold_is_replaced(text, safe):
    assert safe_name(text) == safe


@given(TEXTS, st.floats(0, 4e9))
def test_a_job_id_is_taken_apart_as_it_was_put_together(name, at_s):
    random = names.random_part()
    job = new_job_id(name, at_s, random)
    assert parse_job_id(job) == (safe_name(name), time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at_s)), random)
    assert names.job_name(job) == safe_name(name)


@given(TEXTS, st.integers(1, 10**6))
def test_a_record_name_is_taken_apart_as_it_was_put_together(name, attempt):
    record = RecordName(new_job_id(name, NOON_S, names.random_part()), attempt, names.random_part())
    assert parse_record_name(str(record)) == record
    assert parse_job_id(record.job) is not None


@given(TEXTS, st.integers(1, 999_999))
def test_the_longest_name_made_from_a_job_still_fits_a_directory(name, attempt):
    record = RecordName(new_job_id(name, NOON_S, "bcdfg"), attempt, "bcdfg")
    assert len(os.fsencode(f".tmp-4194304-{record}.lock")) <= 255


@given(st.text() | TEXTS)
@settings(max_examples=200)
def test_any_text_may_be_asked(text):
    parse_job_id(text)
    parse_record_name(text)
    source_job_id(text, ".toml")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nightly",
        "nightly.20261121T100000Z",
        ".20261121T100000Z.bcdfg",
        "nightly.20261121T100000Z.abcde",  # vowels are never drawn
        "nightly.20261121T100000Z.bcdf",
        "nightly.20261121 100000Z.bcdfg",
        "nightly.2026112aT100000Z.bcdfg",
        "nightly.٢٠٢٦1121T100000Z.bcdfg",
        "nightly.20261121T100000Z.bcdfg.toml",
    ],
)
def test_what_is_no_job_id_is_told(text):
    assert parse_job_id(text) is None
    assert names.job_name(text) == text


@pytest.mark.parametrize("middle", ["", "x", "-1", "1.5", "٣", "²"])
def test_a_record_name_needs_a_plain_number(middle):
    assert parse_record_name(f"a.20261121T100000Z.bcdfg.{middle}.bcdfg") is None


def test_a_job_id_is_no_record_name():
    """Its time stands where an attempt would, and is no number."""
    assert parse_record_name("a.20261121T100000Z.bcdfg") is None


def test_random_parts_differ_and_are_easy_to_read():
    parts = {names.random_part() for _ in range(200)}
    assert len(parts) > 190
    assert all(len(part) == 5 and set(part) <= set(names.ALPHABET) for part in parts)
    assert not set("aeiou01l") & set(names.ALPHABET)


def test_a_submitted_file_keeps_the_id_that_it_was_given():
    job = "nightly.20261121T100000Z.bcdfg"
    assert source_job_id(f"{job}.toml", ".toml") == JobId(job)
    assert source_job_id("nightly.toml", ".toml") is None
    assert source_job_id("night ly.20261121T100000Z.bcdfg.toml", ".toml") is None  # not a name that we would give
    assert source_job_id("-x.20261121T100000Z.bcdfg.toml", ".toml") is None
