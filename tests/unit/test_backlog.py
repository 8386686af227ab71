from hypothesis import given, settings
from hypothesis import strategies as st

from spooldadd.backlog import Backlog, Entry

NOW_S = 1000.0


def entry(key, *, queue="default", priority=0, since_s=0.0, not_before_s=None, is_record=False):
    return Entry(key, is_record, key, queue, priority, since_s, not_before_s)


def every(_queue):
    return True


def filled(*entries):
    backlog = Backlog()
    for one in entries:
        backlog.add(one, NOW_S)
    return backlog


def drained(backlog, now_s=NOW_S, is_open=every):
    keys = []
    while (one := backlog.pop(now_s, is_open)) is not None:
        keys.append(one.key)
    return keys


ENTRIES = st.builds(
    entry,
    st.text("abcdefgh", min_size=1, max_size=3),
    queue=st.sampled_from(["a", "b", "c"]),
    priority=st.integers(-2, 2),
    since_s=st.integers(0, 5).map(float),
    not_before_s=st.none() | st.integers(990, 1010).map(float),
    is_record=st.booleans(),
)


@given(st.lists(ENTRIES, max_size=40), st.sets(st.sampled_from(["a", "b", "c"])))
@settings(max_examples=60)
def test_what_may_run_comes_out_by_priority_then_age(entries, open_queues):
    backlog = filled(*entries)
    latest = {(one.is_record, one.key): one for one in entries}  # a later entry of one key replaces the earlier
    may_run = [one for one in latest.values() if one.queue in open_queues and (one.not_before_s or 0) <= NOW_S]
    order = []
    while (one := backlog.pop(NOW_S, open_queues.__contains__)) is not None:
        order.append(one)
    places = [(-one.priority, one.since_s, one.key) for one in order]
    assert places == sorted((-one.priority, one.since_s, one.key) for one in may_run)
    assert sorted((one.is_record, one.key) for one in order) == sorted((one.is_record, one.key) for one in may_run)
    assert len(backlog) == len(latest) - len(order)


@given(st.lists(st.tuples(ENTRIES, st.booleans()), max_size=40))
@settings(max_examples=60)
def test_what_was_discarded_never_comes_out(steps):
    backlog, present = Backlog(), {}
    for one, is_removed in steps:
        key = (one.is_record, one.key)
        if is_removed:
            backlog.discard(one.key, is_record=one.is_record)
            present.pop(key, None)
        else:
            backlog.add(one, NOW_S)
            present[key] = one
    later_s = 10_000.0
    assert backlog.keys(is_record=True) == {key for kind, key in present if kind}
    assert sorted(drained(backlog, later_s)) == sorted(key for _, key in present)
    assert len(backlog) == 0


def test_a_closed_queue_holds_up_no_other():
    backlog = filled(entry("a", queue="closed", priority=9), entry("b", queue="open"))
    assert drained(backlog, is_open=lambda queue: queue == "open") == ["b"]
    assert backlog.has_ready(NOW_S, every)
    assert not backlog.has_ready(NOW_S, lambda queue: queue == "open")


def test_an_entry_waits_for_its_time_and_says_when_it_comes():
    backlog = filled(
        entry("later", not_before_s=1200.0), entry("soon", not_before_s=1100.0), entry("past", not_before_s=900.0)
    )
    assert backlog.next_at_s() == 1100.0
    assert drained(backlog) == ["past"]
    assert drained(backlog, 1100.0) == ["soon"]
    assert backlog.next_at_s() == 1200.0
    assert drained(backlog, 2000.0) == ["later"]
    assert backlog.next_at_s() is None


def test_a_time_that_was_taken_back_is_not_waited_for():
    backlog = filled(entry("a", not_before_s=2000.0), entry("a"))
    assert backlog.next_at_s() is None
    assert drained(backlog) == ["a"]
    assert drained(backlog, 3000.0) == []


def test_a_drop_and_a_record_may_have_one_key():
    backlog = filled(entry("a"), entry("a", is_record=True))
    backlog.discard("a", is_record=False)
    assert (True, "a") in backlog
    assert (False, "a") not in backlog
    assert backlog.pop(NOW_S, every).is_record


def test_only_records_that_wait_for_their_time_are_told_as_such():
    backlog = filled(entry("drop", not_before_s=2000.0), entry("record", is_record=True, not_before_s=2000.0))
    assert backlog.has_later_record()
    backlog.discard("record", is_record=True)
    assert not backlog.has_later_record()
    assert [one.key for one in backlog.entries()] == ["drop"]
