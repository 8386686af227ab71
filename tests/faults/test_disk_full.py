"""A worker on a spool that cannot be written says so, waits, and goes on by itself when it is mended."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.places import NEEDS_MOUNT, fill, free_inodes, tmpfs, use_up_inodes
from tests.support import Node, result_of, until

pytestmark = NEEDS_MOUNT
SIZE = "size=512k,nr_inodes=300,mode=755"


@pytest.fixture
def make_small() -> Iterator[Callable[..., Node]]:
    """Nodes whose spool, or whose work directories, are on a small file system of their own."""
    root = Path(tempfile.mkdtemp(prefix="spooldadd-small-"))
    with ExitStack() as stack:

        def make(place: str = "spool") -> Node:
            stack.enter_context(tmpfs(root / place, SIZE))
            node = Node(root, environ={"SPOOLDADD_INTAKE__SETTLE": "0s"})
            stack.callback(end, node)
            return node

        yield make
    shutil.rmtree(root)


def end(node: Node) -> None:
    for worker in node.workers:
        worker.kill()
        worker.wait()


@pytest.fixture
def small(make_small: Callable[..., Node]) -> Node:
    return make_small()


def gated(gate: Path, more: str = "") -> str:
    return f"""command = "touch {gate}.up; until test -e {gate}; do sleep 0.05; done"\n{more}"""


def says_trouble(node: Node, errno_text: str, offset: int = 0) -> bool:
    return any("event=spool-trouble" in line and errno_text in line for line in node.said(offset).splitlines())


def test_a_worker_on_a_full_disk_says_so_and_goes_on_when_there_is_room(small: Node):
    small.drop("one.toml", "command = 'true'\n")
    filler = fill(small.spool)
    worker = small.start()
    until(lambda: says_trouble(small, "No space left on device"), "it says that the disk is full")
    assert small.finished("one") is None
    assert (small.spool / "one.toml").exists()
    assert worker.poll() is None
    filler.unlink()
    assert result_of(small.wait_finished("one"))["outcome"] == "success"


def test_a_worker_without_inodes_says_so_and_goes_on_when_there_are_some(small: Node):
    small.drop("one.toml", "command = 'true'\n")
    directory = use_up_inodes(small.spool)
    worker = small.start()
    until(lambda: says_trouble(small, "No space left on device"), "it says that the disk is full")
    assert (small.spool / "one.toml").exists()
    assert worker.poll() is None
    free_inodes(directory)
    assert result_of(small.wait_finished("one"))["outcome"] == "success"


@pytest.mark.parametrize("inodes", [1, 2, 3, 4, 5])
def test_however_few_inodes_are_left_no_job_fails_for_them(small: Node, inodes: int):
    """The claim took the last one, then the log could not be made: the job was `failed` with outcome `build`."""
    small.drop("one.toml", "command = 'true'\n")
    directory = use_up_inodes(small.spool)
    for path in sorted(directory.iterdir())[:inodes]:
        path.unlink()
    small.start()
    until(lambda: "No space left" in small.said() or small.finished("one"), "it notices, or gets by")
    free_inodes(directory)
    result = result_of(small.wait_finished("one"))
    assert (result["outcome"], result["attempt"]) == ("success", 1)


def test_a_worker_on_a_read_only_spool_says_so_and_goes_on_when_it_can_write(small: Node):
    small.drop("one.toml", "command = 'true'\n")
    subprocess.run(["mount", "-o", "remount,ro", small.spool], check=True)
    worker = small.start()
    until(lambda: says_trouble(small, "Read-only file system"), "it says that it cannot write")
    assert worker.poll() is None
    subprocess.run(["mount", "-o", "remount,rw", small.spool], check=True)
    assert result_of(small.wait_finished("one"))["outcome"] == "success"


def test_a_finished_job_waits_for_the_disk_whoever_is_restarted_meanwhile(small: Node, tmp_path: Path):
    gate = tmp_path / "gate"
    worker = small.start()
    small.drop("one.toml", gated(gate))
    until(Path(f"{gate}.up").exists, "it runs")
    filler = fill(small.spool)
    gate.touch()
    until(lambda: "event=filing-waits" in small.said(), "the supervisor says that it waits")
    worker.kill()
    worker.wait()
    before = len(small.said())
    small.start()
    until(lambda: "event=filing-waits" in small.said(before), "it still waits")
    assert len(small.records("running")) == 1
    filler.unlink()
    record = small.wait_finished("one")
    assert (record.parent.name, result_of(record)["outcome"]) == ("done", "success")


def test_kept_files_wait_for_the_disk_too(small: Node, tmp_path: Path):
    """They were given up, and their only copy was removed with the work directory of the job, which had succeeded."""
    gate = tmp_path / "gate"
    small.start()
    script = f"head -c 100000 /dev/zero > big.bin; touch {gate}.up; until test -e {gate}; do sleep 0.05; done"
    small.drop("one.toml", f"""command = "{script}"\n[keep]\nfiles = ["deep/*", "*.bin"]\n""")
    until(Path(f"{gate}.up").exists, "it runs")
    filler = fill(small.spool)
    gate.touch()
    until(lambda: "event=filing-waits" in small.said(), "the supervisor says that it waits")
    filler.unlink()
    record = small.wait_finished("one")
    assert result_of(record)["kept"] == ["big.bin"]
    assert (record / "big.bin").stat().st_size == 100000


def test_a_job_waits_for_room_on_the_nodes_own_disk(make_small: Callable[..., Node]):
    node = make_small("work")
    filler = fill(node.work)
    directory = use_up_inodes(node.work)
    node.start()
    node.drop("one.toml", "command = 'true'\n[config]\nkey = 1\n")
    until(lambda: says_trouble(node, "work directory"), "the supervisor says that it waits")
    assert node.finished("one") is None
    free_inodes(directory)
    filler.unlink()
    result = result_of(node.wait_finished("one"))
    assert (result["outcome"], result["attempt"]) == ("success", 1)
