"""Sign specs and check signatures, by ssh-keygen: the user's keys, his agent, his hardware keys, an allowed-signers file.

Nothing here reads a file twice: the list of signers is opened without following a link, looked at, and given to ssh-keygen
as the opened file.

Source: ssh-keygen(1), `-Y sign`, `-Y find-principals`, `-Y verify`, and ALLOWED SIGNERS.
"""

from __future__ import annotations

import datetime
import os
import random
import re
import shutil
import stat
import string
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from spooldadd import durable, trust
from spooldadd.errors import SpecError
from spooldadd.signature import NAMESPACE, NONCE_CHARACTERS, BadSignature, Signed, Statement, closed, message

PROGRAM: Final = "ssh-keygen"
# To ask takes milliseconds; a hardware key waits for a finger, and a passphrase for a person.
CHECK_S, SIGN_S = 20.0, 600.0
# A list of signers is a line for each; more is the wrong file.
MAX_LIST_BYTES: Final = 1 << 20
KEYS: Final = ("id_ed25519", "id_ed25519_sk", "id_ecdsa", "id_ecdsa_sk", "id_rsa")
MISSING: Final = f"`{PROGRAM}` is not installed here; install OpenSSH's client (`openssh-client`, 8.2 or newer)"


class CannotSign(SpecError):
    """No signature could be made, or none can be checked here. The message is a sentence with the remedy."""


@dataclass(frozen=True)
class Signers:
    """Whose signatures hold: the files of those who may sign, and of keys that may no longer."""

    allowed: str
    revoked: str = ""

    def check(self) -> None:
        """Look at both files. Raises: CannotSign where one of them cannot be used."""
        if shutil.which(PROGRAM) is None:
            raise CannotSign(MISSING)
        for path in filter(None, (self.allowed, self.revoked)):
            os.close(open_list(path))


# -- signing


def new_statement(now: datetime.datetime, valid_s: float, nodes: Sequence[str] = (), files: str = "") -> Statement:
    """Return a statement that holds from now on, for this long."""
    signed_at = now.replace(microsecond=0)
    draw = random.SystemRandom()
    nonce = "".join(draw.choices(string.ascii_lowercase + string.digits, k=NONCE_CHARACTERS))
    expires_at = signed_at + datetime.timedelta(seconds=max(1, round(valid_s)))
    return Statement(signed_at, expires_at, nonce, tuple(nodes), files)


def sign(data: bytes, statement: Statement, key: str) -> bytes:
    """Return the spec with a signature by this key. Raises: CannotSign; BadSignature where it has one that is damaged."""
    told = message(data, statement)
    command = [PROGRAM, "-Y", "sign", "-n", NAMESPACE, "-f", key]
    done = _run(command, told, SIGN_S)
    if done.returncode or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        raise CannotSign(f"`{key}` cannot sign: {_said(done)}; name another key with `--key`, or `ssh-add` it")
    return closed(told, done.stdout)


def find_key(given: str | None, environ: Mapping[str, str]) -> str:
    """Return the key to sign with: what was given, what `SPOOLDADD_SIGNING_KEY` names, else the user's own.

    Raises: CannotSign.
    """
    named = given or environ.get("SPOOLDADD_SIGNING_KEY", "")
    if named:
        path = os.path.expanduser(named)
        if not os.path.exists(path):
            raise CannotSign(f"the key `{path}` does not exist; `ssh-keygen -t ed25519` makes one")
        return path
    directory = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".ssh")
    for name in KEYS:
        for path in (os.path.join(directory, name), os.path.join(directory, f"{name}.pub")):  # that one by the agent
            if os.path.exists(path):
                return path
    raise CannotSign(f"there is no key in `{directory}`; name one with `--key`, or make one: `ssh-keygen -t ed25519`")


# -- checking


def signer_of(signed: Signed, signers: Signers) -> str:
    """Return who signed, as the list of signers calls him. Raises: BadSignature; CannotSign where it cannot be checked."""
    fds = []
    try:
        fds.append(_in_memory(signed.armor))
        fds.append(open_list(signers.allowed))
        fds += [open_list(signers.revoked)] if signers.revoked else []
        return _principal(signed, fds, signers)
    finally:
        for fd in fds:
            os.close(fd)


def _principal(signed: Signed, fds: Sequence[int], signers: Signers) -> str:
    paths = [f"/proc/self/fd/{fd}" for fd in fds]
    common = ["-s", paths[0], "-f", paths[1]]
    found = _run([PROGRAM, "-Y", "find-principals", *common], b"", CHECK_S, fds)
    names = [name for line in found.stdout.decode("utf-8", "replace").splitlines() for name in line.split(",") if name]
    if found.returncode or not names:
        raise BadSignature(
            f"is signed with a key that `{signers.allowed}` does not list, or not for now (`valid-before`, a "
            "certificate that has run out); have it signed by somebody there"
        )
    revoked = ["-r", paths[2]] if len(paths) > 2 else []
    for name in names:
        command = [PROGRAM, "-Y", "verify", *common, "-n", NAMESPACE, "-I", name, *revoked]
        done = _run(command, signed.message, CHECK_S, fds)
        if done.returncode == 0:
            return name
    raise BadSignature(
        f"has a signature that does not hold ({_said(done, paths, signers)}): it was changed after it was signed, or signed "
        "for something else, or by a key that is no longer allowed; sign it again"
    )


def open_list(path: str) -> int:
    """Open a list of signers, which nobody else may be able to change. Raises: CannotSign, with the remedy."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if os.path.islink(path):
            raise CannotSign(f"`{path}` is a symbolic link, which may lead elsewhere later; name the file itself") from error
        raise CannotSign(f"the list of signers `{path}` cannot be read: {error.strerror}") from error
    objection = _objection(path, os.fstat(fd))
    if objection:
        os.close(fd)
        raise CannotSign(f"the list of signers {objection}")
    return fd


def _objection(path: str, status: os.stat_result) -> str | None:
    """Its directories count as well: who may rename there may put another list in its place."""
    if not stat.S_ISREG(status.st_mode):
        return f"`{path}` is not a file"
    if status.st_size > MAX_LIST_BYTES:
        return f"`{path}` is longer than a list of signers is; is it the right file?"
    rule = trust.of_config()
    objection = rule.objection(status, f"`{path}`")
    place = os.path.dirname(os.path.realpath(path))
    while objection is None:
        about = os.stat(place)
        is_sticky = bool(about.st_mode & stat.S_ISVTX)  # there, nobody renames what is another's
        objection = None if is_sticky else rule.objection(about, f"`{path}` is no use: its directory `{place}`")
        if place == os.path.dirname(place):
            break
        place = os.path.dirname(place)
    return objection and objection.replace(", or `[trust] groups`", "").replace(" (`[trust] owners`)", "")


def _in_memory(data: bytes) -> int:
    fd = os.memfd_create("signature")
    durable.write_all(fd, data)
    return fd


def _run(
    command: Sequence[str], data: bytes, timeout_s: float, fds: Sequence[int] = ()
) -> subprocess.CompletedProcess[bytes]:
    """Raises: CannotSign where the program is missing or does not end."""
    try:
        return subprocess.run(command, input=data, capture_output=True, check=False, timeout=timeout_s, pass_fds=tuple(fds))
    except FileNotFoundError as error:
        raise CannotSign(MISSING) from error
    except subprocess.TimeoutExpired as error:
        raise CannotSign(f"`{PROGRAM}` did not answer within {timeout_s:g} s") from error
    except OSError as error:
        raise CannotSign(f"`{PROGRAM}` cannot be started: {error.strerror}") from error


def _said(done: subprocess.CompletedProcess[bytes], paths: Sequence[str] = (), signers: Signers | None = None) -> str:
    """Return the last line of what it said; the files that it was given as `paths` are called as people know them."""
    lines = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    text = lines[-1].rstrip(".") if lines else f"exit code {done.returncode}"
    for path, name in zip(paths[1:], (signers.allowed, signers.revoked) if signers else (), strict=False):
        text = re.sub(rf"{re.escape(path)}(?!\d)", lambda _, name=name: name, text)  # type: ignore[misc]
    return text[:200]
