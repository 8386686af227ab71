"""Claim, put back, requeue and recover: the same for a TOML file, a script and a bundle."""

import os

import pytest

from spooldadd import claim, layout, mark, process, record, recovery, spool
from spooldadd.launching import read_policy
from spooldadd.log import Log

NAMES = ("a.toml", "a.py", "a.tar", "a.py.held")


@pytest.fixture
def the_spool(tmp_path):
    root = str(tmp_path / "spool")
    mark.create(root, durability="process")
    return spool.open_spool(root, claim.Holder("here", process.boot_id(), 1, 1))


def tree(the_spool):
    """Return all files in the spool but ours."""
    root = the_spool.places.root
    found = [os.path.relpath(os.path.join(place, name), root) for place, _, names in os.walk(root) for name in names]
    return sorted(name for name in found if not name.startswith(".spool"))


def claimed(the_spool, name):
    with open(os.path.join(the_spool.places.root, name), "w", encoding="ascii") as file:
        file.write("# /// script\n# ///\n")
    return the_spool.claim_drop(name, "a", "default")


@pytest.mark.parametrize("name", NAMES)
def test_a_claim_moves_the_spec_under_the_name_of_its_form(the_spool, name):
    found = claimed(the_spool, name)
    suffix = os.path.splitext(layout.bare_name(name))[1]
    assert layout.find_spec(found.path) == os.path.join(found.path, f"spec{suffix}")
    assert os.path.lexists(layout.find_spec(found.path))


@pytest.mark.parametrize("name", NAMES)
def test_a_claim_that_is_put_back_lies_in_the_root_as_before(the_spool, name):
    the_spool.put_back(claimed(the_spool, name))
    assert tree(the_spool) == [name]


@pytest.mark.parametrize("name", NAMES)
def test_what_was_never_started_waits_in_its_form(the_spool, name):
    found = claimed(the_spool, name)
    os.close(found.lease)
    recovery.recover_all(recovery.Context(the_spool, Log(2, level="error"), read_policy))
    suffix = os.path.splitext(layout.bare_name(name))[1]
    held = [f"waiting/{found.job}/hold"] if name.endswith(".held") else []
    assert tree(the_spool) == sorted([f"waiting/{found.job}/spec{suffix}", *held])


@pytest.mark.parametrize("name", NAMES)
def test_the_spec_stays_when_the_next_attempt_begins(the_spool, name):
    found = claimed(the_spool, name)
    record.write_result(found.path, {"attempt": 1, "state": "waiting"}, sync=False)
    the_spool.file(found.record, found.lease, layout.WAITING)
    again = the_spool.claim_waiting(found.job, "default")
    assert again.attempt == 2
    assert os.path.lexists(layout.find_spec(again.path))
    assert sorted(os.listdir(os.path.join(again.path, "attempts", "1"))) == ["claim.toml", "result.toml"]


@pytest.mark.parametrize(
    ("name", "own"),
    [("a.py", "a.py"), ("b.py.held", "b.py"), ("x.20261121T101500Z.bcdfg.py", "x.py"), ("c.toml", "a.toml")],
)
def test_a_script_keeps_the_name_that_it_was_dropped_with(the_spool, name, own):
    found = claimed(the_spool, name)
    assert record.own_name(found.path, found.job) == own
    record.write_result(found.path, {"attempt": 1, "state": "waiting"}, sync=False)
    the_spool.file(found.record, found.lease, layout.WAITING)
    again = the_spool.claim_waiting(found.job, "default")
    assert record.own_name(again.path, again.job) == own


@pytest.mark.parametrize("source", ["../../evil.py", "/evil.py", "a\0.py", "evil", ""])
def test_a_claim_that_a_job_has_edited_leads_nowhere(the_spool, source):
    found = claimed(the_spool, "a.py")
    record.write_claim(found.path, {"attempt": 1, "source": source}, sync=False)
    assert record.own_name(found.path, found.job) == "a.py"


@pytest.mark.parametrize("text", ["restartable = true\n", ""])
def test_the_policy_of_a_script_is_read_where_its_attempt_was_lost(tmp_path, text):
    (tmp_path / "spec.py").write_text(
        f"# /// script\n# [tool.spooldadd]\n# {text}# ///\n" if text else "# /// script\n# ///\n"
    )
    assert read_policy(layout.find_spec(str(tmp_path))).restartable is bool(text)
