"""Whatever is dropped, it is filed with a clear reason, and the next job runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spooldadd.tomltext import flat
from tests.support import Node, processes_of, result_of, temporary_node, until

GOOD = b'command = ["true"]\n'

# What is in the file, and what the reason has to say.
CONTENTS: dict[str, tuple[bytes, str]] = {
    "no-toml": (b"please run my script\n", "not TOML"),
    "truncated": (b'command = ["echo", "half', "not TOML"),
    "truncated-list": (b'command = ["echo",\n', "not TOML"),
    "wrong-types": (b'command = 5\npriority = "high"\n[limits]\ntimeout = "soon"\n', "problem"),
    "unknown-keys": (b'comand = ["true"]\n[limit]\ntimeout = "1s"\n', "did you mean"),
    "binary": (Path("/bin/true").read_bytes(), "not text"),
    "image": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not text"),
    "nul": (b'command = ["true"]\0\n', "NUL"),
    "latin-1": ('command = ["écho"]\n'.encode("latin-1"), "UTF-8"),
    "utf-16": (GOOD.decode().encode("utf-16"), "UTF-16"),
    "utf-16-without-mark": (GOOD.decode().encode("utf-16-be"), "UTF-16"),
    "utf-32": (GOOD.decode().encode("utf-32"), "UTF-32"),
    "empty": (b"", "is empty"),
    "only-comments": (b"# command = ['true']\n\n", "only comments"),
    "without-command": (b"priority = 1\n", "`command` is missing"),
    "empty-command": (b"command = []\n", "`command`"),
    "blank-command": (b'command = "  "\n', "`command`"),
    "deep": (b"a = " + b"[" * 20_000, "nested"),
    "long-key": (b"a." * 20_000 + b"b = 1\n", "nested"),
    "long-number": (b"priority = " + b"9" * 10_000 + b"\n", "digits"),
    "key-twice": (b'command = ["true"]\ncommand = ["false"]\n', "already"),
    "nul-in-a-word": (b'command = ["echo", "a\\u0000b"]\n', "NUL"),
    "nul-in-env": (b'command = ["true"]\n[env]\nA = "a\\u0000b"\n', "NUL"),
    "equals-in-env": (b'command = ["true"]\n[env]\n"A=B" = "c"\n', "env"),
    "long-word": (b'command = ["echo", "' + b"x" * 200_000 + b'"]\n', "command"),
    "name-of-a-path": (b'name = "../../tmp/x"\ncommand = ["true"]\n', "name"),
    "keep-outside": (b'command = ["true"]\n[keep]\nfiles = ["../secret"]\n', "keep.files"),
    "keep-absolute": (b'command = ["true"]\n[keep]\nfiles = ["/etc/passwd"]\n', "keep.files"),
    "negative": (b'command = ["true"]\n[limits]\ntimeout = -1\n', "limits.timeout"),
    "endless-attempts": (b'command = ["true"]\n[retry]\nattempts = 99999999999\n', "retry.attempts"),
    "no-such-variable": (b'command = ["echo", "{{ vars.day }}"]\n', "day"),
    "template-syntax": (b'command = ["echo", "{{ vars.day "]\n[vars]\nday = 1\n', "template"),
    "template-escapes": (b'command = ["echo", "{{ \'\'.__class__.__mro__ }}"]\n', "template"),
    "template-explodes": (b'command = ["echo", "{{ \'x\' * 9999999999 }}"]\n', "template"),
    "large": (GOOD + b"#" * (50 << 20), "50M long"),
    "above-a-megabyte": (GOOD + b"#" * (1 << 20), "1M"),
    "many-problems": (b"".join(b"key%d = 1\n" % number for number in range(50_000)), "problem"),
}
# Files that look strange and are fine.
ACCEPTED: dict[str, bytes] = {
    "bom": b"\xef\xbb\xbf" + GOOD,
    "windows-lines": b'command = ["true"]\r\npriority = 1\r\n',
    "no-newline": GOOD.strip(),
    "megabyte-of-comments": GOOD + b"#" * ((1 << 20) - len(GOOD)),
}


def _make_directory(path: Path) -> None:
    path.mkdir()
    (path / "spec.toml").write_bytes(GOOD)


def _make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def _make_device(kind: int, number: tuple[int, int]) -> Callable[[Path], None]:
    return lambda path: os.mknod(path, kind | 0o600, os.makedev(*number))


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "directory": (_make_directory, "is a directory"),
    "empty-directory": (Path.mkdir, "is a directory"),
    "fifo": (os.mkfifo, "is a named pipe"),
    "socket": (_make_socket, "is a socket"),
    "link": (lambda path: path.symlink_to("/etc/hostname"), "symbolic link"),
    "link-to-nothing": (lambda path: path.symlink_to("nowhere"), "symbolic link"),
    "link-to-itself": (lambda path: path.symlink_to(path.name), "symbolic link"),
    "link-to-the-spool": (lambda path: path.symlink_to("."), "symbolic link"),
    "character-device": (_make_device(stat.S_IFCHR, (1, 3)), "is a device"),
    "block-device": (_make_device(stat.S_IFBLK, (7, 99)), "is a device"),
}


def _chown(uid: int, gid: int, mode: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_bytes(GOOD)
        os.chown(path, uid, gid)
        path.chmod(mode)

    return change


# As root only: nobody else can give files away.
OWNERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "for-all-to-write": (_chown(0, 0, 0o666), "may be changed by everybody (mode 0666); `chmod o-w` it"),
    "for-a-group-to-write": (_chown(0, 100, 0o664), "may be changed by the group `users`"),
    "of-somebody-else": (_chown(65534, 65534, 0o644), "belongs to `nobody`"),
}
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs the capability to make devices and give files away")


def _accepted_names() -> dict[str, bytes]:
    return {
        "space": b"a spec with spaces.toml",
        "newline": b"two\nlines.toml",
        "dots": b"..up..and..up..toml.toml"[2:],
        "dash": b"-rf.toml",
        "shell": b"$(touch pwned);`id`'\".toml",
        "percent": b"%s%n%d{0}.toml",
        "longest": b"n" * 250 + b".toml",
        "longest-dots": b"n" + b"." * 249 + b".toml",
        "no-utf-8": b"caf\xe9\xff.toml",
        "utf-8": "größe-名前-🚀.toml".encode(),
        "control": b"bell\x07\x1b[31mred\x7f.toml",
        "suffix-twice": b"x.toml.toml",
        "state": b"done.toml",
        "like-a-job": b"job.20200101T000000Z.bcdfg.toml",
        "like-a-record": b"job.20200101T000000Z.bcdfg.1.bcdfg.toml",
    }


# Never run, and left where they are.
LEFT_ALONE = [".hidden.toml", ".toml", "~draft.toml", "#draft.toml", "x.toml~", "x.toml.held", "x.TOML", "notes.txt",
              "x.sync-conflict-20261121-101500-ABCDEFG.toml", "x (conflicted copy 2026-11-21).toml"]  # fmt: skip


@pytest.fixture(scope="module")
def filed() -> Iterator[Node]:
    """Drop everything at once on one worker, and wait until nothing is left to run."""
    with temporary_node() as node:
        root = node.spool.parent
        for name, (data, _) in CONTENTS.items():
            (node.spool / f"{name}.toml").write_bytes(data)
        for name, data in ACCEPTED.items():
            (node.spool / f"{name}.toml").write_bytes(data)
        kinds = {**KINDS, **OWNERS} if os.getuid() == 0 else {k: v for k, v in KINDS.items() if "device" not in k}
        for name, (make, _) in kinds.items():
            make(node.spool / f"{name}.toml")
        for key, name in _accepted_names().items():
            out = root / f"name-{key}.out"
            text = flat({"command": ["sh", "-c", 'echo "$SPOOLDADD_JOB" >> "$1"', "sh", str(out)]})
            (Path(os.fsdecode(os.fsencode(node.spool) + b"/" + name))).write_bytes(text.encode())
        for name in LEFT_ALONE:
            (node.spool / name).write_bytes(GOOD)
        (root / "drain.log").write_text(node.drain())
        yield node


def refused(node: Node, name: str) -> tuple[str, str]:
    """Return reason and `errors.txt` of a spec that was refused."""
    (record,) = node.records("failed", name)
    result = result_of(record)
    assert (result["outcome"], result["state"]) == ("invalid", "failed")
    assert result["reason"]
    assert "\n" not in result["reason"]
    assert len(result["reason"]) < 400
    problems = record / "errors.txt"
    return result["reason"], problems.read_text() if problems.exists() else ""


@pytest.mark.parametrize("name", CONTENTS)
def test_file_that_is_no_spec_is_filed_with_its_problem(filed: Node, name: str) -> None:
    reason, problems = refused(filed, name)
    expected = CONTENTS[name][1]
    assert expected in reason or expected in problems, (reason, problems)
    assert f"{name}.toml" in reason


@pytest.mark.parametrize("name", [name for name, (data, _) in CONTENTS.items() if len(data) < 1 << 20])
def test_refused_spec_lies_untouched_beside_its_problems(filed: Node, name: str) -> None:
    (record,) = filed.records("failed", name)
    assert (record / "spec.toml").read_bytes() == CONTENTS[name][0]
    assert f"{name}.toml" in (record / "errors.txt").read_text()


def test_every_problem_of_a_spec_is_told_at_once(filed: Node) -> None:
    _, problems = refused(filed, "wrong-types")
    assert all(key in problems for key in ("`command`", "`priority`", "`limits.timeout`"))
    _, problems = refused(filed, "unknown-keys")
    assert all(key in problems for key in ("`comand`", "`command`", "`limit`"))


@pytest.mark.parametrize("name", ACCEPTED)
def test_strange_file_that_is_a_spec_runs(filed: Node, name: str) -> None:
    (record,) = filed.records("done", name)
    assert (record / "spec.toml").read_bytes() == ACCEPTED[name]


@pytest.mark.parametrize("name", [pytest.param(name, marks=[needs_root] if "device" in name else []) for name in KINDS])
def test_what_is_no_file_is_filed_as_it_is(filed: Node, name: str) -> None:
    reason, _ = refused(filed, name)
    assert KINDS[name][1] in reason
    (record,) = filed.records("failed", name)
    assert not stat.S_ISREG((record / "spec.toml").lstat().st_mode)


@needs_root
@pytest.mark.parametrize("name", OWNERS)
def test_spec_that_others_could_have_changed_is_refused(filed: Node, name: str) -> None:
    reason, _ = refused(filed, name)
    assert OWNERS[name][1] in reason


@pytest.mark.parametrize("key", _accepted_names())
def test_file_runs_once_whatever_its_name(filed: Node, key: str) -> None:
    (job,) = (filed.spool.parent / f"name-{key}.out").read_text().splitlines()
    record = filed.spool / "done" / job
    assert result_of(record)["job"] == job
    assert job.isascii()
    assert job.isprintable()
    assert not {"/", " "} & set(job)


def test_files_that_are_no_submissions_stay_where_they_are(filed: Node) -> None:
    assert {path.name for path in filed.spool.iterdir() if not path.name.startswith("@")} == {
        ".spool", "done", "failed", "running", "waiting", *LEFT_ALONE
    }  # fmt: skip
    said = (filed.spool.parent / "drain.log").read_text()
    for name in ("x.TOML", "notes.txt"):
        assert f"event=ignored file={name}" in said
    assert said.count("event=conflict-copy") == 2


def test_nothing_is_left_in_the_works(filed: Node) -> None:
    assert not filed.records("running")
    assert not filed.records("waiting")
    assert not list((filed.spool / ".spool" / "locks").iterdir())
    assert not [path for path in filed.work.rglob("*") if path.is_file()]
    assert "error" not in {line.split()[1] for line in (filed.spool.parent / "drain.log").read_text().splitlines()}


# -- commands that cannot be started


def _script(path: Path, first_line: str, mode: int = 0o755) -> str:
    path.write_text(first_line)
    path.chmod(mode)
    return str(path)


@pytest.fixture(scope="module")
def started() -> Iterator[Node]:
    with temporary_node() as node:
        root = node.spool.parent
        commands = {
            "missing": ["/no/such/program"],
            "missing-on-path": ["no-such-program"],
            "not-executable": [_script(root / "plain", "#!/bin/sh\n", 0o644)],
            "directory": ["/etc"],
            "no-interpreter": [_script(root / "wrong", "#!/no/such/interpreter\n")],
            "windows-script": [_script(root / "crlf", "#!/bin/sh\r\nexit 0\r\n")],
            "no-first-line": [_script(root / "bare", "echo hello\n")],
            "empty-file": [_script(root / "nothing", "")],
            "not-a-directory": ["/etc/hostname/program"],
            "shell-missing": "no-such-program --flag",
        }
        for name, command in commands.items():
            node.drop(f"{name}.toml", flat({"command": command}))
        # The kernel takes 2 MiB in all: most of it is in the worker's environment, the rest in the spec.
        node.environ |= {f"LONG_{number}": "x" * 120_000 for number in range(15)}
        node.drop("too-long.toml", flat({"command": ["echo", *["y" * 120_000] * 4]}))
        node.drop("limited.toml", 'command = ["/etc/hostname/x"]\n[limits]\nopen_files = 100\n')
        node.drop("limited-no-first-line.toml", flat({"command": [str(root / "bare")]}) + "[limits]\nopen_files = 100\n")
        node.drain()
        yield node


@pytest.mark.parametrize(
    ("name", "exit_code", "sentence"),
    [
        ("missing", 127, "the command `/no/such/program` does not exist"),
        ("missing-on-path", 127, "was not found on PATH"),
        ("not-executable", 126, "is not executable; `chmod +x` it"),
        ("directory", 126, "is a directory"),
        ("no-interpreter", 127, "interpreter"),
        ("windows-script", 127, "interpreter"),
        ("no-first-line", 126, "a script needs a first line"),
        ("empty-file", 126, "a script needs a first line"),
        ("not-a-directory", 127, "does not exist"),
        ("shell-missing", 127, "exit code 127"),
        ("too-long", 126, "longer than the system takes"),
        ("limited", 127, "does not exist"),
        ("limited-no-first-line", 126, "a script needs a first line"),
    ],
)
def test_command_that_cannot_start_says_why(started: Node, name: str, exit_code: int, sentence: str) -> None:
    (record,) = started.records("failed", name)
    result = result_of(record)
    assert (result["outcome"], result["exit_code"]) == ("exit", exit_code)
    assert sentence in result["reason"]
    if name != "shell-missing":
        assert sentence in (record / "output.log").read_text()


# -- what a job prints and does


def test_output_is_kept_byte_for_byte(served: Node) -> None:
    printed = [b"a\0b\0", b"\x1b[31mred\x1b[0m\r\n\x07", b"no newline", b"\xff\xfe\x80", b"\n\n", b""]
    for number, data in enumerate(printed):
        (served.spool.parent / f"{number}").write_bytes(data)
        served.ran(f"prints-{number}", flat({"command": ["cat", str(served.spool.parent / f"{number}")]}))
    for number, data in enumerate(printed):
        assert (served.wait_finished(f"prints-{number}") / "output.log").read_bytes() == data


def test_gigabyte_of_output_is_cut_at_the_limit(served: Node) -> None:
    record = served.ran("floods", 'command = "yes | head -c 1G"\n[limits]\noutput = "1M"\n')
    assert result_of(record)["outcome"] == "output"
    assert "`output` limit of 1 MiB" in result_of(record)["reason"]
    assert 1 << 20 <= (record / "output.log").stat().st_size < (1 << 20) + 200
    assert "cut here" in (record / "output.log").read_text()[-200:]


def test_job_that_goes_on_printing_when_asked_to_end_does_not_fill_the_disk(served: Node) -> None:
    """It used to be given all of `kill_after` to print on: at the speed of a disk that is 20 GB."""
    served.drop("goes-on.toml", """command = "trap '' TERM; yes"\n[limits]\noutput = "1M"\nkill_after = "20s"\n""")
    seen = [0]

    def look() -> Path | None:
        for log in served.spool.glob("running/goes-on.*/output.log"):
            with contextlib.suppress(FileNotFoundError):  # its record is filed under our hands
                seen.append(log.stat().st_size)
        return served.finished("goes-on")

    assert result_of(until(look, "it is ended"))["outcome"] == "output"
    assert max(seen) < 2 << 30


def test_job_may_remove_its_work_directory(served: Node) -> None:
    served.drop("good.toml", """command = 'rm -rf "$PWD"'\n""")
    served.drop("bad.toml", """command = 'rm -rf "$PWD"; exit 3'\n""")
    assert result_of(served.wait_finished("good"))["outcome"] == "success"
    bad = result_of(served.wait_finished("bad"))
    assert bad["exit_code"] == 3
    assert "workdir" not in bad  # it names nothing that is not there


def test_what_a_link_in_place_of_the_work_directory_leads_to_stays(node: Node) -> None:
    precious = node.spool.parent / "precious"
    precious.mkdir()
    (precious / "data").write_text("data")
    command = f'cd /; rm -rf "$SPOOLDADD_WORKDIR"; ln -s {precious} "$SPOOLDADD_WORKDIR"'
    node.drop("swaps.toml", flat({"command": command}) + '[keep]\nfiles = ["**"]\n')
    node.drain()
    assert result_of(node.finished("swaps"))["outcome"] == "success"
    assert (precious / "data").read_text() == "data"
    assert not (node.finished("swaps") / "data").exists()


def test_job_that_kills_its_supervisor_is_lost_and_the_next_runs(node: Node) -> None:
    node.start("--jobs", "1")
    node.drop("kills.toml", 'command = "kill -9 $PPID; sleep 0.5; exit 0"\n')
    record = node.wait_finished("kills")
    assert result_of(record)["outcome"] == "lost"
    assert "its supervisor" in result_of(record)["reason"]
    node.drop("next.toml", GOOD)
    assert result_of(node.wait_finished("next"))["outcome"] == "success"


def test_job_that_kills_its_supervisor_is_not_run_twice_at_once(node: Node) -> None:
    """The job lives on and holds its lease, so the next attempt has to wait for its end."""
    out = node.spool.parent / "out"
    command = f'echo begin >> {out}; [ "$SPOOLDADD_ATTEMPT" = 2 ] || kill -9 $PPID; sleep 1; echo end >> {out}'
    node.drop("kills.toml", flat({"command": command, "restartable": True}))
    node.start("--jobs", "2")
    assert result_of(node.wait_finished("kills"))["attempt"] == 2
    assert out.read_text().split() == ["begin", "end", "begin", "end"]


def test_job_that_kills_worker_and_launcher_is_filed(node: Node) -> None:
    worker = node.start()
    node.drop("kills.toml", f'command = "kill -9 {worker.pid} $(cat /proc/$PPID/stat | cut -d\\" \\" -f4); sleep 0.5"\n')
    assert result_of(node.wait_finished("kills"))["outcome"] == "success"


def test_job_that_stops_its_supervisor_is_only_held_up(node: Node) -> None:
    node.start()
    node.drop("stops.toml", 'command = "kill -STOP $PPID; echo $PPID > pid; sleep 60"\n')
    (pid_file,) = until(lambda: list(node.work.rglob("pid")), "the job has stopped its supervisor")
    supervisor = int(until(pid_file.read_text, "the pid is written"))
    node.drop("next.toml", GOOD)
    node.wait_finished("next")
    assert node.finished("stops") is None
    os.kill(supervisor, signal.SIGCONT)
    (record,) = node.records("running", "stops")
    (record / "cancel").touch()
    assert result_of(node.wait_finished("stops"))["outcome"] == "cancelled"


def test_job_that_removes_its_record_harms_nobody_else(node: Node) -> None:
    node.start("--jobs", "1")
    node.drop("removes.toml", """command = 'rm -rf "$SPOOLDADD_RECORD"'\n""")
    until(lambda: "event=claim-lost" in node.said(), "the supervisor finds its record gone")
    node.drop("next.toml", GOOD)
    node.wait_finished("next")
    assert not node.records("running")


def test_job_that_takes_the_place_of_its_result_is_filed(served: Node) -> None:
    """A directory of that name cannot be replaced by a file: its supervisor tried for ever."""
    record = served.ran("squats", """command = 'mkdir -p "$SPOOLDADD_RECORD/result.toml/x"'\n""")
    assert result_of(record)["outcome"] == "success"


def test_job_that_leaves_a_forest_of_processes_leaves_none(node: Node) -> None:
    command = "for i in $(seq 50); do (trap '' TERM HUP; setsid sleep 300 &) & done; wait"
    node.drop("forest.toml", flat({"command": command}) + '[limits]\nkill_after = "0.2s"\n')
    node.drain()
    assert result_of(node.finished("forest"))["outcome"] == "success"
    assert processes_of(node.work) == []


# -- what happens to a file while it waits


def test_file_modified_while_it_waits_runs_once_in_its_last_version(node: Node) -> None:
    out = node.spool.parent / "out"
    gate = node.spool.parent / "gate"
    node.start("--jobs", "1")
    node.drop("busy.toml", flat({"command": f"until [ -e {gate} ]; do sleep 0.05; done"}))
    until(lambda: node.records("running", "busy"), "the first job runs")
    node.drop("edited.toml", flat({"command": f"echo first >> {out}"}))
    (node.spool / "edited.toml").write_text(flat({"command": f"echo second >> {out}"}))
    node.drop("replaced.toml", flat({"command": f"echo third >> {out}"}))
    node.drop("replaced.toml", flat({"command": f"echo fourth >> {out}"}))
    gate.touch()
    node.wait_finished("edited")
    node.wait_finished("replaced")
    assert sorted(out.read_text().split()) == ["fourth", "second"]
    assert len(node.records("done")) == 3


def test_file_removed_while_it_waits_does_not_run(node: Node) -> None:
    gate = node.spool.parent / "gate"
    node.start("--jobs", "1")
    node.drop("busy.toml", flat({"command": f"until [ -e {gate} ]; do sleep 0.05; done"}))
    until(lambda: node.records("running", "busy"), "the first job runs")
    node.drop("removed.toml", GOOD)
    node.drop("moved-away.toml", GOOD)
    node.drop("last.toml", 'command = ["true"]\npriority = -1\n')
    (node.spool / "removed.toml").unlink()
    (node.spool / "moved-away.toml").rename(node.spool.parent / "kept.toml")
    gate.touch()
    node.wait_finished("last")
    assert not node.finished("removed")
    assert not node.finished("moved-away")
    assert not node.records("running")


def test_two_specs_of_one_name_both_run(served: Node) -> None:
    served.drop("a.toml", 'name = "same"\ncommand = ["true"]\n')
    served.drop("b.toml", 'name = "same"\ncommand = ["true"]\n')
    until(lambda: len(served.records("done", "same")) == 2, "both are done")


def test_file_with_the_id_of_a_job_that_is_known_becomes_another_job(served: Node) -> None:
    name = "again.20200101T000000Z.bcdfg"
    for count in (1, 2):
        served.drop(f"{name}.toml", GOOD)
        until(lambda count=count: len(served.records("done", "again")) == count, "it is done")
    assert name in [record.name for record in served.records("done", "again")]


def test_files_that_would_hide_states_do_no_harm(node: Node) -> None:
    """Nothing of these is ours, so nothing of these is touched."""
    for directory in ("running", "waiting", "done", "failed"):
        (node.spool / directory / "stranger").mkdir()
        (node.spool / directory / "strange.toml").write_bytes(GOOD)
        (node.spool / directory / "link").symlink_to("/nowhere")
    (node.spool / "waiting" / "file.20200101T000000Z.bcdfg").write_bytes(GOOD)
    (node.spool / "waiting" / "empty.20200101T000000Z.bcdfg").mkdir()
    (node.spool / "waiting" / "never.99999999T999999Z.bcdfg").mkdir()
    (node.spool / "running" / "file.20200101T000000Z.bcdfg.1.bcdfg").write_bytes(GOOD)
    (node.spool / ".spool" / "locks" / "strange").touch()
    node.drop("next.toml", GOOD)
    node.start()
    node.wait_finished("next")
    node.drop("later.toml", GOOD)
    node.wait_finished("later")
    assert (node.spool / "running" / "stranger").is_dir()
    assert (node.spool / "waiting" / "strange.toml").is_file()
    assert (node.spool / "waiting" / "file.20200101T000000Z.bcdfg").is_file()


def test_file_that_cannot_be_claimed_holds_up_no_other(node: Node) -> None:
    """It came up first again and again, and nothing else of the spool was run."""
    stuck = node.spool / "stuck.toml"
    stuck.write_text('command = ["true"]\npriority = 9\n')
    if not shutil.which("chattr") or subprocess.run(["chattr", "+i", stuck], capture_output=True, check=False).returncode:
        pytest.skip("needs the capability to make a file immutable")
    try:
        node.start()
        until(lambda: "event=spool-trouble" in node.said(), "the worker has tried")
        for number in range(3):
            node.drop(f"next-{number}.toml", GOOD)
        for number in range(3):
            node.wait_finished(f"next-{number}", 20)
        assert stuck.exists()
    finally:
        subprocess.run(["chattr", "-i", stuck], check=True)


def test_job_that_makes_attempts_up_harms_nobody(served: Node) -> None:
    command = 'mkdir -p "$SPOOLDADD_RECORD/attempts/²" "$SPOOLDADD_RECORD/attempts/$(printf 9%.0s $(seq 200))"; exit 1'
    record = served.ran("forges", flat({"command": command}) + '[retry]\nattempts = 2\nbackoff = "0.1s"\n')
    assert result_of(record)["attempt"] == 2
    served.ran("next", GOOD)


def test_worker_refuses_a_spool_that_everybody_can_write(node: Node) -> None:
    node.spool.chmod(0o777)
    done = node.run("worker", str(node.spool), "--drain", check=False)
    assert done.returncode == 4
    assert "may be changed by everybody" in done.stderr


def test_spool_is_gone_for_good_leaves_no_process(node: Node) -> None:
    worker = node.start()
    # Again and again: a worker that has just started makes its inbox and its entry there, as we delete.
    until(lambda: shutil.rmtree(node.spool, ignore_errors=True) or not node.spool.exists(), "it is gone")
    until(lambda: "event=spool-away" in node.said(), "the worker misses the spool")
    worker.terminate()
    assert worker.wait(10) == 0
    until(lambda: processes_of(node.work) == [], "its launcher ends too")
