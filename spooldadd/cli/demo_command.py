"""See it work: a spool in a temporary place, a worker, real example jobs, what came of them.

Ends by itself within a minute, with exit code 0 if every job ended as it should, and removes what it made.

examples:
  spooldadd demo
  spooldadd demo --keep        # leave the spool there, to look around in it
"""

from __future__ import annotations

import argparse
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.resources import files

from spooldadd import layout, names, spool
from spooldadd.record import read_table

# What each example has to come to: the state, the outcome, and the attempt that ended it.
EXPECTED = {
    "extract": (layout.DONE, "success", 1),
    "report": (layout.DONE, "success", 1),
    "flaky": (layout.DONE, "success", 2),
    "broken": (layout.FAILED, "exit", 1),
    "stubborn": (layout.FAILED, "timeout", 1),
    "mistaken": (layout.FAILED, "invalid", 1),
}
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
            shutil.rmtree(root, ignore_errors=True)


def _show(root: str, *, is_kept: bool) -> int:
    place = os.path.join(root, "spool")
    spool.create(place)
    _title(f"A spool in {place}; {len(EXPECTED)} specs are dropped into it")
    for name in EXPECTED:
        _drop(place, f"{name}.toml")
    _title("A worker serves it until nothing is left to run")
    ended = _work(root, place)
    filed = _filed(place)
    _title("What is in the spool now")
    _print_tree(place)
    _title("What came of each job, as result.toml says")
    _print_results(filed)
    _print_reasons(filed)
    is_mailed = _print_mail(_inbox(root), "broken")
    is_good = is_mailed and ended == 0 and len(filed) == len(EXPECTED) and all(entry.is_as_expected for entry in filed)
    _title("Every job ended as it should" if is_good else "Not every job ended as it should")
    if is_kept:
        print(f"The spool stays in {place}: try `spooldadd --spool {place} status`.")
    return 0 if is_good else 1


def _drop(place: str, file_name: str) -> None:
    """Write it elsewhere and move it in, as anybody may."""
    data = files("spooldadd").joinpath("templates", "demo", file_name).read_bytes()
    outside = os.path.join(os.path.dirname(place), file_name)
    with open(outside, "wb") as file:
        file.write(data)
    os.rename(outside, os.path.join(place, file_name))
    print(f"  mv {file_name} {place}/")


def _work(root: str, place: str) -> int:
    """Run a worker as a person would, in an environment that no setting of the caller's changes."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SPOOLDADD_")}
    environ |= {"SPOOLDADD_WORK_DIR": os.path.join(root, "work"), "SPOOLDADD_INTAKE__SETTLE": "0.5s"}
    config = os.path.join(root, "worker.toml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(f'jobs = 3\n[mail]\nto = ["you@example.org"]\n{INBOX.format(directory=_inbox(root))}')
    command = [sys.executable, "-m", "spooldadd", "--config", config, "worker", place, "--drain"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environ, text=True, errors="replace") as worker:
        assert worker.stderr is not None
        deadline = time.monotonic() + PATIENCE_S
        for line in worker.stderr:
            print("  " + _shortened(line.rstrip()), flush=True)
            if time.monotonic() > deadline:
                worker.terminate()
        return worker.wait()


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
