"""Attacks on other users' jobs, on the requests that the worker heeds, and on its processes."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path

from spooldadd import names
from tests.faults.attacks.stage import ROOTS_FILE, ROOTS_WORD, VICTIMS_WORD, Stage, Worked, soon
from tests.support import until

LONG = "echo ready; echo word-of-the-victim; sleep 600"


def long_job(where: Stage, name: str) -> Path:
    """Have the victim run a job that lasts; return its record."""
    where.drop(where.victim, f"{name}.toml", f'command = "{LONG}"\n')
    return where.running(name)


def _end(where: Stage, name: str) -> None:
    code, said = where.victim.runs("--spool", str(where.spool), "cancel", name)
    assert code == 0, said


def reading_a_record(where: Stage) -> str:
    """another's record is read: list it and open its files by their names, while the job runs and when it has ended"""
    ended = where.job(where.victim, "private", f"echo {VICTIMS_WORD}; exit 3")
    running = long_job(where, "private-long")
    seen = []
    for record in (ended, running):
        seen.append(where.attacker.is_refused(lambda record=record: os.listdir(record), "list another's record"))
        for entry in os.listdir(record):
            file = record / entry
            if file.is_file():
                where.attacker.is_refused(file.read_bytes, f"read `{entry}` of another's record")
    assert VICTIMS_WORD in where.victim.does(lambda: (ended / "output.log").read_text()), "the owner himself can read it"
    _end(where, "private-long")
    return f"{seen[0]}; its owner reads it"


def reading_a_drop(where: Stage) -> str:
    """another's spec is read while it waits: open what `spooldadd submit` has dropped"""
    spec = where.victim.home / "waiting.toml"
    where.victim.does(lambda: spec.write_text(f'command = "true {VICTIMS_WORD}"\n'))
    code, said = where.victim.runs("--spool", str(where.spool), "submit", "--hold", str(spec))
    assert code == 0, said
    (path,) = where.spool.glob("waiting.*.held")
    refused = where.attacker.is_refused(path.read_bytes, "read another's drop")
    path.unlink()
    return refused


def reading_by_commands(where: Stage) -> str:
    """the commands tell too much: `status`, `logs`, `explain`, `failures`, `wait` of another's job, as text and as JSON"""
    where.job(where.victim, "told", f"echo {VICTIMS_WORD}; exit 3", 'env = {WORD = "word-of-the-victim"}\n')
    said = ""
    for words in ("status", "status --json", "status told --json", "logs told", "explain told", "failures", "wait told"):
        _, text = where.attacker.runs("--spool", str(where.spool), *words.split())
        if VICTIMS_WORD in text or "Traceback" in text:
            raise Worked(f"`{words}` said: {text}")
        said += text if words == "logs told" else ""
    return f"names only; `logs`: {said.strip().partition(': ')[2]}"


def acting_by_commands(where: Stage) -> str:
    """another's job is cancelled, run again, held, let go: `cancel`, `retry --force`, `hold`, `release` as another user"""
    done = where.job(where.victim, "settled", "true")
    running = long_job(where, "busy")
    where.drop(where.victim, "parked.toml.held", 'command = "true"\n')
    said = ""
    for words in (
        "cancel busy",
        "retry --force settled",
        "hold busy",
        "release parked.toml.held",
        "cancel parked.toml.held",
    ):
        code, text = where.attacker.runs("--spool", str(where.spool), *words.split())
        if code == 0:
            raise Worked(f"`{words}` did it: {text}")
        said = text if words == "cancel busy" else said
    assert running.exists() and done.exists() and (where.spool / "parked.toml.held").exists()
    _end(where, "busy")
    (where.spool / "parked.toml.held").unlink()
    return re.sub(r"`[^`]*`", "it", said.strip().partition(": ")[2], count=1)


def writing_into_records(where: Stage) -> str:
    """a record is changed by hand: make, replace and remove files in it, rename it, as another user and as its owner"""
    record = where.job(where.victim, "sealed", "exit 3")
    seen = ""
    for user in (where.attacker, where.victim):
        seen = user.is_refused(lambda: (record / "evil").write_text("x"), "make a file in a record")
        user.is_refused(lambda: (record / "result.toml").write_text("x"), "write a result")
        user.is_refused(lambda: (record / "result.toml").unlink(), "remove a result")
        user.is_refused(lambda: (record / "cancel").touch(), "leave a marker")
        user.is_refused(lambda: record.rename(where.spool / "waiting" / record.name), "move a record")
        user.is_refused(lambda: shutil.rmtree(record), "remove a record")
        user.is_refused(lambda: (where.spool / "failed" / "x").mkdir(), "make a record")
    return seen


def overwriting_a_drop(where: Stage) -> str:
    """another's drop is replaced or removed before it is claimed: rename over it, truncate it, unlink it"""
    path = where.drop(where.victim, "mine.toml.held", 'command = "true"\n')
    own = where.attacker.home / "other.toml"
    where.attacker.does(lambda: own.write_text('command = "id"\n'))
    refused = where.attacker.is_refused(lambda: os.rename(own, path), "rename over another's drop")
    where.attacker.is_refused(lambda: path.write_text("x"), "write into another's drop")
    where.attacker.is_refused(path.unlink, "remove another's drop")
    where.attacker.is_refused(lambda: path.rename(where.spool / "mine.toml"), "release another's drop by its name")
    assert path.read_text() == 'command = "true"\n'
    path.unlink()
    return refused


def forging_requests(where: Stage) -> str:
    """a request under another's name: one that says so, the victim's own files under the name of a request, links"""
    running = long_job(where, "wanted")
    job = names.parse_record_name(running.name).job
    box = where.spool / ".spool" / "requests"
    text = f'schema = 1\nact = "cancel"\njob = "{job}"\nforced = false\n'
    shared = where.root / "shared"
    shared.mkdir()
    shared.chmod(0o777)  # without the sticky bit: there, users can move each other's files
    where.victim.does(lambda: (shared / "of-the-victim").write_text("notes"))
    where.victim.does(lambda: [(shared / "linked").write_text(text), (shared / "linked").chmod(0o666)])

    def forge() -> None:
        (box / "aaaaaaaaaaaaaaaaaaaa").write_text(text + f"uid = {where.victim.uid}\nuser = 'victim'\n")
        (shared / "of-the-victim").rename(box / f"cancel.{job}")
        os.link(shared / "linked", box / "bbbbbbbbbbbbbbbbbbbb")
        os.symlink(shared / "linked", box / "cccccccccccccccccccc")
        os.mkfifo(box / "dddddddddddddddddddd")
        (box / "eeeeeeeeeeeeeeeeeeee").mkdir()
        (box / "eeeeeeeeeeeeeeeeeeee" / "full").touch()
        (box / "ffffffffffffffffffff").write_bytes(b"\xff" * 4096)
        where.wake()

    where.attacker.does(forge)
    until(lambda: not [entry for entry in os.listdir(box) if not entry.startswith(".tmp-")], "all requests are looked at")
    if soon(lambda: not running.exists(), 1.0):
        raise Worked("the victim's job was cancelled")
    refused = where.said().count("event=request-refused")
    where.attacker.is_refused(lambda: os.listdir(box), "list the requests of others")
    _end(where, "wanted")
    return (
        f"seven refused with a line in the log ({refused} in all so far), the job went on; its owner's own request ended it"
    )


def flooding_with_requests(where: Stage) -> str:
    """the worker is kept busy with requests: 500 at once, while the victim drops a job"""
    box = where.spool / ".spool" / "requests"

    def flood() -> None:
        for number in range(500):
            (box / f"{number:020d}").write_text('schema = 1\nact = "cancel"\njob = "nothing"\nforced = false\n')
        where.wake()

    where.attacker.does(flood)
    record = where.job(where.victim, "in-the-flood", "true")
    assert record.parent.name == "done"
    return "the victim's job ran meanwhile"


def pausing_all(where: Stage) -> str:
    """everybody's jobs are stopped: make `paused` and `paused.default` in the root, and the inbox of a node"""

    def squat() -> None:
        (where.spool / "paused").touch()
        (where.spool / "paused.default").touch()

    where.attacker.does(squat)
    record = where.job(where.victim, "not-paused", "true")
    code, said = where.attacker.runs("--spool", str(where.spool), "hold", "--all")
    for name in ("paused", "paused.default"):
        (where.spool / name).unlink()
    if code == 0 or record.parent.name != "done":
        raise Worked(said)
    return f"files of his do not count; `hold --all`: {said.strip().rpartition(': ')[2]}"


def inbox_of_his_own(where: Stage) -> str:
    """files of root's are drawn in: an inbox `@node` that is a link to a directory of root's with a `.toml` in it"""
    target = where.canary / "conf"
    target.mkdir()
    (target / "roots.toml").write_text('command = "id"\n')
    where.attacker.does(lambda: os.symlink(target, where.spool / "@other"))
    inbox = next(path for path in where.spool.iterdir() if path.name.startswith("@") and not path.is_symlink())
    where.attacker.is_refused(lambda: inbox.rename(where.spool / "@aside"), "move the inbox of the node")
    where.attacker.is_refused(lambda: (inbox / "x.toml").touch(), "drop into the inbox of the node")
    if soon(lambda: not (target / "roots.toml").exists(), 1.0):
        raise Worked("a file of root's was claimed")
    (where.spool / "@other").unlink()
    return "the node's own inbox is root's; of others nothing is taken"


def processes_of_the_worker(where: Stage) -> str:
    """the supervisor is attacked by its job: signals, `ptrace`, `/proc/PID/mem`, its descriptors, its environment"""
    script = where.attacker.home / "attack.py"
    source = r"""
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
def is_roots(pid):
    try:
        return "\nUid:\t0\t0" in open(f"/proc/{pid}/status").read()
    except OSError:
        return False
seen = []
for pid in [int(p) for p in os.listdir("/proc") if p.isdigit() and is_roots(p)]:
    for number in (0, signal.SIGKILL, signal.SIGSTOP):
        try:
            os.kill(pid, number); print("KILLED", pid)
        except (PermissionError, ProcessLookupError) as error:
            seen.append(type(error).__name__)
    if libc.ptrace(16, pid, 0, 0) == 0: print("TRACED", pid)
    for part in ("mem", "environ", "fd", "cwd", "root", "maps"):
        path = f"/proc/{pid}/{part}"
        try:
            looks = {"fd": os.listdir, "cwd": os.readlink, "root": os.readlink}
            if looks.get(part, lambda path: open(path, "rb").read(1))(path): print("SAW", path)
        except OSError as error:
            seen.append(error.strerror)
print(sorted(set(seen)))
"""
    where.attacker.does(lambda: script.write_text(source))
    record = where.job(where.attacker, "rebel", f"/usr/bin/env python3 {script}")
    said = where.output(record)
    if re.search("KILLED|TRACED|SAW", said) or "PermissionError" not in said:
        raise Worked(said)
    return "Operation not permitted, Permission denied; the supervisor filed the job as any other"


def processes_of_others(where: Stage) -> str:
    """another user's job is ended by a signal: `kill` of its processes"""
    running = long_job(where, "alive")
    lock = where.spool / ".spool" / "locks" / f"{running.name}.lock"
    pid = int(until(lambda: re.search(r"job_pid = (\d+)", lock.read_text()), "the job's process is noted")[1])
    refused = where.attacker.is_refused(lambda: os.kill(pid, signal.SIGKILL), "kill another's job")
    where.attacker.is_refused(lambda: Path(f"/proc/{pid}/environ").read_bytes(), "read the environment of another's job")
    where.attacker.is_refused(lambda: os.listdir(where.spool / ".spool" / "locks"), "list the locks")
    where.attacker.is_refused(
        lambda: (where.spool / ".spool" / "locks" / f"{running.name}.lock").write_text(""), "write a lock"
    )
    _end(where, "alive")
    return refused


def what_is_left_of_root(where: Stage) -> str:
    """something of root's is left in the job: capabilities, groups, descriptors, the way back, the environment, keys"""
    command = (
        "cat /proc/self/status; ls -l /proc/self/fd; cat /proc/keys; env; id; su -c id; python3 -c 'import os; os.setuid(0)'"
    )
    said = where.output(where.job(where.attacker, "left", command))
    status = dict(re.findall(r"^(\w+):\t(.*)$", said, re.M))
    kept = [name for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") if int(status[name], 16)]
    ids = {*status["Uid"].split(), *status["Gid"].split(), *status["Groups"].split()}
    open_fds = re.findall(r" (\d+) -> (\S+)", said)
    strange = [pair for pair in open_fds if pair[0] not in "012" and not pair[1].startswith("/proc/")]
    if kept or ids != {str(where.attacker.uid)} or strange or status["NoNewPrivs"] != "1" or ROOTS_WORD in said:
        raise Worked(said)
    if "uid=0" in said or "Operation not permitted" not in said:
        raise Worked(said)
    return "no capability, no group, three descriptors, `NoNewPrivs: 1`, an environment of eight names and `SPOOLDADD_*`"


def roots_words_anywhere(where: Stage) -> str:
    """words of root's or the victim's show: every `/proc/PID/environ`, `cmdline` and file of the spool is opened"""

    def look() -> list[str]:
        found = []
        places = [
            Path("/proc", pid, part) for pid in os.listdir("/proc") if pid.isdigit() for part in ("environ", "cmdline")
        ]
        places += [path for path in where.spool.rglob("*") if path.is_file()]
        for place in places:
            try:
                data = place.read_bytes()
            except OSError:
                continue
            found += [str(place) for word in (ROOTS_WORD, ROOTS_FILE, VICTIMS_WORD) if word.encode() in data]
        return found

    text = (
        'command = "echo $WORD; echo ready; sleep 600"\nenv = { WORD = "word-of-the-victim" }\n'  # a command line is public
    )
    where.drop(where.victim, "talking.toml", text)
    running = where.running("talking")
    found = where.attacker.does(look)
    assert running.exists()
    _end(where, "talking")
    if found:
        raise Worked(str(found))
    return "none of root's or the victim's words was seen"


def secrets_of_others(where: Stage) -> str:
    """a secret of root's or of another's: asked for by its name in a spec, and looked for while the other's job runs"""
    wants = '\n[secrets]\nword = "{}"\n'
    where.drop(where.victim, "keeper.toml", 'command = "cat $WORD_FILE; echo ready; sleep 600"' + wants.format("password"))
    running = where.running("keeper")
    assert VICTIMS_WORD in where.output(running), "the owner's job has his secret"
    (directory,) = (where.root / "work").rglob("keeper*.secrets")
    if os.listdir(directory) or where.attacker.does(lambda: _try_list(directory)):
        raise Worked(f"{os.listdir(directory)}")
    _end(where, "keeper")
    reasons = []
    for name in ("password", "roots", "../../roots"):
        where.drop(where.attacker, f"thief-{len(reasons)}.toml", 'command = "cat $WORD_FILE"' + wants.format(name))
        record = where.ended(f"thief-{len(reasons)}")
        if record.parent.name != "failed" or VICTIMS_WORD in where.output(record) or ROOTS_FILE in where.output(record):
            raise Worked(where.output(record))
        reasons.append(where.reason(record))
    return "each user has the secrets that root has put into his directory, and sees no others"


def _try_list(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def cache_of_others(where: Stage) -> str:
    """another's cache is poisoned, so that he runs what the attacker wrote: write into it, or be there before him"""
    where.drop(where.victim, "builder.toml", 'command = "cat a"\n[[files]]\npath = "a"\ncontent = "fine"\n')
    assert where.output(where.ended("builder")).endswith("fine")
    cache = where.root / "cache" / "users" / str(where.victim.uid)
    refused = where.attacker.is_refused(lambda: (cache / "blobs").mkdir(), "write into another's cache")
    where.attacker.is_refused(lambda: (cache.parent / str(where.bystander.uid)).mkdir(), "make another's cache")
    return refused


def abstract_doors(where: Stage) -> str:
    """a door of the worker's is open: a socket with a name, in a directory or an abstract one, on which root listens"""

    def look() -> list[str]:
        lines = Path("/proc/net/unix").read_text().splitlines()
        return [line for line in lines if "spooldadd" in line]

    found = where.attacker.does(look)
    if found:
        raise Worked(str(found))
    return "the worker and its supervisors talk through unnamed pairs"


ATTACKS = (
    reading_a_record, reading_a_drop, reading_by_commands, acting_by_commands, writing_into_records, overwriting_a_drop,
    forging_requests, flooding_with_requests, pausing_all, inbox_of_his_own, processes_of_the_worker, processes_of_others,
    what_is_left_of_root, roots_words_anywhere, secrets_of_others, cache_of_others, abstract_doors,
)  # fmt: skip
