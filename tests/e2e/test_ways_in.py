"""Any way of copying is a way to submit: each file runs exactly once, whole, and no tool notices that it was taken."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from spooldadd.tomltext import flat
from tests.e2e.ssh_server import ssh_server
from tests.support import Node, result_of, temporary_node, until

# Shorter than every pause of the slow writers below, so that standing still alone would take their files too early.
SETTLE_S = 0.3
# Long ago: `cp -p` and `rsync -a` bring a file's own time along.
OLD_S = 1_500_000_000
VIM = shutil.which("vim") or shutil.which("vim.tiny") or shutil.which("vi")


@dataclass
class Inbox:
    """A spool with a worker, and what was submitted to it."""

    node: Node
    root: Path
    texts: dict[str, str] = field(default_factory=dict)

    def spec(self, name: str, text: str | None = None) -> str:
        """Return a spec whose job notes that it ran, and its whole standard input, in a file of its own."""
        self.texts[name] = f"the whole text of {name}" if text is None else text
        out = self.root / f"{name}.out"
        command = ["sh", "-c", '{ echo ran; cat; } >> "$1"', "sh", str(out)]
        # Whatever is cut off the end still leaves a valid spec: only a job that shows what it got can tell.
        return flat({"command": command, "stdin": self.texts[name]})

    def source(self, name: str, text: str | None = None) -> Path:
        """Put a spec somewhere on the spool's file system, but not into it."""
        path = self.root / "elsewhere" / f"{name}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(self.spec(name, text))
        os.utime(path, (OLD_S, OLD_S))
        return path

    def target(self, name: str) -> Path:
        """Return the file's place in the spool."""
        return self.node.spool / f"{name}.toml"

    def assert_ran_once_and_whole(self, name: str) -> None:
        """Wait until the job of this name is filed, and look at what it did."""
        record = self.node.wait_finished(name)
        assert result_of(record)["outcome"] == "success", result_of(record)["reason"]
        assert (self.root / f"{name}.out").read_text() == "ran\n" + self.texts[name]
        assert len(self.node.records("done", name)) == 1
        assert not self.target(name).exists()


@pytest.fixture(scope="module")
def inbox() -> Iterator[Inbox]:
    with temporary_node(environ={"SPOOLDADD_INTAKE__SETTLE": f"{SETTLE_S}s"}) as node:
        node.start("--jobs", "4")
        inbox = Inbox(node, node.spool.parent)
        yield inbox
        # A second run of some file would come long after its first was looked at.
        assert not [name for name in inbox.texts if len(node.records("done", name)) != 1]
        assert not node.records("failed")


@pytest.fixture(scope="module")
def ssh() -> Iterator[str]:
    with ssh_server() as client:
        yield client


def run(*command: str | Path, **options) -> None:
    """Run a tool; it must neither fail nor complain."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False, **options)
    assert (done.returncode, done.stderr) == (0, ""), (command, done.stdout)


def shell(line: str) -> None:
    run("sh", "-c", line)


Way = Callable[[Path, Path], None]
LOCAL: dict[str, Way] = {
    "mv": lambda source, target: run("mv", source, target),
    "cp": lambda source, target: run("cp", source, target),
    "cp-preserving": lambda source, target: run("cp", "-p", source, target),
    "cp-archive": lambda source, target: run("cp", "-a", source, target.parent),
    "tee": lambda source, target: shell(f"tee {target} < {source} > {source}.copy"),
    "redirection": lambda source, target: shell(f"cat {source} > {target}"),
    "install": lambda source, target: run("install", "-m", "0640", source, target),
    "install-preserving": lambda source, target: run("install", "-p", "-m", "0600", source, target),
    "ln": lambda source, target: run("ln", source, target),
    "dd": lambda source, target: run("dd", "bs=10", "status=none", f"if={source}", f"of={target}"),
    "dd-sync": lambda source, target: run("dd", "oflag=sync", "conv=fsync", "status=none", f"if={source}", f"of={target}"),
    "tar": lambda source, target: shell(f"tar -C {source.parent} -c {source.name} | tar -C {target.parent} -xp"),
    "rsync": lambda source, target: run("rsync", source, target),
    "rsync-archive": lambda source, target: run("rsync", "-a", source, target),
    "rsync-inplace": lambda source, target: run("rsync", "--inplace", source, target),
    "rsync-inplace-archive": lambda source, target: run("rsync", "-a", "--inplace", source, target),
    "rsync-partial-dir": lambda source, target: run("rsync", "-a", "--partial-dir=.partial", source, target.parent),
    "rsync-delay-updates": lambda source, target: run("rsync", "-a", "--delay-updates", source, target.parent),
    "rsync-remove-source": lambda source, target: run("rsync", "-a", "--remove-source-files", source, target),
    "rsync-fsync": lambda source, target: run("rsync", "-a", "--fsync", source, target),
    "touch-afterwards": lambda source, target: shell(f"cp {source} {target}; touch -d @{OLD_S} {target}"),
    "chmod-afterwards": lambda source, target: shell(f"umask 0; cp {source} {target}; chmod 0600 {target}"),
    "empty-at-first": lambda source, target: shell(f": > {target}; cat {source} >> {target}"),
    "two-writers": lambda source, target: shell(f"head -1 {source} > {target}; tail -n +2 {source} >> {target}"),
}


@pytest.mark.parametrize("way", LOCAL)
def test_local_tool_submits(inbox: Inbox, way: str) -> None:
    LOCAL[way](inbox.source(way), inbox.target(way))
    inbox.assert_ran_once_and_whole(way)


@pytest.mark.skipif(
    not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat(tempfile.gettempdir()).st_dev,
    reason="needs the capability of two file systems",
)
def test_mv_from_another_file_system_submits(inbox: Inbox) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        source = shutil.move(inbox.source("mv-across"), other)
        run("mv", source, inbox.target("mv-across"))
    inbox.assert_ran_once_and_whole("mv-across")


def _sftp(client: str, source: Path, target: Path, option: str = "") -> None:
    run("sftp", "-q", "-b", "-", "-F", client, "node", input=f"put {option} {source} {target}\n")


REMOTE: dict[str, Callable[[str, Path, Path], None]] = {
    "scp": lambda client, source, target: run("scp", "-q", "-F", client, source, f"node:{target}"),
    "scp-preserving": lambda client, source, target: run("scp", "-qp", "-F", client, source, f"node:{target}"),
    "scp-old-protocol": lambda client, source, target: run("scp", "-qO", "-F", client, source, f"node:{target}"),
    "sftp": _sftp,
    "sftp-preserving": lambda client, source, target: _sftp(client, source, target, "-p"),
    "ssh-cat": lambda client, source, target: shell(f"ssh -F {client} node 'cat > {target}' < {source}"),
    "rsync-ssh": lambda client, source, target: run("rsync", "-e", f"ssh -F {client}", source, f"node:{target}"),
    "rsync-ssh-archive": lambda client, source, target: run(
        "rsync", "-az", "-e", f"ssh -F {client}", source, f"node:{target.parent}/"
    ),
    "rsync-ssh-inplace": lambda client, source, target: run(
        "rsync", "-a", "--inplace", "-e", f"ssh -F {client}", source, f"node:{target}"
    ),
    "rsync-ssh-delay-updates": lambda client, source, target: run(
        "rsync", "-a", "--delay-updates", "--partial-dir=.part", "-e", f"ssh -F {client}", source, f"node:{target.parent}/"
    ),
}


@pytest.mark.parametrize("way", REMOTE)
def test_remote_tool_submits(inbox: Inbox, ssh: str, way: str) -> None:
    REMOTE[way](ssh, inbox.source(way), inbox.target(way))
    inbox.assert_ran_once_and_whole(way)


def _vim(*commands: str) -> None:
    assert VIM, "vim-tiny is to be installed"
    words = [word for command in commands for word in ("-c", command)]
    run(VIM, "-u", "NONE", "-i", "NONE", "-es", *words, stdin=subprocess.DEVNULL)


def test_file_written_with_vim_runs(inbox: Inbox) -> None:
    source = inbox.source("vim-new")
    _vim(f"edit {inbox.target('vim-new')}", f"read {source}", "wq")
    inbox.assert_ran_once_and_whole("vim-new")


@pytest.mark.parametrize("backupcopy", ["no", "yes"])
def test_waiting_file_edited_with_vim_runs_as_it_was_left(inbox: Inbox, backupcopy: str) -> None:
    """With `no` vim moves the file away and writes another in its place; with `yes` it writes into it."""
    name = f"vim-{backupcopy}"
    text = inbox.spec(name, "the better text")
    (inbox.node.spool / "paused").touch()
    inbox.node.drop(f"{name}.toml", text.replace("better", "worse"))
    settings = f"set writebackup backup swapfile directory=. backupdir=. backupcopy={backupcopy}"
    _vim(settings, f"edit {inbox.target(name)}", "%substitute/worse/better/", "wq")
    assert "better" in inbox.target(name).read_text()
    (inbox.node.spool / "paused").unlink()
    inbox.assert_ran_once_and_whole(name)


def test_slow_writers_are_waited_for(inbox: Inbox) -> None:
    """Each part that reaches the disk is a valid spec, and each pause is longer than the settle time."""
    text = inbox.spec("slow", "one two three four five six")
    large = inbox.source("slow-rsync", "0123456789abcdef" * 20_000)
    inplace = inbox.source("slow-rsync-inplace", "fedcba9876543210" * 20_000)
    rsync = ["rsync", "--bwlimit=100"]
    writers = [
        subprocess.Popen([*rsync, large, inbox.target("slow-rsync")]),
        subprocess.Popen([*rsync, "--inplace", inplace, inbox.target("slow-rsync-inplace")]),
    ]
    with inbox.target("slow").open("w") as file:
        head, tail = text.split("stdin = ")
        for part in [head, *(f"# {word}\n" for word in ["still", "writing", "this", "spec"]), f"stdin = {tail}"]:
            file.write(part)
            file.flush()
            time.sleep(1.0)  # this is the writer's own pace: nothing waits for it
    assert [writer.wait(60) for writer in writers] == [0, 0]
    for name in ("slow", "slow-rsync", "slow-rsync-inplace"):
        inbox.assert_ran_once_and_whole(name)


def test_file_that_grows_line_by_line_runs_whole(inbox: Inbox) -> None:
    """Each line is appended by a process of its own, so nobody has the file open in between."""
    lines = inbox.spec("appended", "a\nb\nc").splitlines()
    target = shlex.quote(str(inbox.target("appended")))
    shell("\n".join(f"printf '%s\\n' {shlex.quote(line)} >> {target}" for line in lines))
    inbox.assert_ran_once_and_whole("appended")


def test_two_names_of_one_file_are_two_submissions(inbox: Inbox) -> None:
    source = inbox.source("twice")
    out = inbox.root / "twice.out"
    run("ln", source, inbox.target("link-a"))
    run("ln", source, inbox.target("link-b"))
    for name in ("link-a", "link-b"):
        assert result_of(inbox.node.wait_finished(name))["outcome"] == "success"
    del inbox.texts["twice"]
    assert out.read_text().count("ran\n") == 2


@pytest.mark.slow
def test_thousand_specs_copied_at_once_run_once_each(make_node: Callable[..., Node]) -> None:
    node = make_node(environ={"SPOOLDADD_INTAKE__SETTLE": f"{SETTLE_S}s"}, durability="process")
    source = node.spool.parent / "source"
    source.mkdir()
    out = node.spool.parent / "out"
    for number in range(1000):
        (source / f"many-{number}.toml").write_text(f"command = ['sh', '-c', 'echo {number} >> {out}']\n")
    node.start("--jobs", "2")
    shell(f"cp {source}/* {node.spool}")
    until(lambda: len(os.listdir(node.spool / "done")) == 1000, "all are done")
    assert sorted(map(int, out.read_text().split())) == list(range(1000))
    assert not node.records("failed")
