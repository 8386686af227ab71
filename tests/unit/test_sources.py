import os
import time
from types import SimpleNamespace

import pytest

from spooldadd import intake, looking, sources
from spooldadd.backlog import Entry
from spooldadd.config import Config
from spooldadd.layout import Layout
from spooldadd.spreading import Spread


def test_a_file_stands_still_for_longer_than_its_growth_may_stay_unseen():
    assert sources.settle_s_of(0.0, is_network=False) == sources.SETTLE_S
    assert sources.settle_s_of(0.0, is_network=True) == sources.NETWORK_SETTLE_S
    assert sources.settle_s_of(21.6, is_network=True) > 21.6
    assert sources.settle_s_of(1e9, is_network=True) == sources.MOST_SETTLE_S


class Looks:
    """The sources of one of forty nodes, and which files it looks at. Only what `Sources` asks of `Launching` is there."""

    def __init__(self, path, monkeypatch):
        self.path = path
        self.names = []
        self.spread = Spread("node-7")
        self.spread.meet([(f"node-{number}", 1) for number in range(40)])
        places = Layout(str(path))
        (path / "waiting").mkdir()
        launching = SimpleNamespace(
            trust=SimpleNamespace(objection=lambda _status, _what: ""),
            may_run=None,
            peek_record=None,
            look_around=lambda _now: None,
            may_claim=lambda _drop: True,
            entry_of=lambda drop: Entry(drop.key, False, None, "default", 0, 0.0),
        )
        config = Config.model_validate({"node": "node-7", "intake": {"settle": "0s", "events": False}})
        self.sources = sources.Sources(places, config, launching, self.spread, None, None)
        monkeypatch.setattr(intake, "look", self.look)

    def look(self, path):
        self.names.append(os.path.basename(path))
        return looking.look(path)

    def others(self):
        """Look at others' part as often as a worker's loop would at once; return how many were looked at."""
        before = len(self.names)
        for _ in range(100):
            self.sources.examine_others(time.monotonic())
        return len(self.names) - before


@pytest.fixture
def looks(tmp_path, monkeypatch):
    for number in range(400):
        (tmp_path / f"job-{number}.toml").write_text('command = ["true"]\n')
    return Looks(tmp_path, monkeypatch)


def test_what_is_others_part_is_looked_at_by_few_while_there_is_something_to_run(looks):
    now = time.monotonic()
    looks.sources.scan(now, has_backlog=True)
    ours = looks.sources.examine(now)
    assert 0 < len(ours) < 40
    assert len(looks.names) == len(ours)
    assert looks.others() == sources.EXAMINE_MEANWHILE
    assert looks.sources.unopened == 400 - len(ours) - sources.EXAMINE_MEANWHILE
    assert now < looks.sources.next_at < now + 60


def test_where_there_is_nothing_to_run_all_of_it_is_looked_at(looks):
    looks.sources.scan(time.monotonic(), has_backlog=True)
    looks.sources.look_further()
    assert looks.others() == 400 - len([name for name in os.listdir(looks.path) if looks.spread.is_part_of_ours(name)])
    assert looks.sources.unopened == 0


def test_a_claim_ends_the_looks_at_others_part(looks):
    looks.sources.scan(time.monotonic(), has_backlog=True)
    looks.sources.look_further()
    (mine, *_) = looks.sources.examine(time.monotonic())
    looks.sources.forget(mine)
    assert looks.others() == sources.EXAMINE_MEANWHILE


def test_old_names_are_listed_anew_before_others_part_is_looked_at(looks):
    looks.sources.scan(time.monotonic(), has_backlog=True)
    looks.sources.look_further()
    assert looks.sources.scan_at > 0
    looks.sources.distrust_list()
    looks.sources.look_further()
    assert looks.sources.scan_at == 0


def test_when_this_node_is_alone_again_all_is_its_own(looks):
    looks.sources.scan(time.monotonic(), has_backlog=True)
    assert looks.sources.unopened > 300
    looks.spread.meet([("node-7", 1)])
    looks.sources.share_out(time.monotonic())
    assert looks.sources.unopened == 0
    assert len(looks.sources.examine(time.monotonic())) == 400
