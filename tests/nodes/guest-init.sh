#!/bin/busybox sh
# First process of the guest: mount the machine's root read-only, a file system in memory over it, and run what was asked for.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
echo /bin/modprobe > /proc/sys/kernel/modprobe
for module in virtio_pci 9pnet_virtio 9p overlay; do modprobe $module; done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro hostroot /newroot || poweroff -f
mkdir -p /over
mount -t tmpfs -o size=2000m tmpfs /over
mkdir -p /over/upper /over/work /over/root
root=/over/root
mount -t overlay -o lowerdir=/newroot,upperdir=/over/upper,workdir=/over/work overlay $root || poweroff -f
mkdir -p $root/vmout
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 out $root/vmout
mount -t proc proc $root/proc
mount -t sysfs sys $root/sys
mount --bind /dev $root/dev
mkdir -p $root/dev/pts $root/dev/shm
mount -t devpts devpts $root/dev/pts
mount -t tmpfs tmpfs $root/dev/shm
mount -t tmpfs tmpfs $root/run
mkdir -p $root/lib/modules $root/sys/fs/cgroup
cp -a /lib/modules/* $root/lib/modules/
mount -t cgroup2 cgroup2 $root/sys/fs/cgroup
hostname server
chroot $root /bin/bash /vmout/run.sh
sync
poweroff -f
