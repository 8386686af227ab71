"""Where things are in a spool, and nothing else. Light: the launcher loads it.

What is done for each job puts its paths together as `f"{directory}/{name}"`, here and elsewhere: of parts that are ours,
`os.path.join` takes longer than to make a file there.
"""

from __future__ import annotations

import os

from spooldadd import forms, names

RUNNING, WAITING, DONE, FAILED = "running", "waiting", "done", "failed"
STATES = (WAITING, RUNNING, DONE, FAILED)
INTERNAL = ".spool"
INCOMING = "incoming"  # below it: records that arrive from other spools
PAUSED = "paused"
WAKE = ".wake"  # `touch` it, and the workers look at once
ROOT_ENTRIES = frozenset({*STATES, INTERNAL, PAUSED})
HELD_SUFFIX = ".held"
NOTES_SUFFIX = ".holder"  # below `.spool/locks/`
# Before the name of a node: a directory in the root, whose drops are for that node alone. A file of that name in a record
# says so of a job that is on its way.
INBOX = "@"
CLAIMED = "claimed"  # below `.spool/` of a synced spool: which drops a node knows to have been made into jobs
ASIDE = "aside"  # below `.spool/` of a synced spool: drops that a sync tool brought back

SPEC = "spec.toml"
SPEC_SCRIPT = "spec.py"
SPEC_BUNDLE = "spec.tar"
SPECS = (SPEC, SPEC_SCRIPT, SPEC_BUNDLE)  # a record has one of them
CLAIM = "claim.toml"
RESULT = "result.toml"
BUILD_LOG = "build.log"
OUTPUT_LOG = "output.log"
STDOUT_LOG = "stdout.log"
STDERR_LOG = "stderr.log"
PROBLEMS = "errors.txt"
ATTEMPTS = "attempts"
CANCEL = "cancel"
HOLD = "hold"
OWNER = "owner.toml"  # whose job it is, where that is not the user of the worker
NOW = "now"  # a waiting record with this file does not wait for its time
MANIFEST = "manifest.toml"  # of a record that came from another spool
UPLOADED = "uploaded.toml"  # this attempt's record is whole on the node's master
RETURNING = "returning.toml"  # its spec is being sent back; whether it arrived is not known yet
RETURNED = "returned.toml"  # its spec was sent back, or dropped again, as another job
# What belongs to the job and not to one attempt stays where it is when the next attempt begins.
JOB_ENTRIES = frozenset({*SPECS, ATTEMPTS, HOLD, OWNER})
# What `[keep]` may not overwrite.
RESERVED = JOB_ENTRIES | {CLAIM, RESULT, BUILD_LOG, OUTPUT_LOG, STDOUT_LOG, STDERR_LOG, PROBLEMS, CANCEL, NOW}
RESERVED |= {MANIFEST, UPLOADED, RETURNING, RETURNED}


TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Iterable


class Layout:
    """The paths of one spool. `id` is what its `format.toml` calls it, where that matters: another may lie there one day."""

    __slots__ = (
        "aside",
        "claimed",
        "done",
        "failed",
        "format",
        "id",
        "incoming",
        "internal",
        "is_common",
        "locks",
        "nodes",
        "notify",
        "proofs",
        "root",
        "running",
        "upload",
        "waiting",
    )

    def __init__(self, root: str, id: str = "") -> None:
        self.root = root
        self.id = id
        self.is_common = False  # whether everybody on the machine drops here: who knows it says so
        self.running = os.path.join(root, RUNNING)
        self.waiting = os.path.join(root, WAITING)
        self.done = os.path.join(root, DONE)
        self.failed = os.path.join(root, FAILED)
        self.internal = os.path.join(root, INTERNAL)
        self.format = os.path.join(self.internal, "format.toml")
        self.locks = os.path.join(self.internal, "locks")
        self.nodes = os.path.join(self.internal, "nodes")
        self.notify = os.path.join(self.internal, "notify")
        self.incoming = os.path.join(self.internal, INCOMING)
        self.upload = os.path.join(self.internal, "upload")
        self.proofs = os.path.join(self.internal, "proofs")
        self.claimed = os.path.join(self.internal, CLAIMED)
        self.aside = os.path.join(self.internal, ASIDE)

    def state_directory(self, state: str) -> str:
        """Return the directory whose entries are in this state."""
        return os.path.join(self.root, state)

    def lock(self, record: str) -> str:
        """Return the path of the lock file that is the lease of this running record."""
        return f"{self.locks}/{record}.lock"

    def notes(self, record: str) -> str:
        """Return the path of what is noted beside that lock file, where a locked file cannot be written (SMB)."""
        return os.path.join(self.locks, f"{record}{NOTES_SUFFIX}")

    def pause_files(self, queue: str) -> tuple[str, str]:
        """Return the files that stop claiming while they exist: for all, and for this queue."""
        return os.path.join(self.root, PAUSED), os.path.join(self.root, f"{PAUSED}.{queue}")


_last = [Layout("")]


def of(root: str, id: str) -> Layout:
    """Return the paths of this spool: made once for all the attempts of a supervisor, which are of one spool."""
    last = _last[0]
    if last.root != root or last.id != id:
        last = _last[0] = Layout(root, id)
    return last


def inbox(node: str) -> str:
    """Return the name of the directory whose drops are for this node alone."""
    return INBOX + node


def inbox_node(name: str) -> str:
    """Return the node of an inbox or of such a file in a record; empty where it is none. Of a drop: `drop_node`."""
    first = name.partition("/")[0]
    node = first.removeprefix(INBOX)
    return node if first.startswith(INBOX) and names.safe_name(node) == node else ""


def drop_node(key: str) -> str:
    """Return the node in whose inbox a drop lies; empty where it lies in the root, whatever it is called there."""
    return inbox_node(key) if "/" in key else ""


def is_inbox(key: str) -> bool:
    """Tell whether this is the name of an inbox itself, and not of something in one."""
    return "/" not in key and bool(inbox_node(key))


def is_drop(key: str) -> bool:
    """Tell whether this may be where a drop lay, below the root: a name there or in an inbox, which leads nowhere else."""
    inbox_name, slash, name = key.rpartition("/")
    return name not in ("", ".", "..") and "\0" not in key and (not slash or is_inbox(inbox_name))


def bound_nodes(entries: Iterable[str]) -> list[str]:
    """Return the nodes that alone may run a job whose record has these entries; none where any node may."""
    return sorted(node for node in map(inbox_node, entries) if node)


def bare_name(file_name: str) -> str:
    """Return the name that a dropped file has, or will have, while nobody holds it."""
    return file_name.removesuffix(HELD_SUFFIX)


def spec_entry(file_name: str) -> str:
    """Return how a dropped file of this name is called in its record: its form stays told by the suffix."""
    bare = bare_name(file_name)
    if forms.is_script(bare):
        return SPEC_SCRIPT
    return SPEC_BUNDLE if forms.is_bundle(bare) else SPEC


def find_spec(record: str) -> str:
    """Return the path of a record's spec, in whatever form; of one that is missing, where a TOML file would be."""
    paths = [os.path.join(record, entry) for entry in SPECS]
    return next((path for path in paths if os.path.lexists(path)), paths[0])
