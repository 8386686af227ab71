from __future__ import annotations

import subprocess
import sys

SERVES = """
import gc
from spooldadd import serving

class Worker:
    turns, sleeps_until, is_up, summary = 0, 0.0, True, "serving"

    def serve(self):
        print(gc.get_freeze_count(), gc.isenabled())

serving.serve(Worker(), None)
"""


def test_what_was_imported_is_not_looked_through_for_garbage_while_jobs_wait():
    done = subprocess.run([sys.executable, "-c", SERVES], capture_output=True, text=True, check=True, timeout=60)
    frozen, is_enabled = done.stdout.split()
    assert int(frozen) > 10_000
    assert is_enabled == "True"
