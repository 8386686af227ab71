"""rsync fails, or works and its answer gets lost: what is pushed arrives once, also where a worker took it meanwhile."""

import os
import shutil
import stat
import sys
from pathlib import Path

import pytest

from spooldadd.config import Config
from spooldadd.layout import Layout
from spooldadd.remote import pushing, returning, targets
from spooldadd.remote.rsync import Rsync
from spooldadd.submitting import Text
from tests.travelling import JOB, collect, make_record, make_spool

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="needs the capability rsync")
LOADS = [pushing.Load("one.toml", Text("one", b'command = ["true"]\n')), pushing.Load("two.py", Text("two", b"#", ".py"))]
# Counts its calls; the one whose turn it is breaks off, before or after the real one did its work.
WRAPPER = """\
#!{python} -IS
import os, subprocess, sys
with open({calls!r}, "a") as file:
    file.write("x")
at = os.stat({calls!r}).st_size
if at == {at} and {mode!r} == "before":
    sys.stderr.write("rsync: connection unexpectedly closed\\n")
    sys.exit(12)
done = subprocess.run([{rsync!r}, *sys.argv[1:]]).returncode
if at == {at}:
    for name in os.listdir({spool!r}) if {is_taken} else []:
        stem, dot, suffix = name.rpartition(".")
        if suffix in ("toml", "py") and not name.startswith("."):
            record = os.path.join({spool!r}, "running", stem + ".1.zzzzz")
            os.mkdir(record)
            os.rename(os.path.join({spool!r}, name), os.path.join(record, "spec." + suffix))
    sys.stderr.write("rsync: connection unexpectedly closed\\n")
    sys.exit(12)
sys.exit(done)
"""


def jobs_in(places):
    drops = [path.stem for path in Path(places.root).iterdir() if path.suffix in (".toml", ".py")]
    return sorted([*drops, *(name.removesuffix(".1.zzzzz") for name in os.listdir(places.running))])


@pytest.mark.parametrize("mode", ["before", "after", "after and taken"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_spec_arrives_once_whichever_answer_is_lost(at, mode, tmp_path, monkeypatch):
    monkeypatch.setattr(pushing, "PAUSES_S", (0.0, 0.0))
    node = make_spool(tmp_path / "node")
    wrapper = tmp_path / "bin" / "rsync"
    wrapper.parent.mkdir()
    values = {"python": sys.executable, "calls": str(tmp_path / "calls"), "rsync": shutil.which("rsync"), "spool": node.root}
    wrapper.write_text(WRAPPER.format(at=at, mode=mode, is_taken="taken" in mode, **values))
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "calls").touch()
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    found = pushing.push(Rsync(), LOADS, targets.parse(node.root))
    assert [one.state for one in found] == [pushing.ARRIVED] * 2, found
    assert jobs_in(node) == sorted(one.job for one in found)


def deaf_after_one_call(tmp_path, monkeypatch):
    """From the second call of rsync on, its work is done and its answer lost."""
    wrapper = tmp_path / "bin" / "rsync"
    wrapper.parent.mkdir()
    rsync, calls = shutil.which("rsync"), tmp_path / "calls"
    wrapper.write_text(
        f'#!/bin/sh\necho x >> "{calls}"\n"{rsync}" "$@"; code=$?\n'
        f'[ "$(wc -l < "{calls}")" -lt 2 ] && exit $code\necho "Connection reset" >&2; exit 12\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")


def test_what_nobody_can_know_is_said_and_not_sent_again(tmp_path, monkeypatch):
    """From the second call on nothing is heard of the other side any more; the files have arrived."""
    monkeypatch.setattr(pushing, "PAUSES_S", (0.0,))
    node = make_spool(tmp_path / "node")
    deaf_after_one_call(tmp_path, monkeypatch)
    found = pushing.push(Rsync(), LOADS, targets.parse(node.root))
    assert {one.state for one in found} == {pushing.UNKNOWN}
    assert all("may have arrived" in one.reason and one.job in one.reason for one in found)
    assert len(jobs_in(node)) == 2


def collected(tmp_path):
    """A failed record of a node that a collecting spool has."""
    node, master = make_spool(tmp_path / "node"), make_spool(tmp_path / "master")
    make_record(node, "failed")
    collect(node, master)
    return node, Path(master.failed, JOB)


def send_back(path):
    return returning.send_back(Config(), str(path), returning.arrived(str(path)), sync=False)


def test_a_spec_that_goes_back_arrives_once_though_nobody_heard_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(pushing, "PAUSES_S", (0.0,))
    node, path = collected(tmp_path)
    deaf_after_one_call(tmp_path, monkeypatch)
    with pytest.raises(returning.CannotReturn, match="may or may not") as unheard:
        send_back(path)
    assert "--here" not in str(unheard.value)
    (job,) = jobs_in(node)
    assert job in returning.may_be_at(str(path))
    monkeypatch.undo()
    assert send_back(path) == job
    assert jobs_in(node) == [job]
    assert job in returning.went_to(str(path))
    assert not returning.may_be_at(str(path))


def test_who_dies_while_a_spec_goes_back_leaves_the_id_by_which_it_is_found(tmp_path, monkeypatch):
    node, path = collected(tmp_path)
    arrive = pushing.push

    def die(*arguments):
        arrive(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(pushing, "push", die)
    with pytest.raises(KeyboardInterrupt):
        send_back(path)
    monkeypatch.undo()
    assert [send_back(path)] == jobs_in(node)


def test_what_did_not_go_back_leaves_no_doubt(tmp_path):
    node, path = collected(tmp_path)
    os.unlink(Path(node.root, ".spool", "format.toml"))
    with pytest.raises(returning.CannotReturn, match="was not sent back"):
        send_back(path)
    assert not returning.may_be_at(str(path))
    assert not jobs_in(node)


def test_who_runs_it_here_after_all_leaves_no_doubt_either(tmp_path, monkeypatch):
    monkeypatch.setattr(pushing, "PAUSES_S", (0.0,))
    _node, path = collected(tmp_path)
    deaf_after_one_call(tmp_path, monkeypatch)
    with pytest.raises(returning.CannotReturn, match="may or may not"):
        send_back(path)
    monkeypatch.undo()
    job = returning.drop_here(Layout(str(tmp_path / "master")), str(path), returning.arrived(str(path)), sync=False)
    assert job in returning.went_to(str(path))
    assert not returning.may_be_at(str(path))
