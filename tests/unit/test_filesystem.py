import pytest

from spooldadd import filesystem
from spooldadd.filesystem import is_network, kind

MOUNTS = """\
22 1 252:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 0:5 / /dev rw - devtmpfs udev rw
40 22 0:50 / /mnt/nfs rw,relatime shared:9 - nfs4 server:/export rw
41 22 0:51 / /mnt/with\\040space rw - fuse.sshfs user@host:/ rw
42 40 0:52 / /mnt/nfs/inner rw - tmpfs tmpfs rw
broken line
"""


@pytest.mark.parametrize(
    ("device", "path", "name"),
    [
        ("252:1", "/srv/spool", "ext4"),
        ("0:50", "/mnt/nfs/spool", "nfs4"),
        ("9:9", "/mnt/nfs/spool", "nfs4"),  # btrfs and overlays show another device: the mount point counts
        ("9:9", "/mnt/nfs/inner/spool", "tmpfs"),
        ("9:9", "/mnt/nfs-not", "ext4"),
        ("9:9", "/mnt/with space/x", "fuse.sshfs"),
        ("9:9", "/mnt/nfs", "nfs4"),
    ],
)
def test_the_file_system_of_a_path_is_found_by_device_then_by_mount_point(device, path, name):
    assert filesystem._find(MOUNTS, device, path) == name


@pytest.mark.parametrize("name", ["nfs", "nfs4", "cifs", "smb3", "ceph", "fuse.sshfs", "fuse.glusterfs", "9p", "virtiofs"])
def test_others_write_to_a_network_file_system(name):
    assert is_network(name)


@pytest.mark.parametrize("name", ["ext4", "xfs", "btrfs", "tmpfs", "zfs", "overlay", "fuseblk", "fuse.lxcfs", ""])
def test_a_local_file_system_is_ours_alone(name):
    assert not is_network(name)


def test_the_kernel_says_what_a_real_path_is_on(tmp_path):
    assert kind("/proc/self") == "proc"
    assert kind(str(tmp_path))
    assert kind(str(tmp_path / "missing")) == ""


def test_a_lease_on_a_local_disk_is_the_kernels_own(tmp_path):
    assert not filesystem.asks_server_for_leases(tmp_path.stat().st_dev)
    assert not filesystem.asks_server_for_leases(0)
