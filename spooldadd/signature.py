"""The signature in a spec: trailing comment lines, so that the file stays a valid spec. Pure; `signing` makes and checks it.

    command = ["true"]

    # spooldadd-signature: 1
    # signed-at: 2026-11-21T10:15:00Z
    # expires-at: 2026-11-28T10:15:00Z
    # nonce: k4v0c1q8m2x7z5n9b3d6f0g1
    # -----BEGIN SSH SIGNATURE-----
    # U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAg…
    # -----END SSH SIGNATURE-----

What is signed is every byte of the file before the line `BEGIN SSH SIGNATURE`: the spec, and the lines that say what the
signature was given for. In a bundle, the line `files` covers the files beside the spec. There is one way to write a block;
whatever is written otherwise is no signature, so that no byte of a file can be changed unnoticed.

Source: PROTOCOL.sshsig of OpenSSH for what stands between the marks.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from spooldadd.errors import SpecError

# What a signature was made for, so that one for mail or for a commit is none for a spec.
NAMESPACE: Final = "spooldadd-spec"
NONCE_CHARACTERS: Final = 24
_OPENING: Final = b"# spooldadd-signature:"
_BEGIN, _END = b"# -----BEGIN SSH SIGNATURE-----\n", b"# -----END SSH SIGNATURE-----\n"
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_ARMOR_COLUMNS: Final = 70  # as ssh-keygen writes it
_BLOCK: Final = re.compile(
    rb"(?:\A|\n)# spooldadd-signature: 1\n"
    rb"# signed-at: (?P<signed>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\n"
    rb"# expires-at: (?P<expires>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\n"
    rb"# nonce: (?P<nonce>[a-z0-9]{24})\n"
    rb"(?:# nodes: (?P<nodes>[A-Za-z0-9_][A-Za-z0-9._-]*(?: [A-Za-z0-9_][A-Za-z0-9._-]*)*)\n)?"
    rb"(?:# files: sha256:(?P<files>[0-9a-f]{64})\n)?"
    + re.escape(_BEGIN)
    + rb"(?P<body>(?:# [A-Za-z0-9+/=]+\n)+)"
    + re.escape(_END)
    + rb"\Z"
)


class BadSignature(SpecError):
    """The signature does not hold. The message is a predicate: it follows the file's name, and ends with the remedy."""


@dataclass(frozen=True)
class Statement:
    """What a signature was given for: from when until when a job may be started, once, on which nodes, with which files."""

    signed_at: datetime.datetime
    expires_at: datetime.datetime
    nonce: str
    nodes: tuple[str, ...] = ()  # empty: on any
    files: str = ""  # of a bundle: the digest of what it brings beside the spec

    def lines(self) -> bytes:
        """Return the statement as it stands in the file."""
        told = [
            "spooldadd-signature: 1",
            f"signed-at: {self.signed_at.strftime(_TIME)}",
            f"expires-at: {self.expires_at.strftime(_TIME)}",
            f"nonce: {self.nonce}",
            *([f"nodes: {' '.join(self.nodes)}"] if self.nodes else []),
            *([f"files: sha256:{self.files}"] if self.files else []),
        ]
        return "".join(f"# {line}\n" for line in told).encode()


@dataclass(frozen=True)
class Signed:
    """A signature that was found: the bytes that it covers, its statement, and itself as ssh-keygen takes it."""

    message: bytes
    statement: Statement
    armor: bytes


def find(data: bytes) -> Signed | None:
    """Return the signature at the end of a spec, None where it has none. Raises: BadSignature for one that is damaged."""
    if not _is_meant(data):
        return None
    match = _BLOCK.search(data, max(0, data.rfind(b"\n" + _OPENING)))
    if match is None or len(_openings(data)) > 1 or data.count(_BEGIN) > 1 or data.count(_END) > 1:
        raise BadSignature(_fault(data))
    body = b"".join(line[2:] for line in match["body"].splitlines())
    try:
        raw = base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise BadSignature(_DAMAGED) from error
    if _wrapped(raw) != match["body"]:
        raise BadSignature(_DAMAGED)
    statement = Statement(
        _time(match["signed"]),
        _time(match["expires"]),
        match["nonce"].decode(),
        tuple((match["nodes"] or b"").decode().split()),
        (match["files"] or b"").decode(),
    )
    return Signed(data[: match.start("body") - len(_BEGIN)], statement, _armor(raw))


def message(data: bytes, statement: Statement) -> bytes:
    """Return what is to be signed: the spec without a signature that it has, and the statement."""
    bare = without(data)
    gap = b"" if not bare else b"\n" if bare.endswith(b"\n") else b"\n\n"
    return bare + gap + statement.lines()


def closed(signed_message: bytes, armor: bytes) -> bytes:
    """Return the whole file: what was signed, and the signature as ssh-keygen gave it. Raises: BadSignature."""
    lines = [line for line in armor.splitlines() if line and not line.startswith(b"-----")]
    try:
        raw = base64.b64decode(b"".join(lines), validate=True)
    except binascii.Error as error:
        raise BadSignature("was signed, but what ssh-keygen printed is no signature") from error
    return signed_message + _BEGIN + _wrapped(raw) + _END


def without(data: bytes) -> bytes:
    """Return a spec without the signature at its end. Raises: BadSignature where that is not well-formed."""
    found = find(data)
    if found is None:
        return data
    bare = found.message[: -len(found.statement.lines())]
    return bare.removesuffix(b"\n") if bare.endswith(b"\n\n") else bare


def files_digest(files: Iterable[tuple[str, int, str]]) -> str:
    """Return one digest of many files: of each its name, its mode and the sha256 of its content. Empty for none."""
    lines = sorted(f"{sha256} {0o755 if mode & 0o100 else 0o644:o} {name!r}\n" for name, mode, sha256 in files)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest() if lines else ""


_DAMAGED: Final = "has a signature that is damaged: it is not as `spooldadd sign` writes it; sign it again"


def _is_meant(data: bytes) -> bool:
    marks = (_OPENING.rstrip(b":"), _BEGIN.rstrip(), _END.rstrip())
    return any(mark in data for mark in marks) and any(line.startswith(marks) for line in data.splitlines())


def _openings(data: bytes) -> list[bytes]:
    return [line for line in data.splitlines() if line.startswith(_OPENING)]


def _fault(data: bytes) -> str:
    lines = data.splitlines()
    if len(_openings(data)) > 1 or lines.count(_BEGIN.rstrip()) > 1 or lines.count(_END.rstrip()) > 1:
        return "holds two signatures; remove the lines of both and sign it again"
    if b"\r" in data[max(0, data.find(_OPENING)) :]:
        return "has a signature with other line ends than when it was signed; copy it byte for byte, not as text"
    _, end, rest = data.partition(_END)
    if end and rest:
        return "goes on behind its signature, which has to be the end of the file; remove what follows, or sign it again"
    return _DAMAGED


def _time(text: bytes) -> datetime.datetime:
    try:
        return datetime.datetime.strptime(text.decode(), _TIME).replace(tzinfo=datetime.UTC)
    except ValueError as error:
        raise BadSignature(_DAMAGED) from error


def _wrapped(raw: bytes) -> bytes:
    text = base64.b64encode(raw)
    lines = [text[at : at + _ARMOR_COLUMNS] for at in range(0, len(text), _ARMOR_COLUMNS)]
    return b"".join(b"# " + line + b"\n" for line in lines)


def _armor(raw: bytes) -> bytes:
    return b"".join(line[2:] + b"\n" for line in (_BEGIN + _wrapped(raw) + _END).splitlines())
