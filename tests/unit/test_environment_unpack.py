"""Archives: what is refused writes nothing, what is honest arrives with names, modes and links."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from spooldadd.environment import unpack as unpacking
from spooldadd.environment.unpack import Limits, unpack
from spooldadd.errors import BuildError
from tests.unit import environment_archives as cases

PROJECT = Path(__file__).resolve().parents[2]


def unpacked(tmp_path, data, place=".", **options):
    archive = tmp_path / "archive"
    archive.write_bytes(data)
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    unpack(str(archive), str(work), place, **options)
    return work / place


def mode_of(path):
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("case", cases.HOSTILE)
def test_a_hostile_archive_is_refused_with_its_member_named_and_nothing_is_written(case):
    cases.check_refused(case)


def test_hostile_archives_are_refused_by_a_python_that_has_no_tarfile_filters():
    probe = "import sys, tarfile; sys.exit(sys.version_info < (3, 11) or hasattr(tarfile, 'data_filter'))"
    pythons = ["/usr/bin/python3", *filter(None, (shutil.which(f"python3.{minor}") for minor in (11, 12)))]
    old = [python for python in pythons if shutil.which(python) and not subprocess.run([python, "-c", probe]).returncode]
    if not old:
        pytest.skip("needs the capability to run a Python 3.11 without tarfile filters")
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([old[0], cases.__file__], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"{len(cases.HOSTILE)} refused" in done.stdout


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_tar_arrives_with_names_modes_times_and_links(tmp_path, pack):
    data = cases.tar_bytes(
        cases.entry("d", kind=b"5", mode=0o750),
        cases.entry("d/run", b"#!/bin/sh\n", mode=0o775),
        cases.entry("./d/./text", b"hello"),
        cases.sym("d/link", "../d/text"),
        cases.hard("again", "d/text"),
    )
    work = unpacked(tmp_path, pack(data))
    assert (work / "d/text").read_bytes() == (work / "again").read_bytes() == (work / "d/link").read_bytes() == b"hello"
    assert (mode_of(work / "d"), mode_of(work / "d/run"), mode_of(work / "d/text")) == (0o750, 0o755, 0o644)
    assert (work / "d/text").stat().st_mtime == 1_000_000_000
    assert os.readlink(work / "d/link") == "../d/text"
    assert sorted(os.listdir(work)) == ["again", "d"]


def test_a_zst_tar_arrives_or_the_reason_says_what_is_missing(tmp_path):
    zstd = shutil.which("zstd")
    if zstd is None:
        pytest.skip("needs the capability to run zstd, which is not installed")
    data = subprocess.run([zstd, "-c"], input=cases.tar_bytes(cases.entry("f", b"x")), capture_output=True).stdout
    try:
        assert (unpacked(tmp_path, data) / "f").read_bytes() == b"x"
    except BuildError as error:
        assert "`zstandard` package" in str(error)


def test_a_zip_keeps_modes_and_links(tmp_path):
    regular = stat.S_IFREG
    data = cases.zip_bytes(
        ("bin/run", b"#!/bin/sh\n", regular | 0o755), ("bin/plain", b"x", regular | 0o640), ("l", b"bin/run", cases.LNK)
    )
    work = unpacked(tmp_path, data)
    assert (mode_of(work / "bin/run"), mode_of(work / "bin/plain")) == (0o755, 0o640)
    assert os.readlink(work / "l") == "bin/run"


def test_a_zip_of_another_system_gets_sensible_modes(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("f")
        info.create_system, info.external_attr = 0, 0x20
        archive.writestr(info, b"x")
    assert mode_of(unpacked(tmp_path, buffer.getvalue()) / "f") == 0o644


def test_strip_removes_leading_directories_also_from_hard_links_and_skips_what_is_above(tmp_path):
    data = cases.tar_bytes(
        cases.entry("top", kind=b"5"),
        cases.entry("README", b"r"),
        cases.entry("top/f", b"x"),
        cases.hard("top/g", "top/f"),
    )
    work = unpacked(tmp_path, data, strip=1)
    assert sorted(os.listdir(work)) == ["f", "g"]


def test_strip_does_not_hide_a_step_upwards(tmp_path):
    with pytest.raises(BuildError, match=r"\.\./f"):
        unpacked(tmp_path, cases.tar_bytes(cases.entry("../f", b"x")), strip=1)


def test_a_later_member_replaces_an_earlier_one_and_never_writes_through_it(tmp_path):
    data = cases.tar_bytes(cases.sym("f", "g"), cases.entry("g", b"old"), cases.entry("f", b"new"))
    work = unpacked(tmp_path, data)
    assert (work / "f").read_bytes() == b"new"
    assert (work / "g").read_bytes() == b"old"
    assert not (work / "f").is_symlink()


def test_an_archive_joins_what_is_there_and_replaces_files(tmp_path):
    unpacked(tmp_path, cases.tar_bytes(cases.entry("d/a", b"1"), cases.entry("d/b", b"1")))
    work = unpacked(tmp_path, cases.tar_bytes(cases.entry("d/b", b"2"), cases.entry("d/e/c", b"2")))
    assert [(work / name).read_bytes() for name in ("d/a", "d/b", "d/e/c")] == [b"1", b"2", b"2"]


def test_a_directory_does_not_take_the_place_of_a_file_and_nothing_else_moved_either(tmp_path):
    unpacked(tmp_path, cases.tar_bytes(cases.entry("z", b"1")))
    with pytest.raises(BuildError, match="`z` is a directory"):
        unpacked(tmp_path, cases.tar_bytes(cases.entry("a", b"2"), cases.entry("z/f", b"2")))
    assert os.listdir(tmp_path / "work") == ["z"]


def test_two_archives_cannot_make_a_way_out_that_neither_has_alone(tmp_path):
    unpacked(tmp_path, cases.tar_bytes(cases.sym("a/b/out", "up/../outside")))
    with pytest.raises(BuildError, match="leaves"):
        unpacked(tmp_path, cases.tar_bytes(cases.sym("a/b/up", "../..")))


def test_a_link_may_lead_to_another_place_in_the_work_directory(tmp_path):
    unpacked(tmp_path, cases.tar_bytes(cases.entry("data", b"x")))
    assert (unpacked(tmp_path, cases.tar_bytes(cases.sym("l", "../data")), "sub") / "l").read_bytes() == b"x"


def test_a_place_that_a_link_leads_out_of_the_work_directory_is_refused(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work/way").symlink_to(tmp_path)
    with pytest.raises(BuildError, match="`way/x`"):
        unpacked(tmp_path, cases.tar_bytes(cases.entry("f", b"x")), "way/x")
    assert not (tmp_path / "x").exists()


def test_names_that_are_one_on_this_file_system_are_refused(tmp_path, monkeypatch):
    # What a file system folds is asked from it once; none that folds can be had in a test without root and a mount.
    monkeypatch.setattr(unpacking, "is_folding", lambda directory: True)
    data = cases.tar_bytes(cases.entry("Make", b"1"), cases.entry("make", b"2"))
    with pytest.raises(BuildError, match="`make` and `Make` are one name"):
        unpacked(tmp_path, data)


def test_names_that_differ_in_case_are_two_files_where_the_file_system_says_so(tmp_path):
    if unpacking.is_folding(str(tmp_path)):
        pytest.skip("needs the capability to hold names that differ in case")
    work = unpacked(tmp_path, cases.tar_bytes(cases.entry("Make", b"1"), cases.entry("make", b"2")))
    assert (work / "Make").read_bytes() == b"1"


def test_much_from_little_is_fine_below_the_floor_of_the_ratio(tmp_path):
    data = gzip.compress(cases.tar_bytes(cases.entry("zeros", b"\0" * 3_000_000)))
    limits = Limits(ratio=10, ratio_from_bytes=4_000_000)
    assert (unpacked(tmp_path, data, limits=limits) / "zeros").stat().st_size == 3_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives up at 40 links")
def test_a_chain_of_links_as_long_as_the_kernel_follows_is_taken(tmp_path):
    chain = [cases.sym(f"l{n}", f"l{n + 1}") for n in range(30)]
    work = unpacked(tmp_path, cases.tar_bytes(cases.entry("l30", b"x"), *chain))
    assert (work / "l0").read_bytes() == b"x"
