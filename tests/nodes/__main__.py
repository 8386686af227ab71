"""Start the real thing, run scenarios, print what was seen."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

from tests.nodes import fuse, guest, kernel, scenarios, sync
from tests.nodes.grounds import Ground, started
from tests.nodes.sides import PROJECT, Broken, Missing

GROUNDS: dict[str, type[Ground]] = {
    "nfs": kernel.Nfs, "nfs3": kernel.Nfs3, "smb": kernel.Smb, "gluster": fuse.Gluster, "sshfs": fuse.Sshfs,
    "syncthing": sync.Syncthing,
}  # fmt: skip
IN_GUEST = frozenset({"nfs", "nfs3", "smb"})
SIZE = 500
MISSING = 77  # as automake's tests say it


def main() -> int:
    """Run what was asked for."""
    options = parse()
    if options.list:
        for name, scenario in scenarios.SCENARIOS.items():
            print(f"{name:<12} {(scenario.__doc__ or '').strip()}")
        return 0
    names = list(GROUNDS) if "all" in options.ground else options.ground
    if os.geteuid():
        print("needs root: name spaces, mounts, a network of its own", file=sys.stderr)
        return MISSING
    if options.inside:
        return run_ground(names[0], options)
    codes = [run_outside(name, options) for name in names]
    return 1 if 1 in codes else max(codes)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.nodes", description=__doc__)
    parser.add_argument("ground", nargs="*", choices=[*GROUNDS, "all"], default="all", help="where (default: all)")
    parser.add_argument("--scenario", action="append", choices=[*scenarios.SCENARIOS], help="only this one (repeatable)")
    parser.add_argument("--size", type=int, help=f"how many specs the first scenario drops (default: {SIZE})")
    parser.add_argument("--list", action="store_true", help="say which scenarios there are")
    parser.add_argument("--verbose", action="store_true", help="say every half minute how far it is")
    parser.add_argument("--guest", metavar="DIR", help="where the guest's kernel is kept for the next time")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--report", help=argparse.SUPPRESS)
    return parser.parse_args()


def run_outside(name: str, options: argparse.Namespace) -> int:
    """Run one ground in name spaces of its own, or in a guest. What is left when it ends, ends with them."""
    root = Path(tempfile.mkdtemp(prefix="spooldadd-nodes-"))
    arguments = [name, "--inside", "--report", str(root / "report"), *scenario_arguments(options)]
    try:
        if name in IN_GUEST:
            arguments[3] = "/vmout/report"
            return guest.run(arguments, root, Path(options.guest) if options.guest else None)
        inner = [sys.executable, "-m", "tests.nodes", *arguments]
        space = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
        # The first process of the space is a shell, which reaps what others leave: a server takes a zombie for alive.
        first = ["sh", "-c", '"$@"; exit $?', "sh"]
        return subprocess.run([*space, *first, *inner], cwd=PROJECT, check=False).returncode
    except Missing as missing:
        print(f"{name}: this machine lacks {missing}")
        return MISSING
    finally:
        shutil.rmtree(root, ignore_errors=True)


def scenario_arguments(options: argparse.Namespace) -> list[str]:
    """Return the options that the inner run gets."""
    asked = [argument for name in options.scenario or [] for argument in ("--scenario", name)]
    size = ["--size", str(options.size)] if options.size else []
    return [*asked, *size, *(["--verbose"] if options.verbose else [])]


def run_ground(name: str, options: argparse.Namespace) -> int:
    """Run the scenarios on one ground, in the name space that was made for it."""
    os.makedirs("/run/netns", exist_ok=True)
    if name not in IN_GUEST:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        os.makedirs("/run/netns")
    root = Path(options.report).parent / "ground" if name not in IN_GUEST else Path("/ground")
    root.mkdir()
    ground = GROUNDS[name](root)
    code = 0
    try:
        with started(ground):
            say(options, f"{name}: {ground.versions()}")
            for scenario in [name for name in options.scenario or ground.scenarios if name in ground.scenarios]:
                code |= run_scenario(ground, scenario, options)
    except Missing as missing:
        say(options, f"{name}: this machine lacks {missing}")
        code = MISSING
    except Exception:
        say(options, f"{name}: could not be started\n{traceback.format_exc()}")
        code = 1
    say(options, f"exit {code}", is_end=True)
    return code


def run_scenario(ground: Ground, name: str, options: argparse.Namespace) -> int:
    """Run one scenario; say what was seen."""
    case = scenarios.Case(ground, name, options.size or SIZE)
    began = time.monotonic()
    over = threading.Event()
    if options.verbose:
        threading.Thread(target=tell, args=(case, options, over), daemon=True).start()
    try:
        seen = scenarios.SCENARIOS[name](case)
        word = "ok"
    except Broken as broken:
        word, seen = "BROKEN", str(broken)
    except Exception:
        word, seen = "ERROR", traceback.format_exc()
    over.set()
    say(options, f"{word:<7} {ground.name:<8} {name:<11} {time.monotonic() - began:4.0f} s  {seen}")
    if word != "ok":
        for side in ground.sides:
            say(options, f"  {side.name} said: {side.said()[-3000:]}")
    for side in ground.sides:
        side.clear()
    return int(word != "ok")


def tell(case: scenarios.Case, options: argparse.Namespace, over: threading.Event) -> None:
    """Say how far it is: under emulation that takes a while, and a hang looks the same."""
    while not over.wait(30):
        where = sys._current_frames()[threading.main_thread().ident or 0]
        counts = ", ".join(f"{state} {len(case.entries(state))}" for state in ("done", "running") if case.truth.exists())
        say(options, f"  {case.name}: {counts} ({' < '.join(step.name for step in traceback.extract_stack(where)[-4:])})")


def say(options: argparse.Namespace, text: str, *, is_end: bool = False) -> None:
    """Print a line; from within a guest, to the file that is read outside."""
    if options.report and options.report.startswith("/vmout"):
        with open(options.report, "a") as report:
            report.write(json.dumps({"text": text, "end": is_end}) + "\n")
    elif not is_end:
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
