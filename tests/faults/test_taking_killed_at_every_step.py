"""A worker of root dies while it makes another user's spec its own: whose it is, and its bytes, survive every call."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from spooldadd import claim, layout, lifecycle, mark, ownership, owning, process, record, recovery, spool
from spooldadd.config import Config, load
from spooldadd.log import Log
from tests.faults.faulty import KILL, Faults

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs the capability of root")
SPEC = b'command = "id"\n'


def somebody() -> pwd.struct_passwd:
    return next(entry for entry in pwd.getpwall() if entry.pw_uid not in (0, os.geteuid()))


def config(**owner: object) -> Config:
    return load(None, environ={"HOME": "/nowhere"}, overrides={f"owner.{key}": value for key, value in owner.items()})


class Scene:
    """A spool for many users with one drop of another user's, claimed."""

    def __init__(self, root: Path) -> None:
        mark.create(str(root), durability="process", many_users=True)
        holder = claim.Holder("here", process.boot_id(), 2**22 + 1, 1)
        self.spool = spool.open_spool(str(root), holder)
        self.owner = somebody()
        self.drop = root / "a.toml"
        self.drop.write_bytes(SPEC)
        os.chown(self.drop, self.owner.pw_uid, self.owner.pw_gid)
        self.modified_at_s = self.drop.stat().st_mtime

    def owning(self) -> owning.Owning:
        found = owning.of_spool(self.spool, config(), {"LANG": "C"}, Log(level="warning"))
        assert found is not None
        return found

    def take_and_die_at(self, at: int) -> bool:
        """Claim it and make it ours in a process that dies at its N-th call; tell whether it died."""
        pid = os.fork()
        if pid == 0:
            try:
                claimed = self.spool.claim_drop("a.toml", "a", "default")
                own = self.owning()
                Faults(at, KILL).arm()
                own.take(claimed, self.modified_at_s)
            finally:
                os._exit(0)
        return os.WIFSIGNALED(os.waitpid(pid, 0)[1])

    def recover_and_take(self) -> tuple[str, Path]:
        """Do what the next worker does; return the owner's name and the record."""
        context = recovery.Context(self.spool, Log(level="error"), lambda _path: lifecycle.Policy())
        recovery.recover_all(context)
        if self.drop.exists():
            claimed = self.spool.claim_drop("a.toml", "a", "default")
            name, account = self.owning().take(claimed, self.modified_at_s)
        else:
            (job,) = os.listdir(self.spool.places.waiting)
            claimed = self.spool.claim_waiting(job, "default")
            name, account = self.owning().take(claimed, None)
        assert account is not None
        assert account.uid == self.owner.pw_uid
        os.close(claimed.lease)
        return name, Path(claimed.path)


def test_whose_it_is_survives_a_death_at_every_call(tmp_path):
    at = 0
    while True:
        at += 1
        scene = Scene(tmp_path / str(at))
        died = scene.take_and_die_at(at)
        name, path = scene.recover_and_take()
        spec = path / layout.SPEC
        assert name == scene.owner.pw_name
        assert spec.read_bytes() == SPEC
        assert spec.stat().st_uid == 0
        assert ownership.read(str(path)) == scene.owner.pw_uid
        assert not stat.S_IMODE(path.stat().st_mode) & stat.S_IRWXO
        if not died:
            break
    assert at > 5, "hardly a call was struck"


def test_a_record_of_roots_that_does_not_say_whose_it_is_is_refused(tmp_path):
    scene = Scene(tmp_path / "spool")
    claimed = scene.spool.claim_drop("a.toml", "a", "default")
    scene.owning().take(claimed, scene.modified_at_s)
    os.unlink(os.path.join(claimed.path, layout.OWNER))
    with pytest.raises(owning.NotOwned, match="submit it again"):
        scene.owning().take(claimed, None)
    os.close(claimed.lease)


def test_a_user_keeps_his_own_file_open_and_what_runs_is_the_copy(tmp_path):
    scene = Scene(tmp_path / "spool")
    claimed = scene.spool.claim_drop("a.toml", "a", "default")
    scene.owning().take(claimed, scene.modified_at_s)
    assert os.stat(os.path.join(claimed.path, layout.SPEC)).st_mtime == scene.modified_at_s
    assert record.read_table(os.path.join(claimed.path, layout.OWNER))["user"] == scene.owner.pw_name
    os.close(claimed.lease)
