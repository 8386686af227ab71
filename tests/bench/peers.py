"""Other spoolers on the same jobs in the same run, each where it is installed: nq, task-spooler, Huey on files, uWSGI.

None of them keeps a record, a lease and a result for each job as we do; what each keeps is said in its note.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.bench import bare, flow, place
from tests.bench.measure import Row, interleaved, quantile

DEADLINE_S = 120.0  # a peer that does nothing has not understood us
HUEY = """
import os, subprocess
from huey import FileHuey
huey = FileHuey(path=os.environ["HUEY_DIR"], use_thread_lock=False)

@huey.task()
def run():
    subprocess.run(["/bin/true"], check=True)
    with open(os.environ["HUEY_DONE"], "ab") as file:
        file.write(b".")
"""
UWSGI = """
import os, subprocess, uwsgi

def spooler(args):
    subprocess.run(["/bin/true"], check=True)
    with open(os.environ["UWSGI_DONE"], "ab") as file:
        file.write(b".")
    return uwsgi.SPOOL_OK

uwsgi.spooler = spooler
for number in range(int(os.environ["UWSGI_JOBS"])):
    uwsgi.spool({b"number": str(number).encode()})
"""


def rows(jobs: int, rounds: int, directory: str | None) -> list[Row]:
    """Measure those that are installed and ourselves, in turn, each right after a bare loop; name those that are not."""
    kinds: dict[str, tuple[bool, Callable[[int, Path], float], str]] = {
        "ours": (True, lambda jobs, _root: flow.served(jobs, "process", directory)[0], "record, log, lease, result"),
        "nq": (shutil.which("nq") is not None, _nq, "one at a time, a log a job; submission is counted in"),
        "task-spooler": (shutil.which("tsp") is not None, _task_spooler, "state in memory; submission is counted in"),
        "Huey on files": (importlib.util.find_spec("huey") is not None, _huey, "keeps neither log nor record"),
        "uWSGI's spooler": (
            shutil.which("uwsgi") is not None,
            _uwsgi,
            "keeps neither log nor record; with submission",
        ),
    }
    here = {name: measure for name, (is_here, measure, _) in kinds.items() if is_here}
    found = interleaved({name: partial(_against_bare, measure, jobs, directory) for name, measure in here.items()}, rounds)
    missing = [Row(f"{name}: not installed", float("nan"), "") for name in kinds if name not in here]
    return [
        *(Row(f"{name}, against bare", quantile(found[name], 0.5), "x", note=kinds[name][2]) for name in here),
        *missing,
    ]


def _against_bare(measure: Callable[[int, Path], float], jobs: int, directory: str | None) -> float:
    rate = bare.rate(jobs, flow.WIDTH)
    root = tempfile.mkdtemp(prefix="spooldadd-peer-", dir=directory)
    atexit.register(shutil.rmtree, root, ignore_errors=True)  # not before: see `place.spool`
    return measure(jobs, Path(root)) / rate


def _nq(jobs: int, root: Path) -> float:
    environ = {**os.environ, "NQDIR": str(root)}
    started = time.perf_counter()
    for _ in range(jobs):
        subprocess.run(["nq", "-q", "/bin/true"], env=environ, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["nq", "-w"], env=environ, check=True)
    return jobs / (time.perf_counter() - started)


def _task_spooler(jobs: int, root: Path) -> float:
    environ = {**os.environ, "TS_SOCKET": str(root / "socket"), "TMPDIR": str(root)}
    try:
        subprocess.run(["tsp", "-S", "2"], env=environ, check=True)
        started = time.perf_counter()
        for _ in range(jobs):
            subprocess.run(["tsp", "-n", "/bin/true"], env=environ, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["tsp", "-w"], env=environ, check=False)
        return jobs / (time.perf_counter() - started)
    finally:
        subprocess.run(["tsp", "-K"], env=environ, check=False)


def _huey(jobs: int, root: Path) -> float:
    (root / "jobs.py").write_text(HUEY)
    done = root / "done"
    done.touch()
    environ = {**os.environ, "PYTHONPATH": str(root), "HUEY_DIR": str(root / "queue"), "HUEY_DONE": str(done)}
    enqueue = f"import jobs\nfor _ in range({jobs}): jobs.run()"
    subprocess.run([sys.executable, "-c", enqueue], env=environ, check=True, cwd=root)
    command = [sys.executable, "-m", "huey.bin.huey_consumer", "jobs.huey", "-w", "2", "-k", "process", "-d", "0.01"]
    return _consumed(command, environ, done, jobs)


def _uwsgi(jobs: int, root: Path) -> float:
    (root / "jobs.py").write_text(UWSGI)
    (root / "spool").mkdir()
    done = root / "done"
    done.touch()
    environ = {**os.environ, "PYTHONPATH": str(root), "UWSGI_DONE": str(done), "UWSGI_JOBS": str(jobs)}
    options = ["--spooler", str(root / "spool"), "--spooler-processes", "2", "--spooler-frequency", "1"]
    return _consumed(["uwsgi", "--master", "--import", "jobs", *options], environ, done, jobs)


def _consumed(command: list[str], environ: dict[str, str], done: Path, jobs: int) -> float:
    """Run a consumer until all jobs are done; return jobs a second from the first to the last."""
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=done.parent)
    try:
        started = place.wait_for(lambda: done.stat().st_size > 0, DEADLINE_S, look_s=0.001)
        ended = place.wait_for(lambda: done.stat().st_size >= jobs, DEADLINE_S, look_s=0.001)
        return jobs / (ended - started)
    finally:
        process.terminate()
        process.wait()
