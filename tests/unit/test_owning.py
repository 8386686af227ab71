from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from spooldadd import claim, mark, owning, spool
from spooldadd.config import Config, load
from spooldadd.errors import ConfigError, SpoolError
from spooldadd.log import Log

NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs the capability of root")


def config(**keys: object) -> Config:
    return load(None, environ={"HOME": "/nowhere"}, overrides={key.replace("__", "."): value for key, value in keys.items()})


def make(root: Path, *, many_users: bool = False) -> spool.Spool:
    mark.create(str(root), durability="process", many_users=many_users)
    return spool.open_spool(str(root), claim.Holder("here"))


def decide(the_spool: spool.Spool, settings: Config) -> owning.Owning | None:
    return owning.of_spool(the_spool, settings, {"LANG": "C", "SECRET": "x"}, Log(level="error"))


def refusal_as_nobody(the_spool: spool.Spool, settings: Config) -> str:
    """Decide in a process that is not root's; return what it was refused with."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(NOBODY)
            decide(the_spool, settings)
            os.write(writer, b"-")
        except ConfigError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    said = os.read(reader, 10_000).decode()
    os.close(reader)
    os.waitpid(pid, 0)
    return said


def test_a_worker_that_is_not_roots_runs_all_as_itself_and_nothing_else(tmp_path):
    ordinary = make(tmp_path / "a")
    assert refusal_as_nobody(ordinary, config()) == "-"
    assert refusal_as_nobody(ordinary, config(owner__run_as="worker")) == "-"
    assert "needs a worker of root" in refusal_as_nobody(ordinary, config(owner__run_as="owner"))
    assert "needs a worker of root" in refusal_as_nobody(ordinary, config(owner__run_as="nobody"))
    assert "only root can serve" in refusal_as_nobody(make(tmp_path / "b", many_users=True), config())


@needs_root
def test_where_only_root_may_drop_nobody_looks_for_owners(tmp_path):
    ordinary = make(tmp_path / "a")
    assert decide(ordinary, config()) is None
    assert decide(ordinary, config(owner__run_as="worker")) is None
    assert decide(ordinary, config(trust__owners=["nobody"])) is not None
    assert decide(ordinary, config(owner__run_as="nobody")) is not None


@needs_root
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"owner__run_as": "worker"}, "everybody's jobs as root"),
        ({"owner__run_as": "root"}, "cannot be root"),
        ({"owner__run_as": "no-such-user"}, "no user `no-such-user`"),
        ({"owner__allowed": ["no-such-user"]}, "no user `no-such-user`"),
        ({"owner__allowed": ["@no-such-group"]}, "no group `no-such-group`"),
    ],
)
def test_what_cannot_be_had_is_refused(tmp_path, keys, message):
    with pytest.raises(ConfigError, match=message):
        decide(make(tmp_path / "spool", many_users=True), config(**keys))


@needs_root
def test_a_spool_that_somebody_could_swap_is_not_served(tmp_path):
    root = tmp_path / "place" / "spool"
    root.parent.mkdir()
    the_spool = make(root, many_users=True)
    root.chmod(0o1777)
    settings = config(work_dir=str(tmp_path / "work"), cache_dir=str(tmp_path / "cache"))
    owning.refuse_unsafe(the_spool, settings)
    root.chmod(0o777)
    with pytest.raises(SpoolError, match="could move the others' files"):
        owning.refuse_unsafe(the_spool, settings)
    root.chmod(0o1777)
    root.parent.chmod(0o777)
    with pytest.raises(SpoolError, match="is on the way"):
        owning.refuse_unsafe(the_spool, settings)
    root.parent.chmod(0o755)
    os.chown(root.parent, NOBODY, NOBODY)
    with pytest.raises(SpoolError, match="is on the way"):
        owning.refuse_unsafe(the_spool, settings)
    os.chown(root.parent, 0, 0)
    os.chown(root / "running", NOBODY, NOBODY)
    with pytest.raises(SpoolError, match="is a part of"):
        owning.refuse_unsafe(the_spool, settings)


@needs_root
def test_an_account_starts_from_nothing_of_roots(tmp_path):
    the_spool = make(tmp_path / "spool", many_users=True)
    drop = tmp_path / "spool" / "a.toml"
    drop.write_text('command = "true"\n')
    os.chown(drop, NOBODY, NOBODY)
    claimed = the_spool.claim_drop("a.toml", "a", "default")
    found = decide(the_spool, config())
    assert found is not None
    name, account = found.take(claimed, os.stat(claimed.path + "/spec.toml").st_mtime)
    os.close(claimed.lease)
    assert account is not None
    assert account.name == name
    assert set(account.environ) == {"PATH", "LANG", "HOME", "USER", "LOGNAME", "SHELL"}
    assert 0 not in (account.uid, account.gid, *account.groups)
    assert not stat.S_IMODE(os.stat(claimed.path).st_mode) & stat.S_IRWXO
