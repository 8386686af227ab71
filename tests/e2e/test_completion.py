"""`spooldadd completion`: the scripts work in the real shells, and know what the parsers know."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from spooldadd import cli
from spooldadd.cli import shapes
from tests.support import BIN


def complete(node, line: str, cwd: str | None = None) -> set[str]:
    """Complete the last word of a line as bash does."""
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    script = f"""
        source <(spooldadd completion bash)
        COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}
        _spooldadd
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environ = {**node.environ, "PATH": f"{BIN}:{node.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-uc", script], env=environ, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.split())


def test_every_command_is_completed(node):
    assert complete(node, "spooldadd ") == {shape.name for shape in shapes.all_shapes()}
    assert complete(node, "spooldadd re") == {"retry", "release", "recover"}


@pytest.mark.slow
def test_the_options_of_a_command_are_completed(node):
    assert complete(node, "spooldadd submit --pr") == {"--priority"}
    assert {"--spool", "--config", "--all-failed", "--since", "--now", "--force"} <= complete(node, "spooldadd retry --")
    assert complete(node, "spooldadd --sp") == {"--spool"}


@pytest.mark.slow
def test_words_and_files_and_directories_are_completed(node, tmp_path):
    (tmp_path / "specs").mkdir()
    (tmp_path / "nightly.toml").touch()
    cwd = str(tmp_path)
    assert complete(node, "spooldadd init --durability p", cwd) == {"power", "process"}
    assert complete(node, "spooldadd completion z", cwd) == {"zsh"}
    assert complete(node, "spooldadd submit ni", cwd) == {"nightly.toml"}
    assert complete(node, "spooldadd worker ", cwd) == {"specs"}
    assert complete(node, "spooldadd --config ni", cwd) == {"nightly.toml"}
    assert complete(node, "spooldadd submit --queue ", cwd) == set()


@pytest.mark.slow
def test_jobs_are_completed_by_what_the_command_can_do_with_them(node):
    node.drop("good.toml", 'command = "true"')
    node.drop("bad.toml", 'command = "false"')
    node.drain()
    waiting = node.run("submit", "-", "--name", "waiting", input='command = "true"').stdout.strip()
    (good,), (bad,) = ([path.name for path in node.records(state)] for state in ("done", "failed"))
    assert complete(node, "spooldadd logs ") == {good, bad, waiting}
    assert complete(node, "spooldadd hold ") == {waiting}
    assert complete(node, "spooldadd retry b") == {bad}
    assert complete(node, "spooldadd cancel ") == {waiting}


@pytest.mark.slow
def test_jobs_of_the_spool_on_the_line_are_completed(node, make_node):
    other = make_node()
    other.drop("elsewhere.toml", 'command = "true"')
    assert complete(node, f"spooldadd --spool {other.spool} hold ") == {"elsewhere.toml"}
    assert complete(node, f"spooldadd hold --spool {other.spool} ") == {"elsewhere.toml"}
    assert complete(node, "spooldadd hold ") == set()


@pytest.mark.parametrize(("shell", "check"), [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")])
def test_a_script_is_valid_and_knows_every_command_and_option(node, tmp_path, shell, check):
    script = node.run("completion", shell).stdout
    for shape in shapes.all_shapes():
        assert shape.name in script
        for option in shape.options:
            for flag in option.flags:
                assert flag.lstrip("-") in script
    if shutil.which(shell) is None:
        pytest.skip(f"needs the capability `{shell}`")
    (tmp_path / "script").write_text(script)
    done = subprocess.run([shell, check, tmp_path / "script"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_shell_is_the_one_of_the_user(node):
    assert "#compdef" in node.run("completion", env={**node.environ, "SHELL": "/bin/zsh"}).stdout
    assert node.run("completion", check=False, env={**node.environ, "SHELL": "/bin/false"}).returncode == 2


def test_no_command_of_the_overview_is_missing():
    assert [shape.name for shape in shapes.all_shapes()] == list(cli.COMMANDS)
