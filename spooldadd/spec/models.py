"""The tables of a spec, one class each. Attribute names carry units; the alias is the key as it stands in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator

from spooldadd.bounds import DEFAULT_QUEUE, HIGHEST_PRIORITY, LOWEST_PRIORITY, MOST_ATTEMPTS
from spooldadd.complaints import refuse
from spooldadd.environment.models import BuildStep, FileEntry, PythonTable
from spooldadd.placement import ANYWHERE, MILLI, Needs, Place
from spooldadd.reading import Source
from spooldadd.spec.fields import (
    Address,
    Command,
    CpuQuota,
    Cpus,
    Delay,
    Duration,
    Environ,
    FilePattern,
    Gpus,
    JsonTable,
    MemorySize,
    Moment,
    Name,
    NodePatterns,
    OpenFiles,
    Size,
    Tasks,
    Text,
    Variable,
)
from spooldadd.spec.safety import SandboxPath, SecretUses, UsedSecrets, check_variables
from spooldadd.units import format_duration

# The outcomes after which another attempt may help. Not `lost`: that is what `restartable` decides.
RetryOutcome = Literal["exit", "signal", "timeout", "stall", "output", "oom", "build"]
RETRIED_BY_DEFAULT: Final[tuple[RetryOutcome, ...]] = ("exit", "signal", "timeout", "stall", "oom", "build")
NotifyEvent = Literal["failure", "recovery", "success", "lost", "late"]
SETTINGS_VARIABLE: Final = "APP_SETTINGS_JSON"


@dataclass(frozen=True)
class Script:
    """The program that a script brings as its own spec: its name in the work directory, and its bytes."""

    name: str
    data: bytes


class Table(BaseModel):
    """A table of a TOML file: frozen, strict about types, and without room for unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_by_name=True,
        validate_by_alias=True,
        hide_input_in_errors=True,
    )


class Limits(Table):
    """Bounds that end the job when it crosses them. A limit that is absent comes from the node's configuration."""

    timeout_s: Duration | None = Field(
        default=None, alias="timeout", description="How long an attempt may run before it is ended; unset, no limit."
    )
    stall_s: Duration | None = Field(
        default=None,
        alias="stall",
        description="End the attempt when it printed nothing and used no CPU for this long; unset, never.",
    )
    kill_after_s: Delay = Field(
        default=10.0,
        alias="kill_after",
        description="Time between asking the processes to end (TERM) and ending them (KILL).",
    )
    memory_bytes: MemorySize | None = Field(
        default=None, alias="memory", description="Memory that all processes of the job may use together."
    )
    open_files: OpenFiles | None = Field(default=None, description="Open files of each process (`ulimit -n`).")
    output_bytes: Size = Field(
        default=100 * 2**20,
        alias="output",
        description="Size of the output log at which the attempt is ended, so that no job fills the disk.",
    )
    cpu_time_s: Duration | None = Field(
        default=None, alias="cpu_time", description="CPU time that the processes of the job may use."
    )
    cpus: CpuQuota | None = Field(
        default=None,
        description="Processors that the processes of the job may keep busy together, such as 1.5; beyond it they wait. "
        "Kept where the node has control groups.",
    )
    tasks: Tasks | None = Field(
        default=None,
        description="Processes and threads that the job may have at once; beyond it, starting one fails. Kept where the "
        "node has control groups.",
    )


class Retry(Table):
    """Whether a failed attempt is followed by another, and when."""

    attempts: Annotated[int, Field(ge=1, le=MOST_ATTEMPTS)] | None = Field(
        default=None, description="Attempts in all, the first included; unset, one."
    )
    backoff_max_s: Delay = Field(default=3600.0, alias="backoff_max", description="The delay does not grow beyond this.")
    backoff_s: Delay = Field(
        default=30.0,
        alias="backoff",
        description="Delay before the second attempt; doubles before each further one, with jitter.",
    )
    on: Annotated[tuple[RetryOutcome, ...], Field(strict=False)] = Field(
        default=RETRIED_BY_DEFAULT, description="Outcomes that are worth another attempt; others fail at once."
    )

    # Cross-field rules hang on the later field, not on the model: those of a model are skipped when a field is wrong.
    @field_validator("backoff_s")
    @classmethod
    def _backoff_can_grow(cls, value: float, info: ValidationInfo) -> float:
        longest = info.data.get("backoff_max_s", value)
        if value > longest:
            raise refuse(
                f"is longer than `retry.backoff_max`, which is {format_duration(longest)}", "raise `backoff_max` too"
            )
        return value


class Run(Table):
    """When and how the command is started."""

    not_before: Moment | None = Field(
        default=None, description="The job waits until then. A date with time and zone, without quotes."
    )
    split_output: bool = Field(
        default=False, description="Keep stdout and stderr in two logs instead of one in which they are in order."
    )


class Requires(Table):
    """What the job takes of a node while it runs. It is counted, not enforced; what is absent takes nothing."""

    cpus: Cpus | None = Field(default=None, description="Processors; parts of one are allowed.")
    memory_bytes: MemorySize | None = Field(default=None, alias="memory", description="Memory.")
    gpus: Gpus | None = Field(
        default=None,
        description="GPUs; `CUDA_VISIBLE_DEVICES` and `SPOOLDADD_GPUS` tell the job which of them are its own.",
    )


class PlaceTable(Table):
    """Which nodes may run the job."""

    node: NodePatterns = Field(
        default=(),
        description="Names of nodes, or patterns such as `etl-*`, in the letters of the name; unset, any.",
    )
    labels: Annotated[tuple[Name, ...], Field(strict=False)] = Field(
        default=(), description="Labels that the node's configuration must have, all of them."
    )
    requires: Requires = Field(default_factory=Requires, description="What the job takes of a node while it runs.")

    def place(self) -> Place:
        """Return the same in the terms of those who decide about it."""
        if not self.model_fields_set:
            return ANYWHERE
        asked = self.requires
        needs = Needs(round((asked.cpus or 0) * MILLI), asked.memory_bytes or 0, asked.gpus or 0)
        return Place(self.node, self.labels, needs)


class Sandbox(Table):
    """What the command is kept from. In a spec: what it shall be kept from; in the configuration: what each job is."""

    network: bool | None = Field(
        default=None, description="`false`: no network but a loopback of its own. Unset, as the node says, else all of it."
    )
    system: Literal["writable", "read-only"] | None = Field(
        default=None,
        description="`read-only`: nothing can be changed but the work directory and `write`; few devices, an empty `/run`.",
    )
    tmp: Literal["shared", "private"] | None = Field(
        default=None,
        description="`private`: directories for temporary files of its own. Unset, `private` where `system` is `read-only`.",
    )
    processes: Literal["shared", "private"] | None = Field(
        default=None, description="`private`: it sees and signals its own processes only."
    )
    home: Literal["writable", "read-only", "hidden"] | None = Field(
        default=None,
        description="What the job may do in the home directory. Unset, `read-only` where `system` is `read-only`.",
    )
    read: Annotated[tuple[SandboxPath, ...], Field(strict=False)] = Field(
        default=(), description="Paths that are seen all the same, read-only, where `home` or `tmp` hides them."
    )
    write: Annotated[tuple[SandboxPath, ...], Field(strict=False)] = Field(
        default=(), description="Paths that can be changed all the same."
    )


class Keep(Table):
    """What remains of the work directory."""

    files: Annotated[tuple[FilePattern, ...], Field(strict=False)] = Field(
        default=(), description="Patterns of files that are copied from the work directory into the record."
    )
    workdir: Literal["never", "failure", "always"] = Field(
        default="failure", description="When the work directory stays on the node for a while."
    )


class Notify(Table):
    """Who is told of the job's end, of which ends, and how. What is absent is as the node's configuration says."""

    email: Annotated[tuple[Address, ...], Field(strict=False)] | None = Field(
        default=None, description="Who gets the mails; unset, those that the node's configuration names; empty, nobody."
    )
    on: Annotated[tuple[NotifyEvent, ...], Field(strict=False)] | None = Field(
        default=None, description="What is told; unset, as the node's configuration says; empty, nothing."
    )
    via: Annotated[tuple[Name, ...], Field(strict=False)] | None = Field(
        default=None, description="Names of the node's transports; unset, as its configuration says."
    )


class Spec(Table):
    """One job as its submitter asked for it: valid, complete, immutable."""

    name: Name | None = Field(default=None, description="What the job is called; unset, the file's name.")
    command: Command = Field(description="What to run: a list of words runs as it is, one string runs with `/bin/sh -c`.")
    queue: Name = Field(default=DEFAULT_QUEUE, description="The queue that the job waits in; a node gives each a width.")
    priority: Annotated[int, Field(ge=LOWEST_PRIORITY, le=HIGHEST_PRIORITY)] = Field(
        default=0, description="Higher goes first; of equal ones, the oldest."
    )
    restartable: bool = Field(
        default=False, description="Whether the job may run again when its node or its supervisor was lost on the way."
    )
    stdin: Text = Field(default="", description="What the command finds on its standard input.")
    vars: Mapping[str, Variable] = Field(
        default_factory=dict, description="Values for templates: `{{ vars.day }}`. Set by `submit --var day=…` too."
    )
    env: Environ = Field(default_factory=dict, description="Environment variables of the command.")
    config: JsonTable = Field(
        default_factory=dict,
        description=f"Written to a JSON file that `{SETTINGS_VARIABLE}` names in the job's environment.",
    )
    limits: Limits = Field(default_factory=Limits, description="Bounds that end the job when it crosses them.")
    python: PythonTable | None = Field(
        default=None, description="The Python environment that the command finds on its PATH."
    )
    files: Annotated[tuple[FileEntry, ...], Field(strict=False)] = Field(
        default=(), description="Files that are put into the work directory first, in order."
    )
    build: Annotated[tuple[BuildStep, ...], Field(strict=False)] = Field(
        default=(), description="Commands that are run in the work directory before the command, in order."
    )
    retry: Retry = Field(default_factory=Retry, description="Whether a failed attempt is followed by another.")
    run: Run = Field(default_factory=Run, description="When and how the command is started.")
    place: PlaceTable = Field(default_factory=PlaceTable, description="Which nodes may run the job; unset, any.")
    secrets: UsedSecrets = Field(
        default_factory=SecretUses,
        description="Secrets of the node for the job: the name it has in the job, and its name on the node, or "
        '`{ name = "…", environ = true }`. The job finds a file, named by `NAME_FILE`.',
    )
    sandbox: Sandbox = Field(default_factory=Sandbox, description="What the command is kept from; needs bubblewrap there.")
    keep: Keep = Field(default_factory=Keep, description="What remains of the work directory.")
    notify: Notify = Field(default_factory=Notify, description="Who is told how the job ended.")

    # The text it was read from, for the places of problems that are found later, such as in templates.
    _source: Source = PrivateAttr(default_factory=Source)
    _script: Script | None = PrivateAttr(default=None)

    @property
    def source(self) -> Source:
        """The text that this spec was read from; empty for one that was made in a program."""
        return self._source

    @property
    def script(self) -> Script | None:
        """The program that it brings along, where it was read from a script."""
        return self._script

    def with_source(self, source: Source, script: Script | None = None) -> Self:
        """Return the same spec, remembering the text it was read from, and the script that this is."""
        copy = self.model_copy()
        copy._source = source
        copy._script = script
        return copy

    @field_validator("secrets")
    @classmethod
    def _secrets_are_not_hidden(cls, value: SecretUses, info: ValidationInfo) -> SecretUses:
        check_variables(value, info.data.get("env", ()))
        return value

    @field_validator("config")
    @classmethod
    def _settings_are_not_hidden(cls, value: JsonTable, info: ValidationInfo) -> JsonTable:
        if value and SETTINGS_VARIABLE in info.data.get("env", ()):
            raise refuse(f"would be hidden by `env.{SETTINGS_VARIABLE}`", "remove one of the two")
        return value
