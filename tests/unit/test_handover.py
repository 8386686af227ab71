"""A sealed file stands in for a lock file that SMB lets nobody write but the process that locked it."""

import fcntl
import os

import pytest

from spooldadd import claim, process
from spooldadd.claim import Holder
from spooldadd.handover import Handover
from spooldadd.layout import Layout

RECORD = "a.20261121T100000Z.bcdfg.1.bcdfg"
F_ADD_SEALS, F_SEAL_WRITE = 1033, 8  # named in `fcntl` since Python 3.9 only where the C library has them


@pytest.fixture
def places(tmp_path):
    made = Layout(str(tmp_path))
    os.makedirs(made.locks)
    return made


@pytest.fixture
def sealed():
    fd = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)
    yield fd
    os.close(fd)


def test_supervisor_and_job_stand_in_the_lock_file(places):
    lease = claim.take_new(places, RECORD, Holder("here", "boot-1", 10, 100))
    handover = Handover(places, RECORD, "here", lease)
    handover.note({"supervisor_pid": 11, "supervisor_start": 101}, sync=True)
    handover.note({"job_pid": 12, "job_start": 102}, sync=False)
    assert claim.read_holder(places, RECORD) == Holder("here", "boot-1", 10, 100, 11, 101, 12, 102)
    assert claim.read_holder(places, RECORD, lease) == claim.read_holder(places, RECORD)
    assert os.listdir(places.locks) == [f"{RECORD}.lock"]
    handover.forget()
    assert os.listdir(places.locks) == [f"{RECORD}.lock"]
    os.close(lease)


@pytest.mark.parametrize("sync", [True, False])
def test_where_a_locked_file_cannot_be_written_they_stand_beside_it(places, sealed, sync):
    """On SMB every job stayed in `running/`, because its supervisor could not say in the lock file that it had started."""
    handover = Handover(places, RECORD, "here", sealed)
    handover.note({"supervisor_pid": 11, "supervisor_start": 101}, sync=sync)
    handover.note({"job_pid": 12, "job_start": 102}, sync=sync)
    noted = Holder("here", process.boot_id(), 0, 0, 11, 101, 12, 102)
    assert claim.read_holder(places, RECORD) == noted
    assert claim.read_holder(places, RECORD, sealed) == noted
    handover.forget()
    assert os.listdir(places.locks) == []
    assert claim.read_holder(places, RECORD) == Holder()


def test_what_the_claimer_said_is_read_through_the_lease(places):
    """Where locks are mandatory not even the process that holds the lease can read the file by another descriptor."""
    lease = claim.take_new(places, RECORD, Holder("here", "boot-1", 10, 100, notes_first=1))
    os.rename(places.lock(RECORD), f"{places.locks}/elsewhere")
    assert claim.read_holder(places, RECORD, lease) == Holder("here", "boot-1", 10, 100, notes_first=1)
    assert claim.read_holder(places, RECORD) == Holder()
    os.close(lease)
