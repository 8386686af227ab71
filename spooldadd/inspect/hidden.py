"""Hide the secrets of a job in what is shown of its log. What has none costs a look at its spec."""

from __future__ import annotations

import os

from spooldadd import forms
from spooldadd.inspect.job import Job

MARK = b"secrets"
MAX_SPEC_BYTES = 1 << 20  # as `spec.reading` has it, which is too heavy here


def hidden(job: Job, text: str) -> str:
    """Return a part of a job's log without its secrets; where one cannot be had here, say so instead."""
    try:
        if not text:
            return text
        with open(job.spec_path, "rb") as file:
            if not forms.is_bundle(job.spec_path) and MARK not in file.read(MAX_SPEC_BYTES):
                return text
    except OSError:
        return text
    return _hidden(job, text)


def _hidden(job: Job, text: str) -> str:
    from spooldadd.asking import reader  # late, all of them: heavy, and few jobs have secrets
    from spooldadd.config import find_config, load
    from spooldadd.errors import ConfigError
    from spooldadd.mail import ended
    from spooldadd.mail.hiding import hideable, redactor

    try:
        config = load(find_config(job.places.root, environ=os.environ, uid=os.getuid()), environ=os.environ)
    except ConfigError as error:
        return f"[not shown, for its secrets cannot be hidden: {error}; `spooldadd logs` shows it as it is]"
    each = ended.read(job.path, job.path, job.result())
    read = reader(config, os.environ)
    hide = redactor(config, os.environ, each.spec_table(), read=read)
    shown = hideable(ended.replaced(each, text), read, hide)
    return hide(shown.log)
