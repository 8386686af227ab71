"""The error classes: one for each party who must act.

Low modules raise them; only the worker's loop, the supervisor and the command line catch them. Kept free of imports,
because the launcher loads it.
"""

from __future__ import annotations


class SpooldaddError(Exception):
    """Something went wrong in a way that this program understands; the message is for a person."""


class SpecError(SpooldaddError):
    """The submitter must act: the spec cannot be run as it is. Never retried."""


class BuildError(SpooldaddError):
    """The spec's policy decides: the environment of a job could not be built."""


class JobLost(SpooldaddError):
    """The spec's policy decides: a job's supervisor ended without a result."""


class ClaimLost(SpooldaddError):
    """Nobody must act: the record went to another claimer, so this one stops touching it at once."""


class TakenBefore(ClaimLost):
    """Nobody must act: it was gone before the claim began, so nothing was made for it either."""


class SpoolError(SpooldaddError):
    """The host must act, perhaps later: the spool cannot be used now. The spec stays where it is."""


class NotASpool(SpoolError):
    """The directory has no `.spool/format.toml`: an unmounted share must not look like an empty queue."""


class NoSuchJob(SpooldaddError):
    """The person who asked must act: no job has that name."""


class MailError(SpooldaddError):
    """The operator must act: a mail could not be handed over. It stays in the outbox."""


class Outdated(SpooldaddError):
    """The service manager must act: the installed release was replaced under a running program; start it again."""


class ConfigError(SpooldaddError):
    """The operator must act: the configuration cannot be used. The program refuses to start."""
