"""See it work: a spool in a temporary place, a worker, real example jobs, what came of them.

Ends by itself within a minute, with exit code 0 if every job ended as it should, and removes what it made. Two of the jobs
bring a Python package along; where the package index cannot be reached, they are left out.

examples:
  spooldadd demo
  spooldadd demo --keep        # leave the spool there, to look around in it
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from importlib.resources import files

from spooldadd import layout, mark, names, workdir
from spooldadd.cli import demo_network
from spooldadd.record import read_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

# What each example has to come to: the state, the outcome, and the attempt that ended it.
EXPECTED = {
    "extract": (layout.DONE, "success", 1),
    "report": (layout.DONE, "success", 1),
    "flaky": (layout.DONE, "success", 2),
    "broken": (layout.FAILED, "exit", 1),
    "stubborn": (layout.FAILED, "timeout", 1),
    "mistaken": (layout.FAILED, "invalid", 1),
    "fetched": (layout.DONE, "success", 1),
    "dropped": (layout.DONE, "success", 1),
}
NETWORKED = ("fetched", "dropped")
SCRIPTS = ("dropped",)
PATIENCE_S = 55.0
INBOX = '[transport.inbox]\nkind = "maildir"\ndirectory = "{directory}"\n'


@dataclass(frozen=True)
class Filed:
    """A finished example."""

    name: str
    state: str
    path: str
    result: dict[str, object]

    @property
    def is_as_expected(self) -> bool:
        """Tell whether it ended as it should."""
        seen = (self.state, self.result.get("outcome"), self.result.get("attempt"))
        return seen == EXPECTED.get(self.name) and self.result.get("state") == self.state


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--keep", action="store_true", help="leave the spool and the work directories there")


def run(options: argparse.Namespace) -> int:
    """Show it."""
    root = tempfile.mkdtemp(prefix="spooldadd-demo-")
    try:
        return _show(root, is_kept=options.keep)
    finally:
        if not options.keep:
            _remove(root)


def _show(root: str, *, is_kept: bool) -> int:
    started = time.monotonic()
    place = os.path.join(root, "spool")
    mark.create(place)
    worker = _Worker(root, place, started + PATIENCE_S)
    with demo_network.serving(os.path.join(root, "web")) as page:
        shown = _choose(worker)
        _title(f"A spool in {place}; {len(shown)} specs are dropped into it")
        for name in shown:
            _drop(place, f"{name}.py" if name in SCRIPTS else f"{name}.toml", page)
        _title("A worker serves it until nothing is left to run")
        ended = worker.serve()
    filed = _filed(place)
    _title("What is in the spool now")
    _print_tree(place)
    _title("What came of each job, as result.toml says")
    _print_results(filed)
    _print_reasons(filed)
    is_mailed = _print_mail(_inbox(root), "broken")
    is_good = is_mailed and ended == 0 and len(filed) == len(shown) and all(entry.is_as_expected for entry in filed)
    _title("Every job ended as it should" if is_good else "Not every job ended as it should")
    if is_kept:
        print(f"The spool stays in {place}: try `spooldadd --spool {place} status`.")
    return 0 if is_good else 1


def _choose(worker: _Worker) -> list[str]:
    """Ask the index for what two of the jobs need; leave them out where it does not answer."""
    _title("The package index is asked for `six`, which two of the jobs need")
    started = time.monotonic()
    missing = demo_network.lacks_package(worker.root, worker.command, worker.environ)
    if not missing:
        print(f"  ready after {time.monotonic() - started:.1f} s")
        return list(EXPECTED)
    print(f"  no network, or no package index: {missing}\n  so `{'` and `'.join(NETWORKED)}` are left out")
    return [name for name in EXPECTED if name not in NETWORKED]


def _remove(root: str) -> None:
    """Remove all of it; Python environments are read-only, which is no obstacle here."""
    try:
        workdir.remove(root)
    except OSError:
        shutil.rmtree(root, ignore_errors=True)


def _drop(place: str, file_name: str, page: demo_network.Page) -> None:
    """Write it elsewhere and move it in, as anybody may."""
    template = f"{file_name}.txt" if file_name.endswith(".py") else file_name  # or tools would take it for a module of ours
    data = files("spooldadd").joinpath("templates", "demo", template).read_bytes()
    data = data.replace(b"@URL@", page.url.encode()).replace(b"@SHA256@", page.sha256.encode())
    outside = os.path.join(os.path.dirname(place), file_name)
    with open(outside, "wb") as file:
        file.write(data)
    os.rename(outside, os.path.join(place, file_name))
    print(f"  mv {file_name} {place}/")


class _Worker:
    """A worker as a person would run it, in an environment that no setting of the caller's changes."""

    def __init__(self, root: str, place: str, deadline: float) -> None:
        self.root = root
        self._place = place
        self._deadline = deadline
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SPOOLDADD_")}
        self.environ = {
            **kept,
            "SPOOLDADD_WORK_DIR": os.path.join(root, "work"),
            "SPOOLDADD_CACHE_DIR": os.path.join(root, "cache"),
            "SPOOLDADD_INTAKE__SETTLE": "0.5s",
            "NO_PROXY": f"127.0.0.1,{kept.get('NO_PROXY', '')}",
            "no_proxy": f"127.0.0.1,{kept.get('no_proxy', '')}",
        }
        config = os.path.join(root, "worker.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f'jobs = 3\n[mail]\nto = ["you@example.org"]\n{INBOX.format(directory=_inbox(root))}')
        self.command = [sys.executable, "-m", "spooldadd", "--config", config]

    def serve(self) -> int:
        """Run it until nothing is left to run, or the time is over; show its log."""
        command = [*self.command, "worker", self._place, "--drain"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, env=self.environ, text=True, errors="replace") as worker:
            timer = threading.Timer(max(0.0, self._deadline - time.monotonic()), worker.terminate)
            timer.start()
            assert worker.stderr is not None
            for line in worker.stderr:
                print("  " + _shortened(line.rstrip()), flush=True)
            code = worker.wait()
            timer.cancel()
        return code


def _filed(place: str) -> list[Filed]:
    found = []
    for state in (layout.DONE, layout.FAILED):
        directory = os.path.join(place, state)
        for entry in sorted(os.listdir(directory)):
            path = os.path.join(directory, entry)
            result = read_table(os.path.join(path, layout.RESULT)) or {}
            found.append(Filed(names.job_name(entry), state, path, result))
    return found


def _print_tree(place: str) -> None:
    for directory, subdirectories, entries in os.walk(place):
        subdirectories[:] = sorted(name for name in subdirectories if name != layout.INTERNAL)
        depth = os.path.relpath(directory, place).count(os.sep) + (directory != place)
        print("  " + "  " * depth + os.path.basename(directory) + "/")
        for name in sorted(entries):
            print("  " + "  " * (depth + 1) + name)


def _print_results(filed: list[Filed]) -> None:
    for entry in filed:
        result = entry.result
        mark = "ok " if entry.is_as_expected else "?? "
        print(f"  {mark}{entry.name:<9} {entry.state:<7} {result.get('outcome')!s:<8} {result.get('reason')}")


def _print_reasons(filed: list[Filed]) -> None:
    """Show what a person who looks into `failed/` finds beside the file."""
    for entry in filed:
        log = layout.PROBLEMS if entry.result.get("outcome") == "invalid" else layout.OUTPUT_LOG
        path = os.path.join(entry.path, log)
        if entry.name in ("broken", "mistaken") and os.path.exists(path):
            _title(f"failed/{os.path.basename(entry.path)}/{log}")
            with open(path, encoding="utf-8", errors="replace") as file:
                print("".join(f"  {line}" for line in file), end="")
    kept = [name for entry in filed for name in record_names(entry)]
    print(f"\n  kept in their records: {', '.join(kept)}")


def _inbox(root: str) -> str:
    return os.path.join(root, "Maildir")


def _print_mail(inbox: str, name: str) -> bool:
    """Show the mail about this job, as its reader gets it. The worker's log ended when all mails were sent."""
    import email  # late: only this command reads mail
    import email.policy

    for path in sorted(glob.glob(os.path.join(inbox, "new", "*"))):
        with open(path, "rb") as file:
            mail = email.message_from_binary_file(file, policy=email.policy.default)
        body = mail.get_body(("plain",))
        if mail["X-Spooldadd-Name"] == name and body is not None:
            _title(f"Mail to {mail['To']}: {mail['Subject']}")
            print("".join(f"  {line}\n" for line in body.get_content().splitlines()), end="")
            return True
    return False


def record_names(entry: Filed) -> list[str]:
    """Return what the job's spec asked to keep, as paths from the spool."""
    kept = entry.result.get("kept")
    names_kept = kept if isinstance(kept, list) else []
    return [f"{entry.state}/{os.path.basename(entry.path)}/{name}" for name in names_kept]


def _title(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _shortened(line: str) -> str:
    return line if len(line) <= 160 else line[:157] + "..."
