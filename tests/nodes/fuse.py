"""GlusterFS and sshfs: file systems whose clients are programs, so that they run in name spaces of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from tests.nodes.grounds import Ground, kernel_release, release_of
from tests.nodes.sides import SERVER_ADDRESS, Missing, Network, Side, need, sh

NODES = ["c1", "c2"]
SSH_PORT = "2222"


def need_fuse() -> None:
    """Raise Missing where nothing can be mounted by a program."""
    need("fusermount3=fuse3")
    if not os.path.exists("/dev/fuse"):
        raise Missing("`/dev/fuse`")


class Gluster(Ground):
    """One server with three bricks that hold the same, two mounts through FUSE."""

    name = "gluster"
    lease_s = 45.0  # network.ping-timeout is 42 s by default; here it is 10

    def start(self) -> None:
        """Serve and mount. The daemon keeps its state below `/var/lib`, which is covered in this name space."""
        need_fuse()
        need("glusterd=glusterfs-server", "gluster=glusterfs-server", "glusterfs=glusterfs-client")
        self.network = Network(NODES)
        for directory in ("/var/lib/glusterd", "/var/log/glusterfs"):
            Path(directory).mkdir(parents=True, exist_ok=True)
            sh("mount", "-t", "tmpfs", "tmpfs", directory)
        Path("/var/run/gluster").mkdir(parents=True, exist_ok=True)
        # A brick needs extended attributes, which not every temporary directory has; and a disk of its own to be full.
        bricks = [self.root / f"brick{number}" for number in (1, 2, 3)]
        for brick in bricks:
            brick.mkdir()
        self.truth = bricks[2]  # the one that is never ended
        sh("glusterd", f"--pid-file={self.root}/glusterd.pid", "-l", f"{self.root}/glusterd.log")
        for _ in range(100):
            if sh("gluster", "--mode=script", "peer", "status", check=False).returncode == 0:
                break
            time.sleep(0.2)
        paths = [f"{SERVER_ADDRESS}:{brick}" for brick in bricks]
        self._gluster("volume", "create", "v1", "replica", "3", *paths, "force")
        self._gluster("volume", "set", "v1", "network.ping-timeout", "10")
        self._gluster("volume", "start", "v1")
        for node in NODES:
            mount = self.root / f"mount-{node}"
            mount.mkdir()
            self.sides.append(Side(node, mount, self.root / node, self.network.prefix(node)))
            sh(
                *self.network.prefix(node), "glusterfs", f"--volfile-server={SERVER_ADDRESS}", "--volfile-id=v1",
                f"--log-file={self.root}/{node}.log", str(mount),
            )  # fmt: skip
            self.stack.callback(sh, "umount", "--lazy", str(mount), check=False)

    def _gluster(self, *arguments: str) -> None:
        sh("gluster", "--mode=script", *arguments)

    def restart_server(self) -> None:
        """Kill one brick's process, then start it again. Without the others, jobs would get errors for what they print."""
        pid = next(Path("/var/run/gluster/vols/v1").glob("*brick1.pid"))
        os.kill(int(pid.read_text()), signal.SIGKILL)
        time.sleep(2)
        self._gluster("volume", "start", "v1", "force")

    def versions(self) -> str:
        """Return which versions of what are tried."""
        return f"GlusterFS {release_of(['glusterfs', '--version'], 1)}, replica 3, two FUSE mounts, Linux {kernel_release()}"


class Sshfs(Ground):
    """One directory of an sshd, mounted twice."""

    name = "sshfs"
    locks_are_shared = False
    errors_reach_jobs = True
    scenarios = tuple(name for name in Ground.scenarios if name != "cut")  # nothing is taken over: `killed` shows it

    def start(self) -> None:
        """Serve and mount."""
        need_fuse()
        need("sshd=openssh-server", "sshfs", "ssh-keygen=openssh-client")
        self.network = Network(NODES)
        self.truth = self.root / "served"
        self.truth.mkdir()
        os.makedirs("/run/sshd", exist_ok=True)
        for name in ("hostkey", "id"):
            sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.root / name))
        settings = [
            f"Port {SSH_PORT}", f"ListenAddress {SERVER_ADDRESS}", f"HostKey {self.root}/hostkey",
            f"AuthorizedKeysFile {self.root}/id.pub", "StrictModes no", "PermitRootLogin prohibit-password",
            "PasswordAuthentication no", "UsePAM no", f"PidFile {self.root}/sshd.pid", "Subsystem sftp internal-sftp",
        ]  # fmt: skip
        (self.root / "sshd_config").write_text("\n".join([*settings, ""]))
        self._serve()
        for node in NODES:
            mount = self.root / f"mount-{node}"
            mount.mkdir()
            self.sides.append(Side(node, mount, self.root / node, self.network.prefix(node)))
            options = [
                "reconnect", "ServerAliveInterval=5", "ServerAliveCountMax=2", f"port={SSH_PORT}",
                f"IdentityFile={self.root}/id", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null",
            ]  # fmt: skip
            sh(
                *self.network.prefix(node), "sshfs", f"root@{SERVER_ADDRESS}:{self.truth}", str(mount),
                "-o", ",".join(options), capture_output=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            self.stack.callback(sh, "umount", "--lazy", str(mount), check=False)

    def _serve(self) -> None:
        sh("/usr/sbin/sshd", "-f", str(self.root / "sshd_config"), "-E", str(self.root / "sshd.log"))
        time.sleep(1)

    def restart_server(self) -> None:
        """End the server and its connections: every process of it, in this name space."""
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and Path("/proc", entry, "cmdline").read_bytes().startswith(
                    (b"sshd:", b"/usr/sbin/sshd")
                ):
                    os.kill(int(entry), signal.SIGKILL)
            except OSError:
                continue
        time.sleep(1)
        self._serve()

    def versions(self) -> str:
        """Return which versions of what are tried."""
        done = sh("ssh", "-V", check=False)
        return f"sshfs {release_of(['sshfs', '--version'])}, {done.stderr.split(',')[0]}, Linux {kernel_release()}"
