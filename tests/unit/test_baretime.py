"""Nobody can tell whether a time was made by way of `baretime` or of `datetime`."""

import datetime

from spooldadd import baretime


def test_the_names_are_the_same_objects():
    names = ("date", "datetime", "time", "timedelta", "timezone", "tzinfo", "UTC")
    assert all(getattr(baretime.datetime, name) is getattr(datetime, name) for name in names)
