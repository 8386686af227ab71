"""Execute the blocks of a page as a reader would, in order, in one shell; compare transcripts, or record them again.

    python docs/pages.py README.md docs/tutorial.md            run them; say what differs
    python docs/pages.py --record README.md                    run it, and write what came into the page

What a fenced block is, its language says:

| language | what is done with it |
|---|---|
| `console` | lines with `$ ` are run; what follows must be what they print, but for times, ids and sizes |
| `sh` | run; it must end with exit code 0 |
| `python` | run by `python3` in the directory of the page |
| `toml` | read as a spec |
| `json` | parsed |
| `text` | nothing |

A comment on the line before a block says more: `<!-- file: NAME -->` writes the block to a file, `config` reads it as the
configuration of a worker, `background` runs it beside the others, `until: COMMAND` waits first until that command succeeds,
`exit: N` expects another exit code, `hidden: COMMAND` runs something first that the reader need not see.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
LANGUAGES = ("console", "sh", "python", "toml", "json", "text")
RUN_LANGUAGES = ("console", "sh", "python")
# The names that readers see in place of what this machine is called.
HOME_SHOWN, NODE_SHOWN = "/home/you", "etl-1"
# A deadline is no measurement: it only ends what would hang.
DEADLINE_S = 60.0
_FENCE = re.compile(r"(?:^<!-- (?P<note>[^\n]*) -->\n)?^```(?P<language>[a-z]*)\n(?P<code>.*?)^```$", re.M | re.S)
_ELLIPSIS = "…"
# An ssh that goes nowhere: a page may copy to another node, and this machine stands in for it.
_SSH = (
    '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do case "$1" in -l|-p|-o|-i) shift;; esac; shift; done\nshift\nexec sh -c "$*"\n'
)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, what the comment before it says, its text, and where it stands."""

    language: str
    notes: dict[str, str]
    code: str
    line: int
    start: int
    end: int


@dataclass
class Difference:
    """What a block did that the page does not say."""

    page: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.what}"


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page in order."""
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        notes = _notes(match["note"] or "")
        found.append(Block(match["language"], notes, match["code"], line, match.start("code"), match.end("code")))
    return found


def _notes(comment: str) -> dict[str, str]:
    parts = [part.partition(":") for part in comment.split("; ")] if comment else []
    return {name.strip(): value.strip() for name, _, value in parts}


# What changes from one run to the next, in the order of replacement.
_CHANGING = (
    (re.compile(r"\.\d{8}T\d{6}Z\.[bcdfghjkmnpqrstvwxz2-9]{5}(\.\d+\.[bcdfghjkmnpqrstvwxz2-9]{5})?"), r".<ID>"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|\+00:00)?"), "<TIME>"),
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<BOOT>"),
    (re.compile(r"\b(pid|elapsed_s|duration_s|cpu_s|max_rss_bytes|size|jobs)(\"?[ =:]+)[\d.]+"), r"\1\2<NUMBER>"),
    (re.compile(r"\b(token|worker|id)( = )\"[^\"]*\""), r"\1\2<TOKEN>"),
    (re.compile(r"\b(pid|supervisor|job) \d+"), r"\1 <NUMBER>"),
    (re.compile(r"/work/[bcdfghjkmnpqrstvwxz2-9]{10}/"), "/work/<SPOOL>/"),
    (re.compile(r"^used .*$", re.M), "used <AMOUNTS>"),
    (re.compile(r"\b\d+(\.\d+)? (ms|s|min|h|d|KiB|MiB|GiB|bytes)\b( \d+ (s|min|h)\b)?"), "<AMOUNT>"),
    (re.compile(r"\b\d\d:\d\d(:\d\d)?\b"), "<TIME>"),
    (re.compile(r"[ \t]+"), " "),
)


def normalised(text: str) -> list[str]:
    """Return the lines of an output with everything that changes from run to run replaced."""
    for pattern, replacement in _CHANGING:
        text = pattern.sub(replacement, text)
    return [line.rstrip() for line in text.rstrip().splitlines()]


def is_same(shown: str, came: str) -> bool:
    """Tell whether an output is what the page shows; a line `…` in the page stands for any number of lines."""
    return _matches(normalised(shown), normalised(came))


def _matches(shown: list[str], came: list[str]) -> bool:
    if not shown:
        return not came
    if shown[0].strip() == _ELLIPSIS:
        return any(_matches(shown[1:], came[skip:]) for skip in range(len(came) + 1))
    if not came:
        return False
    if shown[0].endswith(_ELLIPSIS):
        return came[0].startswith(shown[0].removesuffix(_ELLIPSIS)) and _matches(shown[1:], came[1:])
    return shown[0] == came[0] and _matches(shown[1:], came[1:])


class Stuck(Exception):
    """A command did not come back; the message holds what it had printed."""


class Reader:
    """A shell in an empty home directory, in which the blocks of one page are run. `close` leaves nothing behind."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="spooldadd-page-")).resolve()
        self._tools = self.home / ".tools"
        self._make_tools()
        self._marker = f"--end-{os.getpid()}--"
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.home,
            env=self._environ(),
            start_new_session=True,
        )
        self.code = 0

    def run(self, code: str) -> str:
        """Run these lines; return what they printed, in the reader's names. The exit code is in `code`."""
        script = self.home / ".block.sh"
        script.write_text(code)
        assert self._shell.stdin is not None
        self._shell.stdin.write(f". {script}; code=$?; printf '\\n%s%d\\n' '{self._marker}' $code; (exit $code)\n".encode())
        self._shell.stdin.flush()
        ends = threading.Timer(DEADLINE_S, self._end)
        ends.start()
        try:
            return self._read().replace(str(self.home), HOME_SHOWN)
        finally:
            ends.cancel()

    def run_beside(self, code: str) -> None:
        """Run these lines beside the others; their output goes to a file."""
        self.run(f"{{ {code.strip()}\n}} >>{self.home}/.background.log 2>&1 </dev/null &")

    def said_beside(self) -> str:
        """Return the end of what the blocks beside the others have printed."""
        path = self.home / ".background.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def wait_until(self, command: str) -> bool:
        """Run this command again and again until it succeeds; tell whether it did in time."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            self.run(f"( {command} ) >/dev/null 2>&1")
            if self.code == 0:
                return True
            time.sleep(0.1)
        return False

    def close(self) -> None:
        """End the shell and everything that was started in this home directory, and remove the directory."""
        self._end()
        deadline = time.monotonic() + 10.0
        while (pids := self._processes()) and time.monotonic() < deadline:
            for pid in pids:
                _send(pid, signal.SIGTERM if time.monotonic() < deadline - 8.0 else signal.SIGKILL)
            time.sleep(0.05)
        self._shell.kill()
        self._shell.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def _end(self) -> None:
        """End the shell and what it waits for."""
        if self._shell.poll() is None:
            os.killpg(self._shell.pid, signal.SIGTERM)

    def _make_tools(self) -> None:
        self._tools.mkdir()
        ssh = self._tools / "ssh"
        ssh.write_text(_SSH)
        ssh.chmod(0o755)

    def _environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPOOLDADD_", "XDG_"))}
        path = f"{self._tools}:{Path(sys.executable).parent}:{kept.get('PATH', os.defpath)}"
        kept.pop("COLUMNS", None)
        kept |= {"SPOOLDADD_NODE": NODE_SHOWN, "SPOOLDADD_WORK_DIR": f"{self.home}/.local/state/spooldadd/work"}
        kept |= {"SPOOLDADD_INTAKE__SETTLE": "0.3s"}  # a test need not wait as long as a reader
        return {**kept, "PATH": path, "HOME": str(self.home), "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def _read(self) -> str:
        assert self._shell.stdout is not None
        lines: list[str] = []
        for line in self._shell.stdout:
            text = line.decode("utf-8", "replace")
            if text.startswith(self._marker):
                self.code = int(text.removeprefix(self._marker))
                return "".join(lines).removesuffix("\n")
            lines.append(text)
        raise Stuck(f"the shell ended, or was ended after {DEADLINE_S:g} s: " + "".join(lines))

    def _processes(self) -> list[int]:
        mark = f"HOME={self.home}".encode()
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if mark in _environ_of(pid)]


def _environ_of(pid: int) -> list[bytes]:
    try:
        return Path("/proc", str(pid), "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


@dataclass
class Run:
    """One page, executed: what differed, and the page as it would read with what came."""

    name: str
    text: str
    reader: Reader
    differences: list[Difference] = field(default_factory=list)

    def execute(self) -> str:
        """Execute every block in order; return the page with the transcripts that came."""
        written = self.text
        for block in reversed([self._executed(block) for block in blocks(self.text)]):
            written = written[: block.start] + block.code + written[block.end :]
        return written

    def _executed(self, block: Block) -> Block:
        if "hidden" in block.notes:
            self.reader.run(block.notes["hidden"])
        if "until" in block.notes and not self.reader.wait_until(block.notes["until"]):
            self._differ(block, f"`{block.notes['until']}` did not succeed within {DEADLINE_S:g} s")
        if "file" in block.notes:
            target = self.reader.home / block.notes["file"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.code)
        elif block.language == "console":
            return self._transcribed(block)
        elif block.language == "sh" and "background" in block.notes:
            self.reader.run_beside(block.code)
        elif block.language in ("sh", "python"):
            self._run(block)
        return block

    def _run(self, block: Block) -> None:
        code = block.code if block.language == "sh" else f"python3 - <<'--python--'\n{block.code}--python--\n"
        came = self.reader.run(f"( set -e; {code}\n)" if "export " not in code and "cd " not in code else code)
        if self.reader.code != int(block.notes.get("exit", 0)):
            self._differ(block, f"exit code {self.reader.code}: {came.strip()}")

    def _transcribed(self, block: Block) -> Block:
        parts = []
        for command, shown in _commands(block.code):
            bare = "\n".join(line[2:] for line in command.splitlines())
            if bare.rstrip().endswith("&"):
                self.reader.run_beside(bare.rstrip().removesuffix("&"))
                parts.append(command)
                continue
            came = self.reader.run(bare)
            same = is_same(shown, came)
            if not same:
                self._differ(block, f"`{bare}` printed\n{came}\nwhere the page shows\n{shown}")
            is_kept = same and _ELLIPSIS in shown  # what a person has cut stays cut
            parts.append(command + (shown if is_kept else came.rstrip("\n") + "\n" if came.strip() else ""))
        return Block(block.language, block.notes, "".join(parts), block.line, block.start, block.end)

    def _differ(self, block: Block, what: str) -> None:
        self.differences.append(Difference(self.name, block.line, what))


def _commands(code: str) -> list[tuple[str, str]]:
    """Take a transcript apart: each command with the lines that continue it (`> `), and what it printed."""
    found: list[tuple[str, str]] = []
    for line in code.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line, ""))
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1] = (found[-1][0] + line, "")
        else:
            assert found, f"a transcript begins with a command: {line!r}"
            found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def check_data(text: str) -> list[str]:
    """Parse the blocks that hold data; return what is wrong with them."""
    from spooldadd import config  # late: only here the package is needed
    from spooldadd.spec import parse

    wrong = []
    for block in blocks(text):
        try:
            if block.language == "json":
                json.loads(block.code)
            elif block.language == "toml" and "config" in block.notes:
                _load_config(block.code, config.load)
            elif block.language == "toml" and "invalid" not in block.notes:
                parse(block.code.encode(), source="block")
        except Exception as error:  # noqa: BLE001  # whatever is wrong is to be shown, with its place
            wrong.append(f"line {block.line}: {error}")
    return wrong


def _load_config(code: str, load: object) -> None:
    assert callable(load)
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(code)
        file.flush()
        load(file.name, environ={})


def execute(path: Path) -> tuple[list[Difference], str]:
    """Execute one page; return what differed, and the page with the transcripts that came."""
    reader = Reader()
    try:
        run = Run(path.name, path.read_text(encoding="utf-8"), reader)
        text = run.text
        try:
            text = run.execute()
        except Stuck as error:
            run.differences.append(Difference(path.name, 0, str(error)))
        if run.differences and (said := reader.said_beside()):
            run.differences.append(Difference(path.name, 0, f"what ran beside it said:\n{said}"))
        return run.differences, text
    finally:
        reader.close()


def all_pages() -> list[Path]:
    """Return every page of the project: README, change log, and what is below `docs/`."""
    top = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md"]
    return [*top, *sorted((REPOSITORY / "docs").rglob("*.md"))]


def main(arguments: list[str]) -> int:
    """Execute the named pages; return 1 where something differed."""
    is_recording = arguments[:1] == ["--record"]
    code = 0
    for name in arguments[is_recording:]:
        path = Path(name)
        started = time.monotonic()
        differences, text = execute(path)
        for difference in differences:
            print(difference)
        if is_recording:
            path.write_text(text, encoding="utf-8")
        print(f"{name}: {len(differences)} differences, {time.monotonic() - started:.1f} s")
        code |= bool(differences)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
