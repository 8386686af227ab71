import os

import pytest

from spooldadd import mark, spool
from spooldadd.claim import Holder
from spooldadd.config import Config
from spooldadd.log import Log
from spooldadd.notices import Notices

FILED, RUNNING = "one.20261121T100000Z.bcdfg.1.bcdfg", "two.20261121T100000Z.bcdfg.1.bcdfg"
WAY = {"inbox": {"kind": "maildir", "directory": "/nowhere"}}


@pytest.fixture
def the_spool(tmp_path):
    for name in ("running", "waiting", "done", "failed", ".spool/notify/gone"):
        os.makedirs(tmp_path / name)
    (tmp_path / "running" / RUNNING).mkdir()
    for name in (FILED, RUNNING, "what is this"):
        (tmp_path / ".spool" / "notify" / "gone" / name).touch()
    return spool.Spool(
        str(tmp_path), mark.Format(durability="process", kind=mark.SHARED, id="abcdefghij"), Holder("here", "boot", 1, 1)
    )


def words(the_spool, node):
    directory = os.path.join(the_spool.places.notify, node)
    return sorted(os.listdir(directory)) if os.path.isdir(directory) else []


def notices(the_spool, **given):
    return Notices(the_spool, Config.model_validate(given), Log(2))


def test_what_a_lost_node_had_not_told_is_ours_to_tell_once_its_job_is_filed(the_spool):
    ours = notices(the_spool, transport=WAY)
    assert (ours.inherit("gone"), ours.has_news) == (1, True)
    assert (words(the_spool, "here"), words(the_spool, "gone")) == ([FILED], [RUNNING, "what is this"])
    assert ours.inherit("gone") == 0


@pytest.mark.parametrize("node", ["here", "", "never-seen"])
def test_of_nobody_and_of_ourselves_there_is_nothing_to_inherit(the_spool, node):
    assert notices(the_spool, transport=WAY).inherit(node) == 0


def test_a_node_that_cannot_send_leaves_it_to_one_that_can(the_spool):
    assert notices(the_spool).inherit("gone") == 0
    assert FILED in words(the_spool, "gone")
