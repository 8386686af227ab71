"""Sign and verify whole files: a TOML file, a script, or a bundle with its spec in it.

The signature of a bundle stands in its spec and covers its files by one digest, so a bundle stays a plain tar, and what
reads the spec alone needs nothing new.

If we die here: in `sign_file`, a temporary name beside the file; the file itself is as it was.
"""

from __future__ import annotations

import datetime
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from spooldadd import admission, bundle, durable, forms, names, preparing, signing
from spooldadd.bounds import MAX_SPEC_BYTES
from spooldadd.bundle import Item
from spooldadd.errors import SpecError
from spooldadd.preparing import Changes, Prepared
from spooldadd.signature import BadSignature, Statement, files_digest, find

_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class Wish:
    """How to sign: with which key, for how long, for which nodes."""

    key: str
    valid_s: float
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verified:
    """Who signed a file, and what for."""

    signed_by: str
    statement: Statement


def signed(prepared: Prepared, wish: Wish) -> Prepared:
    """Return what is to be dropped, signed: all its bytes are as they will be. Raises: SpecError."""
    items = prepared.items
    if prepared.as_is:
        items = tuple(_others(prepared.as_is, prepared.own_name))
    statement = signing.new_statement(_now(), wish.valid_s, wish.nodes, _digest(items))
    try:
        data = signing.sign(prepared.data, statement, wish.key)
    except BadSignature as error:
        remedy = "remove the lines that look like one, also within a text, and sign it then"
        raise SpecError(f"`{prepared.source}` cannot be signed: it {str(error).partition(';')[0]}; {remedy}") from error
    if len(data) > MAX_SPEC_BYTES:
        raise SpecError(f"`{prepared.source}` is longer than {MAX_SPEC_BYTES} bytes with its signature; put data into files")
    return prepared._replace(data=data, items=items, as_is="")


def sign_file(path: str, wish: Wish, output: str | None = None) -> Statement:
    """Sign a file and write it back, or elsewhere. Raises: InvalidSpec, SpecError, OSError."""
    prepared = preparing.load(path, Changes())
    target = os.path.realpath(output or path)
    is_bundle = forms.is_bundle(target)
    if prepared.items and not is_bundle:
        listed = ", ".join(f"`{item.name}`" for item in prepared.items[:3])
        remedy = "put them into a bundle with `--output NAME.tar`, or let `spooldadd submit --sign` do it"
        raise SpecError(f"`{path}` needs files beside it ({listed}), which a signature in it would not cover; {remedy}")
    done = signed(prepared, wish)
    if done.items and not is_bundle:
        raise SpecError(f"`{path}` is a bundle, and so must be what is written; call it `NAME.tar`")
    _replace(target, path, done, is_bundle=is_bundle)
    found = find(done.data)
    assert found is not None
    return found.statement


def verify_file(path: str, signers: signing.Signers, node: str | None = None) -> Verified:
    """Return who signed this file, where the signature holds now. Raises: SpecError with a sentence; OSError."""
    try:
        own_name, data, items = _read(path)
        found = find(data)
        if found is None:
            raise BadSignature("is not signed; `spooldadd sign` signs it")
        signer = signing.signer_of(found, signers)
        if _digest(items) != found.statement.files:
            raise BadSignature(f"holds other files beside `{own_name}` than when it was signed; sign it again")
        objection = admission.objection_to(found, _now(), node)
        if objection:
            raise BadSignature(objection)
    except (BadSignature, bundle.NoBundle) as error:
        raise SpecError(f"`{path}` {error}") from error
    return Verified(signer, found.statement)


def _read(path: str) -> tuple[str, bytes, Sequence[Item]]:
    if not forms.is_bundle(path):
        with open(path, "rb") as file:
            return os.path.basename(path), file.read(MAX_SPEC_BYTES + 1), ()
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = bundle.find_spec(fd)
    finally:
        os.close(fd)
    return found.name, found.data, tuple(_others(path, found.name))


def _others(path: str, own_name: str) -> Iterable[Item]:
    return (item for name, item in bundle.items_of(path).items() if name != own_name)


def _digest(items: Iterable[Item]) -> str:
    return files_digest((item.name, item.mode, _sha256(item)) for item in items)


def _sha256(item: Item) -> str:
    digest = hashlib.sha256()
    with item.opened() as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _replace(target: str, source: str, done: Prepared, *, is_bundle: bool) -> None:
    """Write it whole under another name, then rename; it keeps the mode of what was signed."""
    temporary = f"{target}.{names.random_part()}.part"
    mode = os.stat(source).st_mode & 0o777

    def fill(fd: int) -> None:
        if is_bundle:
            bundle.write(fd, bundle.item_of_bytes(done.own_name, done.data), done.items)
        else:
            durable.write_all(fd, done.data)

    durable.write_new_by(temporary, fill, sync=True, mode=mode)
    os.rename(temporary, target)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
