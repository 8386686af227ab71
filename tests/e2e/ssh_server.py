"""A real sshd on a free port of the loopback, with keys that are thrown away."""

from __future__ import annotations

import getpass
import os
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
SERVER = """\
ListenAddress 127.0.0.1:{port}
HostKey {root}/host_key
AuthorizedKeysFile {root}/user_key.pub
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
PidFile none
MaxStartups 100
Subsystem sftp internal-sftp
"""
CLIENT = """\
Host node
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {root}/user_key
  IdentitiesOnly yes
  BatchMode yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
"""


@contextmanager
def ssh_server() -> Iterator[str]:
    """Serve logins of the user who runs the tests as host `node`; give the path of the client's configuration."""
    if SSHD is None:
        pytest.skip("needs the capability to start an sshd")
    root = Path(tempfile.mkdtemp(prefix="spooldadd-sshd-"))
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd leaves its rights there, and does not make it
    for key in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / key], check=True)
    values = {"port": _free_port(), "root": root, "user": getpass.getuser()}
    (root / "sshd_config").write_text(SERVER.format(**values))
    client = root / "ssh_config"
    client.write_text(CLIENT.format(**values))
    with (root / "sshd.log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", root / "sshd_config"], stdin=subprocess.DEVNULL, stderr=log)
    try:
        until(lambda: _answers(client), f"sshd answers; its log is `{root}/sshd.log`")
        yield str(client)
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(root)


def _answers(client: Path) -> bool:
    return subprocess.run(["ssh", "-F", client, "node", "true"], capture_output=True, check=False).returncode == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
