"""Where the mail of a node is. Several spools of a node share the outbox; what is known of failures is of each spool.

MAIL/waiting/ sent/ refused/             the outbox
MAIL/spools/ID/failing/NAME              exists while jobs of this name fail; a supervisor asks for it and opens nothing
MAIL/spools/ID/readers/KEY/flood.json    what these readers were told; readers.json says who they are
MAIL/spools/ID/expected.json             the last deadline of each expected job that was looked at
MAIL/spools/ID/next                      when there is something to do again, in seconds since the epoch
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from spooldadd import names
from spooldadd.config import Config
from spooldadd.spool import Spool


@dataclass(frozen=True)
class Places:
    """The paths of a node's mail, as far as one spool goes."""

    outbox: str
    spool: str

    @property
    def failing(self) -> str:
        """Where there is a file for each name that fails."""
        return os.path.join(self.spool, "failing")

    @property
    def readers(self) -> str:
        """Where there is a ledger for each set of readers."""
        return os.path.join(self.spool, "readers")

    @property
    def expected(self) -> str:
        """The file with the deadlines that were looked at."""
        return os.path.join(self.spool, "expected.json")

    @property
    def next(self) -> str:
        """The file with the time of the next duty."""
        return os.path.join(self.spool, "next")


def outbox_of(config: Config) -> str:
    """Return the directory of the node's mail: as configured, else beside the one for work directories."""
    return config.mail.outbox or os.path.join(os.path.dirname(config.work_dir), "mail")


def places_of(config: Config, the_spool: Spool) -> Places:
    """Return where the mail about this spool's jobs is."""
    outbox = outbox_of(config)
    own = names.safe_name(the_spool.format.id or os.path.basename(the_spool.places.root))
    return Places(outbox, os.path.join(outbox, "spools", own))
