"""What each command imports: that is most of the time of a short command, and one line at the top of a module adds to it.

Nothing is timed here. A command that now imports more than is written down fails; where it must, write it down and say in
`docs/performance.md` what it costs. What it imports no longer is taken out of the table.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from spooldadd import crew
from tests.unit.inspect_records import MadeSpool, job_id

# What takes more than a millisecond or two, with what it takes on a machine of today, in ms of processor.
COSTS = {
    "pydantic": 110, "spooldadd.spec.models": 45, "spooldadd.config.models": 25, "jinja2": 35, "requests": 60,
    "watchdog": 8, "spooldadd.erroremail": 55, "asyncio": 40, "filelock": 20, "importlib.metadata": 14,
    "importlib.resources": 12, "email": 10, "dataclasses": 9, "ssl": 8, "http.client": 7, "urllib.request": 8,
    "smtplib": 8, "inspect": 7, "logging": 6, "tempfile": 5, "tomllib": 5, "subprocess": 5, "toml": 5, "secrets": 5,
    "urllib.parse": 4, "json": 4, "typing": 4, "socket": 3, "ctypes": 3, "shutil": 3, "hashlib": 3, "yaml": 20,
    "redis": 90, "psutil": 10, "uuid": 3, "random": 3, "multiprocessing": 20, "concurrent.futures": 7, "unittest": 30,
    "argparse": 8, "re": 5, "enum": 3, "contextlib": 2, "functools": 2, "collections": 1.5, "datetime": 1, "importlib": 0.5,
}  # fmt: skip
# What those need who act on records, and what the models of the configuration bring along.
READERS: set[str] = set()
# What half of the standard library begins with; a bare interpreter takes no longer than these.
COMMON = {"re", "enum", "contextlib", "functools", "collections", "importlib"}
PARSING = {"tomllib", "typing", "datetime", *COMMON}
TYPED = {"dataclasses", "inspect", "ctypes", *PARSING}
ACTING = {"hashlib", *TYPED}
MODELS = {
    "pydantic", "spooldadd.spec.models", "spooldadd.config.models", "importlib.metadata", "email", "subprocess", "json",
    "socket", "shutil", "tempfile", "secrets", "hashlib", "urllib.parse", "random", "logging", "importlib.resources",
    "uuid", *TYPED,
}  # fmt: skip
MAILS = {"spooldadd.erroremail", "ssl", "smtplib", "uuid", "argparse"}
JOB = job_id()
# Of each command: what of the above it may import, and how many modules of ours.
ALLOWED: dict[str, tuple[set[str], int]] = {
    "status": (READERS, 28),
    "status --json": (READERS | {"json", *COMMON}, 24),
    f"status {JOB}": (READERS, 30),
    f"logs {JOB}": (READERS, 28),
    f"wait {JOB}": (READERS, 25),
    "nodes": (READERS, 25),
    f"explain {JOB}": (READERS | {"dataclasses", "inspect", "typing", "datetime", *COMMON}, 39),
    "submit plain.toml": (PARSING, 37),
    "submit plain.toml --queue etl --priority 3 --var day=1": (PARSING | {"toml"}, 39),
    "submit --help": (PARSING | {"argparse"}, 31),
    "hold --all": (ACTING, 43),
    "release --all": (ACTING, 43),
    f"retry {JOB}": (ACTING, 43),
    "init made": (TYPED | {"importlib.resources", "tempfile", "shutil", "urllib.parse", "random", "toml"}, 18),
    f"cancel {JOB}": (MODELS, 80),
    "config": (MODELS, 44),
    "check plain.toml": (MODELS, 90),
    "failures": (MODELS | MAILS, 100),
    "mail list": (MODELS | MAILS | {"jinja2", "http.client", "urllib.request", "filelock"}, 92),
}

# Of the standard library, with what it brings along: `json`, `glob` and `fnmatch` bring `re`, that brings `enum`. Neither
# `signal` nor `socket` (`bare` instead), `random` (it is drawn anew in each fork) or `typing`.
LAUNCHER = {
    "__future__", "collections", "contextlib", "copyreg", "ctypes", "datetime", "enum", "errno", "fcntl", "fnmatch",
    "functools", "gc", "genericpath", "glob", "itertools", "json", "keyword", "math", "operator", "os", "posixpath", "re",
    "reprlib", "resource", "select", "stat", "struct", "types",
}  # fmt: skip

PROGRAM = """
import os, sys
for command in sys.stdin.read().splitlines():
    end, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(end)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.dup2(1, 2)
        known = set(sys.modules)
        from spooldadd.cli import main
        try:
            main(command.split())
        except SystemExit:
            pass
        os.write(into, " ".join(set(sys.modules) - known).encode())
        os._exit(0)
    os.close(into)
    with open(end) as told:
        print(told.read())
    os.waitpid(pid, 0)
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What each command imports, each in a process of its own that has imported nothing before."""
    root = tmp_path_factory.mktemp("imports")
    made = MadeSpool(root / "spool")
    made.add("done", JOB)
    made.add("failed", job_id("load", random="ghjkl"))
    made.drop("waits.toml", '# by hand\ncommand = ["true"]\nqueue = "etl"\n')
    (root / "plain.toml").write_text('command = ["true"]\n[vars]\nday = 2\n')
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SPOOLDADD_")}
    environ |= {"SPOOLDADD_SPOOL": str(made.root), "SPOOLDADD_WORK_DIR": str(root / "work"), "HOME": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input="\n".join(ALLOWED), env=environ, cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    return {command: set(line.split()) for command, line in zip(ALLOWED, lines, strict=True)}


@pytest.mark.parametrize("command", ALLOWED)
def test_a_command_imports_no_more_than_is_written_down(imported, command):
    allowed, most = ALLOWED[command]
    found = imported[command]
    dear = {name: cost for name, cost in COSTS.items() if name in found and name not in allowed}
    told = ", ".join(f"`{name}` ({cost} ms)" for name, cost in dear.items())
    assert not dear, (
        f"`spooldadd {command}` imports {told} now; `python -X importtime .venv/bin/spooldadd {command}` shows who does; "
        f"import it in the function that needs it"
    )
    ours = sorted(name for name in found if name.startswith("spooldadd"))
    assert len(ours) <= most, f"`spooldadd {command}` imports {len(ours)} of our modules, more than {most}: {' '.join(ours)}"


def test_only_third_parties_that_are_written_down_are_imported(imported):
    """A new dependency is a new import of some command; it shall be a decision."""
    known = {name.partition(".")[0] for name in COSTS} | {"spooldadd"}
    # What those of `COSTS` bring along, and what an installation of Python may add.
    also = {
        "pydantic_core",
        "annotated_types",
        "typing_extensions",
        "typing_inspection",
        "markupsafe",
        "sitecustomize",
        "usercustomize",
    }
    for command, modules in imported.items():
        tops = {name.partition(".")[0] for name in modules if not name.startswith("_")}
        assert tops <= known | also | sys.stdlib_module_names, command


def test_the_launcher_imports_no_more_than_is_written_down():
    """Each module makes every fork slower, and what a fork uses of it is a page that it no longer shares."""
    program = "import sys; before = set(sys.modules); sys.path.insert(0, sys.argv[1]); import spooldadd.launcher; "
    program += "print(*sorted(set(sys.modules) - before))"
    command = [sys.executable, "-I", "-S", "-c", program, os.path.dirname(os.path.dirname(crew.LAUNCHER))]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    tops = {name.partition(".")[0] for name in found if not name.startswith("_")}
    assert tops - {"spooldadd"} <= LAUNCHER
    assert sum(name.startswith("spooldadd") for name in found) <= 47


def test_every_command_of_the_table_is_one():
    from spooldadd.cli import COMMANDS

    assert {command.split()[0] for command in ALLOWED} <= set(COMMANDS)
