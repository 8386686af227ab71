"""What a job finds when it runs, and what is left of it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from spooldadd.tomltext import dumps
from tests.support import Node, processes_of, result_of, temporary_node, until

SETTINGS = {"db": "postgres://db", "depth": {"list": [1, 2.5, True, "x"], "quote": "\"'\\\n€🚀"}}
LARGE = {"stdin-70k": 70_000, "stdin-900k": 900_000}
# Prints what the kernel says about the process that runs: signals it ignores or blocks, its session, its descriptors.
STATE = "grep -E '^Sig(Ign|Blk|Cgt)' /proc/self/status; cut -d' ' -f1,5,6 /proc/self/stat; ls -l /proc/self/fd"
# 32 and 33, of its threads: its `posix_spawn` leaves them ignored in every program that it starts.
GLIBC_SIGNALS = 0x180000000

SPECS: dict[str, dict] = {
    "list": {"command": ["echo", "$HOME", "a  b", "*", ";", "'\""]},
    "shell": {"command": "for i in 1 2 3; do echo $i; done | tr '\\n' +"},
    "env": {"command": ["sh", "-c", 'printf "%s" "$GREETING"'], "env": {"GREETING": "grüß\ngott $HOME"}},
    "env-path": {"command": ["only-here"], "env": {"PATH": "{bin}:/usr/bin:/bin"}},
    "environment": {"command": ["env", "-0"], "env": {"OWN": "1"}},
    "python-buffer": {"command": ["sh", "-c", "echo =$PYTHONUNBUFFERED="], "env": {"PYTHONUNBUFFERED": ""}},
    "config": {"command": 'cat "$APP_SETTINGS_JSON"; stat -c " %a" "$APP_SETTINGS_JSON" >&2', "config": SETTINGS,
               "run": {"split_output": True}},
    "stdin-none": {"command": ["cat"]},
    "stdin-text": {"command": ["cat"], "stdin": "one\ntwo\n"},
    **{name: {"command": ["sha256sum"], "stdin": "0123456789" * (size // 10)} for name, size in LARGE.items()},
    "stdin-unread": {"command": ["true"], "stdin": "x" * 200_000},
    "workdir": {"command": 'pwd; echo "$PWD"; echo "$SPOOLDADD_WORKDIR"; stat -c %a .; ls -A; touch left; mkdir -p d/e'},
    "workdir-failure": {"command": "echo precious > left; exit 1"},
    "in-order": {"command": "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done"},
    "split": {"command": "echo out; echo err >&2", "run": {"split_output": True}},
    "exit-3": {"command": ["sh", "-c", "exit 3"]},
    "exit-255": {"command": ["sh", "-c", "exit 255"]},
    "killed": {"command": ["sh", "-c", "kill -9 $$"]},
    "segfault": {"command": ["sh", "-c", "kill -SEGV $$"]},
    "realtime-signal": {"command": ["sh", "-c", "kill -40 $$"]},
    "terminated": {"command": ["sh", "-c", "kill -TERM $$"]},
    "child-killed": {"command": "sh -c 'kill -9 $$'"},
    "exit-200": {"command": "exit 200"},
    "state": {"command": STATE},
    "state-limited": {"command": STATE, "limits": {"open_files": 100}},
    "templates": {"command": ["echo", "{{ vars.day }}", "{{ job.name }}", "{{ job.attempt }}", "{{ node.name }}"],
                  "vars": {"day": "2026-11-20"}},
    "no-template": {"command": ["echo", "{ {x} } %{y} ${z}"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def ran() -> Iterator[Node]:
    """Run all of `SPECS` on one worker, whose own environment holds what must not reach a job."""
    foreign = {"NOTIFY_SOCKET": "/run/x", "LISTEN_FDS": "1", "SPOOLDADD_CONFIG": "/dev/null", "FROM_WORKER": "yes"}
    with temporary_node(environ=foreign) as node:
        root = node.spool.parent
        (root / "bin").mkdir()
        (root / "bin" / "only-here").write_text("#!/bin/sh\necho found\n")
        (root / "bin" / "only-here").chmod(0o755)
        for name, spec in SPECS.items():
            text = dumps(spec).replace("{bin}", str(root / "bin"))
            node.drop(f"{name}.toml", text)
        node.drain("--node", "here", "--jobs", "4")
        yield node


def output(node: Node, name: str) -> str:
    return (node.finished(name) / "output.log").read_text()


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("list", "$HOME a  b * ; '\"\n"),
        ("shell", "1+2+3+"),
        ("env", "grüß\ngott $HOME"),
        ("env-path", "found\n"),
        ("python-buffer", "==\n"),
        ("stdin-none", ""),
        ("stdin-text", "one\ntwo\n"),
        ("stdin-unread", ""),
        ("in-order", "".join(f"out {i}\nerr {i}\n" for i in range(1, 6))),
        ("templates", "2026-11-20 templates 1 here\n"),
        ("no-template", "{ {x} } %{y} ${z}\n"),
    ],
)
def test_job_prints_what_its_spec_says(ran: Node, name: str, printed: str) -> None:
    assert result_of(ran.finished(name))["outcome"] == "success"
    assert output(ran, name) == printed


@pytest.mark.parametrize("name", LARGE)
def test_large_standard_input_arrives_whole(ran: Node, name: str) -> None:
    import hashlib

    assert output(ran, name).split()[0] == hashlib.sha256(SPECS[name]["stdin"].encode()).hexdigest()


def test_config_is_a_private_json_file(ran: Node) -> None:
    record = ran.finished("config")
    assert json.loads((record / "stdout.log").read_text()) == SETTINGS
    assert (record / "stderr.log").read_text().strip() == "600"


def test_work_directory_is_fresh_private_and_gone_after_success(ran: Node) -> None:
    cwd, pwd, named, mode, *rest = output(ran, "workdir").split()
    assert cwd == pwd == named
    assert cwd.startswith(str(ran.work))
    assert (mode, rest) == ("700", [])
    assert not os.path.exists(cwd)
    assert "workdir" not in result_of(ran.finished("workdir"))


def test_work_directory_stays_after_failure_and_the_result_names_it(ran: Node) -> None:
    path = Path(result_of(ran.finished("workdir-failure"))["workdir"])
    assert (path / "left").read_text() == "precious\n"


def test_environment_is_the_workers_with_the_jobs_facts(ran: Node) -> None:
    record = ran.finished("environment")
    environ = dict(line.split("=", 1) for line in output(ran, "environment").split("\0") if line)
    ours = {name: value for name, value in environ.items() if name.startswith("SPOOLDADD_")}
    assert ours.pop("SPOOLDADD_WORKDIR") == environ["PWD"]
    path = Path(ours.pop("SPOOLDADD_RECORD"))
    assert path.parent == ran.spool / "running"
    assert ours.pop("SPOOLDADD_CLAIM").endswith(f"/{path.name}")
    assert ours == {"SPOOLDADD_JOB": record.name, "SPOOLDADD_ATTEMPT": "1", "SPOOLDADD_NODE": "here"}
    assert environ["FROM_WORKER"] == "yes"
    assert environ["OWN"] == "1"
    assert environ["PYTHONUNBUFFERED"] == "1"
    assert environ["PATH"] == os.environ["PATH"]
    assert not {"NOTIFY_SOCKET", "LISTEN_FDS", "APP_SETTINGS_JSON"} & environ.keys()


def test_output_is_split_on_request(ran: Node) -> None:
    record = ran.finished("split")
    assert (record / "stdout.log").read_text() == "out\n"
    assert (record / "stderr.log").read_text() == "err\n"
    assert not (record / "output.log").exists()


@pytest.mark.parametrize(
    ("name", "outcome", "fields", "sentence"),
    [
        ("list", "success", {"exit_code": 0}, "exit code 0"),
        ("exit-3", "exit", {"exit_code": 3}, "exit code 3"),
        ("exit-255", "exit", {"exit_code": 255}, "exit code 255"),
        ("exit-200", "exit", {"exit_code": 200}, "exit code 200"),
        ("killed", "signal", {"signal": 9}, "SIGKILL"),
        ("segfault", "signal", {"signal": 11}, "SIGSEGV"),
        ("terminated", "signal", {"signal": 15}, "SIGTERM"),
        ("realtime-signal", "signal", {"signal": 40}, "signal 40"),
        ("child-killed", "exit", {"exit_code": 137}, "SIGKILL"),
    ],
)
def test_end_is_told_as_the_kernel_tells_it(ran: Node, name: str, outcome: str, fields: dict, sentence: str) -> None:
    result = result_of(ran.finished(name))
    assert result["outcome"] == outcome
    assert {key: result[key] for key in ("exit_code", "signal") if key in result} == fields
    assert sentence in result["reason"]
    assert result["state"] == ("done" if outcome == "success" else "failed")


@pytest.mark.parametrize("name", ["state", "state-limited"])
def test_job_starts_as_any_program_of_a_login_does(ran: Node, name: str) -> None:
    """No signal ignored or blocked, a session of its own, and no descriptor but its streams and the lease.

    The channel between its supervisor and the worker was there too, because `socket.recv_fds` ignores its flags.
    """
    lines = output(ran, name).splitlines()
    masks = dict(line.split(":") for line in lines[:3])
    assert int(masks["SigIgn"], 16) & ~GLIBC_SIGNALS == 0
    assert int(masks["SigBlk"], 16) == 0
    _, group, session = map(int, lines[3].split())
    assert group == session
    opened = {line.split("-> ")[1] for line in lines[5:]}
    own = {f"/proc/{line.split()[8]}" for line in lines[5:]}
    assert not own & opened
    leases = {path for path in opened if path.endswith(".lock")}
    assert len(leases) == 1
    rest = {path for path in opened - leases if not path.startswith("/proc/")}
    assert {Path(path).name for path in rest} == {"null", "output.log"}, opened


def test_every_fact_of_the_result_is_there(ran: Node) -> None:
    result = result_of(ran.finished("list"))
    assert result["schema"] == 1
    assert result["job"] == ran.finished("list").name
    assert (result["name"], result["queue"], result["attempt"], result["node"]) == ("list", "default", 1, "here")
    times = [result[key] for key in ("submitted_at", "claimed_at", "started_at", "finished_at")]
    assert times == sorted(times)
    assert result["duration_s"] == pytest.approx((times[3] - times[2]).total_seconds(), abs=0.002)


def test_nothing_is_left_in_the_works(ran: Node) -> None:
    assert not ran.records("running")
    assert not list((ran.spool / ".spool" / "locks").iterdir())
    assert processes_of(ran.work) == []


# -- what a whole tree used

PYTHON_FILLS = "import sys, time; data = b'x' * (60 << 20); time.sleep(float(sys.argv[1]))"
PYTHON_COMPUTES = "import time\nwhile time.process_time() < 0.4: pass"


def test_usage_is_of_the_whole_tree(node: Node) -> None:
    (node.spool.parent / "fills.py").write_text(PYTHON_FILLS)
    (node.spool.parent / "computes.py").write_text(PYTHON_COMPUTES)
    python = "python3 " + str(node.spool.parent)
    node.drop("three.toml", dumps({"command": f"for i in 1 2 3; do {python}/fills.py 1.5 & done; wait"}))
    node.drop("one.toml", dumps({"command": f"{python}/fills.py 0"}))
    node.drop("cpu.toml", dumps({"command": f"{python}/computes.py & {python}/computes.py; wait"}))
    node.drop("sleeps.toml", dumps({"command": "sleep 0.7"}))
    node.drain("--jobs", "4")
    three, one, cpu, sleeps = (result_of(node.finished(name)) for name in ("three", "one", "cpu", "sleeps"))
    assert 180 << 20 < three["max_rss_bytes"] < 260 << 20
    assert 60 << 20 < one["max_rss_bytes"] < 90 << 20
    assert 0.8 <= cpu["cpu_s"] < 1.5
    assert 0.7 <= sleeps["duration_s"] < 1.7
    assert sleeps["cpu_s"] < 0.2


def test_small_job_is_not_said_to_have_our_own_size(node: Node) -> None:
    """The kernel counts the memory of who calls `exec` as the new program's: `sleep` seemed to need 9 MB."""
    node.drop("small.toml", 'command = ["sleep", "1"]\n[limits]\nmemory = "5M"\n')
    node.drain()
    result = result_of(node.finished("small"))
    assert result["outcome"] == "success"
    assert 100_000 < result["max_rss_bytes"] < 5 << 20


# -- processes


def test_what_a_job_leaves_behind_is_ended(node: Node) -> None:
    command = "sleep 300 & (setsid sleep 300 &) ; (trap '' HUP TERM; sleep 300) & sleep 0.2"
    node.drop("leaves.toml", dumps({"command": command, "limits": {"kill_after": "0.3s"}}))
    node.drain()
    result = result_of(node.finished("leaves"))
    assert (result["outcome"], result["exit_code"]) == ("success", 0)
    assert result["duration_s"] < 0.5  # of the job itself, not of what it left
    assert processes_of(node.work) == []


def test_daemon_that_double_forks_and_closes_everything_is_ended(node: Node) -> None:
    script = node.spool.parent / "daemon.py"
    script.write_text(
        "import os, time\n"
        "if os.fork(): time.sleep(0.3); os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "os.closerange(0, 100)\n"
        f"open({str(node.spool.parent / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(300)\n"
    )
    node.drop("daemon.toml", dumps({"command": ["python3", str(script)]}))
    node.drain()
    assert result_of(node.finished("daemon"))["outcome"] == "success"
    assert not os.path.exists(f"/proc/{(node.spool.parent / 'pid').read_text()}")


def test_term_to_the_supervisor_does_not_end_the_job(node: Node) -> None:
    node.start()
    gate = node.spool.parent / "gate"
    node.drop("steady.toml", dumps({"command": f"echo $PPID > {gate}.pid; until [ -e {gate} ]; do sleep 0.05; done"}))
    pid_file = Path(f"{gate}.pid")
    supervisor = int(until(lambda: pid_file.exists() and pid_file.read_text(), "the job runs"))
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1):
        os.kill(supervisor, number)
    gate.touch()
    result = result_of(node.wait_finished("steady"))
    assert (result["outcome"], result["exit_code"]) == ("success", 0)


def test_job_survives_the_end_of_its_worker_and_is_filed(node: Node) -> None:
    worker = node.start()
    gate = node.spool.parent / "gate"
    node.drop("steady.toml", dumps({"command": f"until [ -e {gate} ]; do sleep 0.05; done; echo end"}))
    until(lambda: "event=started" in node.said(), "the job runs")
    os.killpg(worker.pid, signal.SIGTERM)
    assert worker.wait(10) == 0
    assert node.finished("steady") is None
    gate.touch()
    record = node.wait_finished("steady")
    assert (record / "output.log").read_text() == "end\n"
    until(lambda: processes_of(node.work) == [], "the supervisor has ended too")


# -- many


def test_two_hundred_jobs_run_two_at_a_time(node: Node) -> None:
    out = node.spool.parent / "out"
    for number in range(200):
        node.drop(f"job-{number}.toml", f'command = "echo + >> {out}; sleep 0.01; echo - >> {out}"\n')
    node.drain("--jobs", "2")
    assert len(node.records("done")) == 200
    running, most = 0, 0
    for sign in out.read_text().split():
        running += 1 if sign == "+" else -1
        most = max(most, running)
    assert (running, most) == (0, 2)


def test_jobs_that_end_at_once_are_all_told_apart(node: Node) -> None:
    for number in range(60):
        node.drop(f"job-{number}.toml", f'command = ["sh", "-c", "echo {number}; exit {number}"]\n')
    node.drain("--jobs", "8")
    for number in range(60):
        record = node.finished(f"job-{number}")
        assert result_of(record)["exit_code"] == number
        assert (record / "output.log").read_text() == f"{number}\n"
