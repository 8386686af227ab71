"""The block of a signature: written in one way, found in one way; no byte of it can be changed unnoticed."""

import base64
import datetime

import pytest

from spooldadd import signature

AT = datetime.datetime(2026, 11, 21, 10, 15, tzinfo=datetime.UTC)
STATEMENT = signature.Statement(AT, AT + datetime.timedelta(days=1), "n" * 24, ("web-1", "web-2"), "a" * 64)
RAW = bytes(range(200))
ARMOR = b"-----BEGIN SSH SIGNATURE-----\n" + base64.b64encode(RAW) + b"\n-----END SSH SIGNATURE-----\n"


def signed(data=b'command = ["true"]\n', statement=STATEMENT):
    return signature.closed(signature.message(data, statement), ARMOR)


@pytest.mark.parametrize("data", [b'command = ["true"]\n', b'command = ["true"]', b"", b"a = 1\r\nb = 2\r\n", b"a = 1\n\n"])
@pytest.mark.parametrize("statement", [STATEMENT, signature.Statement(AT, AT, "0" * 24)])
def test_what_was_written_is_found(data, statement):
    found = signature.find(signed(data, statement))
    assert found.statement == statement
    assert found.message.startswith(data)
    assert found.message.endswith(statement.lines())


def test_a_spec_without_one_has_none():
    assert signature.find(b'command = ["true"]  # spooldadd-signature: 1 is not at the beginning\n') is None


def test_no_byte_can_be_changed_added_or_taken_away_unnoticed():
    whole = signed()
    original = signature.find(whole)
    for at in range(len(whole)):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        for data in (changed, whole[:at] + b"\r" + whole[at:], whole[:at] + whole[at + 1 :], whole[:at] + b"A" + whole[at:]):
            try:
                found = signature.find(data)
            except signature.BadSignature:
                continue
            assert found is not None
            assert (found.message, found.armor) != (original.message, original.armor), at


def test_signing_again_takes_the_place_of_the_first():
    once = signed()
    assert signature.without(once) == b'command = ["true"]\n'
    assert signed(once) == once


def test_the_digest_of_files_heeds_names_modes_and_contents():
    files = [("a", 0o644, "1" * 64), ("b", 0o755, "2" * 64)]
    digest = signature.files_digest(files)
    assert digest == signature.files_digest(reversed(files))
    assert signature.files_digest([]) == ""
    for other in (
        [("c", 0o644, "1" * 64), files[1]],
        [("a", 0o755, "1" * 64), files[1]],
        [("a", 0o644, "3" * 64), files[1]],
    ):
        assert signature.files_digest(other) != digest
