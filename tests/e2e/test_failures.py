"""Hundreds of failures are a handful of mails and as many entries of `failures`; one command runs all of a cause again."""

from __future__ import annotations

import json
import re

import pytest

from tests.e2e.mail_node import configure, kinds, mails, make_due, text_of
from tests.support import until

CAUSES = ("ValueError: bad day {}", "KeyError: 'row-{}'", "OSError: disk {} is full")
EACH = 100


@pytest.fixture
def node(make_node):
    node = make_node(durability="process")
    configure(node, mail='digest = "1s"')
    return node


def spec_of(node, number: int) -> str:
    """Return a spec that fails with one of the causes until a file is there."""
    error = CAUSES[number % 3].format(number)
    step = f'  File "/w/{number}/load.py", line {number}, in load'
    text = f"Traceback (most recent call last):\n{step}\n{error}\n"
    command = f"test -e {node.spool.parent}/mended || {{ cat >&2; exit 1; }}"
    return f"name = 'job{number % 5}'\ncommand = {json.dumps(command)}\nstdin = {json.dumps(text)}\n"


def counted(node) -> int:
    """Return how many failures the digests account for."""
    texts = [text_of(mail) for mail in mails(node) if mail["X-Spooldadd-Event"] in ("digest", "held")]
    return sum(int(count) for text in texts for count in re.findall(r"^(\d+) x ", text, re.M))


@pytest.mark.slow
def test_hundreds_of_failures_of_three_causes_are_a_handful_of_mails_that_account_for_all(node):
    node.start()
    for number in range(3 * EACH):
        node.drop(f"load{number}.toml", spec_of(node, number))
    until(lambda: len(node.records("failed")) == 3 * EACH, "all have failed")
    until(lambda: not list(node.spool.glob(".spool/notify/*/*")), "all were looked at")
    until(lambda: make_due(node) or counted(node) + 3 == 3 * EACH, "the digests account for the rest")
    assert kinds(node).count("failure") == 3 and len(kinds(node)) < 12, kinds(node)

    causes = json.loads(node.run("failures", "--json").stdout)["causes"]
    assert [cause["count"] for cause in causes] == [EACH] * 3
    assert {cause["cause"] for cause in causes} == {
        mail["X-Spooldadd-Cause"] for mail in mails(node) if mail["X-Spooldadd-Event"] == "failure"
    }
    assert causes[0]["names"] == [f"job{number}" for number in range(5)]
    assert f"{EACH} x {causes[0]['label']}" in node.run("failures").stdout

    (node.spool.parent / "mended").touch()
    ids = node.run("retry", "--cause", causes[0]["cause"]).stdout.split()
    assert len(ids) == EACH
    until(lambda: len(node.records("done")) == EACH, "they have run again")
    assert len(json.loads(node.run("failures", "--json").stdout)["causes"]) == 2
    until(lambda: kinds(node).count("recovery") == 5, f"each name recovers once, not {kinds(node)}")


def test_a_cause_that_no_job_has_is_said(node):
    done = node.run("retry", "--cause", "0123456789ab", check=False)
    assert done.returncode == 3 and "spooldadd failures" in done.stderr
    assert "nothing has failed" in node.run("failures").stderr
    assert node.run("retry", "--cause", "x", "--all-failed", check=False).returncode == 2
