"""A guest of QEMU without KVM whose root is this machine's root, read-only, below a file system in memory.

It gives a kernel of its own with NFS and SMB, on machines whose kernel has neither. The kernel comes from the package
archive; it is downloaded and unpacked, not installed. `guest-init.sh` is its first process.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.nodes.sides import PROJECT, Missing, need, sh

MODULES = (
    "9p", "9pnet_virtio", "virtio_pci", "overlay", "nfs", "nfsv3", "nfsv4", "nfsd", "cifs", "veth", "bridge", "loop", "ext4",
    "nf_tables", "tcp_diag", "inet_diag", "cmac", "ccm", "gcm", "ctr", "ecb", "hmac", "md4", "md5", "sha256_generic",
    "sha512_generic", "aes_generic", "aesni_intel", "nls_utf8", "seqiv", "ghash-generic",
)  # fmt: skip
# Under emulation one scenario takes minutes.
MOST_S = 3600.0


def run(arguments: list[str], out: Path, kept: Path | None) -> int:
    """Run `python -m tests.nodes ARGUMENTS` in a guest, print what it says, return its exit code."""
    need("qemu-system-x86_64=qemu-system-x86", "busybox=busybox-static", "cpio", "depmod=kmod")
    where = kept or out / "guest"
    if not (where / "initrd.gz").exists():
        build(where)
    command = " ".join(shlex.quote(word) for word in [sys.executable, "-m", "tests.nodes", *arguments])
    (out / "run.sh").write_text(f"export PATH=/usr/sbin:/usr/bin:/sbin:/bin\ncd {shlex.quote(str(PROJECT))}\n{command}\n")
    release = (where / "release").read_text()
    with open(out / "console", "wb") as console:
        machine = subprocess.Popen(
            [
                "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "3072",
                "-smp", "2",                 "-nographic", "-no-reboot", "-nic", "none",
                "-kernel", str(where / f"kernel/boot/vmlinuz-{release}"), "-initrd", str(where / "initrd.gz"),
                "-append", "console=ttyS0 quiet panic=-1",
                "-virtfs", "local,path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap",
                "-virtfs", f"local,path={out},mount_tag=out,security_model=none",
            ],
            stdin=subprocess.DEVNULL, stdout=console, stderr=console, preexec_fn=lambda: os.nice(10),
        )  # fmt: skip
    try:
        return _follow(machine, out)
    finally:
        machine.kill()
        machine.wait()


def _follow(machine: subprocess.Popen[bytes], out: Path) -> int:
    """Print the report as it grows, until it says that it ends."""
    report, read, end = out / "report", 0, time.monotonic() + MOST_S
    while time.monotonic() < end:
        is_over = machine.poll() is not None
        lines = report.read_text().splitlines(keepends=True) if report.exists() else []
        for line in lines[read:]:
            if not line.endswith("\n"):
                break
            read += 1
            entry = json.loads(line)
            if entry["end"]:
                return int(entry["text"].split()[1])
            print(entry["text"], flush=True)
        if is_over:
            print(f"the guest ended early: {(out / 'console').read_bytes()[-3000:].decode('utf-8', 'replace')}")
            return 1
        time.sleep(1)
    print(f"the guest did not end within {MOST_S:g} s")
    return 1


def build(where: Path) -> None:
    """Fetch a kernel, and make the small first root that mounts this machine's."""
    need("apt-get=apt", "dpkg-deb=dpkg")
    where.mkdir(parents=True, exist_ok=True)
    depends = sh("apt-cache", "depends", "linux-image-amd64").stdout.split()
    package = next((word for word in depends if word.startswith(("linux-image-5", "linux-image-6"))), None)
    if package is None:
        raise Missing("an archive with the package `linux-image-amd64`")
    release = package.removeprefix("linux-image-")
    sh("apt-get", "download", "-q", package, cwd=where, timeout_s=600)
    archive = next(where.glob("linux-image-*.deb"))
    sh("dpkg-deb", "-x", str(archive), str(where / "kernel"), timeout_s=300)
    archive.unlink()
    (where / "release").write_text(release)
    _make_initrd(where, release)


def _make_initrd(where: Path, release: str) -> None:
    kernel, root = where / "kernel", where / "root"
    sh("depmod", "-b", str(kernel), release)
    for name in ("bin", "proc", "sys", "dev", "newroot", "out"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(shutil.which("busybox") or "/bin/busybox", root / "bin" / "busybox")
    wanted = set()
    for module in MODULES:
        shown = sh("modprobe", "-d", str(kernel), "-S", release, "--show-depends", module, check=False)
        wanted |= {line.split()[1] for line in shown.stdout.splitlines() if line.startswith("insmod")}
    for path in wanted:
        inside = path[path.index(f"lib/modules/{release}/") :]
        (root / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / inside)
    for name in ("modules.builtin", "modules.order", "modules.builtin.modinfo"):
        shutil.copy(kernel / "lib/modules" / release / name, root / "lib/modules" / release / name)
    sh("depmod", "-b", str(root), release)
    shutil.copy(Path(__file__).with_name("guest-init.sh"), root / "init")
    (root / "init").chmod(0o755)
    sh("sh", "-c", "find . | cpio -o -H newc | gzip -1 > ../initrd.gz", cwd=root, timeout_s=300)
    shutil.rmtree(root)
