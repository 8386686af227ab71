"""The pages are followed as a reader would: each block runs as it stands, in order, and prints what the page shows."""

import importlib.util
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
