"""What a supervisor needs to know to run one attempt: plain values, all decided before the fork. Light.

The worker makes a plan from a spec, its configuration and a claim; the supervisor reads no spec and no configuration.
Both are of one release and one interpreter, so the wire form is `marshal`, which is built in.
"""

from __future__ import annotations

import marshal
import os

from spooldadd.account import Account
from spooldadd.lifecycle import Policy
from spooldadd.notice import Telling

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")


class Limits:
    """When to end a job. None means no limit. Times in seconds, sizes in bytes."""

    __slots__ = (
        "cpu_time_s",
        "cpus",
        "kill_after_s",
        "memory_bytes",
        "open_files",
        "output_bytes",
        "stall_s",
        "tasks",
        "timeout_s",
    )

    def __init__(self) -> None:
        self.timeout_s: float | None = None
        self.stall_s: float | None = None
        self.kill_after_s: float = 10.0
        self.memory_bytes: int | None = None
        self.open_files: int | None = None
        self.output_bytes: int | None = None
        self.cpu_time_s: float | None = None
        self.cpus: float | None = None
        self.tasks: int | None = None

    def are_set_in_the_child(self) -> bool:
        """Tell whether one of them is set, or may be, between fork and exec: `spawn.kernel_limits`, and control groups."""
        return (self.open_files, self.cpu_time_s, self.memory_bytes, self.cpus, self.tasks) != (None,) * 5


class Equipment:
    """What a supervisor makes ready for one attempt: see `kit`."""

    __slots__ = ()


class Plan:
    """One attempt, ready to run. Without slots: a supervisor fills one for each job, and fills a dictionary at once."""

    def __init__(self) -> None:
        self.root = ""  # the spool
        self.spool_id = ""  # lest another one that lies there later is taken for it
        self.is_shared = False  # other nodes may take the record over
        self.is_far = False  # on a network file system, where any call may hang for a minute
        self.source_directory = ""  # that it has left it is still to be made last, with the result; empty where it lasts
        self.record = ""  # name below running/, which is also the fence
        self.job = ""
        self.name = ""
        self.queue = ""
        self.node = ""
        self.attempt = 1
        self.submitted_at_s = 0.0
        self.claimed_at_s = 0.0
        self.command: list[str] = []
        self.environ: dict[str, str] = {}  # on top of the launcher's own
        self.stdin = b""
        self.config: bytes | None = None
        self.script: tuple[str, bytes] | None = None  # name and bytes of a file to put into the work directory
        self.secrets: list[tuple[str, str, bool]] = []  # name for the job, name on the node, also as a variable
        self.secret_sources: dict[str, object] = {}
        self.sandbox: dict[str, object] | None = None  # `confine.Rules`, where there is one
        self.kit: Equipment | None = None  # what the supervisor made of these; never on the wire
        self.signed_by = ""  # who signed the spec, where this node looks at signatures
        self.owner = ""  # whose spec it is, where that is not the worker's own user
        self.account: Account | None = None  # the user that it runs as, where that is not the worker's own
        self.work_dir = ""  # made for this attempt, on the node's own disk
        self.work_top = ""  # what is removed with it: itself, or with an account its parent, which belongs to that
        self.build: bytes | None = None  # what the builder is told; None where nothing has to be built
        self.cache_dir = ""
        self.environment = ""  # the key of a Python environment that is ready: then no builder is needed
        self.environment_environ: dict[str, str] = {}
        self.control_group = ""  # where groups of jobs are made; empty where there are none
        self.split_output = False
        self.limits = Limits()
        self.policy = Policy()
        self.keep_files: list[str] = []
        self.keep_workdir = "failure"
        self.sync = True
        self.telling = Telling()

    def environment_marker(self, key: str) -> str:
        """Return the file whose lock holds this Python environment."""
        return os.path.join(self.cache_dir, "environments", key, "ready.json")


def to_wire(plan: Plan, but: tuple[str, ...] = ()) -> bytes:
    """Return the plan as bytes: what differs from a fresh one, which at the other end is made anew; all `but` these."""
    table = _differing(plan, _USUAL)
    for name in but:
        table.pop(name, None)
    return marshal.dumps(table)


def from_wire(data: bytes) -> Plan:
    """Return the plan in these bytes, which a worker of this very release has written."""
    table: dict[str, object] = marshal.loads(data)
    return from_table(table)


def to_table(plan: Plan) -> dict[str, object]:
    """Return the plan as a table of what differs from a fresh one, for what carries more than one of them."""
    return _differing(plan, _USUAL)


def from_table(table: dict[str, Any]) -> Plan:
    """Return the plan in this table, which is used up.

    What the table does not say is the same thing in all such plans: it may be replaced, but not changed.
    """
    plan = Plan.__new__(Plan)
    values = vars(plan)
    values.update(_USUAL)
    for name, kind in _PARTS:
        if kind.__name__ in table:
            values[name] = _filled(kind(), table.pop(kind.__name__))
    values.update(table)
    return plan


def _differing(thing: object, usual: dict[str, object]) -> dict[str, object]:
    table: dict[str, object] = {}
    for name, usually in usual.items():
        value = getattr(thing, name)
        if isinstance(value, (Limits, Policy, Telling, Account)):
            if part := _differing(value, _USUAL_PARTS[type(value)]):
                table[type(value).__name__] = part
        elif value != usually:
            table[name] = value
    return table


def _filled(thing: T, table: dict[str, object]) -> T:
    for name, value in table.items():
        setattr(thing, name, value)
    return thing


_PARTS: tuple[tuple[str, type[Any]], ...] = (
    ("limits", Limits),
    ("policy", Policy),
    ("telling", Telling),
    ("account", Account),
)
_USUAL: dict[str, object] = vars(Plan())
_USUAL_PARTS = {kind: {name: getattr(kind(), name) for name in kind.__slots__} for _, kind in _PARTS}
