"""From an event to letters: one for each transport of its readers, and the same letter however often it is put."""

import email
import email.policy
import json

import pytest

from spooldadd.config import load
from spooldadd.mail.events import Late
from spooldadd.mail.outbox import WAITING, Outbox
from spooldadd.mail.posting import Post
from spooldadd.mail.wishes import Wish
from tests.unit.spools import Events

EVENT = Late("nightly", "has not arrived", "daily 06:00 (by 2026-11-21T06:30:00Z)", "", ())
ABOUT = ("nightly", 1_795_000_000.25)


@pytest.fixture
def desk(tmp_path):
    path = tmp_path / "worker.toml"
    path.write_text(
        '[transport]\nbox = { kind = "maildir", directory = "/nonexistent" }\n'
        'out = { kind = "smtp", server = "127.0.0.1" }\nhook = { kind = "webhook", url = "http://127.0.0.1/" }\n'
        '[mail]\nfrom = "spool <spool@example.org>"\n'
    )
    return Desk(tmp_path, load(str(path), environ={}))


class Desk:
    def __init__(self, root, config):
        self.log = Events()
        self.outbox = Outbox(str(root / "outbox"), sync=False)
        self.post = Post(config, self.outbox, self.log, lambda: 1_795_000_100.0)

    def put(self, *via, to=("ops@example.org",), event=EVENT, about=ABOUT, hide=str):
        self.post.put(event, Wish(to, frozenset({"late"}), via), hide, about)

    def parcel(self, via, to=("ops@example.org",), about=ABOUT):
        return self.post.parcel(EVENT, (via, Wish(to, frozenset({"late"}), (via,))), str, about)

    def letters(self):
        return self.outbox.entries(WAITING)


def test_each_transport_gets_a_letter_of_its_own(desk):
    desk.put("out", "hook")
    assert len(desk.letters()) == 2
    assert desk.log.names() == ["mail-queued", "mail-queued"]


def test_the_same_event_put_twice_is_one_letter_and_another_moment_another(desk):
    desk.put("out")
    desk.put("out")
    assert len(desk.letters()) == 1
    desk.put("out", about=("nightly", ABOUT[1] + 86400))
    assert len(desk.letters()) == 2


def test_other_readers_get_their_own_letter(desk):
    desk.put("out")
    desk.put("out", to=("else@example.org",))
    assert len(desk.letters()) == 2


def test_addresses_count_once_and_one_that_is_none_is_left_out_and_told(desk):
    parcel = desk.parcel("out", to=("Ops <ops@example.org>, ops@example.org", "a b c@", "it@example.org"))
    assert parcel.recipients == ("ops@example.org", "it@example.org")
    assert parcel.sender == "spool@example.org"
    assert desk.log.names() == ["mail-failed"]
    letter = email.message_from_bytes(parcel.data, policy=email.policy.default)
    assert "nightly has not arrived" in letter["subject"]
    assert "it@example.org" in letter["to"]


def test_without_a_recipient_there_is_no_letter_but_a_maildir_needs_none(desk):
    desk.put("out", to=())
    assert [*desk.log.names(), len(desk.letters())] == ["mail-failed", 0]
    assert desk.parcel("box", to=()).recipients == ("spool@example.org",)


def test_a_webhook_gets_json_with_what_is_secret_hidden(desk):
    parcel = desk.post.parcel(
        EVENT, ("hook", Wish((), frozenset({"late"}), ("hook",))), lambda text: text.replace("06", "**"), ABOUT
    )
    body = json.loads(parcel.data)
    assert parcel.recipients == ("hook",)
    assert "daily 06" not in parcel.data.decode()
    assert "nightly" in json.dumps(body)
