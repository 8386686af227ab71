"""Spools, finished records and targets for tests of what travels: real rsync, directories in place of machines."""

from __future__ import annotations

import os
from pathlib import Path

from spooldadd import mark, record
from spooldadd.layout import Layout
from spooldadd.log import Log
from spooldadd.remote import collecting, targets, uploading
from spooldadd.remote.rsync import Rsync

JOB = "nightly.20261121T101500Z.bcdfg"
OTHER_JOB = "report.20261121T101600Z.hjkmn"


def make_spool(path: Path) -> Layout:
    mark.create(str(path), durability="process")
    return Layout(str(path), mark.read(str(path)).id)


def make_record(
    places: Layout, state: str, job: str = JOB, *, attempt: int = 1, text: str = "it ran\n", node: str = "n1"
) -> Path:
    """A record as a supervisor files it; a later attempt has the earlier ones in `attempts/`."""
    path = Path(places.state_directory(state), job)
    path.mkdir()
    (path / "spec.toml").write_text('command = ["true"]\n')
    for number in range(1, attempt):
        (path / "attempts" / str(number)).mkdir(parents=True)
        (path / "attempts" / str(number) / "output.log").write_text(f"attempt {number}\n")
    (path / "output.log").write_text(text)
    (path / "kept").mkdir()
    (path / "kept" / "grüße und mehr.txt").write_text("kept\n")
    claim = {"job": job, "attempt": attempt, "node": node, "token": "zzzzz", "queue": "default"}
    record.write_claim(str(path), claim, sync=False)
    result = {
        "job": job,
        "state": state,
        "outcome": "success" if state == "done" else "exit",
        "attempt": attempt,
        "node": node,
    }
    record.write_result(str(path), {**result, "finished_at": record.moment(1_795_000_000.0 + attempt)}, sync=False)
    return path


def sender(node: Layout, master: Layout, *, what: str = uploading.ALL, name: str = "n1") -> uploading.Sender:
    return uploading.Sender(node, name, targets.parse(master.root), what, Rsync())


def quiet_log() -> Log:
    return Log(os.open(os.devnull, os.O_WRONLY))


def collect(node: Layout, master: Layout, **options) -> collecting.Collected:
    wish = collecting.Wish(targets.parse(node.root, "n1"), **options)
    return collecting.Collecting(Rsync(), master, wish, lambda _done, _of: None).run()


def contents(path: Path) -> dict[str, bytes]:
    """What a record holds, without what was noted about its way."""
    notes = ("manifest.toml", "uploaded.toml", "returned.toml")
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.name not in notes]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def left_over(places: Layout) -> list[str]:
    """What nobody needs any more: of a finished journey there should be nothing but locks and empty directories."""
    found = [file for file in Path(places.incoming).rglob("*") if file.is_file() and not file.name.endswith(".lock")]
    found += Path(places.root).rglob(".tmp-*")
    return [str(file.relative_to(places.root)) for file in found]
