import os
import time
from pathlib import Path

import pytest

from spooldadd import layout, mark, origin, spool
from spooldadd.claim import Holder
from spooldadd.ledger import Ledger
from spooldadd.tomltext import flat

NOW_S = time.mktime((2026, 11, 21, 12, 0, 0, 0, 0, 0))
DAY_S = 86400.0
HERE = Holder("alpha", "boot-1", 10, 100)
JOB = "a.20261121T101500Z.bcdfg"


@pytest.fixture
def copy(tmp_path) -> spool.Spool:
    mark.create(str(tmp_path / "spool"), durability="process", kind=mark.SYNCED, nodes=("alpha", "beta"))
    return spool.open_spool(str(tmp_path / "spool"), HERE)


def drop(copy, name="a.toml", text='command = "true"\n'):
    path = Path(copy.places.root, name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return origin.of_drop(copy.places.root, name)


def claim(copy, name="a.toml"):
    found = drop(copy, name)
    return copy.claim_drop(name, "a", "default"), found


def ledger(copy, now_s=NOW_S):
    found = Ledger(copy.places, "alpha")
    found.load(now_s)
    return found


def test_name_and_content_make_a_drop_and_a_hold_does_not_change_it(copy):
    found = drop(copy)
    assert drop(copy, "a.toml.held") == found
    assert drop(copy, "b.toml").mark() != found.mark()
    assert drop(copy, "@alpha/a.toml").mark() != found.mark()
    assert drop(copy, text="other").mark() != found.mark()


def test_a_record_says_what_it_was_made_of_and_whose_it_is(copy):
    claimed, found = claim(copy)
    assert layout.bound_nodes(os.listdir(claimed.path)) == ["alpha"]
    assert origin.of_record(claimed.path) == found


def test_what_was_noted_is_known_after_a_restart(copy):
    found = drop(copy)
    ledger(copy).note(JOB, found, NOW_S)
    assert ledger(copy).job_of(found, NOW_S) == JOB


def test_another_worker_of_the_node_knows_it_at_once(copy):
    found, other = drop(copy), ledger(copy)
    ledger(copy).note(JOB, found, NOW_S)
    assert other.job_of(found, NOW_S) == JOB


def test_a_line_that_was_cut_short_costs_no_other(copy):
    found, other = drop(copy), drop(copy, "b.toml")
    book = ledger(copy)
    book.note(JOB, found, NOW_S)
    (path,) = Path(copy.places.claimed).iterdir()
    path.write_bytes(path.read_bytes() + b"\n0123456789abc")
    ledger(copy).note("b.20261121T101500Z.bcdfg", other, NOW_S)
    assert ledger(copy).job_of(found, NOW_S) == JOB
    assert ledger(copy).job_of(other, NOW_S) == "b.20261121T101500Z.bcdfg"


def test_a_claim_that_may_still_be_put_back_is_not_known(copy):
    claimed, found = claim(copy)
    book = ledger(copy)
    book.look(NOW_S)
    assert book.job_of(found, NOW_S) is None
    os.write(claimed.lease, flat({"supervisor_pid": 1}).encode())
    book.look(NOW_S)
    assert book.job_of(found, NOW_S) == claimed.job


def test_what_a_crash_left_unnoted_is_learned_from_its_record(copy):
    claimed, found = claim(copy)
    copy.requeue(claimed.record, claimed.lease)
    book = ledger(copy)
    book.look(NOW_S)
    assert book.job_of(found, NOW_S) == claimed.job


def test_what_is_old_is_forgotten_unless_its_record_is_still_there(copy):
    claimed, found = claim(copy)
    copy.requeue(claimed.record, claimed.lease)
    other = drop(copy, "b.toml")
    book = ledger(copy)
    book.look(NOW_S)
    book.note(JOB, other, NOW_S)
    later_s = NOW_S + 125 * DAY_S
    book = ledger(copy, later_s)
    book.look(later_s)
    assert book.job_of(found, later_s) == claimed.job
    assert book.job_of(other, later_s) is None


def test_a_week_later_everything_is_known(copy):
    found = drop(copy)
    ledger(copy).note(JOB, found, NOW_S)
    for days in (7, 30, 60):
        later_s = NOW_S + days * DAY_S
        assert ledger(copy, later_s).job_of(found, later_s) == JOB


def test_a_record_that_arrives_in_parts_is_looked_at_until_it_says_what_it_was_made_of(copy):
    """rsync gives a directory the time of its source at once: by that time it was taken for complete, and never read."""
    claimed, found = claim(copy)
    text = Path(claimed.path, "@alpha").read_bytes()
    path = Path(copy.places.done, JOB)
    path.mkdir()
    os.utime(path, (1000, 1000))
    book = ledger(copy)
    book.look(NOW_S)
    (path / "@alpha").write_bytes(text)
    os.utime(path, (1000, 1000))
    book.look(NOW_S)
    assert book.job_of(found, NOW_S) == JOB
