from __future__ import annotations

import gc

from spooldadd import serving


def test_what_was_imported_is_not_looked_through_for_garbage_while_jobs_wait(monkeypatch):
    seen = []

    class MainThread:
        def __init__(self, *_given):
            pass

        def serve(self):
            seen.append(gc.get_freeze_count())

    monkeypatch.setattr(serving, "_MainThread", MainThread)
    try:
        serving.serve(None, None)
    finally:
        gc.unfreeze()
    assert seen[0] > 10_000
    assert gc.isenabled()
