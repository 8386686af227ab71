"""The outbox: a letter is on disk before anything is sent, and leaves only when its fate is known."""

import errno
import json
import os

import pytest

from spooldadd.errors import MailError
from spooldadd.mail.letter import Answer, Fate, Unreachable
from spooldadd.mail.outbox import GIVE_UP_S, REFUSED, SENT, WAITING, Outbox, Parcel, wait_s

PARCEL = Parcel(
    "smtp", "jobs@example.org", ("a@example.org", "b@example.org"), b"Subject: x\r\n\r\ntext\r\n", "failure", "nightly.1"
)


class Clock:
    now_s = 1_800_000_000.0

    def __call__(self):
        return self.now_s


class Recorder:
    """A transport that answers what it is told to, and remembers what it got."""

    def __init__(self, **answers):
        self.answers, self.letters, self.is_reachable = answers, [], True

    def send(self, letter):
        self.letters.append(letter)
        if not self.is_reachable:
            raise Unreachable("`mx.example.org:25`: connection refused")
        return {address: self.answers.get(address[0], Answer(Fate.SENT, "250 OK")) for address in letter.recipients}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def outbox(tmp_path, clock):
    return Outbox(str(tmp_path / "outbox"), now=clock, sync=False)


def test_a_letter_is_on_disk_before_anything_is_sent_and_nobody_else_can_read_it(outbox):
    name = outbox.put(PARCEL)
    (entry,) = outbox.entries()
    assert (entry.id, entry.place, entry.event, entry.job, entry.tries) == (name, WAITING, "failure", "nightly.1", 0)
    assert outbox.text(name) == PARCEL.data
    path = os.path.join(outbox.directory, WAITING, name)
    assert os.stat(path).st_mode & 0o077 == 0
    assert all(os.stat(os.path.join(path, each)).st_mode & 0o077 == 0 for each in os.listdir(path))


def test_a_letter_that_all_took_is_filed_as_sent(outbox):
    name, transport = outbox.put(PARCEL), Recorder()
    assert outbox.flush({"smtp": transport}).sent == (name,)
    (letter,) = transport.letters
    assert (letter.id, letter.sender, letter.recipients, letter.data) == (
        name,
        PARCEL.sender,
        PARCEL.recipients,
        PARCEL.data,
    )
    assert [entry.place for entry in outbox.entries()] == [SENT]
    assert outbox.flush({"smtp": transport}).sent == () and len(transport.letters) == 1


def test_only_those_who_have_not_got_it_are_tried_again(outbox, clock):
    transport = Recorder(b=Answer(Fate.WAITING, "451 later"))
    name = outbox.put(PARCEL)
    assert outbox.flush({"smtp": transport}).waiting == (name,)
    assert outbox.flush({"smtp": transport}).waiting == (name,) and len(transport.letters) == 1
    clock.now_s += 61
    transport.answers.clear()
    assert outbox.flush({"smtp": transport}).sent == (name,)
    assert [letter.recipients for letter in transport.letters] == [PARCEL.recipients, ("b@example.org",)]


def test_a_refusal_goes_aside_with_its_answer_after_the_others_have_their_fate(outbox, clock):
    transport = Recorder(a=Answer(Fate.REFUSED, "550 no such user"), b=Answer(Fate.WAITING, "451 later"))
    name = outbox.put(PARCEL)
    assert outbox.flush({"smtp": transport}).waiting == (name,)
    transport.answers.pop("b")
    clock.now_s += 61
    assert outbox.flush({"smtp": transport}).refused == (name,)
    (entry,) = outbox.entries(REFUSED)
    assert entry.answers["a@example.org"] == Answer(Fate.REFUSED, "550 no such user")
    assert entry.answers["b@example.org"].fate is Fate.SENT


def test_a_dead_server_is_tried_once_in_a_pass_and_other_transports_go_on(outbox):
    smtp, hook = Recorder(), Recorder()
    smtp.is_reachable = False
    for _ in range(5):
        outbox.put(PARCEL)
    other = outbox.put(Parcel("hook", "", ("hook",), b"{}"))
    done = outbox.flush({"smtp": smtp, "hook": hook})
    assert len(smtp.letters) == 1 and len(done.waiting) == 5
    assert done.sent == (other,)


def test_the_wait_doubles_from_a_minute_to_six_hours():
    waits = [wait_s(tries) for tries in (1, 2, 3, 9, 10, 1000)]
    assert waits == [60, 120, 240, 15360, 21600, 21600]


def test_after_three_days_a_letter_goes_aside_with_the_last_answer(outbox, clock):
    transport = Recorder()
    transport.is_reachable = False
    name = outbox.put(PARCEL)
    begun_s, tries = clock.now_s, 0
    while clock.now_s - begun_s <= GIVE_UP_S:
        assert outbox.flush({"smtp": transport}).waiting == (name,)
        clock.now_s = outbox.next_due_s()
    assert outbox.flush({"smtp": transport}).refused == (name,)
    (entry,) = outbox.entries(REFUSED)
    assert 10 < len(transport.letters) < 30 and tries == 0
    assert "given up after three days" in entry.answers["a@example.org"].text
    assert "connection refused" in entry.answers["a@example.org"].text


def test_a_letter_that_was_never_tried_because_the_node_was_off_is_tried(outbox, clock):
    outbox.put(PARCEL)
    clock.now_s += 2 * GIVE_UP_S
    assert len(outbox.flush({"smtp": Recorder()}).sent) == 1


def test_a_refused_letter_can_be_tried_again_for_those_who_did_not_get_it(outbox, clock):
    transport = Recorder(a=Answer(Fate.REFUSED, "550 no such user"))
    name = outbox.put(PARCEL)
    outbox.flush({"smtp": transport})
    clock.now_s += 2 * GIVE_UP_S
    transport.answers.clear()
    outbox.retry(name)
    assert outbox.flush({"smtp": transport}).sent == (name,)
    assert transport.letters[-1].recipients == ("a@example.org",)
    with pytest.raises(MailError, match="no refused letter"):
        outbox.retry(name)


def test_a_forced_pass_and_a_chosen_letter_do_not_wait_for_their_time(outbox):
    transport = Recorder()
    transport.is_reachable = False
    first, second = outbox.put(PARCEL), outbox.put(PARCEL)
    outbox.flush({"smtp": transport})
    transport.is_reachable = True
    assert outbox.flush({"smtp": transport}, only=[first], is_forced=True).sent == (first,)
    assert outbox.flush({"smtp": transport}, is_forced=True).sent == (second,)


def test_a_transport_that_is_no_more_configured_keeps_its_letters_waiting(outbox):
    outbox.put(PARCEL)
    outbox.flush({})
    (entry,) = outbox.entries(WAITING)
    assert "no transport `smtp` is configured" in entry.answers["a@example.org"].text


def test_a_clock_that_was_set_back_does_not_stop_letters(outbox, clock):
    transport = Recorder()
    transport.is_reachable = False
    outbox.put(PARCEL)
    outbox.flush({"smtp": transport})
    clock.now_s -= 30 * 86400
    transport.is_reachable = True
    assert len(outbox.flush({"smtp": transport}).sent) == 1


@pytest.mark.parametrize("broken", ["letter.json", "state.json", "letter.eml"])
def test_a_letter_that_cannot_be_read_goes_aside_and_others_go_on(outbox, broken):
    name, good = outbox.put(PARCEL), outbox.put(PARCEL)
    path = os.path.join(outbox.directory, WAITING, name, broken)
    if broken == "letter.eml":
        os.unlink(path)
    else:
        with open(path, "w") as stream:
            stream.write('{"half')
    done = outbox.flush({"smtp": Recorder()})
    assert (done.refused, done.sent) == ((name,), (good,))
    assert os.path.isdir(os.path.join(outbox.directory, REFUSED, name))


def test_a_letter_whose_outcome_cannot_be_written_is_not_sent_again_at_once(outbox, clock, monkeypatch):
    transport = Recorder()
    outbox.put(PARCEL)

    def full(step):
        if step == "sent":
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        Outbox(outbox.directory, now=clock, sync=False, at=full).flush({"smtp": transport})
    outbox.flush({"smtp": transport})
    assert len(transport.letters) == 1
    clock.now_s += 61
    outbox.flush({"smtp": transport})
    assert len(transport.letters) == 2


def test_a_letter_that_cannot_be_written_leaves_nothing(outbox, clock):
    outbox.put(PARCEL)

    def full(step):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        Outbox(outbox.directory, now=clock, sync=False, at=full).put(PARCEL)
    assert len(os.listdir(os.path.join(outbox.directory, WAITING))) == 1


def test_old_letters_and_what_a_dead_writer_left_are_pruned(outbox, clock):
    outbox.put(PARCEL)
    outbox.flush({"smtp": Recorder()})
    left = os.path.join(outbox.directory, WAITING, ".tmp-left")
    os.mkdir(left)
    os.utime(left, (clock.now_s, clock.now_s))
    assert outbox.prune() == 0
    clock.now_s += 8 * 86400
    assert outbox.prune() == 2
    assert outbox.entries() == [] and not os.path.exists(left)


def test_the_envelope_is_json_that_others_can_read(outbox):
    name = outbox.put(PARCEL)
    with open(os.path.join(outbox.directory, WAITING, name, "letter.json")) as stream:
        assert json.load(stream)["schema"] == 1


@pytest.mark.parametrize("name", ["../x", ".hidden", "a/b"])
def test_a_name_that_leads_elsewhere_is_no_id(outbox, name):
    with pytest.raises(MailError):
        outbox.text(name)


@pytest.mark.parametrize("file", ["letter.json", "state.json"])
def test_a_letter_of_a_newer_release_is_left_to_it(outbox, file):
    """Its schema was written and never looked at, so an older release would have misread it, and refused it for good."""
    name, transport = outbox.put(PARCEL), Recorder()
    path = os.path.join(outbox.directory, WAITING, name, file)
    if file == "state.json":
        transport.is_reachable = False
        outbox.flush({"smtp": transport})
        transport.is_reachable = True
    with open(path) as stream:
        table = json.load(stream)
    with open(path, "w") as stream:
        json.dump({**table, "schema": 2}, stream)
    transport.letters.clear()
    assert outbox.flush({"smtp": transport}, is_forced=True).waiting == (name,)
    assert (transport.letters, os.listdir(os.path.join(outbox.directory, WAITING))) == ([], [name])
