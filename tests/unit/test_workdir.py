import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooldadd import workdir
from spooldadd.workdir import matches


@pytest.fixture
def work(tmp_path):
    workdir.make(str(tmp_path / "all" / "job"), None)
    return tmp_path / "all" / "job"


@pytest.fixture
def record(tmp_path):
    (tmp_path / "record").mkdir()
    return tmp_path / "record"


def keep(work, record, *patterns):
    return workdir.keep(str(work), str(record), list(patterns), sync=False)


def test_a_work_directory_is_private_and_holds_the_settings(tmp_path):
    path = tmp_path / "a" / "b" / "job"
    workdir.make(str(path), b"{}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((path / "config.json").stat().st_mode) == 0o600
    assert (path / "config.json").read_bytes() == b"{}"
    with pytest.raises(FileExistsError):
        workdir.make(str(path), None)


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("a.csv", "*.csv"),
        ("out/a.csv", "out/*.csv"),
        ("out/a.csv", "**"),
        ("out/a.csv", "**/*.csv"),
        ("a.csv", "**/*.csv"),
        ("out/x/y/a.csv", "out/**/*.csv"),
        ("out/a.csv", "out/**/a.csv"),
        ("a/b/c/d", "a/**/**/d"),
        ("a/x/b/y/c", "**/b/**/c"),
        ("[a]", "[[]a]"),
        (".hidden", "*"),
    ],
)
def test_a_pattern_takes_a_path(path, pattern):
    assert matches(path.split("/"), pattern.split("/"))


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("out/a.csv", "*.csv"),
        ("out/x/a.csv", "out/*.csv"),
        ("out", "out/*"),
        ("out/a", "out"),
        ("b/a", "a/**"),
        ("A.csv", "a.csv"),
        ("a/b", "*"),
    ],
)
def test_a_pattern_leaves_a_path(path, pattern):
    assert not matches(path.split("/"), pattern.split("/"))


def matches_slowly(parts, pattern):
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(matches_slowly(parts[skip:], pattern[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and pattern[0] in ("*", parts[0]) and matches_slowly(parts[1:], pattern[1:])


@given(st.lists(st.sampled_from("ab"), max_size=6), st.lists(st.sampled_from(["a", "b", "*", "**"]), max_size=6))
def test_matching_agrees_with_its_definition(parts, pattern):
    assert matches(parts, pattern) == matches_slowly(parts, pattern)


def test_a_pattern_of_many_wild_cards_is_answered_at_once():
    """Trying every way to share out the parts would take years."""
    assert not matches(["a"] * 60, ["**", "a"] * 20 + ["b"])


def test_files_are_kept_under_their_names(work, record):
    (work / "out" / "deep").mkdir(parents=True)
    (work / "out" / "a.csv").write_bytes(b"\0a")
    (work / "out" / "deep" / "b.csv").write_bytes(b"b")
    (work / "out" / "c.txt").touch()
    assert keep(work, record, "out/**/*.csv") == (["out/a.csv", "out/deep/b.csv"], [])
    assert (record / "out" / "a.csv").read_bytes() == b"\0a"
    assert not (record / "out" / "c.txt").exists()


def test_links_and_what_is_no_file_are_not_kept(work, record):
    (work / "link").symlink_to("/etc/passwd")
    (work / "directory").symlink_to("/etc")
    os.mkfifo(work / "pipe")
    assert keep(work, record, "**") == ([], [])


def test_a_link_in_the_place_of_the_work_directory_is_not_entered(tmp_path, work, record):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "data").touch()
    work.rmdir()
    work.symlink_to(tmp_path / "precious")
    assert keep(work, record, "**") == ([], [])
    workdir.remove(str(work))
    assert (tmp_path / "precious" / "data").exists()
    assert not work.is_symlink()


@pytest.mark.parametrize("name", ["result.toml", "spec.toml", "attempts/1/x", "hold", ".tmp-1-x"])
def test_names_of_the_record_are_refused(work, record, name):
    (work / name).parent.mkdir(parents=True, exist_ok=True)
    (work / name).touch()
    kept, (refused,) = keep(work, record, "**")
    assert kept == []
    assert f"`{name}` was not kept" in refused
    assert list(record.iterdir()) == []


def test_a_link_in_the_record_is_not_written_through(tmp_path, work, record):
    (tmp_path / "precious").write_bytes(b"precious")
    (record / "a").symlink_to(tmp_path / "precious")
    (work / "a").write_bytes(b"forged")
    kept, (refused,) = keep(work, record, "a")
    assert (kept, "`a` was not kept" in refused) == ([], True)
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_a_record_that_is_away_is_trouble_and_not_a_reason_to_give_up(work, record):
    (work / "a").touch()
    record.rmdir()
    with pytest.raises(FileNotFoundError):
        keep(work, record, "a")


def test_everything_in_a_work_directory_is_removed(tmp_path, work):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "data").touch()
    for path in ("a/b/c", "a/b/d", "e"):
        (work / path).mkdir(parents=True)
    for name in ("a/b/file", "a/file", "-rf", "*", "a\nb", os.fsdecode(b"\xff")):
        (work / name).touch()
    (work / "a" / "link").symlink_to(tmp_path / "precious")
    (work / "loop").symlink_to(".")
    os.mkfifo(work / "a" / "pipe")
    for path in ("a/b/c", "a/b", "a", "e", "."):
        (work / path).chmod(0)
    workdir.remove(str(work))
    assert not work.exists()
    assert (tmp_path / "precious" / "data").exists()


def test_a_tree_that_is_deeper_than_any_recursion_is_removed(work, record):
    """A supervisor met its limit of recursion while it looked for files to keep, and the job was lost."""
    here = os.open(work, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    (work / "top").touch()
    kept, _ = keep(work, record, "top")
    assert kept == ["top"]
    workdir.remove(str(work))
    assert not work.exists()


def test_what_is_not_there_cannot_be_removed_and_harms_nobody(tmp_path):
    workdir.remove(str(tmp_path / "missing"))
    (tmp_path / "file").touch()
    workdir.remove(str(tmp_path / "file"))
    assert not (tmp_path / "file").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the capability of root")
def test_a_place_of_another_user_can_be_reached_where_our_own_jobs_were_before(tmp_path):
    workdir.make(str(tmp_path / "work" / "spool" / "ours"), None)
    workdir.make_top(str(tmp_path / "work" / "spool" / "theirs"), 60001, 60001)
    for path in (tmp_path / "work" / "spool", tmp_path / "work"):
        assert path.stat().st_mode & 0o001
    status = (tmp_path / "work" / "spool" / "theirs").stat()
    assert (status.st_uid, status.st_mode & 0o777) == (60001, 0o700)
