"""The configuration's tables about other machines: nodes that specs are pushed to, the master that records are sent to."""

from __future__ import annotations

import shlex
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, PlainValidator, ValidationError
from pydantic import WithJsonSchema as Shown

from spooldadd.complaints import complaints, kind, refuse
from spooldadd.remote import targets
from spooldadd.spec.fields import Duration, Name, Word
from spooldadd.spec.models import Table

_TABLES: Final = {"title": "table of tables", "type": "object"}


def _place(value: str) -> str:
    try:
        targets.parse(value)
    except targets.BadTarget as error:
        raise refuse(f"cannot be used: {error}") from error
    return value


def _shell_words(value: str) -> str:
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise refuse(f"cannot be split into words: {error}", "close every quotation mark") from error
    if not words:
        raise refuse("is empty", 'write a command, such as `"ssh -F /etc/spooldadd/ssh_config"`')
    return value


Place = Annotated[Word, AfterValidator(_place), Shown({"title": "target", "type": "string"})]
CommandLine = Annotated[Word, AfterValidator(_shell_words), Shown({"title": "command", "type": "string"})]


class Remote(Table):
    """How other machines are reached."""

    ssh: CommandLine | None = Field(
        default=None, description="The ssh command, as for `rsync -e`; unset, what `RSYNC_RSH` says, else `ssh`."
    )
    timeout_s: Duration = Field(
        default=120.0, alias="timeout", description="How long the other side may be silent before a transfer is given up."
    )


class NodeTarget(Table):
    """One node that specs are pushed to, and records collected from."""

    target: Place = Field(description="Its spool: `[user@]host:/path`, or a directory.")
    command: CommandLine = Field(default="spooldadd", description="How `spooldadd` is started there.")
    labels: Annotated[tuple[Name, ...], Field(strict=False)] = Field(
        default=(), description="Words by which `push --labels` chooses among the nodes."
    )


class NodeTargets(dict[str, NodeTarget]):
    """The nodes that specs are pushed to, by name."""


def _node_targets(value: object) -> NodeTargets:
    if not isinstance(value, dict):
        raise refuse(f"must be a table, not {kind(value)}")
    found = NodeTargets()
    for name, part in value.items():
        if targets.is_address(name) or name.startswith("-"):
            raise refuse("is no name of a node", "use letters, digits, `.`, `_` and `-`", within=(name,))
        if not isinstance(part, dict):
            raise refuse(
                f"must be a table, not {kind(part)}", f'write `{name} = {{ target = "host:/path" }}`', within=(name,)
            )
        try:
            found[name] = NodeTarget.model_validate(part)
        except ValidationError as error:
            first = complaints(NodeTarget, part, error.errors(include_url=False))[0]
            raise refuse(f"has a fault: {first.message}", first.hint, within=(name, *first.path)) from error
    return found


NodeTable = Annotated[NodeTargets, PlainValidator(_node_targets), Shown(_TABLES)]


class Master(Table):
    """Where finished records of this node are sent, by itself."""

    target: Place | None = Field(
        default=None, description="The collecting spool: `[user@]host:/path`, or a directory; unset, nothing is sent."
    )
    upload: Literal["failed", "all"] = Field(
        default="failed", description="Which records are sent: those of failed jobs, or all."
    )
    retry_s: Duration = Field(
        default=300.0,
        alias="retry",
        description="The longest time between two tries while the master is away; the first ones come sooner.",
    )


def target_of(nodes: NodeTargets, name: str) -> targets.Target:
    """Return the target of a node of the table."""
    node = nodes[name]
    return targets.parse(node.target, name, command=tuple(shlex.split(node.command)), labels=node.labels)
