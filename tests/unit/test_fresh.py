import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooldadd.fresh import ALL_OURS, Fresh, Parts

LEAVE_S = 0.5
PARTS = Parts(lambda name: name.startswith("our"), lambda name: len(name) % 7 / 7)


def taken(fresh, now, most=100, newest=0):
    return [name for name, _unopened in fresh.take_others(now, most, LEAVE_S, newest=newest)]


def test_where_all_is_ours_nothing_is_announce_and_what_came_last_is_first():
    fresh = Fresh(ALL_OURS)
    fresh.add(["a", "b"], 0.0)
    fresh.add(["c"], 0.0)
    assert (fresh.unopened, fresh.take(2), fresh.take(2), fresh.has_ours) == (0, ["c", "b"], ["a"], False)


def test_what_a_scan_found_can_be_taken_at_once_and_what_was_announced_only_after_a_moment():
    fresh = Fresh(PARTS)
    fresh.add(["theirs"], 10.0)
    fresh.announce("announced", 10.0, 1000.0)
    assert not fresh.has_ours
    assert taken(fresh, 10.0) == ["theirs"]
    assert fresh.others_at(LEAVE_S) == 10.5
    assert taken(fresh, 10.4) == []
    assert taken(fresh, 10.5) == ["announced"]
    assert fresh.unopened == 0
    assert fresh.others_at(LEAVE_S) == float("inf")


def test_a_later_event_of_the_same_name_counts_from_then():
    fresh = Fresh(PARTS)
    fresh.announce("a", 10.0, None)
    assert fresh.others_at(LEAVE_S) == 10.5  # it is left for a moment, too: the word that it is complete may follow
    fresh.announce("a", 10.2, 1000.0)
    fresh.announce("b", 10.3, 1000.0)
    fresh.announce("a", 10.4, 1000.4)
    assert taken(fresh, 10.8) == ["b"]
    assert [(name, unopened.complete_s) for name, unopened in fresh.take_others(10.9, 9, LEAVE_S)] == [("a", 1000.4)]


def test_the_newest_come_first_where_they_are_asked_for_and_the_rest_by_chance():
    fresh = Fresh(Parts(lambda _name: False, {"a": 0.9, "b": 0.1, "c": 0.5, "d": 0.7}.__getitem__))
    fresh.add(["a", "b", "c", "d"], 0.0)
    assert taken(fresh, 0.0, 3, newest=1) == ["d", "b", "c"]


def test_the_newest_is_that_which_could_be_taken_last_while_others_are_announced_all_the_time():
    fresh = Fresh(Parts(lambda _name: False, lambda _name: 0.5))
    for number in range(50):
        fresh.announce(f"announced-{number:02}", number / 10, 1000.0)
    assert taken(fresh, 5.0, 2, newest=2) == ["announced-45", "announced-44"]


def test_what_is_old_is_not_passed_over_for_ever_by_what_comes_after_it():
    fresh = Fresh(Parts(lambda _name: False, lambda name: 0.99 if name == "old" else 0.01))
    fresh.add(["old"], 0.0)
    for minute in range(1, 4):
        fresh.add([f"new-{minute}-{number}" for number in range(100)], 60.0 * minute)
    assert "old" in taken(fresh, 200.0, 8, newest=4)


def test_what_could_be_taken_still_can_be_when_names_are_left_for_longer():
    """As they are while nobody listens for events."""
    fresh = Fresh(PARTS)
    for name in ("a", "bb", "ccc"):
        fresh.announce(name, 10.0, 1000.0)
    assert len(taken(fresh, 10.5, 1)) == 1
    assert len([name for name, _unopened in fresh.take_others(10.5, 9, 30.0)]) == 2


@pytest.mark.parametrize("way", ["newest", "gone", "again"])
def test_what_is_no_longer_here_wakes_nobody(way):
    fresh = Fresh(PARTS)
    if way == "newest":
        fresh.add(["a"], 0.0)
        assert taken(fresh, 0.0, 1, newest=1) == ["a"]
    elif way == "gone":
        fresh.announce("a", 0.0, 1000.0)
        fresh.keep(set())
    else:
        fresh.announce("a", 0.0, None)
        fresh.announce("a", 0.0, 1000.0)
        assert fresh.others_at(LEAVE_S) == LEAVE_S
        assert taken(fresh, 1.0) == ["a"]
    assert fresh.others_at(LEAVE_S) == float("inf")
    assert not taken(fresh, 9.0)


def test_nothing_is_kept_of_what_was_taken():
    fresh = Fresh(PARTS)
    for number in range(1000):
        fresh.announce(f"theirs-{number}", 0.0, 1000.0)
    assert len(taken(fresh, 1.0, 1000)) == 1000
    fresh.keep(set())
    assert not fresh._left and not fresh._oldest and not fresh._newest


def test_when_nodes_leave_what_was_seen_first_is_still_left_to_its_node_for_the_shortest_time():
    fresh = Fresh(PARTS)
    fresh.announce("a", 10.0, 1000.0)
    fresh.announce("b", 10.1, 1000.0)
    fresh.announce("a", 10.5, 1000.0)
    fresh.share_out(10.5)
    assert fresh.others_at(LEAVE_S) == 10.6


def test_when_the_clock_was_set_back_nobody_knows_what_was_complete_and_nothing_is_lost():
    fresh = Fresh(PARTS)
    fresh.announce("a", 0.0, 1000.0)
    fresh.distrust_clock()
    assert [(name, unopened.complete_s) for name, unopened in fresh.take_others(1.0, 9, LEAVE_S)] == [("a", None)]


def test_what_is_gone_is_forgotten():
    fresh = Fresh(PARTS)
    fresh.add(["our-a", "our-b", "x", "y"], 0.0)
    fresh.announce("z", 0.0, 1.0)
    fresh.keep({"our-b", "y"})
    assert (fresh.take(9), taken(fresh, 9.0)) == (["our-b"], ["y"])


def test_the_order_is_kept_when_some_are_gone():
    fresh = Fresh(Parts(lambda _name: False, {"a": 0.1, "b": 0.5, "c": 0.2}.__getitem__))
    fresh.add(["a", "b", "c"], 0.0)
    fresh.keep({"b", "c"})
    assert taken(fresh, 0.0) == ["c", "b"]


def test_what_becomes_ours_when_nodes_leave_is_ours_to_look_at_and_the_other_way_round():
    mine = {"a", "b"}
    fresh = Fresh(Parts(mine.__contains__, lambda _name: 0.0))
    fresh.add(["a", "b", "c"], 0.0)
    fresh.announce("d", 0.0, 1.0)
    mine ^= {"b", "c", "d"}
    fresh.share_out(5.0)
    assert sorted(fresh.take(9)) == ["a", "c", "d"]
    assert taken(fresh, 5.0) == ["b"]


NAMES = st.sampled_from(["our-1", "our-2", "theirs-1", "theirs-22", "theirs-333"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("scan"), st.sets(NAMES)),
        st.tuples(st.just("event"), NAMES),
        st.tuples(st.just("complete"), NAMES),
        st.tuples(st.just("share"), st.none()),
        st.tuples(st.just("clock"), st.none()),
        st.tuples(st.just("take"), st.integers(1, 3)),
        st.tuples(st.just("pass"), st.floats(0.0, 40.0)),
        st.tuples(st.just("leave"), st.sampled_from([0.5, 2.5, 30.5])),
    )
)


@given(STEPS, st.integers(0, 2))
def test_each_name_is_given_out_once_for_each_time_that_it_is_taken_in_and_none_is_lost(steps, newest):
    fresh = Fresh(PARTS)
    here: set[str] = set()
    now, leave_s = 0.0, LEAVE_S
    for step, what in steps:
        if step == "scan":
            known = set().union(*fresh.known)
            fresh.keep(what)
            fresh.add(sorted(what - known), now)
            here = what
        elif step in ("event", "complete") and not fresh.is_ours(what):
            fresh.announce(what, now, now if step == "complete" else None)
            here = here | {what}
        elif step == "share":
            fresh.share_out(now)
        elif step == "clock":
            fresh.distrust_clock()
        elif step == "take":
            found = fresh.take(what) + [name for name, _ in fresh.take_others(now, what, leave_s, newest=newest)]
            assert len(found) == len(set(found))
            assert here.issuperset(found)
            here = here - set(found)
        elif step == "pass":
            now += what
        elif step == "leave":
            leave_s = what
        assert set().union(*fresh.known) == here
        assert (fresh.unopened > 0) == (fresh.others_at(leave_s) < float("inf"))
    assert sorted(fresh.take(99) + taken(fresh, now + 99.0)) == sorted(here)


@given(STEPS)
def test_there_is_something_to_take_when_it_says_so_and_nothing_before(steps):
    fresh = Fresh(PARTS)
    now = 0.0
    for step, what in steps:
        if step == "complete" and not fresh.is_ours(what):
            fresh.announce(what, now, now)
        elif step == "scan":
            fresh.keep(what)
        elif step == "pass":
            now += what
        elif step == "take":
            at = fresh.others_at(LEAVE_S)
            assert bool(taken(fresh, now, 1)) == (at <= now)
