"""Attacks by what is dropped: what the file is, whose it is, what it is called, and what the spec in it names."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.faults.attacks.stage import ROOTS_FILE, VICTIMS_WORD, Stage, Worked, soon
from tests.support import SPOOLDADD, until

STATES = ("running", "done", "failed")
SPEC = 'command = "id; cat /proc/self/status"\n'


def _refused(where: Stage, name: str) -> str:
    record = where.ended(name)
    if record.parent.name != "failed" or "uid=" in where.output(record):
        raise Worked(where.output(record))
    return where.reason(record)


def spec_swapped_after_the_claim(where: Stage) -> str:
    """the spec is changed after it was looked at: keep it open and go on writing into it, after its claim as well"""
    fd_holder = where.spool / "swapped.toml"
    good, evil = 'command = "echo fine"\n'.ljust(200), 'command = "echo EVIL"\n'.ljust(200)

    def drop_and_write() -> None:
        part = where.spool / ".swapped.part"
        part.write_text(good)
        part.rename(fd_holder)
        time.sleep(0.02)
        again = os.open(fd_holder, os.O_WRONLY) if fd_holder.exists() else -1
        end = time.monotonic() + 3
        while again >= 0 and time.monotonic() < end:
            os.pwrite(again, evil.encode(), 0)
            os.pwrite(again, good.encode(), 0)

    for number in range(where.rounds):
        pid = where.attacker.starts(drop_and_write)
        until(lambda: os.path.lexists(fd_holder) or any(where.record("swapped", state) for state in STATES), "it is dropped")
        time.sleep(0.1)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        record = where.ended("swapped")
        spec, status = (record / "spec.toml").read_bytes(), os.lstat(record / "spec.toml")
        ran = "EVIL" if "EVIL" in where.output(record) else "fine"
        if status.st_uid != 0 or (record.parent.name == "done" and f"echo {ran}".encode() not in spec):
            raise Worked(f"round {number}: {spec!r} {where.output(record)}")
        shutil.rmtree(record)
    return f"{where.rounds} rounds: what ran was what stands in the record, a file of root's that he never had open"


def something_else_for_a_spec(where: Stage) -> str:
    """no file is dropped: a link to another's spec, a link to root's file, a pipe, a directory, a socket, a cut bundle"""
    private = where.victim.home / "spec.toml"
    where.victim.does(lambda: private.write_text(SPEC))

    def drop() -> None:
        os.symlink(private, where.spool / "link-a.toml")
        os.symlink(where.canary / "precious", where.spool / "link-b.toml")
        os.mkfifo(where.spool / "pipe.toml")
        (where.spool / "directory.toml").mkdir()
        os.chdir(where.spool)
        socket.socket(socket.AF_UNIX).bind("socket.toml")
        (where.spool / "cut.tar").write_bytes(b"spec.toml" + b"\0" * 600)

    where.attacker.does(drop)
    reasons = [_refused(where, name) for name in ("link-a", "link-b", "pipe", "directory", "socket", "cut")]
    where.attacker.is_refused(lambda: os.mknod(where.spool / "device.toml", 0o20600, os.makedev(1, 3)), "make a device")
    return "; ".join(reason.partition("` ")[2].partition(";")[0] for reason in reasons)


def hard_links(where: Stage) -> str:
    """another's file is run as him, or moved away: a hard link to a spec of his, made by one who may write into it"""
    shared = where.victim.home.parent / "common.toml"
    shared.touch()
    os.chown(shared, where.victim.uid, where.victim.uid)
    where.victim.does(lambda: [shared.write_text(SPEC), shared.chmod(0o666)])
    where.attacker.does(lambda: os.link(shared, where.spool / "linked.toml"))
    reason = _refused(where, "linked")
    assert shared.exists(), "the victim's own name of it is still there"
    own = where.attacker.home / "own.toml"
    where.attacker.does(lambda: [own.write_text(SPEC), os.link(own, where.spool / "twice.toml")])
    return (
        f"{reason.partition('` ')[2]}; with one of his own: {_refused(where, 'twice').partition('` ')[2].partition(';')[0]}"
    )


def files_of_root(where: Stage) -> str:
    """a job of root's: a file that root has left in a directory of his is moved into the spool"""
    own = where.attacker.home / "export.toml"
    own.write_text(SPEC)
    where.attacker.does(lambda: own.rename(where.spool / "export.toml"))
    return _refused(where, "export").partition("` ")[2]


def an_owner_without_a_name(where: Stage) -> str:
    """a job of nobody: a drop whose owner is a number that the system has no user for"""
    path = where.spool / "nobody.toml"
    path.write_text(SPEC)
    os.chown(path, 60009, 60009)
    return _refused(where, "nobody").partition("` ")[2]


def writable_drops(where: Stage) -> str:
    """a spec that others can change is run as its owner: a drop of mode 0666, which the attacker changes while it waits"""
    path = where.drop(where.victim, "open.toml.held", SPEC, mode=0o666)
    where.attacker.does(lambda: path.write_text('command = "echo EVIL; id"\n'))
    where.victim.does(lambda: path.rename(where.spool / "open.toml"))
    return _refused(where, "open").partition("` ")[2]


def paths_that_lead_out(where: Stage) -> str:
    """paths of a spec lead out of the work directory: `..` and absolute names in every key that holds a path or a name"""
    word = where.root / "written"
    up = "../" * 12 + str(word).lstrip("/")
    far = f"{'../' * 12}{str(where.canary)[1:]}"
    specs = {
        "files-path": f'command = "true"\n[[files]]\npath = "{up}"\ncontent = "x"\n',
        "files-absolute": f'command = "true"\n[[files]]\npath = "{word}"\ncontent = "x"\n',
        "files-source": f'command = "cat x"\n[[files]]\nsource = "{far}/precious"\npath = "x"\n',
        "files-unpack": f'command = "true"\n[[files]]\nurl = "file:///etc/passwd"\npath = "{up}"\nunpack = true\n',
        "keep-files": f'command = "true"\n[keep]\nfiles = ["{far}/*"]\n',
        "keep-absolute": f'command = "true"\n[keep]\nfiles = ["{where.canary}/*"]\n',
        "requirements": f'command = "true"\n[python]\nrequirements = "{where.canary}/precious"\n',
        "name": f'name = "../../{word.name}"\ncommand = "true"\n',
        "secret": 'command = "true"\n[secrets]\nx = "../../roots"\n',
    }
    for name, text in specs.items():
        where.drop(where.attacker, f"out-{name}.toml", text)
    for name in specs:
        record = where.ended(f"out-{name}")
        kept = [path for path in record.rglob("*") if path.is_file() and ROOTS_FILE in path.read_text(errors="replace")]
        if record.parent.name != "failed" or kept or word.exists():
            raise Worked(f"{name}: {where.reason(record)} {kept}")
    return f"{len(specs)} specs: each `invalid` or `build`, nothing written, nothing read"


def files_that_he_may_not_read(where: Stage) -> str:
    """root reads for him: `file:` URLs, a `source` or a member of a bundle that is a link, `-r` in requirements, a step"""
    theirs = where.victim.home / "private"
    where.victim.does(lambda: [theirs.write_text(VICTIMS_WORD), theirs.chmod(0o600)])
    ended = where.job(where.victim, "source", f"echo {VICTIMS_WORD}")
    where.attacker.does(lambda: os.symlink(ended / "output.log", where.spool / "link.txt"))
    bundle = where.attacker.home / "b"
    where.attacker.does(lambda: _make_bundle(bundle, theirs))
    specs = {
        "url": f'command = "cat x"\n[[files]]\nurl = "file://{theirs}"\npath = "x"\n',
        "url-root": f'command = "cat x"\n[[files]]\nurl = "file://{where.canary}/precious"\npath = "x"\n',
        "linked-source": 'command = "cat x"\n[[files]]\nsource = "link.txt"\npath = "x"\n',
        "record-source": f'command = "cat x"\n[[files]]\nsource = "done/{ended.name}/output.log"\npath = "x"\n',
        "include": f'command = "true"\npython.requirements = "r.txt"\n[[files]]\npath = "r.txt"\ncontent = "-r {theirs}"\n',
        "step": f'command = "true"\n[[build]]\ncommand = ["cat", "{theirs}", "{where.canary}/precious"]\n',
        "template": f'command = "cat x"\n[[files]]\nurl = "file://{theirs}"\npath = "x"\ntemplate = true\n',
    }
    for name, text in specs.items():
        where.drop(where.attacker, f"get-{name}.toml", text)
    where.attacker.does(lambda: shutil.copy(bundle.with_suffix(".tar"), where.spool / "get-bundle.tar"))
    for name in (*specs, "bundle"):
        record = where.ended(f"get-{name}")
        text = "".join(path.read_text(errors="replace") for path in record.rglob("*") if path.is_file())
        if VICTIMS_WORD in text.replace("echo word", "") or ROOTS_FILE in text:
            raise Worked(f"{name}: {text}")
    (where.spool / "link.txt").unlink()
    return "all of them failed: what is built is built with his rights (`Permission denied`, or not there)"


def _make_bundle(directory: Path, target: Path) -> None:
    directory.mkdir()
    (directory / "spec.toml").write_text('command = "cat x"\n[[files]]\nsource = "x"\n')
    os.symlink(target, directory / "x")
    subprocess.run(["tar", "-cf", directory.with_suffix(".tar"), "-C", directory, "spec.toml", "x"], check=True)


def names_that_do_something(where: Stage) -> str:
    """the terminal of root is written to: file names with escape sequences, in `status`, `explain`, `doctor` and the log"""
    evil = "\x1b]0;owned\x07\x1b[2J\nfake line"

    def drop() -> None:
        (where.spool / f"{evil}.toml.held").write_text(SPEC)
        (where.spool / f"x{evil}.txt").touch()
        (where.spool / f"y{evil}.toml").write_text("command = 1\n")

    where.attacker.does(drop)
    soon(lambda: "ignored" in where.said() and "yfake" in where.said(), 2.0)
    told = where.said()
    for words in ("status", "status --json", "explain y", "failures", "doctor"):
        done = where.command("--spool", str(where.spool), *words.split(), check=False)
        told += done.stdout + done.stderr
    for path in where.spool.glob("*fake line*"):
        path.unlink()
    if "\x1b" in told or "\x07" in told or "\nfake line" in told:
        raise Worked(repr([line for line in told.splitlines() if "\x1b" in line or line.startswith("fake")]))
    return "shown as `\\x1b`, in no output and no line of the log as they are"


def names_that_collide(where: Stage) -> str:
    """a record is taken over by its name: a drop that carries the id of another's job, running or ended"""
    ended = where.job(where.victim, "unique", f"echo {VICTIMS_WORD}")
    before = {path: path.read_bytes() for path in ended.iterdir() if path.is_file()}
    where.drop(where.attacker, f"{ended.name}.toml", 'command = "echo EVIL"\n')

    def other() -> Path | None:
        found = [path for state in ("done", "failed") for path in (where.spool / state).glob("unique.*") if path != ended]
        return found[0] if found else None

    assert soon(other, 20.0), where.said()[-1000:]
    if {path: path.read_bytes() for path in ended.iterdir() if path.is_file()} != before:
        raise Worked("the victim's record was changed")
    return "it became a job of its own, with an id of its own"


def spool_in_his_directory(where: Stage) -> str:
    """another spool in place of the spool: it is in a directory of his, behind a link, below one that all may change"""
    said = []
    place = where.attacker.home / "spool"
    where.command("init", str(place), "--many-users")
    os.symlink(where.spool, where.root / "link")
    loose = where.root / "loose"
    loose.mkdir()
    loose.chmod(0o777)
    where.command("init", str(loose / "spool"), "--many-users")
    for path in (place, where.root / "link", loose / "spool"):
        done = subprocess.run(
            [SPOOLDADD, "worker", str(path), "--drain"],
            env=where.environ,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode != 4:
            raise Worked(f"{done.returncode}: {done.stderr}")
        said.append(done.stderr.strip().replace(str(where.root), ""))
    return "the worker does not start (exit 4): " + said[0].partition(": ")[2].partition(";")[0]


ATTACKS = (
    spec_swapped_after_the_claim, something_else_for_a_spec, hard_links, files_of_root, an_owner_without_a_name,
    writable_drops,
    paths_that_lead_out, files_that_he_may_not_read, names_that_do_something, names_that_collide, spool_in_his_directory,
)  # fmt: skip
