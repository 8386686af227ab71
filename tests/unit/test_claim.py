import errno
import fcntl
import os
import signal

import pytest

from spooldadd import claim, durable, process
from spooldadd.claim import Holder
from spooldadd.layout import Layout

RECORD = "a.20261121T100000Z.bcdfg.1.bcdfg"
HOLDER = Holder("here", "boot-1", 10, 100)


@pytest.fixture
def places(tmp_path):
    made = Layout(str(tmp_path))
    os.makedirs(made.locks)
    return made


@pytest.fixture
def leases():
    """Descriptors that a test took; those that are still open are closed at its end."""
    taken = []
    yield taken
    for fd in taken:
        try:
            os.close(fd)
        except OSError:
            pass


def test_claim_is_refused_while_somebody_holds_it(places, leases):
    leases.append(claim.take_new(places, RECORD, HOLDER))
    assert claim.is_held(places, RECORD)
    assert claim.take_existing(places, RECORD) is None
    os.close(leases.pop())
    assert not claim.is_held(places, RECORD)
    leases.append(claim.take_existing(places, RECORD))
    assert claim.is_held(places, RECORD)


def test_a_lease_lives_as_long_as_any_copy_of_it(places, leases):
    lease = claim.take_new(places, RECORD, HOLDER)
    leases.append(os.dup(lease))
    os.close(lease)
    assert claim.is_held(places, RECORD)
    os.close(leases.pop())
    assert not claim.is_held(places, RECORD)


def test_a_lease_is_kept_by_a_process_that_inherited_it(places):
    """The job holds it on when its supervisor is killed, so nobody starts a twin."""
    lease = claim.take_new(places, RECORD, HOLDER)
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    os.close(lease)
    try:
        assert claim.is_held(places, RECORD)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert not claim.is_held(places, RECORD)


def test_asking_changes_nothing(places):
    assert not claim.is_held(places, RECORD)
    assert os.listdir(places.locks) == []


def test_a_name_is_taken_once(places, leases):
    leases.append(claim.take_new(places, RECORD, HOLDER))
    with pytest.raises(FileExistsError):
        claim.take_new(places, RECORD, HOLDER)
    assert claim.is_held(places, RECORD)


def test_a_missing_lock_file_is_made_again(places, leases):
    leases.append(claim.take_existing(places, RECORD))
    assert leases[0] is not None
    assert claim.is_held(places, RECORD)


def test_a_lock_file_that_its_holder_removes_meanwhile_is_not_taken_for_the_right_one(places, leases, monkeypatch):
    """Between our open and our lock the last holder removed it: the lock that we got is of a file without a name."""
    leases.append(claim.take_existing(places, RECORD))
    real, calls = claim.try_lock, []

    def remove_first(fd):
        if not calls:
            os.unlink(places.lock(RECORD))
            os.close(leases.pop())
        calls.append(fd)
        return real(fd)

    monkeypatch.setattr(claim, "try_lock", remove_first)
    leases.append(claim.take_existing(places, RECORD))
    assert len(calls) == 2
    assert os.fstat(leases[0]).st_ino == os.stat(places.lock(RECORD)).st_ino


def test_a_new_lock_file_that_somebody_else_locked_is_not_ours(places, monkeypatch):
    monkeypatch.setattr(claim, "try_lock", lambda _fd: False)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BlockingIOError):
        claim.take_new(places, RECORD, HOLDER)
    assert os.listdir(places.locks) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_on_a_full_disk_no_lock_file_is_left(places, monkeypatch):
    def fail(_fd, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "write_all", fail)
    with pytest.raises(OSError, match="No space"):
        claim.take_new(places, RECORD, HOLDER)
    assert os.listdir(places.locks) == []


def test_no_program_inherits_a_lease_that_is_not_handed_on(places, leases):
    leases.append(claim.take_new(places, RECORD, HOLDER))
    assert fcntl.fcntl(leases[0], fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_the_lock_file_tells_who_holds_it_in_lines_that_grow(places, leases):
    leases.append(claim.take_new(places, RECORD, HOLDER))
    assert claim.read_holder(places, RECORD) == HOLDER
    os.write(leases[0], b"supervisor_pid = 20\nsupervisor_start = 200\n")
    os.write(leases[0], b"job_pid = 3\n\xff\n")
    holder = claim.read_holder(places, RECORD)
    assert (holder.worker_pid, holder.supervisor_pid, holder.supervisor_start, holder.job_pid) == (10, 20, 200, 3)


@pytest.mark.parametrize("text", ["", "\0\0", "node = 'half", "job_pid = 'x'", "[[[", "pid = 1\nnode = 5\n"])
def test_a_damaged_lock_file_names_nobody(places, text):
    with open(places.lock(RECORD), "w") as file:
        file.write(text)
    holder = claim.read_holder(places, RECORD)
    assert not holder.has_live_process()
    assert not holder.is_here("here", "boot-1")


def test_a_missing_lock_file_names_nobody(places):
    assert claim.read_holder(places, RECORD) == Holder()


def test_processes_live_only_under_their_number_and_start():
    own = process.start_ticks(os.getpid())
    assert Holder(job_pid=os.getpid(), job_start=own).has_live_process()
    assert Holder(supervisor_pid=os.getpid(), supervisor_start=own).has_live_process()
    assert not Holder(job_pid=os.getpid(), job_start=own + 1).has_live_process()
    assert not Holder().has_live_process()


def test_processes_of_another_boot_or_node_are_not_here():
    assert HOLDER.is_here("here", "boot-1")
    assert not HOLDER.is_here("here", "boot-2")
    assert not HOLDER.is_here("there", "boot-1")
