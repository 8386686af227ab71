"""What has to be hidden in what is told of a job: the secrets of its spec, of this process's environment, of the node."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from spooldadd.config import Config
from spooldadd.erroremail import Redactor
from spooldadd.mail.redact import redactor_for

SECRET_BYTES = 20_000  # a secret is a password or a key; what is larger is something else


def redactor(config: Config, environ: Mapping[str, str], *specs: Mapping[str, object]) -> Redactor:
    """Return what hides the secrets of these specs (their tables as they stand in the file) and of the node.

    A value of a spec that stands under no secret's name, and looks like none, cannot be known to be one.
    """
    own = {name: dict(table) for name, table in config.transport.items()}
    added = dict(config.environ.added)
    return redactor_for(dict(environ), own, added, *specs, secrets=_files(config.secrets_dir, environ))


def _files(directory: str | None, environ: Mapping[str, str]) -> Iterator[str]:
    for place in (directory, environ.get("CREDENTIALS_DIRECTORY")):
        try:
            entries = list(os.scandir(place)) if place else []
        except OSError:
            continue
        for entry in entries:
            yield from _contents(entry)


def _contents(entry: os.DirEntry[str]) -> Iterator[str]:
    try:
        if entry.is_file() and entry.stat().st_size <= SECRET_BYTES:
            with open(entry.path, encoding="utf-8", errors="replace") as file:
                yield file.read()
    except OSError:
        return
