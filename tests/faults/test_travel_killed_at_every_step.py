"""Who takes in, uploads or collects records is killed at every step; the next one brings each record whole, once."""

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from spooldadd.remote import incoming, manifest, uploading
from tests.faults.faulty import Faults
from tests.faults.sweeping import Verdict, bad, sweep
from tests.travelling import JOB, OTHER_JOB, collect, contents, left_over, make_record, make_spool, quiet_log, sender

pytestmark = pytest.mark.slow

needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="needs the capability rsync")


class Journey:
    """Two spools, a step that is struck, and the same step done again by the next one."""

    def __init__(self, root: Path) -> None:
        self.node, self.master = make_spool(root / "node"), make_spool(root / "master")

    def step(self) -> None:
        raise NotImplementedError

    def again(self) -> None:
        self.step()

    def problems(self) -> list[str]:
        raise NotImplementedError

    def _is_whole(self, state: str, job: str, source: Path) -> list[str]:
        here = Path(self.master.state_directory(state), job)
        if not here.is_dir():
            return [f"{job} is not in {state}"]
        found = [] if contents(here) == contents(source) else [f"{job} has another content"]
        other = Path(self.master.state_directory("done" if state == "failed" else "failed"), job)
        return [*found, *([f"{job} is there twice"] if other.exists() else []), *left_over(self.master)]

    def _records(self) -> list[str]:
        return sorted(entry for state in ("done", "failed") for entry in os.listdir(self.master.state_directory(state)))


class Upload(Journey):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.records = [make_record(self.node, "failed"), make_record(self.node, "done", OTHER_JOB)]

    def step(self) -> None:
        uploading.upload(sender(self.node, self.master), quiet_log())

    def again(self) -> None:
        incoming.take_in_all(self.master, sync=False, is_patient=True)  # the master may look at any time
        self.step()
        incoming.take_in_all(self.master, sync=False, is_patient=True)

    def problems(self) -> list[str]:
        found = [f"{path.name} is not marked" for path in self.records if not (path / "uploaded.toml").exists()]
        for path in self.records:
            found += self._is_whole(path.parent.name, path.name, path)
        return [*found, *([] if self._records() == sorted([JOB, OTHER_JOB]) else [f"the master has {self._records()}"])]


class Collect(Journey):
    is_deleting = False

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        make_record(self.node, "failed")
        make_record(self.node, "done", OTHER_JOB)
        shutil.copytree(self.node.root, root / "as it was")
        self.records = [root / "as it was" / "failed" / JOB, root / "as it was" / "done" / OTHER_JOB]

    def step(self) -> None:
        collect(self.node, self.master, is_deleting=self.is_deleting)

    def again(self) -> None:
        found = collect(self.node, self.master, is_deleting=self.is_deleting)
        assert not found.troubles, found.troubles
        assert collect(self.node, self.master, is_deleting=self.is_deleting).new == []

    def problems(self) -> list[str]:
        found = [problem for path in self.records for problem in self._is_whole(path.parent.name, path.name, path)]
        return [*found, *([] if self._records() == sorted([JOB, OTHER_JOB]) else [f"the master has {self._records()}"])]


class CollectAndDelete(Collect):
    is_deleting = True

    def problems(self) -> list[str]:
        left = os.listdir(self.node.done) + os.listdir(self.node.failed)
        return [*super().problems(), *(f"{name} is left on the node" for name in left)]


class TakeIn(Journey):
    """An earlier attempt is there; a later one has arrived, ended as `state` says."""

    state = "failed"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        make_record(self.node, "failed")
        self._arrive()
        incoming.take_in_all(self.master, sync=False, is_patient=True)
        shutil.rmtree(Path(self.node.failed, JOB))
        self.source = make_record(self.node, self.state, attempt=2, text="later\n")
        self._arrive()

    def _arrive(self) -> None:
        """As an upload leaves it, without rsync."""
        (path,) = [*Path(self.node.failed).iterdir(), *Path(self.node.done).iterdir()]
        found = replace(manifest.describe(str(path), JOB, path.parent.name), spool=self.node.id)
        there = Path(self.master.incoming, incoming.origin_of("n1", self.node.id), incoming.entry_of(found))
        shutil.copytree(path, there)
        manifest.write(str(there), found, sync=False)

    def step(self) -> None:
        incoming.take_in_all(self.master, sync=False, is_patient=True)

    def problems(self) -> list[str]:
        found = self._is_whole(self.state, JOB, self.source)
        here = manifest.read(str(Path(self.master.state_directory(self.state), JOB)))
        return [*found, *([] if here is not None and here.attempt == 2 else ["it is the earlier attempt"])]


class TakeInElsewhere(TakeIn):
    state = "done"


class TakeInAgain(TakeIn):
    """The record is there already."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        incoming.take_in_all(self.master, sync=False, is_patient=True)
        self._arrive()


def killed_at(journey: type[Journey], at: int) -> Verdict:
    root = Path(tempfile.mkdtemp(prefix="spooldadd-travel-"))
    try:
        one = journey(root)
        call, status = _strike(one, at)
        found = [] if call or status == 0 else [f"the step ended with {status}"]
        one.again()
        return Verdict(at, call, [*found, *one.problems()], "")
    finally:
        shutil.rmtree(root)


def _strike(journey: Journey, at: int) -> tuple[str, int]:
    """Do the step in a doomed process; return the call that was struck, and how it ended."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        faults = Faults(at, note=writer)
        faults.arm()
        journey.step()
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(pid, 0)
    call = os.read(reader, 4096).decode()
    os.close(reader)
    return call, status


@pytest.mark.parametrize("journey", [TakeIn, TakeInElsewhere, TakeInAgain])
def test_who_takes_in_is_killed(journey):
    verdicts = sweep(lambda at: killed_at(journey, at))
    assert len(verdicts) > 3
    assert not bad(verdicts), bad(verdicts)


@pytest.mark.parametrize("journey", [Upload, Collect, CollectAndDelete])
@needs_rsync
def test_who_sends_or_fetches_is_killed(journey):
    # Each trial starts a dozen of rsyncs, so this strikes every second call: each step makes several of a kind.
    verdicts = sweep(lambda at: killed_at(journey, 2 * at - 1))
    assert len(verdicts) > 8
    assert not bad(verdicts), bad(verdicts)
