"""Records that change, move or vanish while they are sent or fetched are not taken for whole."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from spooldadd.remote import collecting, incoming, targets, uploading
from spooldadd.remote.rsync import Rsync
from tests.travelling import JOB, OTHER_JOB, collect, contents, make_record, make_spool, quiet_log, sender

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="needs the capability rsync")


class Disturbed(Rsync):
    """Does something once, after the first transfer of a list of files."""

    def __init__(self, disturb):
        super().__init__()
        self._disturb = disturb

    def run(self, arguments, target, *, names=None):
        answer = super().run(arguments, target, names=names)
        if names is not None and self._disturb is not None:
            disturb, self._disturb = self._disturb, None
            disturb()
        return answer


@pytest.fixture
def node(tmp_path):
    return make_spool(tmp_path / "node")


@pytest.fixture
def master(tmp_path):
    return make_spool(tmp_path / "master")


def arrived(master):
    incoming.take_in_all(master, sync=False, is_patient=True)
    return sorted([*os.listdir(master.done), *os.listdir(master.failed)])


def test_a_record_that_changes_while_it_is_sent_is_sent_again(node, master):
    path = make_record(node, "failed")

    def change():
        with (path / "output.log").open("a") as log:
            log.write("a straggler\n")

    disturbed = replace(sender(node, master), rsync=Disturbed(change))
    assert uploading.upload(disturbed, quiet_log()) == 1
    assert not (path / "uploaded.toml").exists()
    assert arrived(master) == []
    assert uploading.upload(sender(node, master), quiet_log()) == 0
    assert arrived(master) == [JOB]
    assert contents(Path(master.failed, JOB)) == contents(path)


def test_a_record_that_is_retried_while_it_is_sent_is_not_marked(node, master):
    path = make_record(node, "failed")
    make_record(node, "done", OTHER_JOB)
    disturbed = replace(sender(node, master), rsync=Disturbed(lambda: path.rename(Path(node.waiting, JOB))))
    assert uploading.upload(disturbed, quiet_log()) == 0
    assert not Path(node.waiting, JOB, "uploaded.toml").exists()
    assert arrived(master) == [OTHER_JOB]


def test_a_record_that_is_retried_while_it_is_fetched_waits_for_the_next_time(node, master):
    path = make_record(node, "failed")
    make_record(node, "done", OTHER_JOB)
    wish = collecting.Wish(targets.parse(node.root, "n1"))
    disturbed = Disturbed(lambda: path.rename(Path(node.waiting, JOB)))
    found = collecting.Collecting(disturbed, master, wish, lambda _done, _of: None).run()
    assert (found.new, found.left) == ([OTHER_JOB], [JOB])
    Path(node.waiting, JOB).rename(path)
    assert collect(node, master).new == [JOB]


def test_a_deletion_that_stopped_half_way_is_finished(node, master):
    make_record(node, "failed")
    collect(node, master)
    Path(node.failed, JOB, "result.toml").unlink()
    found = collect(node, master, is_deleting=True)
    assert (found.new, found.deleted) == ([], 1)
    assert os.listdir(node.failed) == []
    assert Path(master.failed, JOB, "result.toml").exists()


def test_a_later_attempt_is_fetched_and_never_deleted_unseen(node, master):
    make_record(node, "failed")
    collect(node, master)
    shutil.rmtree(Path(node.failed, JOB))
    later = make_record(node, "done", attempt=2, text="later\n")
    assert collect(node, master, is_failed_only=True, is_deleting=True).deleted == 0
    assert collect(node, master).new == [JOB]
    assert contents(Path(master.done, JOB)) == contents(later)
    assert os.listdir(master.failed) == []


def test_one_spool_is_no_master_of_itself(node):
    make_record(node, "failed")
    assert uploading.upload(sender(node, node), quiet_log()) == 1
    assert "this very spool" in str(uploading.read_state(node, "n1")["error"])
    assert "this very spool" in collect(node, node).troubles[0]


def test_a_newer_spool_is_left_alone(node, master):
    make_record(node, "failed")
    text = Path(master.format).read_text().replace("format = 1", "format = 9")
    Path(master.format).write_text(text)
    uploading.upload(sender(node, master), quiet_log())
    assert "use a newer release" in str(uploading.read_state(node, "n1")["error"])
    assert not Path(master.incoming).exists()


def test_records_of_other_nodes_and_of_other_spools_are_not_ours_to_send(node, master):
    Path(node.format).write_text(Path(node.format).read_text().replace('kind = "local"', 'kind = "shared"'))
    make_record(node, "failed", node="n2")
    make_record(node, "done", OTHER_JOB)
    assert [os.path.basename(path) for path in uploading.pending(sender(node, master))] == [OTHER_JOB]
    Path(node.done, OTHER_JOB, "manifest.toml").write_text("")
    assert uploading.pending(sender(node, master)) == []
