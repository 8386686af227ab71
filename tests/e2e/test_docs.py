"""The pages are followed as a reader would: each block runs as it stands, in order, and prints what the page shows."""

import importlib.util
import json
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def _load():
    found = importlib.util.spec_from_file_location("docs_pages_run", REPOSITORY / "docs" / "pages.py")
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


pages = _load()
# Tests of their own follow these.
FOREIGN = ("erroremail.md", "environments.md")
FOLLOWED = [
    path
    for path in sorted(pages.all_pages(), key=lambda path: -len(path.read_text()))
    if path.name not in FOREIGN and any(block.language in pages.RUN_LANGUAGES for block in pages.blocks(path.read_text()))
]


@pytest.fixture(scope="module")
def followed():
    """Follow all pages at once: most of the time they wait."""
    with ThreadPoolExecutor(3) as pool:
        yield {path: pool.submit(pages.execute, path) for path in FOLLOWED if not lacks_rsync(path)}


def lacks_rsync(path):
    return "rsync " in path.read_text() and not shutil.which("rsync")


@pytest.mark.parametrize("path", FOLLOWED, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_page_can_be_followed(followed, path):
    if lacks_rsync(path):
        pytest.skip("needs the capability rsync")
    differences, _ = followed[path].result(timeout=300)
    assert not differences, "\n".join(map(str, differences))


def test_a_block_that_fails_is_found_out(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```console\n$ echo one\ntwo\n```\n\n```sh\nfalse\n```\n")
    differences, text = pages.execute(page)
    assert [difference.line for difference in differences] == [1, 6]
    assert "$ echo one\none\n" in text


def test_a_command_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(pages, "DEADLINE_S", 0.5)
    reader = pages.Reader()
    with pytest.raises(pages.Stuck, match="was ended after"):
        reader.run("sleep 1000")
    reader.close()
    assert not reader._processes()


def test_what_a_page_starts_ends_with_it(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- background -->\n```sh\nsleep 1000\n```\n")
    reader = pages.Reader()
    run = pages.Run("page.md", page.read_text(), reader)
    run.execute()
    assert reader._processes()
    reader.close()
    assert not reader._processes()
    assert not reader.home.exists()


def test_json_objects_have_the_keys_that_the_page_shows(node):
    page = (REPOSITORY / "docs" / "howto" / "json.md").read_text()
    documented = dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", page, re.M))
    node.environ["SPOOLDADD_INTAKE__SETTLE"] = "0.2s"
    spec = node.spool.parent / "report.toml"
    spec.write_text('command = ["true"]\n')
    seen = {"submit SPEC": keys_of(node, "submit", str(spec)), "check SPEC": keys_of(node, "check", str(spec))}
    rules = json.loads(node.run("explain", "report", "--json").stdout)["rules"]
    node.drain()
    seen |= {f"{command} JOB": keys_of(node, command, "report") for command in ("explain", "status", "wait")}
    seen |= {command: keys_of(node, command) for command in ("status", "recover", "doctor", "config")}
    job = seen.pop("status JOB")
    seen["explain JOB"] = [key for key in seen["explain JOB"] if key not in job] + ["rules", *rules[0]]
    for command, keys in seen.items():
        assert set(keys) == set(re.findall(r"`(\w+)`", documented[command].partition("; where")[0])), command


def keys_of(node, *arguments):
    """Return the keys of an object, and those of the objects in its lists where the page names them."""
    table = json.loads(node.run(*arguments, "--json", check=False).stdout)
    assert table.pop("schema") == 1
    inner = [
        key
        for value in table.values()
        if isinstance(value, list) and value
        for key in value[0]
        if isinstance(value[0], dict)
    ]
    return [*table, *inner] if arguments[0] in ("submit", "check", "doctor") else [*table]
