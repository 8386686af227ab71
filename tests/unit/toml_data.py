"""Random data that TOML can hold, and a comparison that tells apart what `==` does not."""

import datetime
import math

from hypothesis import strategies as st

_OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda m: datetime.timezone(datetime.timedelta(minutes=m)))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
keys = st.sampled_from(["a", "b", "a-b", "", " ", "a.b", '"', "\\", "a\n", "é", "a\t", "'", "[x]", "#", "\x7f", "0"]) | texts
# Without `fold`, which no written form of a time has.
datetimes = st.datetimes(timezones=st.none() | _OFFSETS).map(lambda value: value.replace(fold=0))
times = st.times().map(lambda value: value.replace(fold=0))
scalars = (
    texts
    | st.integers()
    | st.booleans()
    | st.floats()
    | datetimes
    | st.dates()
    | times
    | st.sampled_from([-0.0, math.inf, -math.inf, math.nan, "\\x41", "\x00\x1f\x7f", "\u2028", '"""', "'''", "\r\n"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=20
)
tables = st.dictionaries(keys, values, max_size=5)


def exact(value):
    """Give a form in which nan equals nan, 0.0 is not -0.0, 1 is not True, and offsets count."""
    if isinstance(value, dict):
        return {key: exact(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [exact(part) for part in value]
    return (type(value).__name__, repr(value), str(value))
