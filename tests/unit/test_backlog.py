import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from spooldadd.backlog import Backlog, Entry
from spooldadd.placement import NOTHING, Needs

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


# -- what jobs need of the node

ONE_GPU, TWO_GPUS, ONE_CPU = Needs(gpus=1), Needs(gpus=2), Needs(millicpus=1000)


def needing(key, needs, **rest):
    return dataclasses.replace(entry(key, **rest), needs=needs)


def started(backlog, free):
    """Start what finds room until nothing does; return the keys."""
    keys = []
    while (one := backlog.pop(NOW_S, every, lambda: free)) is not None:
        keys.append(one.key)
        free = free.minus(one.needs)
    return keys


def test_what_needs_more_than_is_free_is_passed_by_those_that_need_something_else():
    backlog = filled(needing("a", TWO_GPUS), needing("b", ONE_CPU), entry("c"))
    assert started(backlog, Needs(1000, 0, 1)) == ["b", "c"]
    assert backlog.is_lacking


def test_what_waits_for_gpus_is_not_overtaken_by_smaller_ones_that_need_them():
    backlog = filled(needing("a", TWO_GPUS), needing("b", ONE_GPU), needing("c", ONE_GPU))
    assert started(backlog, Needs(0, 0, 1)) == []
    assert started(backlog, Needs(0, 0, 2)) == ["a"]
    assert started(backlog, Needs(0, 0, 2)) == ["b", "c"]


def test_what_waits_for_one_thing_keeps_its_part_of_another():
    """Else those that take processors and those that take GPUs could keep it waiting in turn for ever."""
    backlog = filled(needing("a", Needs(1000, 0, 1)), needing("b", ONE_CPU), needing("c", ONE_CPU))
    assert started(backlog, Needs(2000, 0, 0)) == ["b"]


def test_a_higher_priority_goes_first_also_where_it_needs_something():
    backlog = filled(entry("a"), needing("b", ONE_GPU, priority=1))
    assert started(backlog, Needs(0, 0, 1)) == ["b", "a"]


def test_a_queue_without_width_keeps_nothing_from_the_others():
    backlog = filled(needing("a", TWO_GPUS, queue="full"), needing("b", ONE_GPU))
    found = backlog.pop(NOW_S, lambda queue: queue != "full", lambda: ONE_GPU)
    assert found is not None and found.key == "b"


def test_what_needs_nothing_goes_on_however_many_different_needs_wait():
    waiting = [needing(f"{number:04}", Needs(gpus=number + 1)) for number in range(300)]
    backlog = filled(*waiting, entry("plain", priority=-1))
    assert started(backlog, NOTHING) == ["plain"]
    assert len(backlog) == 300
    assert started(backlog, Needs(0, 0, 10**6))[:3] == ["0000", "0001", "0002"]


def test_nobody_asks_what_is_free_where_nothing_is_needed():
    backlog = filled(entry("a"))
    assert backlog.pop(NOW_S, every, lambda: 1 / 0).key == "a"


@given(
    st.lists(
        st.tuples(ENTRIES, st.sampled_from([NOTHING, ONE_GPU, TWO_GPUS, ONE_CPU, Needs(1000, 0, 1)]), st.booleans()),
        max_size=25,
    ),
    st.builds(Needs, st.sampled_from([0, 1000, 2000]), st.just(0), st.integers(0, 3)),
)
def test_the_first_of_each_need_is_chosen_as_a_plain_search_would(found, free):
    """Against a model that looks at everything: in the order of ranks, each first of its kind keeps what it lacks."""
    backlog = Backlog()
    model = {}
    for one, needs, is_gone in found:
        one = dataclasses.replace(one, needs=needs, not_before_s=None)
        backlog.add(one, NOW_S)
        model[one.is_record, one.key] = one
        if is_gone:
            backlog.discard(one.key, is_record=one.is_record)
            del model[one.is_record, one.key]
        if len(model) % 3 == 2:
            backlog.has_ready(NOW_S, every)
            backlog.pop(NOW_S, lambda _queue: False)
    while True:
        left, seen, wanted = free, set(), None
        for one in sorted(model.values(), key=lambda one: one.rank):
            if (one.queue, one.needs) in seen:
                continue
            seen.add((one.queue, one.needs))
            if one.needs.fits_in(left):
                wanted = one
                break
            left = left.minus(one.needs)
        chosen = backlog.pop(NOW_S, every, lambda: free)
        assert (chosen and chosen.rank) == (wanted and wanted.rank)
        if chosen is None:
            return
        del model[chosen.is_record, chosen.key]
