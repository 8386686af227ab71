"""From the bytes of a dropped file to a `Spec`, or to every problem in it. Pure."""

from __future__ import annotations

from typing import Final

from spooldadd.errors import SpecError
from spooldadd.problems import Problem, summary
from spooldadd.reading import Source, Unreadable, read, validate
from spooldadd.spec.models import Spec

# A spec is read whole into a worker that holds thousands of them, and parsing takes about a second a megabyte. Large
# specs seen in practice carry some hundred kilobytes of settings; data belongs in files.
MAX_SPEC_BYTES: Final = 2**20


class InvalidSpec(SpecError):
    """The bytes are no valid spec. `problems` holds everything that is wrong; the message is one sentence."""

    def __init__(self, problems: tuple[Problem, ...], source: str) -> None:
        super().__init__(summary(problems, source))
        self.problems = problems
        self.source = source


def parse(data: bytes, *, source: str) -> Spec:
    """Read a spec. `source` is the file's name, for messages only.

    Raises: `InvalidSpec` with all problems, whatever the bytes are; nothing else.
    """
    try:
        text, table = read(data, source, max_bytes=MAX_SPEC_BYTES)
        if not table:
            raise Unreadable([_empty(text)])
        return validate(Spec, table, text).with_source(text)
    except Unreadable as error:
        raise InvalidSpec(error.problems, source) from error


def _empty(source: Source) -> Problem:
    what = "holds only comments" if source.text.strip() else "is empty"
    return source.problem((), f"the file {what}", 'a spec needs at least `command = ["program", "argument"]`')
