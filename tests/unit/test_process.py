import os
import signal
import subprocess

import pytest

from spooldadd import process


@pytest.fixture
def sleeper():
    """A process that waits for its input to end; it is past its start-up, in which its memory grows."""
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env={"MARK": "of this test"})
    assert child.stdin and child.stdout
    child.stdin.write(b"\n")
    assert child.stdout.read(1) == b"\n"
    yield child
    child.kill()
    child.communicate()


@pytest.fixture
def tree():
    """A shell with a child."""
    child = subprocess.Popen(["sh", "-c", "cat; true"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    while not process.children(child.pid):
        pass
    yield child
    child.communicate()


def test_a_process_is_itself_by_number_and_start(sleeper):
    start = process.start_ticks(sleeper.pid)
    assert process.is_alive(sleeper.pid, start)
    assert not process.is_alive(sleeper.pid, start + 1)  # the number was given out again
    assert not process.is_alive(0, 0)


def test_a_corpse_is_not_alive(sleeper):
    start = process.start_ticks(sleeper.pid)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert os.path.exists(f"/proc/{sleeper.pid}")
    assert not process.is_alive(sleeper.pid, start)


def test_a_name_with_brackets_and_spaces_is_read_past(tmp_path):
    program = tmp_path / ") R 1 (x"
    program.symlink_to("/bin/cat")
    child = subprocess.Popen([program], stdin=subprocess.PIPE)
    try:
        assert process.start_ticks(child.pid) >= process.start_ticks(os.getpid())
    finally:
        child.communicate()


def test_descendants_are_found_below_their_parents(tree):
    (grandchild,) = process.children(tree.pid)
    found = process.descendants(os.getpid())
    assert found.index(tree.pid) < found.index(grandchild)
    assert process.descendants(tree.pid) == [grandchild]
    assert process.descendants(2**22 + 1) == []


def test_usage_adds_up_own_pages_and_counts_shared_ones_once(sleeper):
    one = process.usage([sleeper.pid])
    again = process.usage([sleeper.pid, sleeper.pid])
    assert 0 < one.memory_bytes < again.memory_bytes < 2 * one.memory_bytes
    gone = process.usage([2**22 + 1])
    assert (gone.cpu_ticks, gone.memory_bytes) == (0, 0)


def test_processes_are_found_by_an_entry_of_their_environment(sleeper):
    assert process.marked([b"MARK=of this test"]) == [sleeper.pid]
    assert process.marked([b"MARK=of this"]) == []


def test_a_signal_for_one_that_is_gone_is_no_error(sleeper):
    process.send([2**22 + 1, sleeper.pid], signal.SIGKILL)
    assert sleeper.wait() == -signal.SIGKILL


@pytest.mark.parametrize(("number", "name"), [(15, "SIGTERM"), (9, "SIGKILL"), (42, "signal 42"), (0, "signal 0")])
def test_a_signal_has_a_name(number, name):
    assert process.signal_name(number) == name


def test_the_kernel_names_its_run_and_counts_its_kills():
    assert len(process.boot_id()) == 36
    assert process.out_of_memory_kills() >= 0
