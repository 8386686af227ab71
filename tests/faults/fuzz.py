"""Feed every reader with what may lie on a disk: half files, mixed-up files, hostile files. None may fall over.

    python3 -m tests.faults.fuzz                      each reader for ten seconds
    python3 -m tests.faults.fuzz --seconds 300 spec recovery

A reader may refuse what it reads, with the error that it promises; another exception is a finding, and so is one that takes
longer than a second over a kilobyte.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from spooldadd import claim, config, layout, looking, mark, names, nodes, proof, record, recovery, retention
from spooldadd.config.models import Config
from spooldadd.errors import ConfigError, SpoolError
from spooldadd.inspect import jobs, tables
from spooldadd.lifecycle import Policy
from spooldadd.mail import ended
from spooldadd.spec import InvalidSpec, parse_file, peek, peek_script
from spooldadd.spec.models import Spec
from spooldadd.tomltext import dumps
from tests.faults.machine import Silent
from tests.unit import toml_data

SLOWEST_S = 5.0  # on a loaded machine; what takes exponential time takes far longer
JOB, RECORD = "one.20261121T101500Z.bcdfg", "one.20261121T101500Z.bcdfg.1.hjkmn"
# What our own files hold, right and wrong.
KEYS = [
    *("schema", "job", "attempt", "token", "queue", "node", "worker", "boot_id", "submitted_at", "claimed_at", "source"),
    *(
        "state",
        "outcome",
        "reason",
        "finished_at",
        "workdir",
        "next_attempt_at",
        "heartbeat",
        "format",
        "kind",
        "nodes",
        "id",
    ),
    *("supervisor_pid", "supervisor_start", "job_pid", "job_start", "taken", "taken_from", "durability", "host", "width"),
    *Spec.model_fields,
    *Config.model_fields,
]
PLAIN = st.sampled_from([
    *(1, 2, 0, -1, 10**30, 1.5, True, "", "one", "../../x", "default", "waiting", "done", "failed", "running"),
    *("a\nb", "\x00", "local", "shared", "power", JOB, RECORD, "1.5", "7.99", "lost", "cancelled", [], ["a"], {}, {"a": 1}),
    datetime.datetime(2026, 11, 21, 10, 15, tzinfo=datetime.UTC),
    datetime.datetime(1, 1, 1),
    datetime.datetime(9999, 12, 31, 23, 59, tzinfo=datetime.UTC),
    datetime.date(2026, 11, 21),
])  # fmt: skip
KNOWN = st.dictionaries(st.sampled_from(KEYS), PLAIN | toml_data.values, max_size=8)
TABLES = (KNOWN | toml_data.tables).map(lambda table: dumps(table).encode())
SPECS = [path.read_bytes() for path in sorted((Path(__file__).resolve().parents[2] / "conf").rglob("*.toml"))]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Something valid, cut, doubled, with bytes changed: what a crash, a disk or a bad copy leaves."""
    data = bytearray(draw(TABLES | st.sampled_from(SPECS)))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        match draw(st.sampled_from(["cut", "double", "replace", "zero", "truncate"])):
            case "cut":
                del data[start:end]
            case "double":
                data[start:start] = data[start:end]
            case "replace":
                data[start:end] = draw(st.binary(max_size=20))
            case "zero":
                data[start:end] = bytes(end - start)
            case _:
                del data[start:]
    return bytes(data)


FILES = damaged() | st.binary(max_size=300) | TABLES


class Place:
    """A spool with one record in each state, whose files are overwritten."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="spooldadd-fuzz-"))
        self.spool = self.root / "spool"
        self.format = b""
        self.fresh()

    def fresh(self) -> None:
        shutil.rmtree(self.spool, ignore_errors=True)
        mark.create(str(self.spool), durability="process", kind=mark.LOCAL)
        self.places = layout.Layout(str(self.spool))

    def record(self, files: dict[str, bytes], where: str = "") -> Path:
        path = self.spool / (where or f"running/{RECORD}")
        path.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (path / name).write_bytes(data)
        return path

    def open(self):
        from spooldadd import spool

        return spool.open_spool(str(self.spool), claim.Holder("here", "boot", 77, 1))


def read_spec(_place: Place, data: bytes, _more: bytes) -> None:
    for name in ("one.toml", "one.py"):
        try:
            parse_file(data, source=name, own_name=name)
        except InvalidSpec as error:
            assert error.problems
            str(error)
    peek(data), peek_script(data)


def read_config(place: Place, data: bytes, _more: bytes) -> None:
    path = place.root / "worker.toml"
    path.write_bytes(data)
    try:
        config.load(path, environ={"HOME": "/home/worker"})
    except ConfigError as error:
        str(error)


def read_record(place: Place, data: bytes, more: bytes) -> None:
    path = str(place.record({layout.CLAIM: data, layout.RESULT: more}, f"waiting/{JOB}"))
    record.last_attempt(path)
    record.submitted_at_s(path, JOB)
    record.own_name(path, JOB)
    record.read_result(path, 1), record.read_claim(path, 1)
    ours, theirs = tables.read(os.path.join(path, layout.CLAIM)), record.read_table(os.path.join(path, layout.CLAIM))
    assert toml_data.exact(ours) == toml_data.exact(theirs), "two readers of one table"
    for job in jobs.list_jobs(place.places):
        job.result(), job.claim(), job.source()
    name = names.parse_record_name(RECORD)
    assert name is not None
    ended.find(place.places, name)


def read_locks(place: Place, data: bytes, more: bytes) -> None:
    Path(place.places.lock(RECORD)).write_bytes(data)
    holder = claim.read_holder(place.places, RECORD)
    assert all(isinstance(value, int | str) for value in vars(holder).values())
    holder.has_live_process()
    for node, text in (("one", data), ("two", more)):
        Path(nodes.path_of(place.places, node)).write_bytes(text)
    nodes.read_all(place.places)
    os.makedirs(place.places.proofs, exist_ok=True)
    Path(place.places.proofs, "one.toml").write_bytes(data)
    proof.locks(place.places, "one", "two")
    Path(place.places.format).write_bytes(more)
    try:
        mark.read(str(place.spool))
    except SpoolError as error:
        str(error)
    place.fresh()


def read_recovery(place: Place, data: bytes, more: bytes) -> None:
    """Whatever claim, result and lock say: the record is found to be something, and comes to a state."""
    place.fresh()
    place.record({layout.CLAIM: data, layout.RESULT: more, layout.SPEC: b'command = ["true"]\n'})
    Path(place.places.lock(RECORD)).write_bytes(more)
    context = recovery.Context(place.open(), Silent(), lambda _path: Policy(), strays=Silent())
    found = recovery.recover_all(context)[RECORD]
    assert found is not recovery.Found.IN_TROUBLE, found
    if found not in (recovery.Found.FOREIGN, recovery.Found.RUNNING):
        assert not list((place.spool / "running").iterdir()), found
        (path,) = [path for state in ("waiting", "done", "failed") for path in (place.spool / state).iterdir()]
        assert (path / layout.SPEC).exists()
        record.last_attempt(str(path))


def read_finished(place: Place, data: bytes, more: bytes) -> None:
    place.fresh()
    place.record({layout.RESULT: data}, f"done/{JOB}")
    place.record({layout.RESULT: more}, f"failed/{JOB}")
    (place.spool / ".spool" / "notify" / "here").mkdir(parents=True)
    ages = retention.Ages(86400.0, 86400.0)
    retention.Pruner(place.places, retention.Bounds(ages), retention.Guards(), sync=False).run(retention.Telling())


def read_names(_place: Place, data: bytes, _more: bytes) -> None:
    text = os.fsdecode(data[:80]).replace("\0", "")
    for part in (text, f"{text}.20261121T101500Z.bcdfg", f"{JOB}.{text}.hjkmn", f"@{text}/x.toml"):
        parsed = names.parse_record_name(part)
        assert parsed is None or str(parsed).endswith(parsed.token)
        names.parse_job_id(part), names.job_name(part), layout.inbox_node(part), layout.bare_name(part)
        names.source_job_id(part, ".toml"), names.safe_name(part), looking.most_bytes(part)


READERS: dict[str, Callable[[Place, bytes, bytes], None]] = {
    "spec": read_spec,
    "config": read_config,
    "record": read_record,
    "locks": read_locks,
    "recovery": read_recovery,
    "finished": read_finished,
    "names": read_names,
}


def feed(reader: str, *, examples: int, until: float = float("inf")) -> int:
    """Feed one reader; return with how many files. Raises whatever it fell over."""
    place, count = Place(), 0
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=slow, phases=[Phase.generate])
    @given(FILES, FILES)
    def trial(data: bytes, more: bytes) -> None:
        nonlocal count
        if time.monotonic() > until:
            return
        count += 1
        begun = time.process_time()
        READERS[reader](place, data, more)
        assert time.process_time() - begun < SLOWEST_S, "too slow"

    try:
        trial()
        return count
    finally:
        shutil.rmtree(place.root, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", choices=[*READERS, []], metavar="READER", help=", ".join(READERS))
    parser.add_argument("--seconds", type=float, default=10.0, help="for each reader")
    options = parser.parse_args()
    failed = 0
    for reader in options.readers or READERS:
        try:
            count, end = 0, time.monotonic() + options.seconds
            while time.monotonic() < end:
                count += feed(reader, examples=40, until=end)
            print(f"{reader:<10} {count:>7} files: fine", flush=True)
        except Exception as error:
            failed += 1
            said = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
            print(f"{reader:<10} FELL OVER: {said}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
