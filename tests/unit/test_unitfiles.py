"""The files of a service: names as systemd escapes them, programs as it reads them, and whose a file is."""

import importlib.resources
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import spooldadd
from spooldadd import unitfiles
from spooldadd.unitfiles import State, UnitFile

CONTRIB = Path(spooldadd.__file__).parent.parent / "contrib" / "systemd"
PATHS = [
    "/srv/spool", "/", "/srv/my spool/", "/srv//a/./b", "/.hidden/x", "/a/.b", "/srv/a-b_c:d.e", "/srv/ümläut",
    "/srv/back\\slash", "/srv/$HOME/%i", '/srv/"quoted"', "/...", "/@x",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_escaped_as_systemd_does_it(path):
    if shutil.which("systemd-escape") is None:
        pytest.skip("needs the capability: systemd-escape")
    done = subprocess.run(["systemd-escape", "--path", path], capture_output=True, text=True, check=True)
    assert unitfiles.escape_path(path) == done.stdout.removesuffix("\n")


@pytest.mark.parametrize(
    ("path", "escaped"),
    [("/srv/spool", "srv-spool"), ("/", "-"), ("/srv/my spool", r"srv-my\x20spool"), ("/.a/.b", r"\x2ea-.b")],
)
def test_a_path_is_escaped_and_read_back(path, escaped):
    assert unitfiles.escape_path(path) == escaped
    assert unitfiles.path_of(f"spooldadd@{escaped}.service") == path


@pytest.mark.parametrize("path", ["srv/spool", "/srv/../etc"])
def test_a_path_that_systemd_would_refuse_is_refused(path):
    with pytest.raises(ValueError, match="`"):
        unitfiles.escape_path(path)


def test_a_unit_of_somebody_else_is_none_of_ours():
    assert unitfiles.path_of("ssh.service") is None
    assert unitfiles.path_of("spooldadd@.service") is None


def test_a_path_that_is_too_long_for_a_unit_is_refused():
    with pytest.raises(ValueError, match="too long"):
        unitfiles.unit_of("/" + "a" * 250)


@pytest.mark.parametrize(
    ("program", "line"),
    [
        (["/usr/bin/spooldadd"], '":/usr/bin/spooldadd"'),
        (["/opt/spool dadd/100%/a\"b\\c"], r'":/opt/spool dadd/100%%/a\"b\\c"'),
        (["/v/bin/python", "-m", "spooldadd"], '":/v/bin/python" "-m" "spooldadd"'),
    ],
)  # fmt: skip
def test_a_program_is_written_as_execstart_reads_it(program, line):
    assert unitfiles.command_line(program) == line
    assert f"ExecStart={line} worker %f\n" in unitfiles.unit_text("system", program, has_subgroups=False)
    assert f"ExecReload={line} --spool %f config --check\n" in unitfiles.unit_text("user", program, has_subgroups=False)


def test_a_program_with_a_control_character_is_refused():
    with pytest.raises(ValueError, match="control character"):
        unitfiles.command_line(["/a\nb"])


def test_the_subgroup_is_asked_for_where_systemd_knows_it():
    program = [unitfiles.PROGRAM]
    assert "\nDelegateSubgroup=worker\n" in unitfiles.unit_text("system", program, has_subgroups=True)
    assert "\nDelegateSubgroup=worker\n" not in unitfiles.unit_text("system", program, has_subgroups=False)


def test_a_file_is_missing_then_current_then_edited_or_of_another_release(tmp_path):
    file = UnitFile(str(tmp_path / "a.service"), "[Unit]\n")
    assert file.state() is State.MISSING
    (tmp_path / "a.service").write_bytes(file.data)
    assert file.state() is State.CURRENT
    assert UnitFile(file.path, "[Unit]\nAfter=x\n").state() is State.OUTDATED
    (tmp_path / "a.service").write_bytes(file.data + b"# mine\n")
    assert file.state() is State.EDITED
    (tmp_path / "a.service").write_text("[Unit]\n")
    assert file.state() is State.EDITED


@pytest.mark.parametrize(
    ("contrib", "own"),
    [
        ("spooldadd@.service", "system.service"), ("user/spooldadd@.service", "user.service"), ("spooldadd.slice", "slice"),
        ("sysusers.d/spooldadd.conf", "sysusers.conf"), ("tmpfiles.d/spooldadd.conf", "tmpfiles.conf"),
    ],
)  # fmt: skip
def test_what_is_installed_is_what_lies_in_contrib(contrib, own):
    assert (CONTRIB / contrib).read_text() == unitfiles.template(own)


def test_all_that_lies_in_contrib_can_be_installed():
    names = {entry.name for entry in importlib.resources.files("spooldadd").joinpath("templates", "systemd").iterdir()}
    assert len([path for path in CONTRIB.rglob("*") if path.is_file()]) == len(names)


@pytest.mark.parametrize("kind", ["system", "user"])
def test_what_the_docs_promise_of_a_unit_stands_in_it(kind):
    lines = unitfiles.template(f"{kind}.service").splitlines()
    assert {
        "Type=notify", "KillMode=process", "TimeoutStartSec=infinity", "OOMPolicy=continue", "Delegate=yes",
        "RestartPreventExitStatus=2 78", "ExecReload=/bin/kill -HUP $MAINPID",
    } <= set(lines)  # fmt: skip
    assert any(line.startswith("WatchdogSec=") for line in lines)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs the capability: systemd-analyze")
def test_systemd_itself_finds_nothing_wrong_with_the_unit(tmp_path):
    (tmp_path / "spooldadd@.service").write_text(unitfiles.unit_text("system", ["/bin/true"], has_subgroups=False))
    (tmp_path / "spooldadd.slice").write_text(unitfiles.template("slice"))
    environ = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", "spooldadd@srv-spool.service"],
        capture_output=True, text=True, env=environ, check=False,
    )  # fmt: skip
    own = [line for line in done.stderr.splitlines() if "spooldadd" in line]
    assert (done.returncode, own) == (0, [])
