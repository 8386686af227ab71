"""Two nodes on one directory, on the real thing: NFS, SMB, GlusterFS, sshfs and Syncthing.

    python -m tests.nodes nfs                    # all scenarios that make sense there
    python -m tests.nodes nfs smb --scenario once --scenario cut
    python -m tests.nodes all
    python -m tests.nodes --list

Each run starts the servers and two clients in name spaces of their own, serves one spool by two workers of the real command,
looks at what came of it on the server's disk, and prints a line for each scenario. Exit 1 where a promise broke, 77 where
nothing could be run because this machine lacks something, which is named. Nothing is left behind: processes, mounts and
network end with the name space that they were made in.

NFS and SMB need a kernel's own server and client. They run in a guest of QEMU without KVM, whose root is this machine's
root, read-only (`guest.py`). Needs root. `docs/file-systems.md` says what was seen.
"""
