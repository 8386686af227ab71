import fcntl
import os

import pytest

from spooldadd import proof
from spooldadd.inspect import rescue
from spooldadd.inspect.workers import Node
from spooldadd.layout import Layout

RECORD = "a.20261121T100000Z.bcdfg.1.bcdfg"


@pytest.fixture
def places(tmp_path):
    made = Layout(str(tmp_path))
    for directory in (made.locks, made.nodes):
        os.makedirs(directory)
    write_kind(made, "shared")
    open(made.lock(RECORD), "w").close()
    return made


def write_kind(places, kind):
    with open(places.format, "w") as file:
        file.write(f'schema = 1\nkind = "{kind}"\n')


def node(name, *, is_serving=True, **said):
    return Node(name, {"node": name, **said}, is_serving=is_serving)


LOST = node("lost", is_serving=False)


def test_of_a_node_that_serves_there_is_nothing_to_say(places):
    assert rescue.prospect(places, RECORD, "a", [node("a")]) == ""
    assert rescue.prospect(places, RECORD, "", [node("a")]) == ""


def test_a_lease_that_is_held_keeps_everybody_off(places):
    with open(places.lock(RECORD)) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "its lease is held" in rescue.prospect(places, RECORD, "lost", [LOST, node("a", takeover="3m")])


@pytest.mark.parametrize(
    ("kind", "takeover", "seen", "words"),
    [
        ("shared", "3m", "shared", "`a` takes its jobs over when it has seen `lost` be silent for 3m"),
        ("shared", None, "shared", "be silent for long enough"),  # a release before this one says nothing
        ("shared", "3m", "private", "do not reach other nodes"),
        ("shared", "3m", None, "nobody has seen a lock of `lost`"),
        ("shared", "never", "shared", "`[takeover] after` is `never`"),
        ("local", "3m", "shared", "on a local spool only `lost` itself"),
        ("synced", "3m", "shared", "on a synced spool only `lost` itself"),
    ],
)
def test_a_silent_node_is_taken_over_or_the_reason_is_told(places, kind, takeover, seen, words):
    write_kind(places, kind)
    if seen:
        proof.note(places, "a", "lost", seen)
    said = {} if takeover is None else {"takeover": takeover}
    found = rescue.prospect(places, RECORD, "lost", [LOST, node("a", **said)])
    assert words in found
    assert ("spooldadd recover --node lost" in found) is ("takes its jobs over" not in found)


def test_nobody_else_is_there(places):
    assert "no other worker serves" in rescue.prospect(places, RECORD, "lost", [LOST])
