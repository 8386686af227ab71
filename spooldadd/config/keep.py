"""The configuration's tables about how long things stay that nobody needs for running."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, PlainValidator, ValidationError
from pydantic import WithJsonSchema as Shown

from spooldadd.complaints import complaints, kind, refuse
from spooldadd.spec.fields import Size
from spooldadd.spec.models import Table

Days = Annotated[float, Field(ge=0, le=3650)]
Count = Annotated[int, Field(ge=0, le=10**9)]
_TABLES: Final = {"title": "table of tables", "type": "object"}


class KeepQueue(Table):
    """How long the finished records of one queue stay; where it is silent, the node's own bounds hold."""

    done_days: Days | None = Field(default=None, description="Days that the record of a successful job stays.")
    failed_days: Days | None = Field(default=None, description="Days that the record of a failed job stays.")


class PerQueue(dict[str, KeepQueue]):
    """Bounds for the records of single queues, by name."""


def _per_queue(value: object) -> PerQueue:
    if not isinstance(value, dict):
        raise refuse(f"must be a table, not {kind(value)}")
    found = PerQueue()
    for name, part in value.items():
        if not isinstance(part, dict):
            raise refuse(f"must be a table, not {kind(part)}", f"write `{name} = {{ done_days = 7.0 }}`", within=(name,))
        try:
            found[name] = KeepQueue.model_validate(part)
        except ValidationError as error:
            first = complaints(KeepQueue, part, error.errors(include_url=False))[0]
            raise refuse(f"has a fault: {first.message}", first.hint, within=(name, *first.path)) from error
    return found


QueueTables = Annotated[PerQueue, PlainValidator(_per_queue), Shown(_TABLES)]


class Keep(Table):
    """How long things stay that nobody needs for running."""

    work_days: float = Field(
        default=7.0, ge=0, le=3650, description="Days that the work directory of a failed job stays on the node."
    )
    cache_days: float = Field(
        default=90.0, ge=0, le=3650, description="Days that a download or a Python environment stays unused in the cache."
    )
    cache_size_bytes: Size = Field(
        default=50 * 2**30,
        alias="cache_size",
        description="Size of all downloads in the cache, and as much again of all Python environments; above it, the least "
        "recently used go.",
    )
    done_days: Days | None = Field(
        default=None, description="Days that the record of a successful job stays after its end; unset, for ever."
    )
    failed_days: Days | None = Field(
        default=None, description="Days that the record of a failed job stays after its end; unset, for ever."
    )
    done_count: Count | None = Field(
        default=None, description="How many records of successful jobs stay, the newest; unset, all."
    )
    failed_count: Count | None = Field(
        default=None, description="How many records of failed jobs stay, the newest; unset, all."
    )
    records_size_bytes: Size | None = Field(
        default=None,
        alias="records_size",
        description="Size of all finished records together; above it the oldest go, successful ones first. Unset, any size.",
    )
    queue: QueueTables = Field(
        default_factory=PerQueue,
        description="`[keep.queue.NAME]`: `done_days` and `failed_days` for the records of one queue.",
    )

    @property
    def bounds_records(self) -> bool:
        """Tell whether any finished record may ever go by itself."""
        own = (self.done_days, self.failed_days, self.done_count, self.failed_count, self.records_size_bytes)
        theirs = (days for part in self.queue.values() for days in (part.done_days, part.failed_days))
        return any(bound is not None for bound in (*own, *theirs))
