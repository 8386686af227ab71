"""Specs of the same bytes are read once, and are jobs of their own all the same."""

from __future__ import annotations

import marshal
import os

import pytest

from spooldadd import plan, planning, repeats
from spooldadd.config import Config
from spooldadd.spec import parse
from tests.unit.spools import Bench

PLAIN = b'command = ["true"]\nqueue = "q"\n[env]\nA = "1"\n[limits]\ntimeout = "3s"\n[retry]\nattempts = 2\n'
OTHERS = {
    "template": b'command = ["echo", "{{ job.id }}"]\n',
    "build": b'command = ["true"]\n[[build]]\ncommand = ["make"]\n',
    "secret": b'command = ["true"]\n[secrets]\nkey = "key"\n',
    "sandbox": b'command = ["true"]\n[sandbox]\nnetwork = false\n',
    "long": b'command = ["true"]\n# ' + b"x" * repeats.MOST_BYTES,
}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def config(tmp_path):
    return Config(node="here", work_dir=str(tmp_path / "work"), cache_dir=str(tmp_path / "cache"))


def made(data, claimed, bench, config):
    spec = parse(data, source="a.toml")
    return spec, planning.make_plan(spec, claimed, str(bench.root), config.work_dir, config)


def test_the_plan_of_a_repeated_spec_is_what_reading_it_again_would_make(bench, config):
    known, first, second = repeats.Repeats(), bench.claim("a.toml"), bench.claim("other.toml")
    known.keep(PLAIN, *made(PLAIN, first, bench, config))
    spec, found = known.find(PLAIN, second, config.work_dir)
    again = made(PLAIN, second, bench, config)[1]
    assert marshal.loads(plan.to_wire(found)) == marshal.loads(plan.to_wire(again))
    assert (found.name, found.record, spec.queue) == ("other", second.record, "q")
    os.close(first.lease)
    os.close(second.lease)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_spec_whose_plan_may_change_is_read_each_time(bench, config, kind):
    known, claimed = repeats.Repeats(), bench.claim()
    known.keep(OTHERS[kind], *made(OTHERS[kind], claimed, bench, config))
    assert known.find(OTHERS[kind], claimed, config.work_dir) is None
    os.close(claimed.lease)


def test_it_keeps_a_bounded_number(bench, config):
    known, claimed = repeats.Repeats(), bench.claim()
    for number in range(3 * repeats.MOST):
        data = PLAIN + b"# %d\n" % number
        known.keep(data, *made(data, claimed, bench, config))
    texts = [PLAIN + b"# %d\n" % number for number in range(3 * repeats.MOST)]
    kept = [data for data in texts if known.find(data, claimed, config.work_dir)]
    assert texts[-1] in kept
    assert len(kept) <= repeats.MOST
    os.close(claimed.lease)
