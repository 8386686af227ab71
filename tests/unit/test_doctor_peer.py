import pytest

from spooldadd import mark, proof
from spooldadd.config import load
from spooldadd.doctor import pairs, roads, sharing, side
from spooldadd.doctor.model import FAIL, OK, WARN, Subject
from spooldadd.doctor.pairs import Measured, Pair
from spooldadd.layout import Layout


class Direct:
    """A road to a side in this process. What `lies` names is answered so."""

    def __init__(self, base, **lies):
        self._side = side.Side(str(base))
        self._lies = lies
        self._answers = []

    def send(self, question, *arguments):
        if question in self._lies:
            self._answers.append(self._lies[question])
        else:
            self._answers.append(self._side.answer(question, list(arguments)))

    def receive(self, within_s=0.0):
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ask(self, question, *arguments, within_s=0.0):
        self.send(question, *arguments)
        return self.receive()


def asked(question, tmp_path, own=None, other=None):
    measured = Measured()
    pair = Pair(Direct(tmp_path, **(own or {})), Direct(tmp_path, **(other or {})), "the other")
    return list(question(pair, measured)), measured


def test_locks_that_keep_the_other_out_are_shared(tmp_path):
    checks, measured = asked(pairs.ask_locks, tmp_path)
    assert measured.locks == proof.SHARED
    assert {check.status for check in checks} == {OK}


def test_a_lock_that_both_hold_is_private_and_takeover_is_ruled_out(tmp_path):
    checks, measured = asked(pairs.ask_locks, tmp_path, {"lock": side.GOT}, {"lock": side.GOT})
    assert measured.locks == proof.PRIVATE
    assert [check.status for check in checks] == [WARN]


def test_a_lock_that_keeps_only_one_side_out_is_private(tmp_path):
    _, measured = asked(pairs.ask_locks, tmp_path, other={"lock": side.GOT})
    assert measured.locks == proof.PRIVATE


def test_a_file_system_without_locks_fails_and_proves_nothing(tmp_path):
    checks, measured = asked(pairs.ask_locks, tmp_path, {"lock": "ENOLCK"})
    assert measured.locks == proof.UNKNOWN
    assert [check.status for check in checks] == [FAIL]


def test_a_rename_that_both_win_fails(tmp_path):
    names = [f"j{number:02}" for number in range(pairs.RACED)]
    seen = {"last": 0.0, "won": 0.0}
    checks, measured = asked(pairs.ask_renames, tmp_path, {"race": names}, {"race": names, "see": seen})
    assert measured.renames is False
    assert checks[0].status == FAIL


def test_a_rename_that_nobody_wins_fails(tmp_path):
    seen = {"last": 0.0, "won": 0.0}
    checks, measured = asked(pairs.ask_renames, tmp_path, {"race": []}, {"race": [], "see": seen})
    assert measured.renames is False
    assert checks[0].status == FAIL


def test_a_call_that_hangs_ends_its_question_and_not_the_examination(tmp_path):
    own = Direct(tmp_path, lock=roads.Hung("no answer within 20 s"))
    other = Direct(tmp_path, race=["x"], see={"last": side.NEVER, "won": side.NEVER}, change=OK, speak=OK)
    own._lies |= {
        "race": [],
        "see": {"listed_s": 0.1, "found_s": 29.5, "size_s": 3.0, "contents_s": 0.1},
        "hear": side.NEVER,
    }
    measured = Measured()
    found = {check.check: check for check in pairs.examined(Pair(own, other, "the other"), measured)}
    assert found["locks"].status == FAIL
    assert "20 s" in found["locks"].sentence
    assert found["features"].status == OK
    assert measured.locks == proof.UNKNOWN
    assert measured.values["found_s"] == 29.5


def test_what_was_measured_stands_beside_the_verdicts(tmp_path):
    places = Layout(str(tmp_path))
    proof.note(places, "a", "c", "shared")
    proof.note_seen(places, "a", "b", {"locks": "shared", "size_s": 3.2, "listed_s": 0.1, "renames_exclude": None})
    proof.note(places, "a", "d", "private")  # by a worker, later
    assert proof.read(places, "a") == {"b": "shared", "c": "shared", "d": "private"}
    assert proof.seen(places, "a") == {"b": {"size_s": 3.2, "listed_s": 0.1}}
    assert proof.slowest_s(places, "a") == 3.2


def test_between_two_mounts_only_private_says_something_about_others(tmp_path):
    places = Layout(str(tmp_path))
    proof.note_seen(places, "a", proof.MOUNTS, {"locks": "shared"})
    assert proof.locks(places, "a", "b") == "unknown"
    proof.note(places, "a", "b", "shared")
    proof.note_seen(places, "a", proof.MOUNTS, {"locks": "private"})
    assert proof.locks(places, "a", "b") == "private"


@pytest.mark.parametrize("text", ["[seen]\nb = 3\n", "seen = 3\n", '[seen.b]\nsize_s = "long"\n'])
def test_damaged_measurements_say_nothing(tmp_path, text):
    places = Layout(str(tmp_path))
    (tmp_path / ".spool" / "proofs").mkdir(parents=True)
    (tmp_path / ".spool" / "proofs" / "a.toml").write_text(text)
    assert proof.slowest_s(places, "a") == 0.0


def test_doctor_tells_what_any_two_nodes_saw_where_its_own_name_serves_nothing(tmp_path):
    mark.create(str(tmp_path), kind=mark.SHARED)
    places = Layout(str(tmp_path))
    subject = Subject(places, load(None, environ={"HOME": "/"}, overrides={"node": "asker"}), 0.0)
    for name in ("web-1", "web-2"):
        (tmp_path / ".spool" / "nodes" / f"{name}.toml").write_text(f'schema = 1\nnode = "{name}"\n')
    assert "nobody has seen" in next(sharing.check_verdicts(subject)).sentence
    proof.note(places, "web-1", "web-2", proof.SHARED)
    (told,) = sharing.check_verdicts(subject)
    assert told.status == OK
    assert "proven shared with `web-1`, `web-2`" in told.sentence
    proof.note(places, "web-2", "web-1", proof.PRIVATE)
    assert {check.status for check in sharing.check_verdicts(subject)} == {WARN}
