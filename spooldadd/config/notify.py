"""The configuration's tables about mail: how it is made, who is told of what, and the ways on which it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field, PlainValidator, ValidationError
from pydantic import WithJsonSchema as Shown

from spooldadd.complaints import complaints, kind, refuse
from spooldadd.errors import ConfigError
from spooldadd.expecting import BadRule, Expected, parse
from spooldadd.spec.fields import Address, Directory, Duration, Name
from spooldadd.spec.models import Notify, NotifyEvent, Table

TOLD_BY_DEFAULT: Final[tuple[NotifyEvent, ...]] = ("failure", "recovery", "lost", "late")
# What `spooldadd config` does not show: passwords, and addresses that are as good as one.
HIDDEN_KEYS: Final = frozenset({"password", "headers", "url"})
_TABLES: Final = {"title": "table of tables", "type": "object"}


class PerQueue(dict[str, Notify]):
    """What is told of the jobs of a queue, by its name."""


class Transports(dict[str, dict[str, object]]):
    """Tables that describe transports, by their names; each was found to be usable."""


class Expectations(dict[str, Expected]):
    """When jobs are expected to have succeeded, by their names."""


def _tables(value: object) -> dict[str, dict[str, object]]:
    if not isinstance(value, dict):
        raise refuse(f"must be a table, not {kind(value)}")
    for name, part in value.items():
        if not isinstance(part, dict):
            raise refuse(f"must be a table, not {kind(part)}", within=(name,))
    return value


def _per_queue(value: object) -> PerQueue:
    found = PerQueue()
    for name, part in _tables(value).items():
        try:
            found[name] = Notify.model_validate(part)
        except ValidationError as error:
            first = complaints(Notify, part, error.errors(include_url=False))[0]
            raise refuse(f"has a fault: {first.message}", first.hint, within=(name, *first.path)) from error
    return found


def _transports(value: object) -> Transports:
    tables = _tables(value)
    if tables:
        from spooldadd.mail.configured import transport_from  # late: it knows SMTP and TLS, and most nodes have no mail

        for name, part in tables.items():
            try:
                transport_from(name, part)
            except ConfigError as error:
                raise refuse(f"cannot be used: {error}", within=(name,)) from error
    return Transports(tables)


def _expectations(value: object) -> Expectations:
    if not isinstance(value, dict):
        raise refuse(f"must be a table, not {kind(value)}")
    found = Expectations()
    for name, text in value.items():
        try:
            found[name] = parse(text)
        except BadRule as error:
            hint = 'write `"daily 06:00 +30m"`, or see the reference'
            raise refuse(f"is no time: {error}", hint, within=(name,)) from error
    return found


QueueTables = Annotated[PerQueue, PlainValidator(_per_queue), Shown(_TABLES)]
TransportTables = Annotated[Transports, PlainValidator(_transports), Shown(_TABLES)]
ExpectationTable = Annotated[
    Expectations, PlainValidator(_expectations), Shown({"type": "object", "additionalProperties": {"type": "string"}})
]


class Mail(Table):
    """How the mail about jobs is made, and where it waits."""

    sender: Address | None = Field(
        default=None, alias="from", description="Who the mails are from; unset, `spooldadd@` and the host's name."
    )
    to: Annotated[tuple[Address, ...], Field(strict=False)] = Field(
        default=(), description="Who gets the mails about jobs whose spec and queue name nobody."
    )
    digest_s: Duration = Field(
        default=3600.0, alias="digest", description="Further failures of one cause are told together after this time."
    )
    per_hour: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=20, description="Mails in an hour to the same people; what is held back beyond them is told in one more."
    )
    templates: Directory | None = Field(
        default=None, description="A directory with templates that are used instead of the built-in ones of the same name."
    )
    outbox: Directory | None = Field(
        default=None,
        description="Where mails wait and are kept, on the node's own disk; unset, `mail` beside `work_dir`.",
    )


class NodeNotify(Table):
    """What is told of jobs whose spec says nothing, and what is expected."""

    on: Annotated[tuple[NotifyEvent, ...], Field(strict=False)] = Field(
        default=TOLD_BY_DEFAULT, description="What is told where neither spec nor queue says it."
    )
    via: Annotated[tuple[Name, ...], Field(strict=False)] | None = Field(
        default=None, description="Names of transports that are used where neither spec nor queue says it; unset, all."
    )
    queue: QueueTables = Field(
        default_factory=PerQueue, description="`[notify.queue.NAME]`: `email`, `on`, `via` for the jobs of a queue."
    )
    expect: ExpectationTable = Field(
        default_factory=Expectations,
        description="A job's name and by when it has to have succeeded: `hourly :15 +10m`, `daily 06:00 +30m`, "
        "`weekdays 06:00 +1h`, `weekly mon 06:00 +2h`, in the node's time zone.",
    )

    def of_queue(self, queue: str) -> Notify:
        """Return what the configuration says of this queue."""
        return self.queue.get(queue) or Notify()


def shown_table(table: Mapping[str, object]) -> dict[str, object]:
    """Return a transport's table for people, without its secrets."""
    is_hidden = {key: key in HIDDEN_KEYS or isinstance(value, Mapping) for key, value in table.items()}
    return {key: "[hidden]" if is_hidden[key] else value for key, value in table.items()}
