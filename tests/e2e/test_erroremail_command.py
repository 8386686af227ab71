"""`python erroremail.py -- command`: the command runs as it would without, and its failure is mailed."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

import spooldadd.erroremail
from tests.e2e.mail_servers import MailServer, ScriptedServer, hang

FILE = pathlib.Path(spooldadd.erroremail.__file__)
DEADLINE_S = 20.0


@pytest.fixture
def server():
    with MailServer() as running:
        yield running


@pytest.fixture
def environ(server):
    return environ_for(server.port)


def environ_for(port, **more):
    own = {"SERVER": "127.0.0.1", "PORT": str(port), "TO": "ops@example.org", "FROM": "cron@example.org", **more}
    return {**os.environ, **{f"ERROREMAIL_{key}": value for key, value in own.items()}}


def run(environ, *arguments, **options):
    command = [sys.executable, str(FILE), *arguments]
    return subprocess.run(command, env=environ, capture_output=True, timeout=DEADLINE_S, check=False, **options)


def start(environ, *arguments):
    command = [sys.executable, str(FILE), *arguments]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def test_a_command_that_succeeds_is_passed_through_and_not_mailed(server, environ):
    done = run(environ, "--", "sh", "-c", "cat; printf '\\377bytes'; echo talk >&2", input=b"in\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"in\n\xffbytes", b"talk\n")
    assert server.deliveries == []


def test_a_command_that_fails_is_mailed_with_its_status_and_the_end_of_its_output(server, environ):
    done = run(environ, "--", "sh", "-c", "for i in $(seq 500); do echo line $i; done; echo 'no disk' >&2; exit 3")
    assert done.returncode == 3
    assert done.stdout.count(b"\n") == 500 and done.stderr == b"no disk\n"
    (got,) = server.deliveries
    text = got.text()
    assert "ended with status 3" in got.mail["Subject"]
    assert "no disk" in text and "line 500\n" in text and "line 200\n" not in text
    assert "no disk" in got.text("html")


def test_always_mails_also_a_success(server, environ):
    assert run(environ, "--always", "--name", "backup", "--", "echo", "fine").returncode == 0
    assert server.deliveries[0].mail["Subject"] == "ErrorEmail: backup succeeded"


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["sh", "-c", "exit 255"], 255),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["no-such-command-here"], 127),
        (["/dev/null"], 126),
        (["/"], 126),
    ],
)
def test_it_exits_as_the_command_did(server, environ, command, status):
    assert run(environ, "--", *command).returncode == status
    assert len(server.deliveries) == 1


def test_options_come_before_the_configuration_file_and_that_before_nothing(server, tmp_path):
    path = tmp_path / "mail.toml"
    path.write_text(f'SERVER = "127.0.0.1"\nPORT = {server.port}\nTO = "file@example.org"\nFROM = "cron@example.org"\n')
    run(os.environ, "--config", str(path), "--set", "to=option@example.org", "--", "false")
    assert server.deliveries[0].recipients == ["option@example.org"]


def test_a_command_runs_also_when_the_configuration_is_wrong(tmp_path):
    done = run({**os.environ, "ERROREMAIL_TLS": "maybe"}, "--", "sh", "-c", "echo ran; exit 4")
    assert (done.returncode, done.stdout) == (4, b"ran\n")
    assert b"TLS must be" in done.stderr and done.stderr.count(b"\n") == 1


def test_check_tells_what_is_wrong_and_runs_nothing():
    done = run({**os.environ, "ERROREMAIL_PORT": "many", "ERROREMAIL_SUBJEKT": "x"}, "--check")
    assert done.returncode == 78
    assert b"PORT" in done.stderr and b"did you mean SUBJECT" in done.stderr
    good = {**os.environ, "ERROREMAIL_SERVER": "x", "ERROREMAIL_TO": "a@example.org", "ERROREMAIL_FROM": "b@example.org"}
    assert run(good, "--check").returncode == 0


def test_no_command_is_a_mistake_of_usage():
    assert run(os.environ).returncode == 2


def test_output_is_passed_on_while_the_command_runs(environ):
    with start(environ, "--", "sh", "-c", "echo first; read line; echo then") as child:
        assert child.stdout.readline() == b"first\n"
        child.terminate()
        child.wait(DEADLINE_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_go_on_to_the_command(server, environ, number):
    name = signal.Signals(number).name.removeprefix("SIG")
    script = f"trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.02; done"
    with start(environ, "--", "sh", "-c", script) as child:
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(number)
        assert child.stdout.read() == f"got {name}\n".encode()
        assert child.wait(DEADLINE_S) == 9
    assert f"got {name}" in server.deliveries[0].text()


def test_a_process_that_the_command_leaves_behind_does_not_hold_up_the_mail(server, environ, tmp_path):
    script = f"sleep 60 & echo $! > {tmp_path}/pid; echo started; exit 1"
    begun = time.monotonic()
    done = run(environ, "--", "sh", "-c", script)
    try:
        assert time.monotonic() - begun < 10
        assert done.returncode == 1 and "started" in server.deliveries[0].text()
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_reader_that_goes_away_does_not_stop_the_command(server, environ, tmp_path):
    script = f"for i in $(seq 20000); do echo line $i; done; touch {tmp_path}/finished; exit 1"
    child = start(environ, "--", "sh", "-c", script)
    child.stdout.readline()
    child.stdout.close()
    assert child.wait(DEADLINE_S) == 1
    child.stderr.close()
    assert (tmp_path / "finished").exists()
    assert "line 20000" in server.deliveries[0].text()


def test_a_great_deal_of_output_is_passed_on_whole_and_kept_in_bounded_memory(environ):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import erroremail\n"
        "status = erroremail.main(['--', 'sh', '-c', 'head -c 300000000 /dev/zero; exit 1'])\n"
        # Not `ru_maxrss`: at exec the kernel counts what the caller, a large test process, had as the new program's peak.
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "sys.stderr.write(str(int(peak.split()[1]) // 1024))"
    )
    command = [sys.executable, "-c", code, str(FILE.parent)]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        size = 0
        while data := child.stdout.read(1 << 20):
            size += len(data)
        peak_mb = int(child.stderr.read())
    assert size == 300_000_000
    assert peak_mb < 200


def test_secrets_in_the_command_and_its_output_are_hidden_in_the_mail_but_passed_through(server, environ):
    environ["WAREHOUSE_PASSWORD"] = "hunter2"
    done = run(environ, "--", "sh", "-c", "echo connecting with $WAREHOUSE_PASSWORD; exit 1", "--token", "abc123token")
    assert b"hunter2" in done.stdout
    (got,) = server.deliveries
    for text in (got.text(), got.text("html"), got.mail["Subject"]):
        assert "hunter2" not in text and "abc123token" not in text


def test_a_hanging_server_does_not_hold_up_the_exit_beyond_the_time_limit():
    with ScriptedServer(hang) as server:
        begun = time.monotonic()
        done = run(environ_for(server.port, TIMEOUT_S="0.5"), "--", "false")
        assert time.monotonic() - begun < 5
    assert done.returncode == 1 and b"no answer in time" in done.stderr


def test_it_runs_as_a_module_of_the_package(server, environ):
    command = [sys.executable, "-m", "spooldadd.erroremail", "--", "false"]
    done = subprocess.run(command, env=environ, cwd=FILE.parents[1], capture_output=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stderr) == (1, b"")
    assert len(server.deliveries) == 1
