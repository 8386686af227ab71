"""The three tables of a spec that need building: `[[files]]`, `[python]` and `[[build]]`. Pure.

A local file is named by `source`, not by `path`: `path` always says where a file ends up below the work directory,
whatever it comes from, so that one key has one meaning and `url`, `content` and `source` can be told apart by name.
`path` alone is short for a `source` of the same name.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import Annotated, Final, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, Strict, model_validator
from pydantic import ValidationInfo as Info

from spooldadd import units
from spooldadd.bounds import has_template

SCHEMES: Final = ("http", "https", "file", "rsync", "sftp")
DEFAULT_REFRESH_S: Final = 86_400.0
# A step that hangs must end at some time even where the author set nothing; compiling a large program takes less.
DEFAULT_STEP_TIMEOUT_S: Final = 3_600.0
# The context in which a spec is checked before its templates are rendered. What has one is checked once it is rendered.
UNRENDERED: Final = {"unrendered": True}


def _is_later(value: object, info: Info) -> bool:
    return isinstance(value, str) and has_template(value) and info.context == UNRENDERED


def _checked(check: Callable[[str], str]) -> AfterValidator:
    """Check a text, but not a template before it is rendered."""
    return AfterValidator(lambda value, info: value if _is_later(value, info) else check(value))


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"`{parts.scheme or url}` is no scheme that can be fetched; use {', '.join(SCHEMES)}")
    if parts.password is not None or (parts.username is not None and parts.scheme in ("http", "https")):
        raise ValueError("credentials do not belong into a URL, where logs show them; name a secret instead")
    if parts.scheme != "file" and not parts.hostname:
        raise ValueError(f"`{url}` names no host")
    return url


def _check_index(url: str) -> str:
    if urlsplit(url).scheme not in ("http", "https", "file"):
        raise ValueError(f"`{url}` is no package index: it must begin with http:, https: or file:")
    return _check_url(url)


def check_place(path: str) -> str:
    """Return a path below the work directory, or raise `ValueError`: relative, without `..`."""
    if not path or path.startswith(("/", "~")) or "\0" in path or ".." in path.split("/"):
        raise ValueError(f"`{path}` must be a relative path below the work directory, without `..`")
    return path


def _check_source(path: str) -> str:
    if not path or path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise ValueError(f"`{path}` must be a relative path beside the spec; for another place use a `file:` URL")
    return path


def _check_secret(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*", name):
        raise ValueError(f"`{name}` is no name of a secret: letters, digits and `_.@-`, not beginning with `.`")
    return name


def _mode_bits(value: object) -> object:
    if value is None:
        return None
    # A number is refused: TOML's `0644` is an error, and `644` would be 0o1204.
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError(f'`{value}` is no mode; write three octal digits as text, such as `"0640"`')
    return int(value, 8)


def _moment(value: object) -> object:
    """Make a text in RFC 3339 of a TOML date or time; a date means its first instant in UTC, as uv reads it."""
    if isinstance(value, datetime.datetime):
        return value.isoformat() if value.tzinfo else value.isoformat() + "Z"
    if isinstance(value, datetime.date):
        return f"{value.isoformat()}T00:00:00Z"
    if isinstance(value, str):
        if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
            value = f"{value}T00:00:00Z"
        datetime.datetime.fromisoformat(value)  # raises ValueError, which says what it could not read
    return value


def _moment_or_template(value: object, info: Info) -> object:
    return value if _is_later(value, info) else _moment(value)


def _specifier(value: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+){0,2}|((~=|==|!=|<=|>=|<|>)\s*\d+(\.\d+)*(\.\*)?\s*,?\s*)+", value.strip()):
        raise ValueError(f'`{value}` is no Python version; write it as `"3.12"` or `">=3.11,<3.14"`')
    return value.strip()


def _requirement(value: str) -> str:
    line = value.strip()
    if not line or line.startswith("-") or "\n" in line:
        raise ValueError(f"`{value}` is no requirement; options go into keys such as `index_url`, or into a file")
    return line


def _sum(value: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ValueError(f"`{value}` is no sha256: write its 64 hexadecimal digits")
    return value.lower()


Url = Annotated[str, _checked(_check_url)]
IndexUrl = Annotated[str, _checked(_check_index)]
Place = Annotated[str, _checked(check_place)]
Secret = Annotated[str, _checked(_check_secret)]
Sha256 = Annotated[str, _checked(_sum)]
# Written as it is read, so that a rendered spec and the builder's plan are read by the same rule.
Mode = Annotated[int, BeforeValidator(_mode_bits), PlainSerializer("{:04o}".format)]
Duration = Annotated[float, BeforeValidator(units.parse_duration)]


class Table(BaseModel):
    """What all tables share: fixed once read, no unknown keys, no silent conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class SecretHeader(Table):
    """A header's value that is not in the spec."""

    secret: Secret = Field(description="Name of the secret whose content is the value.")
    prefix: str = Field(default="", description='Put before it, such as `"Bearer "`.')


class FileEntry(Table):
    """One `[[files]]` entry: where a file comes from, what is checked, where it goes."""

    url: Url | None = Field(default=None, description="Fetched from here: http, https, file, rsync or sftp.")
    source: Annotated[str, _checked(_check_source)] | None = Field(
        default=None, description="Copied from this file, beside the spec or in the spool."
    )
    content: str | None = Field(default=None, description="This text is the file.")
    path: Place | None = Field(
        default=None,
        description="Where it goes below the work directory; default: the name it has there. With `unpack`: the "
        "directory to unpack into, default the work directory.",
    )
    sha256: Sha256 | None = Field(default=None, description="The content must have this sum. Then it is fetched only once.")
    mode: Mode | None = Field(default=None, description='Permissions in octal as text, such as `"0600"`.')
    template: bool = Field(default=False, description="Render the file as a template with the spec's variables.")
    unpack: bool = Field(default=False, description="It is a tar or zip archive: unpack it.")
    strip: int = Field(default=0, ge=0, le=100, description="Leave out that many leading directories of each name.")
    headers: dict[str, str | SecretHeader] = Field(
        default_factory=dict,
        description="Sent with the request, to the URL's own host only; values may be secrets by name.",
    )

    @model_validator(mode="before")
    @classmethod
    def _path_alone_is_a_source(cls, table: object) -> object:
        """With `path` alone, a file of that name beside the spec is copied to that name."""
        if isinstance(table, dict) and "path" in table and not {"url", "source", "content"} & table.keys():
            return {**table, "source": table["path"]}
        return table

    @model_validator(mode="after")
    def _check_together(self, info: Info) -> Self:
        given = [key for key in ("url", "source", "content") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of `url`, `source` and `content` is needed; given: {', '.join(given) or 'none'}")
        if self.content is not None and (self.path is None or self.unpack):
            raise ValueError("`content` needs a `path`, and cannot be unpacked")
        if self.unpack and (self.template or self.mode is not None):
            raise ValueError("`unpack` goes with neither `template` nor `mode`: both are the archive's")
        if self.strip and not self.unpack:
            raise ValueError("`strip` needs `unpack = true`")
        if self.headers and urlsplit(self.url or "").scheme not in ("http", "https") and not _is_later(self.url, info):
            raise ValueError("`headers` need an http or https `url`")
        if not self.unpack and not self.place:
            raise ValueError("`path` is needed: the URL ends in no file name")
        return self

    @property
    def place(self) -> str:
        """Where it goes below the work directory, the default applied."""
        if self.path is not None:
            return self.path
        if self.unpack:
            return "."
        name = unquote(urlsplit(self.url or "").path if self.url else self.source or "").rsplit("/", 1)[-1]
        return "" if name in (".", "..") or "\0" in name else name


class PythonTable(Table):
    """The `[python]` table: which interpreter, which packages, from where."""

    version: Annotated[str, _checked(_specifier)] | None = Field(
        default=None,
        description='The interpreter, such as `"3.12"` or `">=3.11"`; default: the one that runs the worker.',
    )
    requirements: Annotated[tuple[Annotated[str, _checked(_requirement)], ...], Strict(False)] | str = Field(
        default=(),
        description="A list of requirements; or one text: a wheel's URL, or the path or URL of a requirements file, of "
        "`pylock.toml` or of `uv.lock`.",
    )
    sha256: Sha256 | None = Field(default=None, description="The sum of what `requirements` names by URL.")
    index_url: IndexUrl | None = Field(default=None, description="The package index, instead of the node's own.")
    extra_index_urls: Annotated[tuple[IndexUrl, ...], Strict(False)] = Field(
        default=(), description="Further indexes, asked first and in this order."
    )
    credentials: dict[str, Secret] = Field(
        default_factory=dict,
        description="Host, with `:port` where it has one, to the name of a secret: `user:password`, or a token.",
    )
    refresh_s: Duration = Field(
        default=DEFAULT_REFRESH_S, alias="refresh", description="How long an unpinned resolution is reused."
    )
    only_binary: bool = Field(default=False, description="Take wheels only; build nothing from source.")
    exclude_newer: Annotated[str, BeforeValidator(_moment_or_template)] | None = Field(
        default=None, description="Resolve as if nothing had been published after this day or time. Needs uv."
    )
    installer: Literal["auto", "uv", "pip"] = Field(
        default="auto", description="`auto` takes uv where it is installed, else venv and pip."
    )

    @model_validator(mode="after")
    def _check_together(self, info: Info) -> Self:
        if _is_later(self.requirements, info):
            return self
        if isinstance(self.requirements, str) and not self.requirements.strip():
            raise ValueError("`requirements` is empty; leave it out, or name a file")
        if self.sha256 and not self.is_url:
            raise ValueError("`sha256` needs `requirements` to be a URL")
        if self.is_url:
            _check_url(str(self.requirements))
        return self

    @property
    def is_url(self) -> bool:
        """Tell whether `requirements` names something to fetch."""
        return isinstance(self.requirements, str) and "://" in self.requirements


class BuildStep(Table):
    """One `[[build]]` entry: a command before the command."""

    command: str | Annotated[tuple[str, ...], Strict(False), Field(min_length=1)] = Field(
        description="A list runs as it is; a text runs with `/bin/sh -c`."
    )
    timeout_s: Duration = Field(
        default=DEFAULT_STEP_TIMEOUT_S, alias="timeout", description="After this it is ended, with all that it started."
    )
    env: dict[str, str] = Field(default_factory=dict, description="Variables for this step, added to the job's.")
