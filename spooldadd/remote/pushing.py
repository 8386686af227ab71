"""Bring specs into spools of other machines: by rsync, each by one rename there, exactly once.

Each job gets its id here, for each node its own, and the file carries it: so it is found again there, and two nodes never
have one id. A try that failed may have arrived all the same, and may run already; so before another one, and before it is
called lost, the other side is searched for the id.

If we die here: what was copied is submitted; of a file half copied rsync leaves a name that begins with a dot, which no
worker looks at. What this process had not printed yet is found by its name on the node.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from spooldadd import durable, layout, names
from spooldadd.errors import SpecError
from spooldadd.remote import listing, probing
from spooldadd.remote.rsync import Rsync, Unreachable
from spooldadd.remote.targets import Target
from spooldadd.submitting import Droppable

ARRIVED, FAILED, UNKNOWN = "arrived", "failed", "unknown"
# Between the tries; a node that is away for longer is a matter for the person who pushes.
PAUSES_S = (1.0, 3.0)
AT_ONCE = 8


@dataclass(frozen=True)
class Delivery:
    """What became of one spec for one node. `reason` says why it did not arrive, or why nobody knows."""

    target: Target
    source: str
    job: str
    state: str
    reason: str = ""

    def table(self) -> dict[str, object]:
        """Return what `--json` shows."""
        plain = {"node": self.target.name, "target": self.target.address, "job": self.job, "file": self.source}
        return {**plain, "state": self.state, **({"reason": self.reason} if self.reason else {})}


@dataclass(frozen=True)
class Load:
    """One spec that goes out: the name that messages call it by, and what writes it.

    `job` is its id, unless it gets a new one. Where an earlier process began to send it, it is looked for there first.
    """

    source: str
    spec: Droppable
    job: str = ""
    is_begun: bool = False


def push_all(
    rsync: Rsync, loads: Sequence[Load], targets: Iterable[Target], heard: Callable[[list[Delivery]], None]
) -> list[Delivery]:
    """Bring all of them to each target, several targets at once; `heard` is told of each as it is done."""
    found: list[Delivery] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        pending = [pool.submit(push, rsync, loads, target) for target in targets]
        for done in as_completed(pending):
            heard(done.result())
            found += done.result()
    return found


def push(rsync: Rsync, loads: Sequence[Load], target: Target) -> list[Delivery]:
    """Bring all of them to one target."""
    with tempfile.TemporaryDirectory(prefix="spooldadd-push-") as scratch:
        try:
            files = {_write(scratch, load): load.source for load in loads}
        except (OSError, SpecError) as error:
            return [Delivery(target, load.source, "", FAILED, str(error)) for load in loads]
        shipment = _Shipment(rsync, target, scratch, files, is_begun=any(load.is_begun for load in loads))
        shipment.go()
        return [shipment.delivery(file) for file in files]


def new_id(name: str) -> str:
    """Return the id of a job that will be sent."""
    return names.new_job_id(name, time.time(), names.random_part())


def _write(scratch: str, load: Load) -> str:
    job = load.job or new_id(load.spec.name)
    durable.write_new_by(os.path.join(scratch, job + load.spec.suffix), load.spec.write, sync=False)
    return job + load.spec.suffix


class _Shipment:
    """The files for one target, and how far they have come."""

    def __init__(self, rsync: Rsync, target: Target, scratch: str, files: dict[str, str], *, is_begun: bool) -> None:
        self._rsync = rsync
        self._target = target
        self._scratch = scratch
        self._files = files
        self._arrived: set[str] = set()
        self._is_begun = is_begun  # from here on something may have arrived without our hearing of it
        self._is_known = not is_begun
        self._is_probed = False
        self._reason = ""

    def go(self) -> None:
        """Try it, and a few times again; what arrived is not sent twice."""
        for pause_s in (0.0, *PAUSES_S):
            time.sleep(pause_s)
            try:
                if not self._is_probed:
                    probing.probe(self._rsync, self._target)
                    self._is_probed = True
                if self._is_begun:
                    self._look()
                if len(self._arrived) < len(self._files):
                    self._send()
            except Unreachable as error:
                self._reason = str(error)
                if not error.is_transient:
                    break
            if len(self._arrived) == len(self._files):
                return
        self._look_at_last()

    def delivery(self, file: str) -> Delivery:
        """Say what became of one file."""
        job = names.JobId(os.path.splitext(file)[0])
        if file in self._arrived:
            return Delivery(self._target, self._files[file], job, ARRIVED)
        if self._is_known:
            return Delivery(self._target, self._files[file], job, FAILED, self._reason)
        said = f"{self._reason}; it may have arrived all the same: look there for `{job}` before you push it again"
        return Delivery(self._target, self._files[file], job, UNKNOWN, said)

    def _send(self) -> None:
        """Raises: Unreachable."""
        self._is_begun, self._is_known = True, False
        left = [file for file in self._files if file not in self._arrived]
        there = self._target.at(self._target.inbox) if self._target.inbox else self._target.at()
        arguments = ["-t", "--chmod=Fu+rw,Fgo-w", "--ignore-existing", f"{self._scratch}/", f"{there}/"]
        answer = self._rsync.send(arguments, self._target, names=map(str.encode, left))
        if answer.code == 0:
            self._arrived.update(left)
        else:
            self._reason = f"not all files could be written there ({answer.err.strip()[:200]})"

    def _look(self) -> None:
        """Search the other side for what may have arrived. Raises: Unreachable."""
        patterns = [f"/{state}/" for state in layout.STATES]
        patterns += [f"/{self._target.inbox}/"] if self._target.inbox else []
        for file in self._files:
            job = os.path.splitext(file)[0]
            patterns += [f"/{job}.*", f"/*/{job}", f"/*/{job}.*"]
        # A job that moves while we look is missed once, not twice.
        seen = {**listing.names(self._rsync, self._target, patterns), **listing.names(self._rsync, self._target, patterns)}
        found = [os.path.basename(name) for name in seen]
        for file in self._files:
            job = os.path.splitext(file)[0]
            if any(name == job or name.startswith(f"{job}.") for name in found):
                self._arrived.add(file)
        self._is_known = True

    def _look_at_last(self) -> None:
        if self._is_begun and not self._is_known:
            try:
                self._look()
            except Unreachable:
                pass
