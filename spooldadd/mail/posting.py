"""From an event to letters in the outbox: one for each transport that its readers chose."""

from __future__ import annotations

import datetime
import hashlib
import socket
from collections.abc import Callable

from spooldadd.config import Config
from spooldadd.erroremail import Mailbox, parse_mailboxes
from spooldadd.log import Log
from spooldadd.mail.compose import Composer, Letterhead, kind_of, webhook_body
from spooldadd.mail.events import Event
from spooldadd.mail.outbox import Outbox, Parcel
from spooldadd.mail.redact import Hide
from spooldadd.mail.wishes import Wish


class Post:
    """Puts letters into the outbox of a node. `now` is the wall clock."""

    def __init__(self, config: Config, outbox: Outbox, log: Log, now: Callable[[], float]) -> None:
        self.outbox = outbox
        self._config = config
        self._log = log
        self._now = now
        self._composer = Composer(config.mail.templates)

    def put(self, event: Event, wish: Wish, hide: Hide, about: tuple[str, float]) -> None:
        """Put an event into the outbox for all its readers; a second time changes nothing.

        `about` is the job or name that it is about, and when it happened, in seconds since the epoch. Raises: OSError.
        """
        for name in wish.via:
            parcel = self.parcel(event, (name, wish), hide, about)
            if parcel is None:
                self._log.warning("mail-failed", job=about[0], via=name, error="it has no recipient", then="sending none")
                continue
            letter = self.outbox.put(parcel)
            self._log.info("mail-queued", job=about[0], kind=kind_of(event), via=name, letter=letter)

    def parcel(self, event: Event, to: tuple[str, Wish], hide: Hide, about: tuple[str, float]) -> Parcel | None:
        """Return the parcel for one transport of a wish, or None where it has no recipient there."""
        name, wish = to
        kind = str(self._config.transport[name].get("kind"))
        sender = sender_of(self._config)
        identity = _identity(about[1], repr((kind_of(event), about, name, wish.key)))
        if kind == "webhook":
            data = webhook_body(event, self._config.node, hide)
            return Parcel(name, sender.address, (name,), data, kind_of(event), about[0], identity)
        boxes = self._boxes(wish.email) or ((sender,) if kind == "maildir" else ())
        if not boxes:
            return None
        head = Letterhead(sender, boxes, self._config.node, datetime.datetime.fromtimestamp(self._now(), datetime.UTC))
        data = self._composer.compose(event, head, hide).as_bytes()
        return Parcel(name, sender.address, tuple(box.address for box in boxes), data, kind_of(event), about[0], identity)

    def _boxes(self, texts: tuple[str, ...]) -> tuple[Mailbox, ...]:
        """Return the addresses; what passed the spec's cheap check and is none after all is left out."""
        found: dict[str, Mailbox] = {}
        for text in texts:
            try:
                found |= {box.address: box for box in parse_mailboxes(text)}
            except ValueError as error:
                self._log.warning("mail-failed", error=str(error), then="sending it to the others")
        return tuple(found.values())


def sender_of(config: Config) -> Mailbox:
    """Return who the mails are from."""
    return parse_mailboxes(config.mail.sender or f"spooldadd@{socket.gethostname()}")[0]


def _identity(at_s: float, text: str) -> str:
    """Return the id of a letter: the same for the same event, sorted by age among others."""
    stamp = datetime.datetime.fromtimestamp(at_s, datetime.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return f"{stamp}-{hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()[:12]}"
