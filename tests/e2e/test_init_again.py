"""`spooldadd init` on a spool that is there: it completes it, and says so where another kind was asked for."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("asked", [["--kind", "shared"], ["--kind", "synced", "--nodes", "a,b"]])
def test_a_spool_keeps_its_kind_and_the_person_is_told(node, asked):
    done = node.run("init", str(node.spool), *asked, check=False)
    assert done.returncode == 2
    assert "is a spool already, of the kind `local`" in done.stderr
    node.run("init", str(node.spool))
    node.run("init", str(node.spool), "--kind", "local")


def test_a_synced_spool_keeps_its_list(node, tmp_path):
    copy = str(tmp_path / "copy")
    node.run("init", copy, "--kind", "synced", "--nodes", "a,b")
    node.run("init", copy, "--kind", "synced", "--nodes", "b,a")
    done = node.run("init", copy, "--kind", "synced", "--nodes", "a,b,c", check=False)
    assert done.returncode == 2
    assert "of the nodes `a`, `b` already" in done.stderr
