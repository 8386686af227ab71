import pytest

from spooldadd import mark, nodes, proof, takeover
from spooldadd.backlog import Entry
from spooldadd.claim import Holder
from spooldadd.crew import Report
from spooldadd.faltering import Faltering
from spooldadd.identity import Identity
from spooldadd.nodefile import NodeFile, NodeTaken
from spooldadd.peers import Peers
from spooldadd.recovery import Found
from spooldadd.spreading import PATIENCE_S, Spread
from spooldadd.takeover import Rule, Takeover, Verdict, decide
from spooldadd.tomltext import dumps
from tests.unit.spools import Bench

SHARED = Rule(mark.SHARED, 180.0)
BEAT_S = 10.0


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


# -- the decision


@pytest.mark.parametrize(
    ("rule", "silent_s", "beat_s", "locks", "verdict"),
    [
        (SHARED, 179.0, 10.0, proof.SHARED, Verdict.ALIVE),
        (SHARED, 180.0, 10.0, proof.SHARED, Verdict.TAKE),
        (SHARED, 180.0, 10.0, proof.UNKNOWN, Verdict.UNPROVEN),
        (SHARED, 180.0, 10.0, proof.PRIVATE, Verdict.PRIVATE),
        (SHARED, 180.0, 100.0, proof.SHARED, Verdict.ALIVE),  # three of its own beats are longer
        (SHARED, 300.0, 100.0, proof.SHARED, Verdict.TAKE),
        (Rule(mark.SHARED, None), 1e9, 10.0, proof.SHARED, Verdict.OFF),
        (Rule(mark.LOCAL, 180.0), 1e9, 10.0, proof.SHARED, Verdict.ALIVE),
        (Rule(mark.SYNCED, 180.0), 1e9, 10.0, proof.SHARED, Verdict.ALIVE),
    ],
)
def test_the_decision(rule, silent_s, beat_s, locks, verdict):
    assert decide(rule, silent_s, beat_s, locks) is verdict


@pytest.mark.parametrize(("after", "beat_s"), [(180.0, 10.0), (6.0, 1.0), (0.1, 0.25), ("never", 10.0)])
def test_a_worker_beats_often_enough_to_be_seen(after, beat_s):
    assert takeover.rule_of(mark.SHARED, after).beat_s == beat_s


def test_what_either_node_saw_holds_for_both_and_private_wins(bench):
    assert proof.between(bench.places, "b", "a") == proof.UNKNOWN
    proof.note(bench.places, "a", "b", proof.SHARED)
    assert proof.between(bench.places, "b", "a") == proof.SHARED
    proof.note(bench.places, "b", "a", proof.PRIVATE)
    assert proof.between(bench.places, "b", "a") == proof.PRIVATE


# -- silence


def write(bench, name, heartbeat, **more):
    table = {"heartbeat": heartbeat, "pid": 1, "boot_id": "boot", "beat_s": BEAT_S, "state": "serving", **more}
    with open(nodes.path_of(bench.places, name), "w") as file:
        file.write(dumps(table))


def silence(bench, steps):
    """Look at these times, after what was done before each; return for how long `a` was silent at the end."""
    peers = Peers(bench.places, "b", bench.log)
    for now, before in steps:
        before()
        peers.look(now, BEAT_S)
    return peers.silent_s("a", steps[-1][0])


def nothing():
    pass


@pytest.mark.parametrize(
    ("after_s", "seen", "words"),
    [
        (None, {"b": "shared"}, "never: `[takeover] after` is `never`"),
        (180.0, {}, "after 3m, from nodes whose locks were proven: none yet"),
        (180.0, {"c": "shared", "b": "shared", "d": "private"}, "after 3m, from nodes whose locks were proven: b, c"),
        (180.0, {"b": "shared", "*": "private"}, "never: locks do not reach other nodes here"),
    ],
)
def test_a_worker_says_at_the_start_whose_jobs_it_would_take_over(bench, after_s, seen, words):
    for peer, verdict in seen.items():
        proof.note(bench.places, "a", peer, verdict)
    rule = takeover.Rule("shared", after_s)
    assert takeover.Takeover(bench.places, "a", rule, bench.log).outlook() == words


def test_silence_is_what_was_seen_of_it(bench):
    write(bench, "a", 1)
    assert silence(bench, [(0, nothing), (10, nothing), (20, nothing)]) == 20
    assert silence(bench, [(0, nothing), (10, nothing), (20, lambda: write(bench, "a", 2))]) == 0


def test_time_in_which_we_did_not_look_is_no_silence_of_others(bench):
    write(bench, "a", 1)
    assert silence(bench, [(0, nothing), (3600, nothing)]) == 2 * BEAT_S


def test_an_entry_that_a_person_deleted_is_silent_since_we_missed_it(bench):
    write(bench, "a", 1)
    gone = lambda: nodes.os.unlink(nodes.path_of(bench.places, "a"))  # noqa: E731
    assert silence(bench, [(0, nothing), (10, gone), (20, nothing)]) == 20


def test_a_node_that_is_there_again_is_not_silent(bench):
    write(bench, "a", 1)
    gone = lambda: nodes.os.unlink(nodes.path_of(bench.places, "a"))  # noqa: E731
    assert silence(bench, [(0, nothing), (10, gone), (20, lambda: write(bench, "a", 2))]) == 0


def test_a_node_of_which_we_never_heard_is_silent_from_now_on(bench):
    peers = Peers(bench.places, "b", bench.log)
    assert peers.silent_s("a", 100.0) == 0
    peers.look(110.0, BEAT_S)
    assert peers.silent_s("a", 110.0) == 10


def test_why_a_node_is_not_taken_over_is_said_once_with_what_to_type(bench):
    judge = Takeover(bench.places, "b", Rule(mark.SHARED, 20.0), bench.log)
    write(bench, "a", 1)
    for now in range(0, 60, 10):
        judge.peers.look(now, BEAT_S)
        assert judge.lost("a", now) is None
    (said,) = [fields for _, event, fields in bench.log.said if event == "not-taken-over"]
    assert "spooldadd recover --node a" in said["then"]
    proof.note(bench.places, "b", "a", proof.SHARED)
    assert "`a` was silent for 50s as seen from `b`" in judge.lost("a", 60).words


# -- proof


def test_a_lock_that_keeps_us_out_proves_that_locks_are_shared(bench):
    living = NodeFile(bench.places, "a")
    peers = Peers(bench.places, "b", bench.log)
    for now in range(3):
        living.beat({"pid": 1, "boot_id": "boot", "holds_lock": True})
        peers.look(now, BEAT_S)
    living.leave()
    assert proof.read(bench.places, "b") == {"a": proof.SHARED}


def look_at_unlocked(bench, looks, **more):
    """As sshfs shows it: the other side says that it holds its lock, and we get it."""
    open(nodes.lock_path_of(bench.places, "a"), "w").close()
    peers = Peers(bench.places, "b", bench.log)
    for now in range(looks):
        write(bench, "a", now, **{"holds_lock": True, **more})
        peers.look(now, BEAT_S)
    return proof.read(bench.places, "b")


def test_a_lock_that_is_granted_twice_while_its_holder_lives_is_private(bench):
    assert look_at_unlocked(bench, 3) == {}
    assert look_at_unlocked(bench, 6) == {"a": proof.PRIVATE}
    assert "locks-private" in bench.log.names()


def test_a_node_that_does_not_hold_its_lock_proves_nothing(bench):
    assert look_at_unlocked(bench, 9, holds_lock=False) == {}


def test_workers_that_come_and_go_prove_nothing(bench):
    open(nodes.lock_path_of(bench.places, "a"), "w").close()
    peers = Peers(bench.places, "b", bench.log)
    for now in range(9):
        write(bench, "a", now, holds_lock=True, pid=now)
        peers.look(now, BEAT_S)
    assert proof.read(bench.places, "b") == {}


def test_those_who_try_a_lock_do_not_keep_each_other_out(bench):
    import fcntl

    with open(nodes.lock_path_of(bench.places, "a"), "w") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert nodes.try_lock(bench.places, "a") is True


# -- names


def test_an_entry_of_another_boot_that_takes_its_leave_is_no_stranger(bench):
    write(bench, "a", 1, state="stopped", boot_id="other")
    Identity(bench.places, Holder("a", "boot"), bench.log).settle(lambda: False)


def test_a_held_entry_of_another_boot_is_refused_with_the_machines_name(bench):
    living = NodeFile(bench.places, "a")
    living.beat({"pid": 1, "boot_id": "other", "host": "far.example.org"})
    with pytest.raises(NodeTaken, match=r"the machine `far\.example\.org`"):
        Identity(bench.places, Holder("a", "boot"), bench.log).settle(lambda: False)
    living.leave()


def test_a_boot_that_appears_in_our_own_entry_later_is_a_stranger(bench):
    ours = NodeFile(bench.places, "a", "boot")
    assert ours.beat({"pid": 1, "boot_id": "boot"})
    write(bench, "a", 7, boot_id="other")
    with pytest.raises(NodeTaken):
        ours.beat({"pid": 1, "boot_id": "boot"})
    ours.leave()


def test_records_of_our_name_and_of_a_boot_that_came_later_are_not_ours(bench):
    identity = Identity(bench.places, Holder("a", "boot"), bench.log)
    assert identity.is_own_boot("before")
    identity.begin()
    assert identity.is_own_boot("before")
    assert not identity.is_own_boot("later")
    assert bench.log.names() == ["name-taken"]


# -- who takes what


def entry(key, since_s=0.0, priority=0):
    return Entry(key, False, key, "default", priority, since_s)


def spreads(*names):
    found = {name: Spread(name) for name in names}
    for spread in found.values():
        spread.meet([(name, 1) for name in names])
    return found


def test_one_node_keeps_the_exact_order():
    spread = spreads("a")["a"]
    entries = [entry(f"job-{number}", 100.0 - number) for number in range(50)]
    assert sorted(entries, key=spread.order) == sorted(entries, key=lambda found: found.rank)


def test_every_entry_belongs_to_exactly_one_node():
    nodes_ = spreads(*(f"node-{number}" for number in range(40)))
    for number in range(400):
        assert sum(spread.is_mine(entry(f"job-{number}")) for spread in nodes_.values()) == 1


def test_priority_comes_before_whose_it_is():
    for spread in spreads("a", "b").values():
        entries = [entry(f"job-{number}", number, number % 3) for number in range(60)]
        ordered = [found.priority for found in sorted(entries, key=spread.order)]
        assert ordered == sorted(ordered, reverse=True)


def test_what_was_passed_over_for_long_is_taken_by_others_too():
    spread = spreads("a", "b")["a"]
    others = next(found for found in (entry(f"job-{n}", 1.0) for n in range(99)) if not spread.is_mine(found))
    spread.took(entry("younger", 2.0))
    spread.age([others], 0.0)
    spread.age([others], PATIENCE_S)
    assert not spread.is_mine(others)
    spread.age([others], 2 * PATIENCE_S + 1)
    assert spread.is_mine(others)


# -- supervisors that end before they begin


def test_a_job_whose_supervisor_never_begins_is_tried_less_and_less_often(bench):
    faltering = Faltering(bench.log)
    waits = []
    for token in ("bbbbb", "ccccc", "ddddd"):
        name = f"a.20261121T101500Z.bcdfg.1.{token}"
        faltering.heed(Report(name, is_gone=True))
        faltering.note({name: Found.NEVER_STARTED}, 0.0)
        waits.append(faltering.until("a.20261121T101500Z.bcdfg"))
    assert waits == [1.0, 2.0, 4.0]
    faltering.heed(Report("a.20261121T101500Z.bcdfg.1.fffff", "done"))
    assert faltering.until("a.20261121T101500Z.bcdfg") == 0.0
