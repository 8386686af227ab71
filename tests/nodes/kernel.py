"""NFS and SMB with a kernel's own clients. To be run in the guest: it takes the machine's one NFS server for itself."""

from __future__ import annotations

import time
from pathlib import Path

from tests.nodes.grounds import Ground, kernel_release, release_of
from tests.nodes.sides import SERVER_ADDRESS, Missing, Network, Side, need, sh

NODES = ["c1", "c2"]
# The kernel's server takes nothing below 10 s. A client that is cut off keeps its locks for so long.
LEASE_S = GRACE_S = 10


class KernelGround(Ground):
    """A server in the main network, its directory on an ext4 of its own, and a client in each node's network."""

    modules: tuple[str, ...] = ()

    def start(self) -> None:
        """Serve and mount."""
        need("nsenter=util-linux", "mkfs.ext4=e2fsprogs", "modprobe=kmod")
        for module in (*self.modules, "loop", "ext4", "veth", "bridge", "nf_tables"):
            sh("modprobe", module, check=False)
        self.network = Network(NODES)
        exported = Path("/exp")
        exported.mkdir(exist_ok=True)
        sh("truncate", "-s", "400M", "/dev/shm/disk.img")
        sh("mkfs.ext4", "-q", "/dev/shm/disk.img")
        sh("mount", "-o", "loop", "/dev/shm/disk.img", str(exported))
        self.truth = exported / "s"
        self.truth.mkdir()
        self.serve()
        for node in NODES:
            mount = Path(f"/mnt/{node}")
            mount.mkdir(parents=True, exist_ok=True)
            self.sides.append(Side(node, mount, self.root / node, self.network.prefix(node)))
            self.mount(node, mount)

    def serve(self) -> None:
        """Start the server."""
        raise NotImplementedError

    def mount(self, node: str, point: Path) -> None:
        """Mount it on a node."""
        raise NotImplementedError


class Nfs(KernelGround):
    """NFS 4.2 by the kernel's server and clients."""

    name = "nfs"
    version = "4.2"
    modules = ("nfsd", "nfsv4")
    lease_s = 2.0 * LEASE_S

    def serve(self) -> None:
        """Start the kernel's server with a short lease."""
        need("rpc.nfsd=nfs-kernel-server", "exportfs=nfs-kernel-server", "rpcbind", "mount.nfs=nfs-common")
        sh("mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd")
        for directory in ("/run/rpcbind", "/var/lib/nfs/sm", "/var/lib/nfs/v4recovery"):
            Path(directory).mkdir(parents=True, exist_ok=True)
        if self.version != "3":
            sh("rpcbind", "-w")
        Path("/etc/exports").write_text("/exp 10.99.0.0/24(rw,sync,no_subtree_check,no_root_squash,fsid=0)\n")
        sh("exportfs", "-ra")
        Path("/proc/fs/nfsd/nfsv4leasetime").write_text(f"{LEASE_S}\n")
        Path("/proc/fs/nfsd/nfsv4gracetime").write_text(f"{GRACE_S}\n")
        sh("rpc.nfsd", "4")
        sh("rpc.mountd")
        time.sleep(GRACE_S + 2)

    def mount(self, node: str, point: Path) -> None:
        """Mount as a host of another name: the server takes each for a client of its own."""
        assert self.network
        path = "/exp/s" if self.version == "3" else "/s"
        command = f"hostname {node}; mount -t nfs -o vers={self.version} {SERVER_ADDRESS}:{path} {point}"
        sh(*self.network.prefix(node), "unshare", "-u", "sh", "-c", command)

    def restart_server(self) -> None:
        """The server forgets everything but what is on disk; clients have the grace period to claim their locks again."""
        sh("rpc.nfsd", "0")
        time.sleep(1)
        sh("exportfs", "-ra")
        sh("rpc.nfsd", "4")

    def versions(self) -> str:
        """Return which versions of what are tried."""
        return f"NFS {self.version}, server and clients of Linux {kernel_release()}, lease {LEASE_S} s"


class Nfs3(Nfs):
    """NFS 3, whose locks are a protocol beside it: each host has a lock manager, and a program that tells of restarts.

    The server keeps the locks of a client that is cut off for ever, so nothing that it runs is taken over: no `cut`.
    """

    name = "nfs3"
    version = "3"
    modules = ("nfsd", "nfsv3", "lockd")
    scenarios = tuple(name for name in Nfs.scenarios if name != "cut")

    def serve(self) -> None:
        """Start the server, and what tells clients that it was started again."""
        need("rpc.statd=nfs-common", "sm-notify=nfs-common")
        Path("/proc/sys/fs/nfs/nlm_grace_period").write_text(f"{GRACE_S}\n")
        sh("sh", "-c", "mkdir -p /run/rpcbind && rpcbind -w && rpc.statd --no-notify")
        super().serve()
        # All kernels here are one, and ask by this socket first: a client's lock manager would take the server's place.
        Path("/run/rpcbind.sock").unlink()

    def mount(self, node: str, point: Path) -> None:
        """Give the client its own such program first; it keeps its state where no other one does."""
        assert self.network
        own = "mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /var/lib/nfs; mkdir -p /run/rpcbind /var/lib/nfs/sm"
        programs = f"hostname {node}; {own}; rpcbind -w; rpc.statd --no-notify"
        sh(*self.network.prefix(node), "unshare", "-m", "-u", "sh", "-c", programs)
        super().mount(node, point)

    def restart_server(self) -> None:
        """The server's lock manager forgets all locks, and has the clients told, so that they claim them again."""
        super().restart_server()
        sh("sm-notify", "-f", check=False)


class Smb(KernelGround):
    """SMB 3.1.1: Samba as the server, the kernel's clients."""

    name = "smb"
    modules = (
        *("cmac", "ccm", "gcm", "ctr", "ecb", "hmac", "md4", "md5", "sha256_generic", "sha512_generic", "aes_generic"),
        *("nls_utf8", "cifs"),
    )
    options = "vers=3.1.1"
    lease_s = 30.0

    def serve(self) -> None:
        """Start Samba."""
        need("smbd=samba", "mount.cifs=cifs-utils")
        for directory in ("/run/samba", "/var/lib/samba/private", "/var/cache/samba", "/var/log/samba"):
            Path(directory).mkdir(parents=True, exist_ok=True)
        settings = (
            "workgroup=W", "security=user", "map to guest=Bad User", "guest account=root", "load printers=no",
            "disable spoolss=yes", "pid directory=/run/samba", "server min protocol=SMB2",
            # Without these it keeps the locks of a client that is cut off for two hours.
            "socket options=TCP_NODELAY SO_KEEPALIVE TCP_KEEPIDLE=10 TCP_KEEPINTVL=5 TCP_KEEPCNT=2 TCP_USER_TIMEOUT=20000",
        )  # fmt: skip
        share = ("path=/exp/s", "guest ok=yes", "read only=no", "force user=root")
        self.conf = self.root / "smb.conf"
        self.conf.write_text("\n".join(["[global]", *settings, "[s]", *share, ""]))
        self._begin()

    def _begin(self) -> None:
        sh("smbd", "-D", "-s", str(self.conf))
        time.sleep(3)

    def mount(self, node: str, point: Path) -> None:
        """Mount it."""
        assert self.network
        options = f"guest,{self.options}"
        done = sh(
            *self.network.prefix(node),
            "mount",
            "-t",
            "cifs",
            "-o",
            options,
            f"//{SERVER_ADDRESS}/s",
            str(point),
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise Missing(f"a kernel that mounts SMB: {done.stderr.strip()}")

    def restart_server(self) -> None:
        """End every process of the server, then start it again."""
        sh("killall", "-9", "smbd", check=False)  # in the guest: there is no other one
        time.sleep(1)
        Path("/run/samba/smbd.pid").unlink(missing_ok=True)
        self._begin()

    def versions(self) -> str:
        """Return which versions of what are tried."""
        return f"SMB 3.1.1, Samba {release_of(['smbd', '--version'])}, client of Linux {kernel_release()}, default options"
