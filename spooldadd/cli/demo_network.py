"""What two of the demo's jobs need besides the spool: a web server, and a package from the index of this machine.

The package is asked for before the jobs are dropped, in the demo's own cache. So a slow index delays the demo by no more
than `INDEX_S`, one that cannot be reached leaves the two jobs out, and neither lets one of them fail.
"""

from __future__ import annotations

import hashlib
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

# Usually 2 s. An index that fetches from another one first may take long once; the other jobs take 10 s of the minute.
INDEX_S = 25.0
# How long what was started for it may take to end when it is told to.
END_S = 5.0
ROWS = b"region,rows\nnorth,3\nsouth,5\n"
# The same table as that of the two jobs, so what is built for it is ready for them.
SPEC = 'command = ["python", "-c", "import six"]\n[python]\nrequirements = ["six"]\n'


class Page(NamedTuple):
    """What the demo's web server has: one file."""

    url: str
    sha256: str


@contextmanager
def serving(directory: str) -> Iterator[Page]:
    """Serve a file on loopback, from this directory."""
    os.makedirs(directory)
    with open(os.path.join(directory, "rows.csv"), "wb") as file:
        file.write(ROWS)
    handler = partial(_Quiet, directory=directory)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Page(f"http://127.0.0.1:{server.server_port}/rows.csv", hashlib.sha256(ROWS).hexdigest())
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the job's build log says it."""


def lacks_package(root: str, command: list[str], environ: Mapping[str, str]) -> str:
    """Build the environment of the two jobs; return why that cannot be, empty where it is ready now.

    `command` is this program with the demo's configuration.
    """
    path, log = os.path.join(root, "index.toml"), os.path.join(root, "index.log")
    with open(path, "w", encoding="utf-8") as file:
        file.write(SPEC)
    with open(log, "wb") as file_of_log:
        asked = subprocess.Popen([*command, "run", path], stdout=file_of_log, stderr=file_of_log, env=environ)
    try:
        code = asked.wait(INDEX_S)
    except subprocess.TimeoutExpired:
        _end(asked)
        return f"it did not answer within {INDEX_S:g} s"
    return "" if code == 0 else _last_line(log)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_line(log: str) -> str:
    """Return what was said about the failure: the line of ours, which is followed by one about the work directory."""
    with open(log, encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    said = [line for line in lines if line.startswith("spooldadd: build:")]
    return (said or lines or [f"`{os.path.basename(sys.executable)}` said nothing"])[-1]
