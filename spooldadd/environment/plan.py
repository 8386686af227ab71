"""What the builder is told and what it answers: two small files, both JSON (the plan may be TOML as well).

Values are rendered already, except the contents of files with `template = true`, for which `variables` are.
"""

from __future__ import annotations

import json
import os
import tomllib
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from spooldadd.environment.models import BuildStep, FileEntry
from spooldadd.environment.report import LOG_EVERY_S
from spooldadd.errors import BuildError

# Made absolute at once: the installers run in other directories than the builder.
Where = Annotated[str, AfterValidator(lambda path: os.path.abspath(path) if path else "")]


class SignedFiles(BaseModel):
    """What the signature of a spec covers in its bundle: nothing else may be used."""

    model_config = ConfigDict(frozen=True)

    files: str = Field(default="", description="The digest of all files beside the spec; empty: there are none.")
    spec: str = Field(default="", description="The sha256 of the spec in it.")


class Plan(BaseModel):
    """All that one build needs. Later releases may add keys, so unknown ones are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Literal[1] = Field(default=1, alias="schema", description="Version of this format.")
    work_dir: Where = Field(description="The job's work directory, which exists.")
    cache_dir: Where = Field(description="The node's cache.")
    secrets_dir: Where = Field(default="", description="Where secrets are, one file each; empty: there are none.")
    secrets: dict[str, object] | None = Field(
        default=None, description="All places where secrets are, as `secret.Sources` has them; unset, `secrets_dir` alone."
    )
    base_dirs: tuple[Where, ...] = Field(
        default=(), description="Where relative paths are looked for, in order: beside the spec, then the spool."
    )
    progress_s: float = Field(default=LOG_EVERY_S, ge=0, description="Time between two lines about one transfer.")
    bundle: str = Field(default="", description="A tar whose files are looked for first; empty: there is none.")
    bundle_state: tuple[int, ...] = Field(
        default=(), description="Its size, time of change in nanoseconds and inode; one of another state is refused."
    )
    signed: SignedFiles | None = Field(default=None, description="What a signature says of the bundle; unset: none.")
    sandbox: dict[str, object] | None = Field(
        default=None, description="The sandbox that steps run in, as `confine.Rules` has it; unset: none."
    )
    redis_url: str = Field(default="", description="An index shared with other nodes; empty: none.")
    environ: dict[str, str] | None = Field(default=None, description="The job's variables; default: the builder's own.")
    variables: dict[str, dict[str, object]] = Field(
        default_factory=dict, description="What templates see: `vars`, `job`, `node`."
    )
    files: tuple[FileEntry, ...] = Field(default=(), description="The `[[files]]` tables.")
    python: dict[str, object] | None = Field(
        default=None, description="The `[python]` table as the spec has it: its hash is what `ready` looks for."
    )
    build: tuple[BuildStep, ...] = Field(default=(), description="The `[[build]]` tables.")


class Answer(BaseModel):
    """What came of a build."""

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = Field(default=1, serialization_alias="schema", description="Version of this format.")
    ok: bool = Field(description="Everything is built.")
    reason: str = Field(default="", description="One line that says why not.")
    environment: str = Field(default="", description="The key of the Python environment.")
    interpreter: str = Field(default="", description="The path of its Python.")
    environ: dict[str, str] = Field(
        default_factory=dict, description="Variables that the job needs because of it; its PATH is whole."
    )
    elapsed_s: dict[str, float] = Field(default_factory=dict, description="How long `files`, `python`, `build` took.")

    def to_bytes(self) -> bytes:
        """Write it as JSON."""
        return self.model_dump_json(by_alias=True).encode() + b"\n"


def read_plan(data: bytes) -> Plan:
    """Read JSON, else TOML. Raises: `BuildError` with every problem."""
    try:
        told = json.loads(data) if data.lstrip().startswith(b"{") else tomllib.loads(data.decode())
        return Plan.model_validate(told)
    except ValidationError as error:
        raise BuildError(explain(error)) from error
    except ValueError as error:
        raise BuildError(f"the plan cannot be read: {error}") from error


def explain(error: ValidationError) -> str:
    """Write all problems of a table on one line."""
    problems = []
    for problem in error.errors():
        place = ".".join(map(str, problem["loc"]))
        text = problem["msg"].removeprefix("Value error, ")
        problems.append(f"`{place}`: {text}" if place else text)
    return "; ".join(problems)
