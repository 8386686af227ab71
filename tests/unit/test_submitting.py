from __future__ import annotations

import datetime
import os
import tomllib
from pathlib import Path

import pytest

from spooldadd import layout, names, nodes, spool, submitting
from spooldadd.errors import SpoolError
from spooldadd.spec import InvalidSpec, parse
from spooldadd.submitting import Changes, PartlyDropped, prepare

SPEC = b"""\
# nightly load
command = ["echo", "{{ vars.day }}"]
queue = "etl"

[vars]
day = "2026-11-20"
rows = 4
share = 0.5
full = false
since = 2026-11-20
"""


@pytest.fixture
def places(tmp_path: Path) -> layout.Layout:
    spool.create(str(tmp_path / "spool"), durability="process")
    return layout.Layout(str(tmp_path / "spool"))


def entries(places: layout.Layout) -> list[str]:
    return sorted(set(os.listdir(places.root)) - layout.ROOT_ENTRIES)


# -- freezing


def test_a_spec_without_options_is_dropped_to_the_byte():
    assert prepare(SPEC, "nightly.toml", Changes()).data == SPEC


def test_options_that_say_what_the_spec_says_change_no_byte():
    changes = Changes({"day": "2026-11-20", "rows": "4"}, queue="etl")
    assert prepare(SPEC, "nightly.toml", changes).data == SPEC


def test_options_are_written_into_the_spec_after_a_line_that_names_them():
    at = datetime.datetime(2026, 11, 22, 1, tzinfo=datetime.UTC)
    data = prepare(SPEC, "nightly.toml", Changes({"day": "x"}, "report", "slow", 7, at)).data
    table = tomllib.loads(data.decode())
    assert (table["name"], table["queue"], table["priority"]) == ("report", "slow", 7)
    assert table["run"] == {"not_before": at}
    assert table["vars"]["day"] == "x"
    first = data.decode().split("\n")[0]
    assert first.startswith("# nightly.toml, changed by `spooldadd submit`")
    assert "--queue slow" in first
    assert "--var day=x" in first


def test_a_frozen_spec_differs_in_nothing_but_what_the_options_say():
    frozen = parse(prepare(SPEC, "a.toml", Changes(queue="slow")).data, source="a.toml")
    assert frozen == parse(SPEC.replace(b'"etl"', b'"slow"'), source="a.toml")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("rows", "12", 12),
        ("rows", "-3", -3),
        ("share", "2", 2.0),
        ("share", "0.25", 0.25),
        ("full", "true", True),
        ("since", "2026-12-01", datetime.date(2026, 12, 1)),
        ("day", "12", "12"),
        ("day", "", ""),
    ],
)
def test_a_variable_keeps_the_type_that_the_spec_gives_it(name, text, value):
    assert prepare(SPEC, "a.toml", Changes({name: text})).spec.vars[name] == value


@pytest.mark.parametrize(
    ("name", "text"),
    [("rows", "many"), ("rows", "1.5"), ("rows", "1\nx = 2"), ("full", "yes"), ("share", "true"), ("since", "soon")],
)
def test_a_variable_of_the_wrong_type_is_a_problem_that_names_the_option(name, text):
    with pytest.raises(InvalidSpec) as caught:
        prepare(SPEC, "a.toml", Changes({name: text}))
    (problem,) = caught.value.problems
    assert problem.origin == f"--var {name}={text}"
    assert "as in the spec" in problem.message


def test_problems_of_options_and_of_the_file_are_told_together():
    with pytest.raises(InvalidSpec) as caught:
        prepare(SPEC + b"[limits]\ntimeout = 'soon'\n", "a.toml", Changes({"rows": "x"}, queue="no queue"))
    assert {(problem.key, problem.origin, bool(problem.line)) for problem in caught.value.problems} == {
        ("vars.rows", "--var rows=x", False),
        ("queue", "--queue no queue", False),
        ("limits.timeout", None, True),
    }


def test_a_template_that_only_an_option_makes_whole_is_accepted():
    data = b'command = ["echo", "{{ vars.day }}"]'
    with pytest.raises(InvalidSpec):
        prepare(data, "a.toml", Changes())
    assert prepare(data, "a.toml", Changes({"day": "x"})).spec.vars == {"day": "x"}


def test_a_variable_that_nothing_in_the_spec_speaks_of_is_warned_about():
    assert "`--var dya`" in prepare(SPEC, "a.toml", Changes({"dya": "x"})).warnings[0]
    assert not prepare(SPEC, "a.toml", Changes({"day": "x"})).warnings


def test_control_characters_in_an_option_stay_out_of_the_comment():
    data = prepare(SPEC, "a.toml", Changes({"day": "a\nb = 1\x1b"})).data
    assert tomllib.loads(data.decode())["vars"]["day"] == "a\nb = 1\x1b"


def test_what_cannot_be_read_is_a_problem(tmp_path):
    with pytest.raises(InvalidSpec, match="cannot be read: No such file"):
        submitting.load(str(tmp_path / "gone.toml"), Changes())


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("specs/nightly.toml", "nightly"),
        ("nightly.20261121T101500Z.bcdfg.toml", "nightly"),
        ("nightly.toml.held", "nightly"),
        ("failed/nightly.20261121T101500Z.bcdfg/spec.toml", "nightly"),
        ("spec.toml", "spec"),
    ],
)
def test_a_job_without_a_name_is_called_after_its_file(source, name):
    assert prepare(b'command = "true"', source, Changes()).name == name


# -- dropping


def test_a_drop_lies_in_the_root_under_the_id_of_its_job(places):
    job = submitting.drop(places, SPEC, "nightly", sync=True)
    assert names.parse_job_id(job)
    assert entries(places) == [f"{job}.toml"]
    assert Path(places.root, f"{job}.toml").read_bytes() == SPEC


def test_a_held_drop_has_the_suffix_that_holds_it(places):
    (job,) = submitting.drop_all(places, [("nightly", SPEC)], sync=False, is_held=True)
    assert entries(places) == [f"{job}.toml.held"]


def test_drops_of_one_name_within_one_second_get_ids_of_their_own(places):
    jobs = submitting.drop_all(places, [("nightly", SPEC)] * 200, sync=False)
    assert len(set(jobs)) == 200 == len(entries(places))


@pytest.mark.parametrize("place", ["{}.toml", "{}.toml.held", "running/{}.1.bcdfg", "waiting/{}", "done/{}", "failed/{}"])
def test_an_id_is_in_use_wherever_its_job_is(places, place):
    job = "nightly.20261121T101500Z.bcdfg"
    assert not submitting._is_known(places, job)
    Path(places.root, place.format(job)).mkdir()
    assert submitting._is_known(places, job)


def test_what_was_dropped_before_the_spool_failed_is_told(places):
    def specs():
        yield "first", SPEC
        os.rmdir(places.running)  # as if the share went away
        yield "second", SPEC

    with pytest.raises(PartlyDropped, match="cannot be written: No such file") as caught:
        submitting.drop_all(places, specs(), sync=False)
    assert entries(places) == [f"{job}.toml" for job in caught.value.jobs]
    assert len(caught.value.jobs) == 1


def test_a_drop_into_a_directory_that_is_gone_is_trouble_of_the_spool(tmp_path):
    with pytest.raises(SpoolError):
        submitting.drop(layout.Layout(str(tmp_path / "gone")), SPEC, "nightly", sync=True)


# -- who will take it


def test_a_spool_that_nobody_ever_served_is_told(places):
    assert "no worker has ever served" in (submitting.unserved(places) or "")


def test_a_spool_that_somebody_serves_needs_no_warning(places):
    node = nodes.NodeFile(places, "web-1")
    node.beat({"suffixes": [".toml"]})
    assert submitting.unserved(places) is None
    node.leave()
    assert "no worker serves" in (submitting.unserved(places) or "")


def test_a_worker_that_takes_other_files_only_is_told(places):
    node = nodes.NodeFile(places, "web-1")
    node.beat({"suffixes": [".spec"]})
    assert "takes `.toml` files" in (submitting.unserved(places) or "")
    node.leave()
