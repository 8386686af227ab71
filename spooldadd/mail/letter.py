"""A letter: what is handed over, to whom, by which transport; and what came of it for each recipient. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from spooldadd.errors import MailError


class Fate(Enum):
    """What became of a letter for one recipient."""

    WAITING = "waiting"
    SENT = "sent"
    REFUSED = "refused"


@dataclass(frozen=True)
class Answer:
    """What the other side said about one recipient. `WAITING` means: not now, try again."""

    fate: Fate
    text: str = ""


@dataclass(frozen=True)
class Letter:
    """A mail, or the body of a webhook, on its way. `transport` is a name in the configuration."""

    id: str
    transport: str
    sender: str
    recipients: tuple[str, ...]
    data: bytes

    @property
    def is_wide(self) -> bool:
        """Tell whether an address has letters outside ASCII."""
        return not all(address.isascii() for address in (self.sender, *self.recipients))


class Unreachable(MailError):
    """Nobody answers there, or not as agreed: the other letters for it have to wait as well."""
