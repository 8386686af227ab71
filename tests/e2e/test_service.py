"""`spooldadd service`: the units of a root directory, whose they are, and what is left when they go."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from spooldadd import unitfiles
from tests.support import Node, make_spool, result_of

UNITS = "etc/systemd/system"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The root directory of another system, with a spool at `/srv/my spool`."""
    root = tmp_path / "image"
    make_spool(str(root / "srv/my spool"))
    return root


def install(node: Node, image: Path, *more: str, **options):
    words = ("--root", str(image), "--program", "/opt/spool dadd/bin/spooldadd", "--as", "root", *more)
    return node.run("service", "install", "/srv/my spool", *words, **options)


def tree(image: Path) -> dict[str, bytes]:
    return {str(path.relative_to(image)): path.read_bytes() for path in (image / "etc").rglob("*") if path.is_file()}


def test_the_units_are_put_into_a_root_directory_and_again_changes_nothing(node: Node, image: Path):
    said = install(node, image)
    assert said.stdout.count("written") == 4
    unit = (image / UNITS / "spooldadd@.service").read_text()
    assert 'ExecStart=":/opt/spool dadd/bin/spooldadd" worker %f\n' in unit
    first = tree(image)
    assert set(first) == {
        f"{UNITS}/spooldadd@.service", f"{UNITS}/spooldadd.slice", "etc/sysusers.d/spooldadd.conf",
        "etc/tmpfiles.d/spooldadd.conf",
    }  # fmt: skip
    assert install(node, image).stdout.count("unchanged") == 4
    assert tree(image) == first


def test_a_dry_run_and_show_write_nothing(node: Node, image: Path):
    assert install(node, image, "--dry-run").stdout.count("written") == 4
    shown = node.run("service", "show", "/srv/my spool", "--root", str(image), "--as", "root").stdout
    assert "KillMode=process" in shown
    assert r"spooldadd@srv-my\x20spool.service" in shown
    assert not (image / "etc").exists()


def test_enable_starts_it_at_the_next_boot_of_that_system(node: Node, image: Path):
    install(node, image, "--enable")
    link = image / UNITS / "multi-user.target.wants" / unitfiles.unit_of("/srv/my spool")
    assert os.readlink(link) == "/etc/systemd/system/spooldadd@.service"
    install(node, image, "--enable")


def test_what_an_administrator_edited_stays_and_is_told(node: Node, image: Path):
    install(node, image)
    unit = image / UNITS / "spooldadd@.service"
    own = image / UNITS / "spooldadd@.service.d" / "mine.conf"
    own.parent.mkdir()
    own.write_text("[Service]\nNice=5\n")
    unit.write_text(unit.read_text() + "# mine\n")
    again = install(node, image, check=False)
    assert again.returncode == 1
    assert "was edited" in again.stderr and str(unit) in again.stderr
    gone = node.run("service", "uninstall", "/srv/my spool", "--root", str(image), check=False)
    assert gone.returncode == 1
    assert unit.read_text().endswith("# mine\n")
    assert own.exists()
    assert not (image / UNITS / "spooldadd.slice").exists()


def test_a_file_of_an_earlier_release_is_brought_up_to_date(node: Node, image: Path):
    install(node, image)
    unit = image / UNITS / "spooldadd@.service"
    unit.write_bytes(unitfiles.UnitFile(str(unit), "[Service]\nExecStart=/old\n").data)
    status = json.loads(node.run("service", "status", "--root", str(image), "--json", check=False).stdout)
    assert status["files"][str(unit)] == "outdated"
    assert f"updated    {unit}" in install(node, image).stdout
    assert "/opt/spool dadd/bin/spooldadd" in unit.read_text()


def test_a_spool_of_another_user_is_served_by_that_user(node: Node, image: Path):
    said = install(node, image, "--as", "etl")
    drop_in = image / UNITS / f"{unitfiles.unit_of('/srv/my spool')}.d" / "10-owner.conf"
    assert str(drop_in) in said.stdout
    assert "User=etl\n" in drop_in.read_text()
    node.run("service", "uninstall", "/srv/my spool", "--root", str(image))
    assert not drop_in.parent.exists()


def test_uninstall_leaves_nothing_and_keeps_what_another_spool_needs(node: Node, image: Path):
    make_spool(str(image / "srv/other"))
    install(node, image, "--enable")
    node.run(
        "service", "install", "/srv/other", "--root", str(image), "--as", "root", "--enable", "--program", "/x/spooldadd"
    )
    node.run("service", "uninstall", "/srv/other", "--root", str(image))
    assert (image / UNITS / "spooldadd@.service").exists()
    node.run("service", "uninstall", "--root", str(image))
    assert tree(image) == {}
    assert not list((image / UNITS / "multi-user.target.wants").iterdir())
    assert (image / "srv/my spool/.spool/format.toml").exists()


def test_a_user_s_service_is_put_into_the_user_s_directory(node: Node, tmp_path: Path):
    environ = {**node.environ, "XDG_CONFIG_HOME": str(tmp_path / "config"), "PATH": str(tmp_path)}  # no systemctl is found
    said = node.run("service", "install", "--user", str(node.spool), env=environ)
    assert {path.name for path in (tmp_path / "config/systemd/user").iterdir()} == {"spooldadd@.service", "spooldadd.slice"}
    assert "loginctl enable-linger" in said.stderr
    unit = (tmp_path / "config/systemd/user/spooldadd@.service").read_text()
    assert f'ExecStart=":{node.command[0]}" worker %f\n' in unit


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["install"], 2, "needs a spool"),
        (["install", "/nowhere/at/all"], 1, "is not a spool; make it first"),
        (["install", "{spool}", "--root", "/nowhere/image"], 1, "is not a spool"),
        (["install", "{spool}", "--now", "--root", "/nowhere/image"], 2, "`--enable`"),
        (["install", "{spool}", "--user", "--as", "etl"], 2, "runs as you"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_with_the_remedy(node: Node, words: list[str], code: int, message: str):
    environ = {name: value for name, value in node.environ.items() if name != "SPOOLDADD_SPOOL"}
    filled = [word.format(spool=node.spool) for word in words]
    done = node.run("service", *filled, check=False, env=environ, cwd="/")
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr


def test_a_configuration_is_checked_in_silence(node: Node):
    assert node.run("config", "--check").stdout == ""
    (node.spool / ".spool" / "worker.toml").write_text("jobs = 0\n")
    wrong = node.run("config", "--check", check=False)
    assert (wrong.returncode, wrong.stdout) == (78, "")
    assert "jobs" in wrong.stderr


def test_doctor_says_what_is_in_force_and_when_a_restart_cannot_be_tried(node: Node):
    assert "no worker of this machine serves here" in node.run("doctor", "--restart", check=False).stdout
    node.start()
    told = [line for line in node.run("doctor", check=False).stdout.splitlines() if "control-groups" in line]
    assert "in force for the worker" in told[0]
    tried = node.run("doctor", "--restart", check=False)
    if tried.returncode:
        assert "the worker is no service of systemd" in tried.stdout
        assert "service install" in tried.stdout


def test_a_limit_that_needs_a_control_group_is_kept_or_told(node: Node):
    node.drop("many.toml", 'command = "cat /proc/self/cgroup"\n[limits]\ntasks = 60\ncpus = 1.5\n')
    log = node.drain()
    record = node.finished("many")
    assert result_of(record)["outcome"] == "success"
    in_leaf = "/job-" in (record / "output.log").read_text()
    assert in_leaf == ("in_force=scope" in log or "in_force=leaf" in log)
    if not in_leaf:
        assert "event=limit-not-kept" in log
