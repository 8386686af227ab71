"""A real sshd on a free port of the loopback, with keys that are thrown away."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import until

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/sbin")
RRSYNC = shutil.which("rrsync")
SERVER = """\
ListenAddress 127.0.0.1:{port}
HostKey {root}/host_key
AuthorizedKeysFile {root}/authorized_keys
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
PidFile none
MaxStartups 100
Subsystem sftp internal-sftp
"""
CLIENT = """\
Host node node-*
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {root}/user_key
  IdentitiesOnly yes
  BatchMode yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
Host known
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {root}/user_key
  IdentitiesOnly yes
  BatchMode yes
  UserKnownHostsFile {root}/known_hosts
Host stranger
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {root}/other_key
  IdentitiesOnly yes
  BatchMode yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
Host restricted
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {root}/restricted_key
  IdentitiesOnly yes
  BatchMode yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
"""


class SshServer:
    """An sshd that serves logins of the user who runs the tests; it can be stopped and started again on its port.

    Host `node` is it; `node-1`, `node-2` … are too. `known` has the host key that `know` was told, `stranger` a key that it
    does not accept, `restricted` one that may do only what `restrict` allows.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        for key in ("host_key", "user_key", "other_key", "restricted_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / key], check=True)
        values = {"port": _free_port(), "root": root, "user": getpass.getuser()}
        self.port = values["port"]
        (root / "sshd_config").write_text(SERVER.format(**values))
        shutil.copy(root / "user_key.pub", root / "authorized_keys")
        self.client = root / "ssh_config"
        self.client.write_text(CLIENT.format(**values))
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def command(self) -> str:
        """The ssh command that knows these hosts."""
        return f"ssh -F {self.client}"

    def start(self) -> None:
        """Serve; returns when a login works."""
        with (self.root / "sshd.log").open("ab") as log:
            arguments = [SSHD, "-D", "-e", "-f", self.root / "sshd_config"]
            self._server = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stderr=log)
        until(lambda: _answers(self.client), f"sshd answers; its log is `{self.root}/sshd.log`")

    def stop(self) -> None:
        """Be away."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait()
            self._server = None

    def restrict(self, directory: Path) -> None:
        """Let the restricted key do nothing but rsync within this directory."""
        key = (self.root / "restricted_key.pub").read_text()
        with (self.root / "authorized_keys").open("a") as file:
            file.write(f'restrict,command="{RRSYNC} {shlex.quote(str(directory))}" {key}')

    def know(self, key: str) -> None:
        """Let host `known` have this public key, by the name of its file."""
        kind, text, *_ = (self.root / key).read_text().split()
        (self.root / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {text}\n")


@contextmanager
def stoppable_ssh_server() -> Iterator[SshServer]:
    """Serve logins; nothing of it is left in the end."""
    if SSHD is None:
        pytest.skip("needs the capability to start an sshd")
    root = Path(tempfile.mkdtemp(prefix="spooldadd-sshd-"))
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd leaves its rights there, and does not make it
    server = SshServer(root)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(root)


@contextmanager
def ssh_server() -> Iterator[str]:
    """Serve logins of the user who runs the tests as host `node`; give the path of the client's configuration."""
    with stoppable_ssh_server() as server:
        yield str(server.client)


def _answers(client: Path) -> bool:
    return subprocess.run(["ssh", "-F", client, "node", "true"], capture_output=True, check=False).returncode == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
