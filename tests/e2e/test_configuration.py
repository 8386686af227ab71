"""A configuration that cannot be used: the worker says everything that is wrong, and does not start."""

from __future__ import annotations

from tests.support import Node


def test_worker_refuses_a_wrong_configuration_with_all_its_errors(node: Node) -> None:
    config = node.spool.parent / "worker.toml"
    config.write_text('jbs = 3\n\n[intake]\nsettle = "soon"\n')
    done = node.run("--config", str(config), "worker", str(node.spool), "--drain", check=False)
    assert done.returncode == 78
    assert f"{config}:1:1: unknown key `jbs`; did you mean `jobs`?" in done.stderr
    assert f"{config}:4:1:" in done.stderr
    assert "soon" in done.stderr


def test_directory_without_the_mark_of_a_spool_is_refused(node: Node) -> None:
    (node.spool / ".spool" / "format.toml").unlink()
    done = node.run("worker", str(node.spool), "--drain", check=False)
    assert done.returncode == 4
    assert "is not a spool" in done.stderr


def test_spool_that_everybody_may_write_to_is_refused(node: Node) -> None:
    node.spool.chmod(0o777)
    done = node.run("worker", str(node.spool), "--drain", check=False)
    assert done.returncode == 4
    assert "chmod o-w" in done.stderr
