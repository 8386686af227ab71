"""Whether anything in an environment changed since it was settled, by change times."""

import os

import pytest

from spooldadd.environment import edits


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "environment"
    (root / "lib").mkdir(parents=True)
    (root / "lib" / "alpha.py").write_text("VERSION = 1\n")
    (root / "lib" / "link").symlink_to("alpha.py")
    (root / edits.MANIFEST).write_text("{}")
    (root / edits.MARKER).write_text("{}")
    edits.settle(str(root))
    return root


def after_the_clock_ticked(root, edit):
    """The kernel's clock for files ticks every few milliseconds: repeat the edit until it is in a later tick."""
    before = (root / "lib" / "alpha.py").stat().st_ctime_ns
    while True:
        (root.parent / "tick").write_text("")
        if (root.parent / "tick").stat().st_ctime_ns > before:
            break
    return edit()


def test_an_environment_that_nobody_touched_has_no_edit(root):
    assert edits.first_edit(str(root)) == ""


def test_noting_its_use_and_moving_it_is_no_edit(root):
    after_the_clock_ticked(root, lambda: os.utime(root / edits.MARKER))
    root.rename(root.parent / "published")
    assert edits.first_edit(str(root.parent / "published")) == ""


def test_a_file_whose_times_were_set_back_is_found_all_the_same(root):
    path = root / "lib" / "alpha.py"

    def edit():
        path.write_text("VERSION = 2\n")
        os.utime(path, (1, 1))

    after_the_clock_ticked(root, edit)
    assert edits.first_edit(str(root)) == "lib/alpha.py"


@pytest.mark.parametrize("name", ["new", "lib/new"])
def test_a_file_that_was_added_is_found(root, name):
    after_the_clock_ticked(root, (root / name).touch)
    assert edits.first_edit(str(root))


def test_a_link_that_was_removed_is_found(root):
    after_the_clock_ticked(root, (root / "lib" / "link").unlink)
    assert edits.first_edit(str(root)) == "lib"


def test_an_environment_without_its_manifest_is_edited(root):
    (root / edits.MANIFEST).unlink()
    assert edits.first_edit(str(root)) == edits.MANIFEST


def test_what_was_put_aside_has_no_marker_and_is_put_aside_once(root):
    root.chmod(0o555)
    assert edits.put_aside(str(root)) is True
    assert sorted(os.listdir(root)) == [edits.EDITED, "lib", edits.MANIFEST]
    assert edits.put_aside(str(root)) is False
