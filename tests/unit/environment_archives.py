"""Hostile and honest archives, and what must come of each. Standard library only: also run by older interpreters.

Run as a program it checks every case with the interpreter that runs it, and prints how many held.
"""

import gzip
import io
import os
import stat
import struct
import sys
import tarfile
import tempfile
import zipfile

from spooldadd.environment.unpack import Limits, unpack
from spooldadd.errors import BuildError


def entry(name, data=b"", *, kind=tarfile.REGTYPE, link="", mode=0o644, pax=None):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.mode, info.mtime = len(data), kind, link, mode, 1_000_000_000
    info.pax_headers = pax or {}
    return info, data


def tar_bytes(*entries, mode="w", form=tarfile.PAX_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zip_bytes(*entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.create_system = 3
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return buffer.getvalue()


def sym(name, target):
    return entry(name, kind=tarfile.SYMTYPE, link=target)


def hard(name, target):
    return entry(name, kind=tarfile.LNKTYPE, link=target)


def huge_header():
    """A long-name header that says it is 8 GiB long."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    return info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024


def negative_size():
    block = bytearray(tarfile.TarInfo("negative").tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 11 + b"\x00"  # -256 in base 256
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block) + b"\0" * 1024


def overlapping_zip():
    """Two directory entries for one piece of data, each of which grows to 2 MB."""
    data = bytearray(zip_bytes(("a", b"\0" * 2_000_000, 0o100644)))
    end = data.rindex(b"PK\x05\x06")
    start = data.rindex(b"PK\x01\x02")
    central = bytes(data[start:end])
    tail = bytearray(data[end:])
    struct.pack_into("<HHI", tail, 8, 2, 2, 2 * len(central))
    return bytes(data[:start]) + central * 2 + bytes(tail)


FIFO, SETUID, LNK = stat.S_IFIFO, stat.S_IFREG | 0o4755, stat.S_IFLNK | 0o777
SMALL = Limits(total_bytes=5_000_000, members=50, ratio=100, ratio_from_bytes=1_000_000)

# name: (archive, words that the refusal must contain)
HOSTILE = {
    "an absolute path": (tar_bytes(entry("/tmp/evil", b"x")), ["/tmp/evil", "absolute"]),
    "a step upwards": (tar_bytes(entry("a/../../evil", b"x")), ["a/../../evil", "`..`"]),
    "a link to an absolute place": (tar_bytes(sym("l", "/etc/passwd")), ["`l`", "leaves"]),
    "a link that leaves": (tar_bytes(sym("d/l", "../../../outside")), ["`d/l`", "leaves"]),
    "a file through a link": (tar_bytes(sym("l", "d"), entry("l/evil", b"x")), ["l/evil", "below the link"]),
    "a link put where files lie": (tar_bytes(entry("d/f", b"x"), sym("d", "e")), ["`d`", "directory"]),
    "a link that leaves through another": (
        tar_bytes(sym("a/b/c/up", "../../../.."), sym("a/b/c/out", "up/../outside")),
        ["a/b/c/out", "leaves"],
    ),
    "links in circles": (tar_bytes(sym("a", "b"), sym("b", "a")), ["leaves"]),
    "a hard link to outside": (tar_bytes(hard("h", "../outside")), ["`h`", "`..`"]),
    "a hard link to an absolute place": (tar_bytes(hard("h", "/etc/passwd")), ["`h`", "absolute"]),
    "a hard link to a link": (tar_bytes(sym("l", "f"), hard("h", "l")), ["`h`", "no earlier file"]),
    "a hard link to what is not there": (tar_bytes(hard("h", "nothing")), ["`h`", "no earlier file"]),
    "a character device": (tar_bytes(entry("dev", kind=tarfile.CHRTYPE)), ["`dev`", "device"]),
    "a block device": (tar_bytes(entry("dev", kind=tarfile.BLKTYPE)), ["`dev`", "device"]),
    "a fifo": (tar_bytes(entry("pipe", kind=tarfile.FIFOTYPE)), ["`pipe`", "fifo"]),
    "a setuid file": (tar_bytes(entry("su", b"x", mode=0o4755)), ["`su`", "setuid"]),
    "a setgid file": (tar_bytes(entry("sg", b"x", mode=0o2755)), ["`sg`", "setgid"]),
    "a file below a file": (tar_bytes(entry("f", b"x"), entry("f/g", b"x")), ["f/g", "below the file"]),
    "a gzip bomb": (gzip.compress(tar_bytes(entry("zeros", b"\0" * 4_000_000))), ["bomb"]),
    "a total above the limit": (tar_bytes(entry("big", os.urandom(5_100_000))), ["bomb"]),
    "a bomb of small files": (tar_bytes(*(entry(f"f{n}") for n in range(60))), ["50 members", "bomb"]),
    "a header that wants all memory": (huge_header(), ["refused"]),
    "a negative size": (negative_size(), ["negative", "refused"]),
    "a name too long": (tar_bytes(entry("d/" * 3000 + "f", b"x")), ["characters"]),
    "a name beyond any header": (tar_bytes(entry("d/" * 90_000 + "f", b"x")), ["header"]),
    "a tar cut in a header": (tar_bytes(entry("a", b"x"), entry("b", b"y"))[:1300], ["too early"]),
    "a tar cut between members": (tar_bytes(entry("a", b"x"), entry("b", b"y"))[:1024], ["too early"]),
    "a tar cut in a file": (tar_bytes(entry("a", b"x" * 5000))[:2000], ["damaged"]),
    "a damaged header": (tar_bytes(entry("a", b"x"))[:1024] + b"?" * 9216, ["damaged"]),
    "a cut gzip": (gzip.compress(tar_bytes(entry("a", os.urandom(5000))))[:3000], ["damaged"]),
    "no archive": (b"hello, world\n" * 100, ["neither"]),
    "nothing": (b"", ["neither"]),
    "a zip with an absolute path": (zip_bytes(("/tmp/evil", b"x", 0o100644)), ["/tmp/evil", "absolute"]),
    "a zip with a step upwards": (zip_bytes(("../evil", b"x", 0o100644)), ["../evil", "`..`"]),
    "a zip with backslashes": (zip_bytes(("..\\evil", b"x", 0o100644)), ["\\evil"]),
    "a zip with a link that leaves": (zip_bytes(("l", b"../../x", LNK)), ["`l`", "leaves"]),
    "a zip with a file through a link": (zip_bytes(("l", b"d", LNK), ("l/f", b"x", 0o100644)), ["l/f", "link"]),
    "a zip with a fifo": (zip_bytes(("pipe", b"", FIFO)), ["`pipe`", "fifo"]),
    "a zip with a setuid file": (zip_bytes(("su", b"x", SETUID)), ["`su`", "setuid"]),
    "a zip bomb": (zip_bytes(("zeros", b"\0" * 4_000_000, 0o100644)), ["bomb"]),
    "a cut zip": (zip_bytes(("a", os.urandom(3000), 0o100644))[:2000], ["damaged"]),
    "an overlapping zip": (overlapping_zip(), []),
}


def snapshot(directory):
    """Every path below, with what it is: to see that nothing changed."""
    return sorted(
        (os.path.relpath(os.path.join(place, name), directory), os.lstat(os.path.join(place, name)).st_mode)
        for place, directories, files in os.walk(directory)
        for name in (*directories, *files)
    )


def refusal(archive, outer):
    """Unpack into `outer/work`; return the refusal, having checked that nothing at all was written."""
    work, path = os.path.join(outer, "work"), os.path.join(outer, "archive")
    os.mkdir(work)
    with open(path, "wb") as file:
        file.write(archive)
    before = snapshot(outer)
    try:
        unpack(path, work, "sub", limits=SMALL)
    except BuildError as error:
        assert snapshot(outer) == before, "a refused archive left something"
        return str(error)
    return ""


def check_refused(case):
    archive, words = HOSTILE[case]
    with tempfile.TemporaryDirectory() as outer:
        reason = refusal(archive, outer)
    assert reason, f"{case} was not refused"
    missing = [word for word in words if word not in reason]
    assert not missing, f"{case}: {missing} not in {reason!r}"


if __name__ == "__main__":
    for each in HOSTILE:
        check_refused(each)
    print(f"{len(HOSTILE)} refused by {sys.version.split()[0]}, filters: {hasattr(tarfile, 'data_filter')}")
