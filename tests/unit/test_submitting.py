from __future__ import annotations

import os
from pathlib import Path

import pytest

from spooldadd import layout, mark, names, nodefile, submitting
from spooldadd.bundle import NoBundle
from spooldadd.errors import SpoolError
from spooldadd.submitting import PartlyDropped, Text

SPEC = b'command = "true"\n'


@pytest.fixture
def places(tmp_path: Path) -> layout.Layout:
    mark.create(str(tmp_path / "spool"), durability="process")
    return layout.Layout(str(tmp_path / "spool"))


def entries(places: layout.Layout) -> list[str]:
    return sorted(set(os.listdir(places.root)) - layout.ROOT_ENTRIES)


# -- dropping


def test_a_drop_lies_in_the_root_under_the_id_of_its_job(places):
    job = submitting.drop(places, SPEC, "nightly", sync=True)
    assert names.parse_job_id(job)
    assert entries(places) == [f"{job}.toml"]
    assert Path(places.root, f"{job}.toml").read_bytes() == SPEC


def test_a_held_drop_has_the_suffix_that_holds_it(places):
    (job,) = submitting.drop_all(places, [Text("nightly", SPEC)], sync=False, is_held=True)
    assert entries(places) == [f"{job}.toml.held"]


def test_drops_of_one_name_within_one_second_get_ids_of_their_own(places):
    jobs = submitting.drop_all(places, [Text("nightly", SPEC)] * 200, sync=False)
    assert len(set(jobs)) == 200 == len(entries(places))


@pytest.mark.parametrize(
    "place", ["{}.toml", "{}.py", "{}.tar.held", "{}.toml.held", "running/{}.1.bcdfg", "waiting/{}", "done/{}", "failed/{}"]
)
def test_an_id_is_in_use_wherever_its_job_is(places, place):
    job = "nightly.20261121T101500Z.bcdfg"
    assert not submitting._is_known(places, places.root, job)
    Path(places.root, place.format(job)).mkdir()
    assert submitting._is_known(places, places.root, job)


def test_what_was_dropped_before_the_spool_failed_is_told(places):
    def specs():
        yield Text("first", SPEC)
        os.rmdir(places.running)  # as if the share went away
        yield Text("second", SPEC)

    with pytest.raises(PartlyDropped, match="cannot be written: No such file") as caught:
        submitting.drop_all(places, specs(), sync=False)
    assert entries(places) == [f"{job}.toml" for job in caught.value.jobs]
    assert len(caught.value.jobs) == 1


class Vanishing(Text):
    def write(self, fd):
        os.write(fd, b"half")
        raise NoBundle("cannot be made: `data.csv` was changed while it was read; submit again")


def test_what_cannot_be_written_any_more_leaves_nothing(places):
    with pytest.raises(NoBundle):
        submitting.drop_all(places, [Vanishing("a", b"")], sync=False)
    with pytest.raises(PartlyDropped, match="was changed") as caught:
        submitting.drop_all(places, [Text("b", SPEC), Vanishing("a", b"")], sync=False)
    assert [f"{job}.toml" for job in caught.value.jobs] == entries(places)


def test_the_suffix_tells_the_form(places):
    for suffix in (".toml", ".py", ".tar"):
        (job,) = submitting.drop_all(places, [Text("a", SPEC, suffix)], sync=False)
        assert f"{job}{suffix}" in entries(places)


def test_a_drop_into_a_directory_that_is_gone_is_trouble_of_the_spool(tmp_path):
    with pytest.raises(SpoolError):
        submitting.drop(layout.Layout(str(tmp_path / "gone")), SPEC, "nightly", sync=True)


# -- who will take it


def test_a_spool_that_nobody_ever_served_is_told(places):
    assert "no worker has ever served" in (submitting.unserved(places) or "")


def test_a_spool_that_somebody_serves_needs_no_warning(places):
    node = nodefile.NodeFile(places, "web-1")
    node.beat({"suffixes": [".toml"]})
    assert submitting.unserved(places) is None
    node.leave()
    assert "no worker serves" in (submitting.unserved(places) or "")


def test_a_worker_that_takes_other_files_only_is_told(places):
    node = nodefile.NodeFile(places, "web-1")
    node.beat({"suffixes": [".spec"]})
    assert "takes `.toml` files" in (submitting.unserved(places) or "")
    assert "takes `.tar` files" in (submitting.unserved(places, {".spec", ".tar"}) or "")


def test_nobody_is_told_to_serve_his_copy_of_a_synced_spool_under_the_name_of_another_node(tmp_path):
    mark.create(str(tmp_path / "copy"), durability="process", kind=mark.SYNCED, nodes=["alpha", "beta"])
    copy = layout.Layout(str(tmp_path / "copy"))
    said = submitting.unserved(copy, node="beta") or ""
    assert "the copy of `beta`" in said
    assert "spooldadd worker" not in said
