"""What remains of a work directory: files that are asked for, and the directory itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from spooldadd.tomltext import dumps
from tests.support import Node, result_of, temporary_node

MAKES = """\
mkdir -p out/deep/er empty secret; echo 1 > out/a.csv; echo 2 > out/b.txt; echo 3 > out/deep/c.csv
echo 4 > out/deep/er/d.csv; echo 5 > top.csv; echo 6 > .hidden.csv; echo 7 > 'with space.csv'
ln -s /etc/passwd link.csv; ln -s /etc out/etc; ln -s top.csv inside.csv; mkfifo pipe.csv
printf '\\000\\377' > binary.csv; echo x > secret/x.csv; chmod 000 secret
"""
RESERVED = """\
mkdir attempts
for name in spec.toml claim.toml result.toml output.log cancel hold now attempts/x fine; do echo forged > $name; done
"""


@pytest.fixture(scope="module")
def kept() -> Iterator[Node]:
    with temporary_node() as node:
        patterns = {
            "one": ["out/*.csv"], "tree": ["out/**"], "everywhere": ["**/*.csv"], "all": ["**"], "name": ["top.csv"],
            "several": ["*.csv", "out/b.*"], "question": ["out/?.*"], "nothing": ["no-such/*"],
        }  # fmt: skip
        for name, files in patterns.items():
            node.drop(f"{name}.toml", dumps({"command": MAKES, "keep": {"files": files}}))
        node.drop("fails.toml", dumps({"command": MAKES + "exit 9", "keep": {"files": ["top.csv"], "workdir": "never"}}))
        node.drop("reserved.toml", dumps({"command": RESERVED, "keep": {"files": ["**"]}}))
        node.drop("template.toml", dumps({"command": "echo x > 2026.csv; echo y > 2025.csv", "vars": {"year": 2026},
                                          "keep": {"files": ["{{ vars.year }}.csv"]}}))  # fmt: skip
        (node.spool.parent / "log").write_text(node.drain("--jobs", "4"))
        yield node


OURS = {"spec.toml", "claim.toml", "result.toml", "output.log"}


def files_of(record: Path) -> set[str]:
    found = {str(path.relative_to(record)) for path in record.rglob("*") if not path.is_dir() or path.is_symlink()}
    return found - OURS


TREE = {"out/a.csv", "out/b.txt", "out/deep/c.csv", "out/deep/er/d.csv"}
TOP = {"top.csv", ".hidden.csv", "with space.csv", "binary.csv"}
CSV_EVERYWHERE = (TREE - {"out/b.txt"}) | TOP | {"secret/x.csv"}


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("one", {"out/a.csv"}),
        ("tree", TREE),
        ("everywhere", CSV_EVERYWHERE),
        ("all", TREE | CSV_EVERYWHERE),
        ("name", {"top.csv"}),
        ("several", TOP | {"out/b.txt"}),
        ("question", {"out/a.csv", "out/b.txt"}),
        ("nothing", set()),
        ("fails", {"top.csv"}),
        ("template", {"2026.csv"}),
    ],
)
def test_files_that_match_are_kept_and_nothing_else(kept: Node, name: str, files: set[str]) -> None:
    record = kept.finished(name)
    if os.getuid() != 0:
        files = files - {"secret/x.csv"}  # of a directory that its owner cannot enter either
    assert files_of(record) == files
    assert set(result_of(record).get("kept", [])) == files


def test_kept_file_is_copied_byte_for_byte(kept: Node) -> None:
    assert (kept.finished("all") / "binary.csv").read_bytes() == b"\0\xff"
    assert (kept.finished("all") / "out" / "deep" / "c.csv").read_text() == "3\n"


def test_names_of_the_record_itself_are_not_overwritten(kept: Node) -> None:
    record = kept.finished("reserved")
    assert files_of(record) == {"fine"}
    assert result_of(record)["kept"] == ["fine"]
    assert (record / "spec.toml").read_text().startswith("command")
    assert not (record / "attempts").exists()
    assert kept.spool.joinpath("..", "log").read_text().count("event=not-kept") == 8


def test_work_directory_is_kept_as_the_spec_says(node: Node) -> None:
    wishes = [(wish, code) for wish in ("never", "failure", "always") for code in (0, 1)]
    for wish, code in wishes:
        spec = {"command": f"echo x > left; exit {code}", "keep": {"workdir": wish}}
        node.drop(f"{wish}-{code}.toml", dumps(spec))
    node.drain("--jobs", "4")
    stays = {}
    for wish, code in wishes:
        workdir = result_of(node.finished(f"{wish}-{code}")).get("workdir")
        stays[wish, code] = workdir is not None
        if workdir:
            assert (Path(workdir) / "left").read_text() == "x\n"
    assert [key for key, value in stays.items() if value] == [("failure", 1), ("always", 0), ("always", 1)]
    assert len(list(node.work.rglob("left"))) == 3


def test_work_directory_with_what_is_hard_to_remove_is_removed(node: Node) -> None:
    precious = node.spool.parent / "precious"
    precious.mkdir()
    (precious / "data").touch()
    command = (
        "mkdir -p a/b/c d; touch a/b/c/file d/file; chmod 000 a/b/c a/b d; mkfifo pipe; "
        f"ln -s {precious} link; ln -s {precious}/data file-link; ln -s . loop; "
        "touch -- -rf '*' \"$(printf 'a\\nb')\"; chmod 500 ."
    )
    node.drop("messy.toml", dumps({"command": command}))
    node.drain()
    assert result_of(node.finished("messy"))["outcome"] == "success"
    assert [path for path in node.work.rglob("*") if "messy" in path.name] == []
    assert (precious / "data").exists()


def test_deep_tree_is_kept_and_removed(node: Node) -> None:
    """Deeper than a path may be long."""
    down = "for i in $(seq 300); do mkdir 0123456789abcdef; cd 0123456789abcdef; done; echo x > bottom"
    command = f'{down}; cd "$SPOOLDADD_WORKDIR"; echo y > top'
    node.drop("deep.toml", dumps({"command": command, "keep": {"files": ["**"]}}))
    node.drain()
    record = node.finished("deep")
    assert result_of(record)["outcome"] == "success"
    assert (record / "top").read_text() == "y\n"
    assert [path for path in node.work.rglob("*") if "deep" in path.name] == []


def test_large_file_is_kept_whole(node: Node) -> None:
    node.drop(
        "large.toml",
        dumps({"command": "head -c 30000000 /dev/urandom > data; sha256sum < data", "keep": {"files": ["data"]}}),
    )
    node.drain()
    import hashlib

    record = node.finished("large")
    assert hashlib.sha256((record / "data").read_bytes()).hexdigest() == (record / "output.log").read_text().split()[0]
