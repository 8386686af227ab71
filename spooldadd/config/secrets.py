"""The configuration's table about secrets: where this node has them, besides `secrets_dir`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from spooldadd import secret
from spooldadd.complaints import refuse
from spooldadd.spec.fields import Duration, Word
from spooldadd.spec.models import Table

Source = Literal["credentials", "directory", "command"]


def _command(value: tuple[str, ...]) -> tuple[str, ...]:
    if value and not any("{name}" in word for word in value[1:]):
        raise refuse("does not say where the name goes", 'write `{name}` in one of its words: `["pass", "show", "{name}"]`')
    return value


class SecretPlaces(Table):
    """Where secrets are looked for, by their names."""

    order: Annotated[tuple[Source, ...], Field(strict=False)] = Field(
        default=("credentials", "directory", "command"),
        description="Where secrets are looked for, the first that has it counts: `credentials` of the service manager "
        "(`LoadCredential=`), `directory` is `secrets_dir`, `command` the one below.",
    )
    command: Annotated[tuple[Word, ...], Field(strict=False), AfterValidator(_command)] | None = Field(
        default=None, description="A command that prints a secret; `{name}` in its words stands for the name; unset, none."
    )
    timeout_s: Duration = Field(
        default=secret.TIMEOUT_S, alias="timeout", description="How long that command may take for one secret."
    )

    def sources(self, directory: str | None, environ: Mapping[str, str]) -> secret.Sources:
        """Return where this process finds secrets."""
        found = secret.Sources(environ.get("CREDENTIALS_DIRECTORY", ""), directory or "")
        found.order, found.command, found.timeout_s = tuple(self.order), tuple(self.command or ()), self.timeout_s
        return found
