"""What was submitted runs, whatever is edited afterwards: bundles, made by `submit` and by hand, whole and hostile."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tests.e2e import cached_node
from tests.e2e.environment_index import Index, wheel
from tests.e2e.environment_web import Web
from tests.support import processes_of, result_of, until

pytestmark = pytest.mark.slow

cache, node, SETTLE_S = cached_node.cache, cached_node.node, cached_node.SETTLE_S
SHOW = 'command = ["cat", "data.csv"]\n[[files]]\nsource = "in/data.csv"\n'


@pytest.fixture
def beside(tmp_path):
    """A directory with a spec and a file that it names."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "data.csv").write_text("as submitted\n")
    (tmp_path / "job.toml").write_text(SHOW)
    (tmp_path / "spec.toml").write_text(SHOW)
    return tmp_path


def output(record):
    return (record / "output.log").read_text()


def packed(*entries):
    """Return a tar of these: a name and bytes, or a header."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
                continue
            info = tarfile.TarInfo(entry[0])
            info.size = len(entry[1])
            tar.addfile(info, io.BytesIO(entry[1]))
    return buffer.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def assert_nothing_is_left(node):
    """No unpacked bundle lies on the node's disk."""
    assert not list(node.work.rglob("*.bundle"))


# -- frozen at submit


def test_what_is_edited_after_the_submission_does_not_run(node, beside):
    (job,) = node.run("submit", str(beside / "job.toml")).stdout.split()
    assert (node.spool / f"{job}.tar").exists()
    (beside / "in" / "data.csv").write_text("edited\n")
    (beside / "job.toml").write_text('command = "false"\n')
    node.drain()
    record = node.finished("job")
    assert output(record) == "as submitted\n", result_of(record)
    assert subprocess.run(["tar", "-xOf", record / "spec.tar", "spec.toml"], capture_output=True, text=True).stdout == SHOW
    assert_nothing_is_left(node)


def test_a_program_that_submits_freezes_too(node, beside):
    told = f"from spooldadd import Spool; print(Spool({str(node.spool)!r}).submit({str(beside / 'job.toml')!r}).id)"
    subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    (beside / "in" / "data.csv").unlink()
    node.drain()
    assert output(node.finished("job")) == "as submitted\n"


def test_a_script_takes_its_files_along(node, beside):
    script = '# /// script\n# [[tool.spooldadd.files]]\n# path = "in/data.csv"\n# ///\nprint(open("in/data.csv").read())\n'
    (beside / "load.py").write_text(script)
    node.run("submit", str(beside / "load.py"))
    (beside / "in" / "data.csv").unlink()
    (beside / "load.py").unlink()
    node.drain()
    assert output(node.finished("load")) == "as submitted\n\n"


def test_the_same_submission_is_the_same_bundle_to_the_byte(node, beside):
    jobs = node.run("submit", str(beside / "job.toml")).stdout.split()
    os.utime(beside / "in" / "data.csv", (1, 1))
    jobs += node.run("submit", str(beside / "job.toml")).stdout.split()
    first, second = ((node.spool / f"{job}.tar").read_bytes() for job in jobs)
    assert first == second


@pytest.mark.slow
def test_requirements_are_frozen_and_edited_ones_make_another_environment(node, beside):
    with Web() as web:
        index = Index(web)
        for version in ("1.0", "2.0", "3.0"):
            index.add("alpha", version)
        table = f'[python]\nrequirements = "requirements.txt"\nindex_url = "{index.url}"\n'
        (beside / "job.toml").write_text(f'command = ["python", "-c", "import alpha; print(alpha.VERSION)"]\n{table}')
        (beside / "requirements.txt").write_text("-r more.txt\n")
        for version in ("1.0", "2.0"):
            (beside / "more.txt").write_text(f"alpha=={version}\n")
            node.run("submit", str(beside / "job.toml"), "--name", f"v{version[0]}")
        (beside / "more.txt").write_text("gone==1.0\n")
        (node.spool / "requirements.txt").write_text("alpha==3.0\n")  # what lies in the spool is asked last, ready or not
        shutil.copy(beside / "job.toml", node.spool / "v3.toml")
        node.drain("--jobs", "1")
        node.run("retry", "--force", "v1")
        node.drain()
    assert output(node.finished("v3")) == "3.0\n"
    assert [output(node.finished(name)) for name in ("v1", "v2")] == ["1.0\n", "2.0\n"]
    assert_nothing_is_left(node)


def test_a_local_wheel_is_frozen(node, beside):
    name, data = wheel("beta", "3.0")
    (beside / name).write_bytes(data)
    told = f'command = ["python", "-c", "import beta; print(beta.VERSION)"]\n[python]\nrequirements = "{name}"\n'
    (beside / "job.toml").write_text(told)
    node.run("submit", str(beside / "job.toml"))
    (beside / name).unlink()
    node.drain()
    record = node.finished("job")
    assert output(record) == "3.0\n", (record / "build.log").read_text()


@pytest.mark.parametrize(
    ("source", "words"),
    [("link.csv", "leaves the"), ("in", "is not a regular file"), ("gone.csv", "is not there"), ("../x", "cannot be used")],
)
def test_what_cannot_be_frozen_is_refused_and_nothing_is_dropped(node, beside, source, words):
    (beside / "link.csv").symlink_to("/etc/passwd")
    (beside / "job.toml").write_text(f'command = "true"\n[[files]]\nsource = "{source}"\n')
    done = node.run("submit", str(beside / "job.toml"), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert not list(node.spool.glob("*.t*"))


def test_a_file_that_lies_in_the_spool_is_found_there(node, beside):
    (node.spool / "shared.csv").write_text("shared\n")
    (beside / "job.toml").write_text('command = ["cat", "shared.csv"]\n[[files]]\npath = "shared.csv"\n')
    node.run("submit", str(beside / "job.toml"))
    node.drain()
    assert output(node.finished("job")) == "shared\n"


@pytest.mark.slow
def test_a_large_file_takes_no_memory(node, beside):
    with (beside / "in" / "data.csv").open("wb") as file:
        file.truncate(200 << 20)
    (beside / "job.toml").write_text(SHOW.replace('["cat", ', '["wc", "-c", '))

    def bound():
        resource.setrlimit(resource.RLIMIT_DATA, (150 << 20, 150 << 20))

    node.run("submit", str(beside / "job.toml"), preexec_fn=bound)
    node.run("worker", str(node.spool), "--drain", preexec_fn=bound)
    assert output(node.finished("job")).split()[0] == str(200 << 20)


# -- made by hand, and dropped in any way


@pytest.mark.parametrize("tool", ["mv", "cp", "rsync", "rsync --inplace"])
def test_a_hand_made_bundle_is_a_spec_however_it_is_dropped(node, beside, tool):
    if not shutil.which(tool.split()[0]):
        pytest.skip(f"needs the capability {tool.split()[0]}")
    node.start()
    subprocess.run(["tar", "-cf", "hand.tar", "spec.toml", "in/data.csv"], cwd=beside, check=True)
    subprocess.run([*tool.split(), str(beside / "hand.tar"), str(node.spool)], check=True)
    record = node.wait_finished("hand")
    assert output(record) == "as submitted\n", result_of(record)
    assert_nothing_is_left(node)


def test_a_bundle_of_a_whole_directory_is_one(node, beside):
    subprocess.run(["tar", "-cf", node.spool / "whole.tar", "-C", beside, "."], check=True)
    node.drain()
    assert output(node.finished("whole")) == "as submitted\n"


def test_a_bundle_that_is_written_slowly_is_taken_whole(node, beside):
    node.start()
    data = packed(("spec.toml", SHOW.encode()), ("in/data.csv", b"x" * 40_000))
    with (node.spool / "slow.tar").open("wb") as file:
        for start in range(0, len(data), 10_000):
            file.write(data[start : start + 10_000])
            file.flush()
            time.sleep(SETTLE_S * 0.7)
    assert output(node.wait_finished("slow")) == "x" * 40_000


def test_a_bundle_that_came_in_two_parts_is_waited_for(node, beside):
    """Closed after each part, as a copy that is continued: the first part has a whole spec in it, and is not whole."""
    node.environ["SPOOLDADD_INTAKE__SETTLE"] = "3s"
    node.start()
    node.drop("first.toml", 'command = "true"')
    node.wait_finished("first")  # now it listens: what a scan finds has to settle, whole or not
    data = packed(("spec.toml", SHOW.encode()), ("in/data.csv", b"x" * 40_000))
    (node.spool / "parts.tar").write_bytes(data[:20_000])
    time.sleep(1.0)  # longer than the quarter of a second after which a closed file that looks whole is taken
    with (node.spool / "parts.tar").open("ab") as file:
        file.write(data[20_000:])
    assert output(node.wait_finished("parts")) == "x" * 40_000


def test_a_name_of_255_bytes_is_a_name(node, beside):
    (node.spool / ("n" * 251 + ".tar")).write_bytes(packed(("spec.toml", SHOW.encode()), ("in/data.csv", b"1\n")))
    node.drain()
    (record,) = node.records("done")
    assert output(record) == "1\n"


def test_commands_know_a_bundle(node, beside):
    told = f'queue = "etl"\npriority = 7\n{SHOW}'
    path = beside / "hand.tar"
    path.write_bytes(packed(("spec.toml", told.encode()), ("in/data.csv", b"1\n")))
    assert node.run("check", str(path)).stdout == ""
    assert node.run("run", str(path)).stdout == "1\n"
    shutil.copy(path, node.spool)
    assert [job["job"] for job in json.loads(node.run("status", "--json").stdout)["jobs"]] == ["hand.tar"]
    assert "in queue `etl`, with priority 7" in node.run("explain", "hand.tar").stdout
    (job,) = node.run("submit", str(path), "--queue", "slow").stdout.split()
    assert "in queue `slow`" in node.run("explain", job).stdout
    node.drain()
    assert [output(record) for record in node.records("done")] == ["1\n", "1\n"]


def test_a_mistake_in_the_spec_of_a_bundle_has_its_place(node, beside):
    (node.spool / "wrong.tar").write_bytes(packed(("spec.toml", b'comand = "true"\n')))
    (node.spool / "script.tar").write_bytes(packed(("x.py", b"# /// script\n# x = 1\n# ///\n")))
    node.drain()
    assert "wrong.tar/spec.toml:1:1: unknown key `comand`" in (node.finished("wrong") / "errors.txt").read_text()
    assert "script.tar/x.py:2:3: unknown key `x`" in (node.finished("script") / "errors.txt").read_text()


# -- broken and hostile

GOOD = packed(("spec.toml", SHOW.encode()), ("in/data.csv", b"x" * 9000))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"no tar at all", "is no tar"),
        (GOOD[:1024], "is cut"),
        (GOOD[:4096], "is cut"),
        (GOOD[:-10240] + b"\1" * 10240, "is cut"),
        (packed(("in/data.csv", b"1")), "holds no spec at the top"),
        (packed(("job/spec.toml", b"1")), "belongs at the top"),
        (packed(special("spec.toml", tarfile.SYMTYPE, "/etc/passwd")), "holds no spec"),
        (packed(*[(str(number), b"") for number in range(300)], ("spec.toml", SHOW.encode())), "among its first 256"),
        (packed(special("s", tarfile.GNUTYPE_SPARSE), ("spec.toml", SHOW.encode())), "sparse"),
    ],
)
def test_what_is_no_bundle_is_filed_with_the_reason(node, data, words):
    (node.spool / "bad.tar").write_bytes(data)
    node.drain()
    record = node.finished("bad")
    assert result_of(record)["outcome"] == "invalid"
    assert words in result_of(record)["reason"]
    assert (record / "spec.tar").read_bytes() == data


def test_a_compressed_bundle_says_how_to_pack_it(node, beside):
    subprocess.run(["tar", "-czf", node.spool / "zipped.tar", "-C", beside, "spec.toml"], check=True)
    node.drain()
    assert "packed with gzip; a bundle is a plain tar: `tar cf" in result_of(node.finished("zipped"))["reason"]


def test_a_bundle_over_the_limit_is_refused_without_being_read(node):
    with (node.spool / "large.tar").open("wb") as file:
        file.write(GOOD)
        file.truncate((1 << 30) + 512)
    node.drain()
    assert "such a spec has at most 1G" in result_of(node.finished("large"))["reason"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (("../evil", b"1"), "contains `..`"),
        (("in/../../evil", b"1"), "contains `..`"),
        (("/tmp/spooldadd-evil", b"1"), "absolute path"),
        (special("in/l", tarfile.SYMTYPE, "/etc/passwd"), "leaves the directory"),
        (special("l", tarfile.SYMTYPE, "../.."), "leaves the directory"),
        (special("h", tarfile.LNKTYPE, "/etc/passwd"), "absolute path"),
        (special("d", tarfile.CHRTYPE), "a device"),
        (special("f", tarfile.FIFOTYPE), "a fifo"),
    ],
)
def test_what_would_leave_is_refused_and_writes_nothing(node, entry, words):
    (node.spool / "evil.tar").write_bytes(packed(("spec.toml", SHOW.encode()), ("in/data.csv", b"1"), entry))
    node.drain()
    record = node.finished("evil")
    assert result_of(record)["outcome"] == "build"
    assert words in result_of(record)["reason"]
    assert not list(node.spool.parent.rglob("evil")) and not Path("/tmp/spooldadd-evil").exists()
    assert_nothing_is_left(node)


def test_a_link_out_of_the_bundle_is_no_way_to_another_file(node):
    told = 'command = ["cat", "passwd"]\n[[files]]\nsource = "l/passwd"\n'
    (node.spool / "evil.tar").write_bytes(packed(("spec.toml", told.encode()), special("l", tarfile.SYMTYPE, "/etc")))
    node.drain()
    assert result_of(node.finished("evil"))["outcome"] == "build"


@pytest.mark.slow
def test_a_bundle_of_too_many_members_is_refused(node):
    header = special("x", tarfile.REGTYPE).tobuf()
    data = packed(("spec.toml", SHOW.encode()))[:1024] + header * 100_001 + bytes(10240)
    (node.spool / "many.tar").write_bytes(data)
    node.drain()
    assert "more than 100000 members" in result_of(node.finished("many"))["reason"]


# -- the life of a job is the same


def test_another_attempt_and_a_retry_find_the_same_files(node, beside):
    told = 'command = "cat data.csv; exit $((3 - SPOOLDADD_ATTEMPT))"\nretry = { attempts = 2, backoff = "0s" }\n'
    (beside / "job.toml").write_text(told + '[[files]]\nsource = "in/data.csv"\n')
    node.run("submit", str(beside / "job.toml"))
    (beside / "in" / "data.csv").unlink()
    node.drain()
    record = node.finished("job")
    assert (result_of(record)["attempt"], result_of(record)["exit_code"]) == (2, 1)
    before = (record / "spec.tar").read_bytes()
    node.run("retry", "job")
    node.drain()
    record = node.finished("job")
    assert (result_of(record)["attempt"], record.parent.name) == (3, "done")
    assert (record / "spec.tar").read_bytes() == before
    assert [output(record / "attempts" / number) for number in "12"] == ["as submitted\n"] * 2


def test_a_failed_job_leaves_its_work_directory_and_no_bundle_beside_it(node, beside):
    (beside / "job.toml").write_text(SHOW.replace('["cat", "data.csv"]', '"exit 1"'))
    node.run("submit", str(beside / "job.toml"))
    node.drain()
    work = Path(result_of(node.finished("job"))["workdir"])
    assert (work / "data.csv").exists()
    assert_nothing_is_left(node)


def build_of(node, beside):
    """Start a job whose build takes long; return when its step runs."""
    (beside / "job.toml").write_text(SHOW + '[[build]]\ncommand = "touch begun; sleep 600"\n')
    node.run("submit", str(beside / "job.toml"))
    until(lambda: list(node.work.rglob("begun")), f"the step runs {node.said()}")
    assert list(node.work.rglob("*.bundle"))


def test_cancelling_a_build_removes_what_was_unpacked(node, beside):
    node.start()
    build_of(node, beside)
    node.run("cancel", "job")
    assert result_of(node.wait_finished("job"))["outcome"] == "cancelled"
    until(lambda: not list(node.work.rglob("*.bundle")), "what was unpacked is gone")


def test_a_builder_that_is_killed_leaves_nothing_unpacked(node, beside):
    node.start()
    build_of(node, beside)
    for pid in processes_of(node.work):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # others end meanwhile
            if b"spooldadd.environment" in Path("/proc", str(pid), "cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
    assert result_of(node.wait_finished("job"))["outcome"] == "build"
    until(lambda: not list(node.work.rglob("*.bundle")), "what was unpacked is gone")


def test_a_job_in_a_bundle_is_nobodys_hostage(node, beside):
    (beside / "job.toml").write_text(SHOW.replace('["cat", "data.csv"]', '"echo begun; sleep 2; cat data.csv"'))
    worker = node.start()
    node.run("submit", str(beside / "job.toml"))
    until(lambda: any("begun" in path.read_text() for path in node.spool.glob("running/*/output.log")), "it runs")
    worker.kill()
    worker.wait()
    assert output(node.wait_finished("job")) == "begun\nas submitted\n"


def test_a_restart_loses_no_bundle_that_waits(node, beside):
    jobs = [node.run("submit", str(beside / "job.toml")).stdout.strip() for _ in range(3)]
    worker = node.start("--jobs", "1")
    until(lambda: node.records("running") or node.finished("job"), "one is taken")
    worker.kill()
    worker.wait()
    node.drain()
    found = [node.spool / "done" / job for job in jobs]
    until(lambda: all(path.exists() for path in found), "all are done")
    assert [output(path) for path in found] == ["as submitted\n"] * 3


def test_a_bundle_that_somebody_still_writes_to_is_put_back(node, beside):
    """Renamed into the spool while it is still open: it looks whole, is claimed, and is given back."""
    node.start()
    path = node.spool / ".open.part"
    with path.open("wb") as file:
        file.write(packed(("spec.toml", SHOW.encode()), ("in/data.csv", b"one")))
        file.flush()
        path.rename(node.spool / "open.tar")
        time.sleep(4 * SETTLE_S)
        assert not node.finished("open")
        file.seek(0)
        file.write(packed(("spec.toml", SHOW.encode()), ("in/data.csv", b"two")))
    assert output(node.wait_finished("open")) == "two"
