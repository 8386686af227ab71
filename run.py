#!/usr/bin/env python3
"""Set up `.venv` once, then be `spooldadd`: needs Python 3.11 or newer with pip, and nothing else.

python3 run.py demo          see it work
python3 run.py test [ARGS]   run the tests (pytest's arguments may follow)
python3 run.py bench [ARGS]  measure how quick it is here (`bench --help`)
python3 run.py ARGS...       the same as `spooldadd ARGS...`
python3 run.py --dev         also install what the checks of `.ci/run` need
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
READY = VENV / ".ready"
OLDEST = (3, 11)
# Each holds the ones before it: to run, to run the tests, to run all checks.
LEVELS = ["run", "test", "dev"]
MEASURE = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('tests.bench', run_name='__main__')"


def call(*command):
    """Run one set-up step; on failure say which step it was and end."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(f"run.py: set-up failed: `{' '.join(words)}` ended with {done.returncode}")


def is_new_enough(python):
    """Tell whether this interpreter may run spooldadd."""
    probe = f"import sys; sys.exit(sys.version_info < {OLDEST})"
    return subprocess.run([python, "-c", probe], check=False).returncode == 0


def find_python():
    """Return the first interpreter that is new enough: ours, else one on PATH, newest first."""
    candidates = [sys.executable, *(shutil.which(f"python3.{minor}") for minor in range(20, 10, -1))]
    for python in candidates:
        if python and is_new_enough(python):
            return python
    sys.exit(f"run.py: needs Python {OLDEST[0]}.{OLDEST[1]} or newer; {sys.executable} is {sys.version.split()[0]}")


def fingerprint():
    """Return what names the state of the project that an environment was made for."""
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + str(ROOT).encode()).hexdigest()


def installed_level():
    """Return how much `.venv` holds, as an index into LEVELS, or -1 where it is missing or out of date."""
    made_for, _, level = (READY.read_text() if READY.exists() else "").partition(" ")
    return LEVELS.index(level) if made_for == fingerprint() and level in LEVELS else -1


def install(python, level):
    """Install the project with what this level needs. pip comes from outside: Debian packs ensurepip apart."""
    if not READY.exists():
        call(python, "-m", "venv", "--clear", "--without-pip", VENV)
    target = "." if level == "run" else f".[{level}]"
    uv = shutil.which("uv")
    if uv:
        call(uv, "pip", "install", "-q", "--compile-bytecode", "--python", BIN / "python", "-e", target)
    else:
        call(
            python,
            "-m",
            "pip",
            "--python",
            BIN / "python",
            "install",
            "-q",
            "--disable-pip-version-check",
            "--root-user-action",
            "ignore",
            "-e",
            target,
        )
    # Where `PYTHONDONTWRITEBYTECODE` is set, each command would compile all that it imports, each time.
    call(BIN / "python", "-m", "compileall", "-q", ROOT / "spooldadd")
    READY.write_text(f"{fingerprint()} {level}")


def set_up(level):
    """Make `.venv` hold at least this level; two callers at once do it once. Killed half-way, the next call starts over."""
    if installed_level() >= LEVELS.index(level):
        return
    with (ROOT / "run.py").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if installed_level() >= LEVELS.index(level):
            return
        print("run.py: setting up .venv (once) ...", file=sys.stderr)
        started_s = time.monotonic()
        if installed_level() < 0:
            READY.unlink(missing_ok=True)
        install(find_python(), level)
        print(f"run.py: ready after {time.monotonic() - started_s:.0f} s", file=sys.stderr)


def main(arguments):
    """Set up, then become the program that was asked for."""
    if arguments[:1] == ["--dev"]:
        set_up("dev")
        return
    what = arguments[0] if arguments else ""
    set_up("test" if what in ("test", "bench") else "run")
    if what == "test":
        program = [str(BIN / "python"), "-m", "pytest", *arguments[1:]]
        os.chdir(ROOT)
    elif what == "bench":
        program = [str(BIN / "python"), "-c", MEASURE, str(ROOT), *arguments[1:]]
    else:
        program = [str(BIN / "spooldadd"), *(arguments or ["--help"])]
    os.execv(program[0], program)


if __name__ == "__main__":
    main(sys.argv[1:])
