"""Bundles: which tar is one, which spec is in it, and that looking is cheap whatever the tar says."""

import io
import os
import subprocess
import tarfile
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooldadd import bundle, looking
from spooldadd.environment.bundles import unpacked
from spooldadd.environment.plan import Plan
from spooldadd.errors import BuildError
from spooldadd.inspect import peeking

SPEC = b'command = "true"\nqueue = "etl"\n'
SCRIPT = b'# /// script\n# tool.spooldadd.queue = "etl"\n# ///\n'


def packed(*entries, **options):
    """Return a tar of these: a name and bytes, or a header."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
                continue
            name, data = entry
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def opened(tmp_path):
    fds = []

    def write(data):
        path = tmp_path / f"{len(fds)}.tar"
        path.write_bytes(data)
        fds.append(os.open(path, os.O_RDONLY))
        return fds[-1]

    yield write
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["spec.toml", "./spec.toml", ".//spec.toml"])
def test_the_spec_is_found_behind_other_files(opened, form, name):
    long = "d/" + "é" * 60 + "/" + "x" * 90
    data = packed(("a.csv", b"x" * 5000), (long, b""), special("l", tarfile.SYMTYPE, "a.csv"), (name, SPEC), format=form)
    found = bundle.find_spec(opened(data))
    assert (found.name, found.data) == ("spec.toml", SPEC)


def test_a_script_is_the_spec_where_there_is_no_other(opened):
    load = ("load.py", b"print(1)\n")
    assert bundle.find_spec(opened(packed(load, ("b.py", SCRIPT), ("a.py", SCRIPT)))).name == "b.py"
    assert bundle.find_spec(opened(packed(("b.py", SCRIPT), ("spec.toml", SPEC)))).name == "spec.toml"
    with pytest.raises(bundle.NoBundle, match="holds no spec"):
        bundle.find_spec(opened(packed(load, ("sub/b.py", SCRIPT))))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"x" * 600, "is no tar"),
        (b"\x1f\x8b rest", "is packed with gzip"),
        (b"PK\x03\x04 rest", "is packed with zip"),
        (packed(("a", b"")), "holds no spec at the top"),
        (packed(("job/spec.toml", SPEC)), "at the top: `tar cf JOB.tar -C job .`"),
        (packed(special("spec.toml", tarfile.SYMTYPE, "/etc/passwd")), "holds no spec"),
        (packed(special("spec.toml", tarfile.DIRTYPE)), "holds no spec"),
        (packed(("a", b"x" * 5000))[:2000], "ends within a member"),
        (packed(("a", b""))[:512], "does not end as a tar does"),
        (packed(("a", b"")).replace(b"0000644", b"0000755", 1), "is no tar"),
        (packed(("a", b""), ("b", b"")).replace(b"b\0", b"c\0", 1), "a wrong checksum"),
        (packed(special("s", tarfile.GNUTYPE_SPARSE)), "sparse"),
        (packed(("a", b"")) + SPEC, "holds no spec"),
    ],
)
def test_what_is_no_bundle_says_why(opened, data, words):
    with pytest.raises(bundle.NoBundle) as caught:
        bundle.find_spec(opened(data))
    assert words in str(caught.value)


def test_only_so_many_headers_are_looked_at_however_they_are_spent(opened):
    many = [(f"{number}", b"") for number in range(bundle.MAX_LOOKED_AT)]
    assert bundle.find_spec(opened(packed(*many[1:], ("spec.toml", SPEC)))).data == SPEC
    with pytest.raises(bundle.NoBundle, match="among its first 256"):
        bundle.find_spec(opened(packed(*many, ("spec.toml", SPEC))))
    info = special("x" * 90, tarfile.XGLTYPE)
    with pytest.raises(bundle.NoBundle, match="among its first 256"):
        bundle.find_spec(opened(packed(*[info] * 300, ("spec.toml", SPEC))))


def test_a_header_that_wants_memory_is_refused(opened):
    info = special("x", tarfile.GNUTYPE_LONGNAME)
    info.size = 1 << 20
    data = info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20) + packed(("spec.toml", SPEC))
    with pytest.raises(bundle.NoBundle, match="a header of 1048576 bytes"):
        bundle.find_spec(opened(data))


def test_a_spec_that_is_too_long_is_not_read_whole(opened):
    found = bundle.find_spec(opened(packed(("spec.toml", b"#" * (5 << 20)))))
    assert len(found.data) == bundle.MAX_SPEC_BYTES + 1


def test_looking_does_not_read_what_lies_between(opened, tmp_path):
    fd = os.open(tmp_path / "large.tar", os.O_RDWR | os.O_CREAT)
    info = tarfile.TarInfo("data.bin")
    info.size = 3 << 30
    os.pwrite(fd, info.tobuf(tarfile.GNU_FORMAT), 0)
    os.pwrite(fd, packed(("spec.toml", SPEC)), 512 + info.size)  # a sparse file: it takes no room
    started = time.process_time()
    assert bundle.find_spec(fd).data == SPEC
    assert time.process_time() - started < 1
    os.close(fd)


@pytest.mark.parametrize("program", ["tar", "bsdtar", "busybox"])
def test_the_tars_of_common_programs_are_whole_and_cut_ones_are_not(opened, tmp_path, program):
    (tmp_path / "spec.toml").write_bytes(SPEC)
    (tmp_path / "data.csv").write_bytes(b"1\n" * 3000)
    command = [program, "tar"] if program == "busybox" else [program]
    try:
        subprocess.run([*command, "-cf", "x.tar", "spec.toml", "data.csv"], cwd=tmp_path, check=True)
    except FileNotFoundError:
        pytest.skip(f"needs the capability {program}")
    data = (tmp_path / "x.tar").read_bytes()
    assert bundle.is_whole(opened(data))
    for length in (0, 100, 512, 1024, 3000, 4096, 7000):
        assert not bundle.is_whole(opened(data[:length]))


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), st.binary())),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_headers_are_read_as_the_standard_library_reads_them(entries, form):
    data = packed(*entries, format=form)
    fd = os.memfd_create("tar")
    os.write(fd, data)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        theirs = [(member.name, member.offset_data, member.size) for member in tar]
    ours = [(member.name.rstrip("/"), member.at, member.size_bytes) for member in bundle.members(fd)]
    assert ours == [(name.rstrip("/"), at, size) for name, at, size in theirs]
    os.close(fd)


@settings(max_examples=200)
@given(st.binary(max_size=600), st.integers(0, 3000))
def test_a_damaged_tar_is_refused_and_nothing_else_happens(noise, at):
    data = bytearray(packed(("a" * 120, b"x" * 700), ("spec.toml", SPEC), format=tarfile.PAX_FORMAT))
    data[at : at + len(noise)] = noise
    fd = os.memfd_create("tar")
    os.write(fd, data)
    try:
        bundle.find_spec(fd)
        bundle.check(fd)
    except bundle.NoBundle:
        pass
    finally:
        os.close(fd)


def test_workers_and_readers_see_the_same_spec_in_it(tmp_path):
    for name, data in (("t.tar", packed(("spec.toml", SPEC))), ("s.tar.held", packed(("x.py", SCRIPT)))):
        (tmp_path / name).write_bytes(data)
        look = looking.look(str(tmp_path / name))
        assert look.member in ("spec.toml", "x.py")
        assert peeking.peek(str(tmp_path / name)).queue == "etl"


def test_a_cut_bundle_is_looked_at_and_called_cut(tmp_path):
    (tmp_path / "t.tar").write_bytes(packed(("spec.toml", SPEC), ("d", b"x" * 9000))[:3000])
    look = looking.look(str(tmp_path / "t.tar"))
    assert "is cut" in look.fault
    assert look.data == SPEC


# -- unpacked for a build


def plan_of(tmp_path, data, **fields):
    (tmp_path / "spec.tar").write_bytes(data)
    return Plan(work_dir=str(tmp_path / "work"), cache_dir=str(tmp_path), bundle=str(tmp_path / "spec.tar"), **fields)


def test_its_files_are_looked_for_first_and_are_gone_afterwards(tmp_path):
    plan = plan_of(tmp_path, packed(("spec.toml", SPEC), ("in/a", b"1")), base_dirs=(str(tmp_path),))
    with unpacked(plan) as told:
        assert told.base_dirs == (f"{plan.work_dir}.bundle", *plan.base_dirs)
        assert os.stat(told.base_dirs[0]).st_mode & 0o777 == 0o700
        with open(os.path.join(told.base_dirs[0], "in", "a")) as file:
            assert file.read() == "1"
    assert sorted(os.listdir(tmp_path)) == ["spec.tar"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (("../evil", b""), "contains `..`"),
        (("/evil", b""), "absolute path"),
        (special("l", tarfile.SYMTYPE, "/etc/passwd"), "leaves the directory"),
        (special("l", tarfile.SYMTYPE, "../../x"), "leaves the directory"),
        (special("h", tarfile.LNKTYPE, "../x"), "`..`"),
        (special("d", tarfile.CHRTYPE), "a device"),
        (special("f", tarfile.FIFOTYPE), "a fifo"),
    ],
)
def test_what_would_leave_is_refused_and_nothing_is_left(tmp_path, entry, words):
    with pytest.raises(BuildError) as caught, unpacked(plan_of(tmp_path, packed(("spec.toml", SPEC), entry))):
        pass
    assert words in str(caught.value)
    assert "`spec.tar`" in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["spec.tar"]


def test_a_bundle_that_was_written_to_after_the_claim_is_refused(tmp_path):
    plan = plan_of(tmp_path, packed(("spec.toml", SPEC)))
    status = os.stat(plan.bundle)
    with unpacked(plan.model_copy(update={"bundle_state": bundle.state(status)})):
        pass
    os.utime(plan.bundle, ns=(1, status.st_mtime_ns + 1))
    with (
        pytest.raises(BuildError, match="was written to after it was claimed"),
        unpacked(plan.model_copy(update={"bundle_state": bundle.state(status)})),
    ):
        pass
