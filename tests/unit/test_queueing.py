from types import SimpleNamespace

from spooldadd.backlog import Entry
from spooldadd.queueing import Queueing


def test_a_job_of_others_part_waits_for_a_new_list_and_nothing_else_is_looked_at_meanwhile():
    """Where looks took longer than a list stays new, an idle node ran nothing until it had looked at everything."""
    asked = []
    sources = SimpleNamespace(
        knows=lambda _entry: True,
        list_before_claim=lambda: asked.append("list"),
        look_further=lambda: asked.append("further"),
    )
    sharing = SimpleNamespace(
        spread=SimpleNamespace(kept_back=0),
        sift=lambda entries, _sources, _now: entries,
        is_stale=lambda _entry, _sources: not asked,
    )
    queueing = Queueing(sources, sharing, SimpleNamespace(until=lambda _key: 0.0))
    entry = Entry("a.toml", False, None, "default", 0, 0.0)
    queueing.take_in([entry], 1.0)
    assert queueing.pop(lambda _queue: True) is None
    assert asked == ["list"]
    assert queueing.pop(lambda _queue: True) is entry
    assert queueing.pop(lambda _queue: True) is None
    assert asked == ["list", "further"]
