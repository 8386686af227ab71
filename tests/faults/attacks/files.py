"""Attacks through files that a job leaves: in its work directory while root looks at it, and in its record."""

from __future__ import annotations

import ctypes
import os
import shutil
import time
from pathlib import Path

from tests.faults.attacks.stage import ROOTS_FILE, Stage, Worked

_LIBC = ctypes.CDLL(None, use_errno=True)
_EXCHANGE = 2  # linux/fs.h, RENAME_EXCHANGE


def swapped_links(where: Stage) -> str:
    """a directory becomes a link while its files are kept or removed: swapped without end by a process outside of the job"""
    precious = where.canary / "kept"
    precious.mkdir(exist_ok=True)
    for name in ("a", "b"):
        (precious / name).write_text(ROOTS_FILE)
        (precious / name).chmod(0o600)
    pid = where.attacker.starts(lambda: _swap(where.root / "work", precious))
    command = (
        "mkdir -p d/e/f; for i in a b c; do echo own > d/$i; echo own > d/e/f/$i; done; ln -s {} link; echo $PWD > {}/here"
    )
    try:
        for number in range(where.rounds):
            here = where.attacker.home
            keep = '[keep]\nfiles = ["d/**", "link/**", "d/e/f/*"]\n'
            record = where.job(where.attacker, f"race-{number}", command.format(precious, here), keep)
            found = [path for path in record.rglob("*") if path.is_file() and ROOTS_FILE in path.read_text(errors="replace")]
            if found or sorted(os.listdir(precious)) != ["a", "b"]:
                raise Worked(f"round {number}: {found} {os.listdir(precious)}")
            if any(os.lstat(path).st_uid for path in record.rglob("*") if path.name != "output.log"):
                raise Worked("something in the record is not root's")
            shutil.rmtree(record)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return f"{where.rounds} rounds: nothing of root's was read, and nothing removed; both is done with his rights"


def _swap(work: Path, target: Path) -> None:
    """Exchange directories of his work directories with links to elsewhere, as fast as it goes."""
    here = Path(os.environ["HOME"], "here")
    link = os.path.join(os.environ["HOME"], "swapped")
    while True:
        try:
            place = here.read_text().strip()
            for name in ("d", "d/e", "d/e/f"):
                os.symlink(target, link)
                for _ in range(20):
                    _LIBC.renameat2(-100, os.fsencode(link), -100, os.fsencode(os.path.join(place, name)), _EXCHANGE)
                _remove(link)
        except OSError:
            _remove(link)
            time.sleep(0.001)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        shutil.rmtree(path, ignore_errors=True)


def links_to_keep(where: Stage) -> str:
    """root's files are kept for him: links, hard links, pipes and programs with the set-user-id bit where `[keep]` looks"""
    precious = where.canary / "precious"
    command = f"ln -s {precious} out1; ln -s {where.canary} out2; mkfifo out3; cp /bin/true out4; chmod 6755 out4"
    record = where.job(where.attacker, "links", command + "; true", '[keep]\nfiles = ["out*", "out2/*"]\n')
    kept = sorted(path.name for path in record.iterdir() if path.name.startswith("out") and path.name != "output.log")
    status = os.lstat(record / "out4")
    if kept != ["out4"] or status.st_mode & 0o6022 or status.st_uid != 0:
        raise Worked(f"{kept} {status}")
    return "one file was kept, the program: as a file of root's of mode 0644"


def log_replaced(where: Stage) -> str:
    """the log becomes a link to a file of root's, or is kept open to write into what comes later: by the job itself"""
    target = where.canary / "log"
    target.write_text("untouched")
    command = (
        f'rm -f "$SPOOLDADD_RECORD/output.log"; ln -sf {target} "$SPOOLDADD_RECORD/output.log"; '
        f'mv "$SPOOLDADD_RECORD" "$SPOOLDADD_RECORD.x"; echo x > "$SPOOLDADD_RECORD/result.toml"; echo still here; exit 3'
    )
    record = where.job(where.attacker, "log", command)
    said = where.output(record)
    if target.read_text() != "untouched" or "still here" not in said or (record / "output.log").is_symlink():
        raise Worked(said)
    return "Permission denied: the record is root's; he may write into his own log, which is where he prints"


def files_of_others_in_his_place(where: Stage) -> str:
    """root removes for him what he could not remove: another user's files in his work directory, which he has opened"""
    where.drop(where.attacker, "host.toml", 'command = "chmod 777 . ..; mkdir -m 777 g; pwd; echo ready; sleep 600"\n')
    record = where.running("host")
    place = Path(where.output(record).split()[0]) / "g"
    where.victim.does(lambda: [(place / "own").mkdir(0o755), (place / "own" / "file").write_text("of the victim")])
    code, said = where.attacker.runs("--spool", str(where.spool), "cancel", "host")
    assert code == 0, said
    where.ended("host")
    if not (place / "own" / "file").exists():
        raise Worked("root has removed another's file")
    shutil.rmtree(place.parent.parent)
    return "they stay, and with them the place; the log says so"


def too_much_of_everything(where: Stage) -> str:
    """the worker runs out: a job that opens descriptors and forks without end, 300 links and 300 pipes dropped at once"""

    def drop() -> None:
        for number in range(300):
            os.symlink("/nowhere", where.spool / f"many-{number}.toml")
            os.mkfifo(where.spool / f"pipes-{number}.toml")

    where.attacker.does(drop)
    greedy = "python3 -c 'import os; f=[]\nwhile True:\n  try: f.append(os.open(\"/dev/null\", 0))\n  except OSError: break'"
    where.drop(where.attacker, "greedy.toml", f'command = """{greedy}"""\n[limits]\nopen_files = 500\n')
    record = where.job(where.victim, "patient", "true")
    assert record.parent.name == "done"
    where.ended("greedy")
    return "the victim's job ran meanwhile; each of the others was filed with its reason"


def answer_of_the_builder(where: Stage) -> str:
    """the builder's answer is forged by a build step: a link to root's file, a pipe, the key of an environment elsewhere"""
    answer = '{"ok":true,"reason":"","environ":{},"environment":"../../../../canary"}'
    forge = {
        "link": f"ln -sf {where.canary}/precious ../work.built",
        "pipe": "rm -f ../work.built; mkfifo ../work.built",
        "key": f"printf '{answer}' > ../work.built; kill -9 $PPID",
    }
    seen = []
    for name, step in forge.items():
        text = f'command = "echo ran"\n[[build]]\ncommand = """{step.replace(chr(34), chr(92) + chr(34))}; true"""\n'
        where.drop(where.attacker, f"answer-{name}.toml", text)
        record = where.ended(f"answer-{name}")
        if ROOTS_FILE in "".join(path.read_text(errors="replace") for path in record.rglob("*") if path.is_file()):
            raise Worked(where.reason(record))
        seen.append(record.parent.name)
    return f"read with his rights and judged anew; the jobs ended in {', '.join(f'`{state}/`' for state in seen)}"


ATTACKS = (
    swapped_links, links_to_keep, log_replaced, files_of_others_in_his_place, too_much_of_everything, answer_of_the_builder,
)  # fmt: skip
