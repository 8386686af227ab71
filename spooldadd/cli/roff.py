"""Write a manual page in roff: headings, paragraphs, tagged lists, examples. Pure.

Source: man(7), groff_man(7).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_CODE = re.compile(r"`([^`]+)`")


def escape(text: str) -> str:
    """Write a text so that roff prints it as it is, on the lines as they are."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga").replace("^", "\\(ha")
    escaped = escaped.replace("~", "\\(ti").replace("…", "...").replace("–", "\\(en")
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in escaped.split("\n"))


def running(text: str) -> str:
    """Write a text for people; what stands in backticks becomes bold."""
    parts = _CODE.split(" ".join(text.split()))
    marked = [f"\\fB{escape(part)}\\fP" if number % 2 else escape(part) for number, part in enumerate(parts)]
    joined = "".join(marked)
    return f"\\&{joined}" if joined.startswith((".", "\\(aq")) else joined


def title(name: str, release: str, manual: str) -> str:
    """Begin a page of section 1. Without a date, so that the same release always makes the same page."""
    return f'.TH {name.upper()} 1 "" "{escape(release)}" "{manual}"\n'


def section(name: str) -> str:
    """Begin a section."""
    return f'.SH "{escape(name)}"\n'


def subsection(name: str) -> str:
    """Begin a part of a section."""
    return f'.SS "{escape(name)}"\n'


def paragraph(text: str) -> str:
    """Write a paragraph that is filled."""
    return f".PP\n{running(text)}\n"


def tagged(tag: str, text: str) -> str:
    """Write an entry of a list: the tag bold, the text indented."""
    return f".TP\n.B {escape(tag)}\n{running(text)}\n"


def literal(lines: Iterable[str]) -> str:
    """Write lines as they are, indented."""
    return ".PP\n.RS 4\n.nf\n" + "".join(f"{escape(line)}\n" for line in lines) + ".fi\n.RE\n"


def prose(text: str) -> str:
    """Write the text of a docstring: paragraphs, and what is indented as it stands."""
    written = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.split("\n")
        head = [line for line in lines if not line.startswith("  ")]
        rest = [line.strip() if line.startswith("  ") else line for line in lines[len(head) :]]
        if head:
            written.append(paragraph(" ".join(head)))
        if rest:
            written.append(literal(rest))
    return "".join(written)
