"""The tables of the configuration, one class each. Attribute names carry units; the alias is the key in the file."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, PrivateAttr
from pydantic import WithJsonSchema as Shown

from spooldadd import forms
from spooldadd.complaints import refuse
from spooldadd.config.capacity import Capacity
from spooldadd.config.keep import Keep
from spooldadd.config.notify import Mail, NodeNotify, Transports, TransportTables
from spooldadd.config.owning import Owner
from spooldadd.config.remote import Master, NodeTable, NodeTargets, Remote
from spooldadd.config.secrets import SecretPlaces
from spooldadd.config.takeover import Takeover
from spooldadd.config.trusting import Trust
from spooldadd.names import safe_name
from spooldadd.spec.fields import (
    MAX_NAME_CHARACTERS,
    CpuQuota,
    Delay,
    Directory,
    Duration,
    Environ,
    MemorySize,
    Name,
    OpenFiles,
    Size,
    Tasks,
    Word,
)
from spooldadd.spec.models import Limits, Sandbox, Table

# Each running job has a supervisor of about a megabyte; far more at once than any node can run.
MAX_JOBS: Final = 10_000


def default_node(host_name: str | None = None) -> str:
    """Name this node after its host: the part before the first dot, in the characters that a name may have."""
    host = socket.gethostname() if host_name is None else host_name
    return safe_name(host.split(".")[0])[:MAX_NAME_CHARACTERS]


def default_jobs() -> int:
    """Count the processors that this process may use, which in a container is fewer than the host has."""
    return min(len(os.sched_getaffinity(0)), MAX_JOBS)


def default_work_dir(environ: Mapping[str, str], uid: int) -> str:
    """Name the directory for work directories: of the system for root, else of the user."""
    if uid == 0:
        return "/var/lib/spooldadd/work"
    return os.path.join(user_dir(environ, "XDG_STATE_HOME", ".local/state"), "spooldadd", "work")


def user_dir(environ: Mapping[str, str], variable: str, below_home: str) -> str:
    """Find a user's directory as the XDG Base Directory Specification says: relative values do not count."""
    given = environ.get(variable, "")
    return given if os.path.isabs(given) else os.path.join(home(environ), below_home)


def home(environ: Mapping[str, str]) -> str:
    """Find the home directory: `HOME`, or what the user database says where it is unset, as under cron."""
    return environ.get("HOME") or os.path.expanduser(f"~{'' if os.getuid() else 'root'}")


def _work_dir_of_this_process() -> str:
    return default_work_dir(os.environ, os.getuid())


def default_cache_dir(environ: Mapping[str, str], uid: int) -> str:
    """Name the directory for what can be made again: of the system for root, else of the user."""
    if uid == 0:
        return "/var/cache/spooldadd"
    return os.path.join(user_dir(environ, "XDG_CACHE_HOME", ".cache"), "spooldadd")


def _cache_dir_of_this_process() -> str:
    return default_cache_dir(os.environ, os.getuid())


def _suffix(value: str) -> str:
    if not value.startswith(".") or len(value) < 2 or "/" in value or "\0" in value:
        raise refuse("is no suffix of a file name", 'write it with its dot, as in `".toml"`')
    return value


def _variable_pattern(value: str) -> str:
    if not value or "=" in value:
        raise refuse("matches no environment variable", 'write a name, or a pattern such as `"LC_*"`')
    return value


Suffix = Annotated[str, AfterValidator(_suffix)]
VariablePattern = Annotated[Word, AfterValidator(_variable_pattern), Shown({"title": "name pattern", "type": "string"})]
Width = Annotated[int, Field(ge=0, le=MAX_JOBS)]


class Intake(Table):
    """How dropped files are found, and when they count as complete."""

    settle_s: Delay | None = Field(
        default=None,
        alias="settle",
        description="How long a file must stand still before it is taken; unset, 2 s on a local disk, else 5 s.",
    )
    scan_interval_s: Duration | None = Field(
        default=None,
        alias="scan_interval",
        description="Time between two looks at the spool; unset, 30 s where events work and a few seconds elsewhere.",
    )
    suffixes: Annotated[tuple[Suffix, ...], Field(strict=False)] = Field(
        default=forms.SUFFIXES,
        description="Files with these suffixes are specs, Python files only with inline metadata; others are left alone.",
    )
    events: bool = Field(
        default=True,
        description="Use the file system's events to look sooner. They are hints: scans go on without them.",
    )


class DefaultLimits(Table):
    """Limits for the specs that set none of their own."""

    timeout_s: Duration | None = Field(default=None, alias="timeout", description="How long an attempt may run.")
    stall_s: Duration | None = Field(
        default=None, alias="stall", description="How long an attempt may print nothing and use no CPU."
    )
    memory_bytes: MemorySize | None = Field(
        default=None, alias="memory", description="Memory of all processes of a job together."
    )
    open_files: OpenFiles | None = Field(default=None, description="Open files of each process.")
    output_bytes: Size | None = Field(
        default=None, alias="output", description="Size of the output log; unset, what the spec has, 100M by default."
    )
    cpu_time_s: Duration | None = Field(default=None, alias="cpu_time", description="CPU time of a job's processes.")
    cpus: CpuQuota | None = Field(default=None, description="Processors that a job may keep busy, such as 1.5.")
    tasks: Tasks | None = Field(default=None, description="Processes and threads of a job at once.")

    def fill(self, limits: Limits) -> Limits:
        """Return a spec's limits, with ours where the spec is silent."""
        ours = {
            name: value
            for name in type(self).model_fields
            if name not in limits.model_fields_set and (value := getattr(self, name)) is not None
        }
        return limits.model_copy(update=ours) if ours else limits


class JobEnviron(Table):
    """Which of the worker's environment variables reach the jobs. What a spec sets goes on top."""

    passed: Annotated[tuple[VariablePattern, ...], Field(strict=False)] = Field(
        default=("*",), alias="pass", description="Names or patterns of variables that jobs get from the worker."
    )
    dropped: Annotated[tuple[VariablePattern, ...], Field(strict=False)] = Field(
        default=(),
        alias="drop",
        description="Names or patterns of variables that jobs do not get; stronger than `pass`.",
    )
    added: Environ = Field(default_factory=dict, alias="set", description="Variables that every job gets.")


class LogStyle(Table):
    """What the worker writes to its own log."""

    format: Literal["auto", "plain", "json", "journal"] = Field(
        default="auto", description="Lines for people or JSON; `auto` is plain, with priorities under systemd."
    )
    level: Literal["debug", "info", "warning"] = Field(default="info", description="The least that is worth a line.")


@dataclass(frozen=True)
class Provenance:
    """Where the values of a configuration came from, by dotted key, and what was strange on the way.

    Two are always equal, so that configurations are compared by their values alone.
    """

    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)
    file: str = field(default="", compare=False)


class Config(Table):
    """How one worker of one node works: valid, complete, immutable."""

    node: Name = Field(default_factory=default_node, description="This node's name; unset, the host's short name.")
    jobs: Annotated[int, Field(ge=1, le=MAX_JOBS)] = Field(
        default_factory=default_jobs, description="Jobs that run at once; unset, the number of CPUs."
    )
    queues: Mapping[Name, Width] = Field(
        default_factory=dict,
        description="How many jobs of a queue run at once; 0 closes it. Queues that are not named share `jobs`.",
    )
    labels: Annotated[tuple[Name, ...], Field(strict=False)] = Field(
        default=(), description="What this node is or has; a spec asks for it with `place.labels`."
    )
    capacity: Capacity = Field(
        default_factory=Capacity, description="What this node has for jobs whose spec says what they take of it."
    )
    work_dir: Directory = Field(
        default_factory=_work_dir_of_this_process,
        description="Where jobs run, on the node's own disk; unset, `/var/lib/spooldadd/work` for root, "
        "else `~/.local/state/spooldadd/work`.",
    )
    cache_dir: Directory = Field(
        default_factory=_cache_dir_of_this_process,
        description="Where downloads and Python environments are kept, on the node's own disk; unset, "
        "`/var/cache/spooldadd` for root, else `~/.cache/spooldadd`.",
    )
    secrets_dir: Directory | None = Field(
        default=None, description="Where secrets that specs name are, one file each, readable for the worker only."
    )
    secrets: SecretPlaces = Field(
        default_factory=SecretPlaces, description="Where secrets are looked for, besides `secrets_dir`."
    )
    sandbox: Sandbox = Field(
        default_factory=Sandbox,
        description="What every job is kept from; a spec can be kept from more, never from less.",
    )
    redis_url: str | None = Field(
        default=None, description="A Redis server through which nodes share what they know of downloads; unset, none."
    )
    control_groups: Literal["auto", "scope", "leaf", "off"] = Field(
        default="auto",
        description="Where jobs with limits get a control group: `scope` asks the service manager for a place of its own, "
        "`leaf` takes the worker's own group, `auto` the first that can be had, `off` none.",
    )
    intake: Intake = Field(default_factory=Intake, description="How dropped files are found and taken.")
    limits: DefaultLimits = Field(default_factory=DefaultLimits, description="Limits for specs that set none.")
    keep: Keep = Field(default_factory=Keep, description="How long things stay.")
    takeover: Takeover = Field(default_factory=Takeover, description="When the jobs of a lost node are taken over.")
    trust: Trust = Field(default_factory=Trust, description="Whose specs are run.")
    owner: Owner = Field(default_factory=Owner, description="As which user jobs run, and whose.")
    environ: JobEnviron = Field(
        default_factory=JobEnviron, description="Which of the worker's environment variables reach the jobs."
    )
    mail: Mail = Field(default_factory=Mail, description="How the mail about jobs is made, and where it waits.")
    notify: NodeNotify = Field(
        default_factory=NodeNotify, description="What is told of jobs whose spec says nothing, and what is expected."
    )
    transport: TransportTables = Field(
        default_factory=Transports,
        description="`[transport.NAME]`: a way on which mail leaves; `kind` is `smtp`, `lmtp`, `sendmail`, `maildir`, "
        "`command` or `webhook`. Without one there is no mail.",
    )
    remote: Remote = Field(default_factory=Remote, description="How other machines are reached.")
    nodes: NodeTable = Field(
        default_factory=NodeTargets,
        description="`[nodes.NAME]`: a node to push to and to collect from; `target`, `command`, `labels`.",
    )
    master: Master = Field(default_factory=Master, description="Where this node sends finished records by itself.")
    log: LogStyle = Field(default_factory=LogStyle, description="What the worker writes to its own log.")

    _provenance: Provenance = PrivateAttr(default_factory=Provenance)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was strange while loading and did no harm, one sentence each."""
        return self._provenance.warnings

    @property
    def file(self) -> str:
        """The file that it was read from; empty where there was none."""
        return self._provenance.file

    @property
    def origins(self) -> Mapping[str, str]:
        """Where the values that are no defaults came from, by dotted key."""
        return self._provenance.origins

    def with_provenance(self, provenance: Provenance) -> Config:
        """Return the same configuration, remembering where its values came from."""
        copy = self.model_copy()
        copy._provenance = provenance
        return copy
