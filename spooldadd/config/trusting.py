"""The configuration's table of trust: whose specs are run, by the owner of the file and by signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, PlainValidator, ValidationInfo, field_validator
from pydantic import WithJsonSchema as Shown

from spooldadd.complaints import kind, refuse
from spooldadd.spec.fields import Directory, Name
from spooldadd.spec.models import Table

Demand = Literal["no", "if-present", "required"]


def _account(value: object) -> str | int:
    """Take a name or a number; which of them exist is known only where they are used."""
    if isinstance(value, str) and value and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise refuse(f"must be a name or a number, not {kind(value)}")
    if value == "" or (isinstance(value, int) and value not in range(2**32 - 1)):
        raise refuse("is neither a name nor a number from 0 to 4294967294")
    return value


Account = Annotated[str | int, PlainValidator(_account), Shown({"title": "name or number", "type": ["string", "integer"]})]


class Trust(Table):
    """Whose specs are run, besides those of the worker's own user and of root."""

    owners: Annotated[tuple[Account, ...], Field(strict=False)] = Field(
        default=(), description="Users, by name or number, whose specs are accepted."
    )
    groups: Annotated[tuple[Account, ...], Field(strict=False)] = Field(
        default=(), description="Groups, by name or number, that may have write permission on the spool and on specs."
    )
    allowed_signers: Directory | None = Field(
        default=None,
        description="The file that lists who may sign specs, as ssh-keygen reads it; nobody else may be able to change it.",
    )
    revoked_signers: Directory | None = Field(
        default=None, description="A list or KRL of keys that may no longer sign, as ssh-keygen reads it; unset, none."
    )
    signed: Demand = Field(
        default="no",
        description="Whether specs have to be signed: `no` looks at no signature, `if-present` refuses one that does not "
        "hold, `required` also a spec without one.",
    )
    queue: Mapping[Name, Demand] = Field(
        default_factory=dict, description="`[trust.queue]`: the same for the specs of a queue, by its name."
    )

    @field_validator("signed")
    @classmethod
    def _has_signers(cls, value: Demand, info: ValidationInfo) -> Demand:
        if value != "no" and not info.data.get("allowed_signers", ""):
            raise refuse("needs `trust.allowed_signers`", "name the file that lists who may sign")
        return value

    @field_validator("queue")
    @classmethod
    def _queues_have_signers(cls, value: Mapping[str, Demand], info: ValidationInfo) -> Mapping[str, Demand]:
        for name, demand in value.items():
            if demand != "no" and not info.data.get("allowed_signers", ""):
                hint = "name the file that lists who may sign"
                raise refuse("needs `trust.allowed_signers`", hint, within=(name,))
        return value

    def demand(self, queue: str) -> Demand:
        """Return what is demanded of the specs of this queue."""
        return self.queue.get(queue, self.signed)

    def has_demand(self) -> bool:
        """Tell whether any signature is looked at here."""
        return self.signed != "no" or any(demand != "no" for demand in self.queue.values())
