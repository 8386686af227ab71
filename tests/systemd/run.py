"""Show what the documentation says of the service, on a real systemd: boot one as the first process of a container.

    sudo python3 tests/systemd/run.py [DIRECTORY]            all of it, minutes; the container is kept in DIRECTORY
    sudo python3 tests/systemd/run.py --prepare DIRECTORY    only make the container
    sudo python3 tests/systemd/run.py --boot DIRECTORY       only boot what is there, such as in a virtual machine

Needs root, debootstrap, systemd-nspawn, pip and an index of packages. The container is a Debian with this checkout in a
virtual environment whose path holds a space. Nothing of this machine is changed; the container has no network. What
`inside.py` prints is the result; exit 1 where something was not shown. `--only REGEX` shows a part of it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,procps,python3,python3-venv,ca-certificates"
ENVIRONMENT = "/opt/spool dadd"
COPIED = ("spooldadd", "contrib", "conf", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md")
TIMEOUT_S = 1800
UNIT = """\
[Unit]
After=multi-user.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/usr/bin/python3 -u /root/inside.py
StandardOutput=append:/root/result
StandardError=append:/root/result
ExecStopPost=/bin/systemctl --no-block poweroff
"""
# The container gets a tree of cgroup v2 of its own, also on a machine that boots with cgroup v1.
BOOT = """\
set -e
mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/system
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
  umount -l /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
if [ -e "$4" ]; then mkdir -p "$1/srv/disk"; mount -o loop "$4" "$1/srv/disk" || true; fi
exec timeout "$2" systemd-nspawn -q -D "$1" --register=no --keep-unit --private-network --boot </dev/null >"$3" 2>&1
"""


def run(*command: str | Path, **options) -> None:
    """Run a program; end where it fails."""
    print("+", *command, file=sys.stderr)
    subprocess.run([str(word) for word in command], check=True, **options)


def prepare(directory: Path) -> None:
    """Make the container, as far as it is not there."""
    root, wheels = directory / "rootfs", directory / "wheels"
    directory.mkdir(parents=True, exist_ok=True)
    if not (root / "usr/bin/systemctl").exists():
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, root)
    shutil.rmtree(wheels, ignore_errors=True)
    build(wheels / "first", "")
    build(wheels / "upgrade", ".post1")
    (first,) = (wheels / "first").glob("spooldadd-*.whl")
    deps = directory / "dependencies"
    if not deps.exists():
        run(sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "--dest", deps, first)
        for own in deps.glob("spooldadd-*"):
            own.unlink()
    for place, source in (("first", wheels / "first"), ("upgrade", wheels / "upgrade"), ("dependencies", deps)):
        shutil.rmtree(root / "root/wheels" / place, ignore_errors=True)
        shutil.copytree(source, root / "root/wheels" / place)
    shutil.rmtree(root / ENVIRONMENT.lstrip("/"), ignore_errors=True)
    for old in ("srv/my spool", "srv/etl", "home/etl", "home/ann", "root/result"):
        path = root / old
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    for path in [*(root / "etc/systemd/system").rglob("*spooldadd*"), *(root / "var/log/journal").glob("*")]:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    for user in ("etl", "ann"):
        subprocess.run(["chroot", str(root), "userdel", user], check=False, capture_output=True)
    run("chroot", root, "python3", "-m", "venv", ENVIRONMENT)
    options = ("--no-index", "--find-links", "/root/wheels/dependencies")
    run("chroot", root, f"{ENVIRONMENT}/bin/pip", "install", "-q", *options, f"/root/wheels/first/{first.name}")


def build(target: Path, suffix: str) -> None:
    """Build a wheel of this checkout, of a release with this suffix."""
    with tempfile.TemporaryDirectory(prefix="spooldadd-systemd-") as scratch:
        for name in COPIED:
            source = REPOSITORY / name
            shutil.copytree(source, Path(scratch, name)) if source.is_dir() else shutil.copy(source, scratch)
        release = Path(scratch, "spooldadd/release.py")
        release.write_text(re.sub(r'__version__ = "([^"]*)"', rf'__version__ = "\g<1>{suffix}"', release.read_text()))
        run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", target, scratch)


def boot(directory: Path, only: str) -> str:
    """Boot the container and show everything in it; return what it said."""
    root = directory / "rootfs"
    shutil.copy(Path(__file__).with_name("inside.py"), root / "root/inside.py")
    (root / "root/result").unlink(missing_ok=True)
    units = root / "etc/systemd/system"
    (units / "shown.service").write_text(UNIT.replace("[Service]\n", f"[Service]\nEnvironment='ONLY={only}'\n"))
    (units / "default.target.wants").mkdir(exist_ok=True)
    wanted = units / "default.target.wants/shown.service"
    wanted.unlink(missing_ok=True)
    wanted.symlink_to("../shown.service")
    console, disk = directory / "console", directory / "disk.img"
    subprocess.run(["truncate", "-s", "64M", disk], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=False, capture_output=True)
    own = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--propagation", "private"]
    done = subprocess.run(
        [*own, "bash", "-c", BOOT, "boot", str(root), str(TIMEOUT_S), str(console), str(disk)], check=False
    )
    remove_groups(Path("/sys/fs/cgroup/unified"))
    result = root / "root/result"
    if not result.exists():
        return f"the container ended with {done.returncode}:\n{console.read_text(errors='replace')[-3000:]}"
    return result.read_text()


def remove_groups(tree: Path) -> None:
    """Remove the empty groups that a container left in the tree of a machine with cgroup v1."""
    for name in ("payload", "supervisor"):
        for directory, _, _ in os.walk(tree / name, topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                pass


def main() -> int:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path, default=Path("/var/tmp/spooldadd-systemd"))
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--boot", action="store_true")
    parser.add_argument("--only", default="", metavar="REGEX")
    options = parser.parse_args()
    directory = options.directory.resolve()
    if not options.boot:
        prepare(directory)
    if options.prepare:
        return 0
    said = boot(directory, options.only)
    rows = [line.split("\t")[1:] for line in said.splitlines() if line.startswith("RESULT\t")]
    for what, how, seen in rows:
        print(f"| {what} | {how} | {seen} |")
    end = re.search(r"^DONE .*$", said, re.M)
    print(f"\n{end[0] if end else 'it did not come to its end:'}")
    if end is None or " 0 failed" not in end[0]:
        print(said[-6000:], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
