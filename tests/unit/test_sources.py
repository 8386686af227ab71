import errno
import os
from types import SimpleNamespace

import pytest

from spooldadd import intake, looking, sources
from spooldadd.backlog import Entry
from spooldadd.config import Config
from spooldadd.layout import Layout
from spooldadd.spreading import Spread
from spooldadd.watch import MOVED, Hint


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
        self.hangs_s = 0.0
        self.fails_at = ""
        self.now = 1000.0
        self.spread = Spread("node-7")
        self.spread.meet([(f"node-{number}", 1) for number in range(40)])
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
        self.sources = sources.Sources(Layout(str(path)), config, launching, self.spread, None, None)
        monkeypatch.setattr(intake, "look", self.look)
        monkeypatch.setattr(sources.time, "monotonic", lambda: self.now)

    def put(self, *names):
        for name in names:
            (self.path / name).write_text('command = ["true"]\n')

    def scan(self):
        self.sources.scan(self.now, has_backlog=True)

    def look(self, path):
        name = os.path.basename(path)
        if name == self.fails_at:
            raise OSError(errno.ESTALE, "the share is away")
        self.names.append(name)
        self.now += self.hangs_s
        return looking.look(path)

    def others(self, in_line=0):
        """Look at others' part as often as a worker's loop would at once; return how many were looked at."""
        before = len(self.names)
        for _ in range(100):
            self.sources.examine_others(self.now, in_line)
        return len(self.names) - before


@pytest.fixture
def looks(tmp_path, monkeypatch):
    found = Looks(tmp_path, monkeypatch)
    found.put(*(f"job-{number}.toml" for number in range(400)))
    found.scan()
    return found


def test_what_is_others_part_is_looked_at_by_few_while_there_is_something_to_run(looks):
    ours = looks.sources.examine(looks.now)
    assert 0 < len(ours) < 40
    assert len(looks.names) == len(ours)
    looks.hangs_s = 0.001
    assert looks.others() == sources.EXAMINE_MEANWHILE
    assert looks.sources.unopened == 400 - len(ours) - sources.EXAMINE_MEANWHILE
    looks.sources.scan_at = 1e9
    rest_s = looks.sources.next_at - looks.now
    assert rest_s == pytest.approx(sources.EXAMINE_MEANWHILE * 0.001 * (40 / sources.OTHERS_SHARE - 1))
    looks.now += rest_s
    assert looks.others() == sources.EXAMINE_MEANWHILE


def test_what_came_last_is_looked_at_though_many_wait_before_it(looks):
    looks.now += 100
    theirs = [name for name in (f"late-{number}.toml" for number in range(9)) if not looks.spread.is_part_of_ours(name)]
    looks.put(theirs[0])
    looks.scan()
    looks.others()
    assert theirs[0] in looks.names


def test_however_long_a_look_hangs_the_next_comes_soon(looks):
    looks.hangs_s = 55.0
    assert looks.others() == sources.EXAMINE_MEANWHILE
    looks.now += sources.MOST_REST_S
    assert looks.others() == sources.EXAMINE_MEANWHILE


def test_where_there_is_nothing_to_run_all_of_it_is_looked_at(looks):
    looks.others()
    looks.sources.look_further()
    looks.others()
    assert looks.sources.unopened == 0
    assert not any(looks.spread.is_part_of_ours(name) for name in looks.names)


def test_a_claim_ends_the_looks_at_others_part(looks):
    looks.sources.look_further()
    (mine, *_) = looks.sources.examine(looks.now)
    looks.sources.forget(mine)
    looks.hangs_s = 0.001
    assert looks.others() == sources.EXAMINE_MEANWHILE


def test_where_a_job_waits_for_a_new_list_nothing_more_is_looked_at_first(looks):
    looks.sources.look_further()
    looks.sources.list_before_claim()
    looks.hangs_s = 0.001
    assert looks.sources.scan_at == 0
    assert looks.others() == sources.EXAMINE_MEANWHILE


def test_old_names_are_listed_anew_before_others_part_is_looked_at(looks):
    looks.sources.look_further()
    assert looks.sources.scan_at > 0
    looks.sources.distrust_list()
    looks.sources.look_further()
    assert looks.sources.scan_at == 0


def test_nothing_is_settled_while_there_are_names_that_nobody_has_looked_at(looks):
    looks.sources.examine(looks.now)
    assert not looks.sources.is_settled
    looks.sources.look_further()
    looks.others()
    assert looks.sources.is_settled


def test_when_this_node_is_alone_again_all_is_its_own(looks):
    assert looks.sources.unopened > 300
    looks.spread.meet([("node-7", 1)])
    looks.sources.share_out(looks.now)
    assert looks.sources.unopened == 0
    assert len(looks.sources.examine(looks.now)) == 400


def test_where_files_have_to_settle_first_some_of_others_part_do_so_before_our_own_line_is_empty(looks):
    looks.sources._is_local = False
    looks.hangs_s = 0.001
    assert looks.others(in_line=sources.IN_LINE) == sources.EXAMINE_MEANWHILE
    looks.sources._intakes[0]._settle_s, looks.sources._intakes[0]._is_local = 5.0, False
    assert looks.others(in_line=1) == sources.OTHERS_AT_ONCE


def test_other_nodes_are_a_reason_to_look_at_once(looks):
    looks.hangs_s = 0.001
    looks.others()
    looks.spread.meet([("node-7", 1), ("node-8", 1)])
    looks.sources.share_out(looks.now)
    assert looks.others() == sources.EXAMINE_MEANWHILE


def test_when_the_clock_was_set_back_no_word_of_an_event_is_believed(looks, monkeypatch):
    root, log = looks.sources._intakes[0], []
    root.hint(Hint("job-1.toml", MOVED), looks.now, 2e9)
    root.hint(Hint("job-2.toml", MOVED), looks.now, 2e9)
    monkeypatch.setattr(root._fresh, "distrust_clock", lambda: log.append("distrusted"))
    looks.sources._log = SimpleNamespace(warning=lambda *_, **__: None)
    looks.sources.examine(looks.now)
    assert not log
    monkeypatch.setattr(sources.time, "time", lambda: 1.0)
    looks.sources.examine(looks.now)
    assert log == ["distrusted"]


@pytest.mark.parametrize("look", ["examine", "examine_others"])
def test_looks_that_fail_half_way_lose_nothing(looks, look):
    is_ours = look == "examine"
    find = getattr(looks.sources, look)
    looks.sources.look_further()
    wanted = {path.name for path in looks.path.glob("*.toml") if looks.spread.is_part_of_ours(path.name) is is_ours}
    looks.fails_at = max(wanted)
    found = set()
    with pytest.raises(OSError, match="away"):
        for _ in range(1000):
            found.update(keys(find(looks.now)))
    looks.fails_at = ""
    looks.scan()
    for _ in range(100):
        found.update(keys(find(looks.now)))
    assert found.issuperset(wanted)


def keys(found):
    """Return the keys in what `examine` or `examine_others` gives."""
    lists = found if isinstance(found, tuple) else (found,)
    return [entry.key for entries in lists for entry in entries]
