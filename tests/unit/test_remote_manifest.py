"""A travelling record says what it is, and what it is not is found."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from spooldadd.remote import incoming, manifest
from spooldadd.remote.manifest import Damaged, Newer
from tests.travelling import JOB, make_record, make_spool


@pytest.fixture
def node(tmp_path):
    return make_spool(tmp_path / "node")


@pytest.fixture
def master(tmp_path):
    return make_spool(tmp_path / "master")


def described(path):
    return replace(manifest.describe(str(path), path.name, path.parent.name), spool="aaaaa")


def arrive(master, path, spool="aaaaa"):
    """Let a record arrive by one rename, as it is."""
    found = replace(described(path), spool=spool)
    target = Path(master.incoming, incoming.origin_of("n1", spool), incoming.entry_of(found))
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    manifest.write(str(target), found, sync=False)
    return target


def take_in(master):
    return incoming.take_in_all(master, sync=False, is_patient=True)


def test_a_manifest_is_read_back_as_it_was_whatever_the_files_are_called(node):
    path = make_record(node, "failed")
    Path(os.fsdecode(os.fsencode(path) + b"/kept/\xff\xfe.bin")).write_bytes(b"no text")
    found = described(path)
    manifest.write(str(path), found, sync=False)
    assert manifest.read(str(path)) == found
    manifest.check(str(path), found, sync=True)


def test_links_and_what_was_noted_about_the_way_do_not_travel(node):
    path = make_record(node, "failed")
    before = described(path).digest
    (path / "link").symlink_to("/etc/passwd")
    (path / "away").symlink_to("/etc")
    os.mkfifo(path / "pipe")
    for name in ("uploaded.toml", "returned.toml", ".tmp-77-uploaded.toml"):
        (path / name).write_text("")
    assert described(path).digest == before


@pytest.mark.parametrize("bend", ["cut", "changed", "more", "gone"])
def test_what_does_not_match_is_put_aside_and_nothing_else_is_touched(bend, node, master):
    target = arrive(master, make_record(node, "failed"))
    log = target / "output.log"
    {
        "cut": lambda: log.write_text("it"),
        "changed": lambda: log.write_text("IT RAN\n"),
        "more": lambda: (target / "more").write_text("x"),
        "gone": log.unlink,
    }[bend]()
    found = take_in(master)
    assert not found.took
    assert len(found.troubles) == 1
    assert os.listdir(master.failed) == os.listdir(master.done) == []
    assert len(os.listdir(Path(master.internal, "damaged"))) == 1


def test_what_has_no_manifest_is_no_job_yet(node, master):
    target = arrive(master, make_record(node, "failed"))
    (target / "manifest.toml").unlink()
    assert incoming.whole(master) == []
    assert take_in(master).took == []
    assert target.exists()


def test_what_a_newer_release_sent_waits(node, master):
    target = arrive(master, make_record(node, "failed"))
    text = (target / "manifest.toml").read_text()
    (target / "manifest.toml").write_text(text.replace("schema = 1", "schema = 2"))
    with pytest.raises(Newer):
        manifest.read(str(target))
    assert "use a newer release" in take_in(master).troubles[0]
    assert target.exists()


@pytest.mark.parametrize("text", ["", "schema = 1\n", 'schema = 1\njob = "../x"\nstate = "failed"\nattempt = 1\n', "= ="])
def test_a_manifest_that_cannot_be_read_is_damaged(text, node):
    path = make_record(node, "failed")
    (path / "manifest.toml").write_text(text)
    with pytest.raises(Damaged):
        manifest.read(str(path))


def test_a_later_attempt_takes_the_place_of_an_earlier_one_and_not_the_other_way_round(node, master):
    arrive(master, make_record(node, "failed"))
    take_in(master)
    arrive(master, make_record(node, "done", attempt=2))
    assert [took.what for took in take_in(master).took] == [incoming.REPLACED]
    arrive(master, make_record(node, "failed"))
    assert [took.what for took in take_in(master).took] == [incoming.OLDER]
    assert os.listdir(master.failed) == []
    assert os.listdir(master.done) == [JOB]


def test_a_job_of_another_spool_with_the_same_id_gets_its_own_and_keeps_it(node, master):
    arrive(master, make_record(node, "failed"))
    for _ in range(2):
        arrive(master, make_record(node, "failed", text="the other\n"), spool="bbbbb")
        take_in(master)
    assert sorted(os.listdir(master.failed)) == sorted([JOB, incoming.other_id("bbbbb", JOB)])


def test_a_job_of_the_master_itself_is_not_overwritten(node, master):
    own = make_record(master, "done", text="own\n")
    arrive(master, make_record(node, "failed"))
    take_in(master)
    assert (own / "output.log").read_text() == "own\n"
    assert os.listdir(master.failed) == [incoming.other_id("aaaaa", JOB)]


def test_readers_take_nothing_in_incoming_for_a_job(node, master):
    from spooldadd.inspect import jobs

    target = arrive(master, make_record(node, "failed"))
    (target / "manifest.toml").unlink()
    assert jobs.count(master) == {"waiting": 0, "running": 0, "done": 0, "failed": 0}
