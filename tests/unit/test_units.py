import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooldadd import units
from spooldadd.units import BadUnit, format_duration, format_size, parse_duration, parse_size, write_duration, write_size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2h", 7200.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("15m", 900.0),
        ("10s", 10.0),
        ("1.5h", 5400.0),
        ("500ms", 0.5),
        ("1s500ms", 1.5),
        ("2d", 172800.0),
        ("1w", 604800.0),
        ("90", 90.0),
        (" 90 ", 90.0),
        (90, 90.0),
        (0.25, 0.25),
    ],
)
def test_a_duration_is_read_in_each_accepted_form(written, seconds):
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    ["", " ", "h", "2x", "-1s", "1s1h", "1m1m", "1e3", "1,5h", "٣s", "1h30", True, None, [], "1" * 41, " " * 100_000],
)
def test_what_is_no_duration_is_refused_with_the_accepted_forms(written):
    with pytest.raises(BadUnit) as caught:
        parse_duration(written)
    assert '"1h30m"' in caught.value.remedy


@pytest.mark.parametrize("written", [-1, -0.001, math.nan, math.inf, -math.inf, 10**400, "9999w", "9" * 40])
def test_negative_endless_and_absurd_durations_are_refused(written):
    with pytest.raises(BadUnit):
        parse_duration(written)


@pytest.mark.parametrize("written", [0, 0.0, -0.0, "0s", "0h0m"])
def test_zero_is_a_duration_only_where_it_makes_sense(written):
    with pytest.raises(BadUnit):
        parse_duration(written)
    assert parse_duration(written, allow_zero=True) == 0


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [
        ("2G", 2 * 1024**3),
        ("100M", 100 * 1024**2),
        ("1GiB", 1024**3),
        ("1.5GB", 1_500_000_000),
        ("10kB", 10_000),
        ("1k", 1024),
        ("512B", 512),
        ("512", 512),
        ("1 T", 1024**4),
        (12345, 12345),
    ],
)
def test_a_size_is_read_in_each_accepted_form(written, size_bytes):
    assert parse_size(written) == size_bytes


@pytest.mark.parametrize("written", ["", "G", "2X", "2GG", "-1", -1, 1.5, True, None, 0, "0", 2**61, "9" * 40, "9" * 4000])
def test_what_is_no_usable_size_is_refused_with_the_accepted_forms(written):
    with pytest.raises(BadUnit) as caught:
        parse_size(written)
    assert '"100M"' in caught.value.remedy


def test_a_size_below_the_least_is_refused():
    with pytest.raises(BadUnit, match="below 1M"):
        parse_size("1023K", at_least=2**20)
    assert parse_size("1M", at_least=2**20) == 2**20


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.5, "500ms"),
        (0.0004, "0.4ms"),
        (0.9999, "1s"),
        (1, "1s"),
        (12.5, "12.5s"),
        (59.99, "1m"),
        (90, "1m30s"),
        (5400, "1h30m"),
        (86_400, "1d"),
        (90_061, "1d1h1m1s"),
        (-90, "-1m30s"),
        (math.inf, "inf"),
    ],
)
def test_a_duration_is_written_for_people(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0B"), (512, "512B"), (1024, "1K"), (1536, "1.5K"), (2**20 - 1, "1M"), (100 * 2**20, "100M"), (5 * 2**50, "5120T")],
)
def test_a_size_is_written_for_people(size_bytes, text):
    assert format_size(size_bytes) == text


@given(st.floats(min_value=0.001, max_value=units.MAX_DURATION_S))
@settings(deadline=None)
def test_a_written_duration_reads_back_as_nearly_the_same(seconds):
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.01)


@given(st.integers(min_value=1, max_value=units.MAX_SIZE_BYTES))
@settings(deadline=None)
def test_a_written_size_reads_back_as_nearly_the_same(size_bytes):
    assert parse_size(format_size(size_bytes)) == pytest.approx(size_bytes, rel=0.06)


@given(st.text() | st.integers() | st.floats())
@settings(deadline=None)
def test_reading_any_value_ends_in_a_number_or_in_a_refusal(value):
    for parse in (parse_duration, parse_size):
        try:
            assert parse(value) > 0
        except BadUnit:
            pass


@given(st.integers(min_value=1, max_value=units.MAX_SIZE_BYTES))
def test_a_size_that_is_written_reads_back_as_itself(size_bytes):
    assert parse_size(write_size(size_bytes)) == size_bytes


@given(
    st.floats(min_value=0.001, max_value=units.MAX_DURATION_S, allow_subnormal=False).map(lambda seconds: round(seconds, 3))
)
def test_a_duration_that_is_written_reads_back_as_itself(seconds):
    assert parse_duration(write_duration(seconds)) == seconds
