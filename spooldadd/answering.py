"""Answer another node that examines the spool with us: `spooldadd doctor --peer` there looks for one here.

Whoever examines makes a directory in `.spool/probe/` that names both nodes. A worker that finds one for its node starts the
same command for its side, as a program of its own: the loop never waits for it, and what hangs in it hangs alone.

If we die here: the program goes on by itself, and ends with the examination or after its time.
"""

from __future__ import annotations

import os
import subprocess
import sys

from spooldadd.layout import Layout
from spooldadd.log import Log

PROBE = "probe"
PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Runs the package that lies beside us, however it was installed, and nothing from the current directory.
START = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module('spooldadd', run_name='__main__', alter_sys=True)"
)
# As long as the one who asks waits for us, and no longer: what is left of one that was killed is answered by nobody.
WAIT = "90s"


def asked_by(places: Layout, own: str) -> dict[str, str]:
    """Return who asks this node for an examination, by the name of its directory. Raises: OSError."""
    try:
        entries = os.listdir(os.path.join(places.internal, PROBE))
    except FileNotFoundError:
        return {}
    found = {}
    for entry in entries:
        pair, _, token = entry.rpartition(".")
        asker, mark, asked = pair.partition(".to.")
        if mark and asked == own and asker and token:
            found[entry] = asker
    return found


class Answering:
    """Looks who asks, with each heartbeat, and answers each once. One program at a time."""

    def __init__(self, places: Layout, own: str, log: Log) -> None:
        self._places = places
        self._own = own
        self._log = log
        self._answered: set[str] = set()
        self._process: subprocess.Popen[bytes] | None = None

    def turn(self) -> None:
        """Collect the program that ended, or start one where somebody asks. Raises: OSError."""
        if self._process is not None and self._process.poll() is None:
            return
        self._process = None
        asked = asked_by(self._places, self._own)
        self._answered &= asked.keys()
        for entry, asker in sorted(asked.items()):
            if entry not in self._answered:
                self._answered.add(entry)
                self._start(asker)
                return

    def _start(self, asker: str) -> None:
        arguments = ["doctor", self._places.root, "--peer", asker, "--timeout", WAIT]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", START, PACKAGE_PARENT, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "SPOOLDADD_NODE": self._own},
                start_new_session=True,
                cwd="/",
            )
        except OSError as error:
            self._log.warning("probe", node=asker, error=str(error), then="it does not hear from us")
            return
        self._log.info("probe", node=asker, pid=self._process.pid)
