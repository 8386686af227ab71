"""What has to be hidden in what is told of a job: the secrets of its spec, of this process's environment, of the node."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace

from spooldadd import ownership, secret
from spooldadd.asking import reader
from spooldadd.config import Config
from spooldadd.erroremail import Redactor
from spooldadd.mail import locked
from spooldadd.mail.cause import WITHHELD
from spooldadd.mail.ended import Ended
from spooldadd.mail.locked import Read
from spooldadd.mail.redact import redactor_for

SECRET_BYTES = 20_000  # a secret is a password or a key; what is larger is something else


def redactor(config: Config, environ: Mapping[str, str], *specs: Mapping[str, object], read: Read | None = None) -> Redactor:
    """Return what hides the secrets of these specs (their tables as they stand in the file) and of the node.

    A value of a spec that stands under no secret's name, and looks like none, cannot be known to be one.
    """
    own = {name: _without_names(table) for name, table in config.transport.items()}
    added = dict(config.environ.added)
    read = read or reader(config, environ)
    printed = (value for table in config.transport.values() for value in locked.values(table, read))
    tables = [{key: value for key, value in spec.items() if key != "secrets"} for spec in specs]  # names, no values
    return redactor_for(dict(environ), own, added, *tables, secrets=[*_files(config.secrets_dir, environ), *printed])


def hideable(each: Ended, read: Read, hide: Redactor) -> Ended:
    """Have the secrets that the job got hidden, too; where one cannot be had any more, leave out what may hold it.

    The secrets of a job that ran as another user are that user's. Ours of the same names would hide nothing of his, and
    would tell him by what they hide what they are.
    """
    names = each.secret_names()
    if names and ownership.users_of(each.record) not in (None, frozenset({0})):
        return replace(each, log=f"{WITHHELD}: it may hold secrets of its owner]" if each.log else "")
    try:
        hide.learn([read(name) for name in names])
    except secret.NoSecret as error:
        sentence = f"{WITHHELD}: {error}, so it could not be hidden]"
        return replace(each, log=sentence if each.log else "")
    return each


def _without_names(table: Mapping[str, object]) -> dict[str, object]:
    """Leave out what names secrets: a name is no secret, and would be hidden wherever its word stands."""
    return {key: value for key, value in locked.without(table).items() if table.get(key) == value}


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
