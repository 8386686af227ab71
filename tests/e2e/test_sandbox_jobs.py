"""Jobs in a sandbox, by the real bubblewrap: what is closed is closed, and all that works without one works in it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

import pytest

from tests.support import processes_of, result_of, temporary_node, until

PROBE = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--unshare-pid", "--unshare-net", "--proc", "/proc", "true"]
CAN = bool(shutil.which("bwrap")) and subprocess.run(PROBE, capture_output=True, check=False).returncode == 0
needs_bwrap = pytest.mark.skipif(not CAN, reason="needs the capability bubblewrap with its namespaces")
ALL = 'network = false\nsystem = "read-only"\ntmp = "private"\nprocesses = "private"\nhome = "hidden"\n'


class Desk:
    """A spool with a node whose configuration a test sets."""

    def __init__(self, node):
        self.node = node
        self.root = node.spool.parent
        node.environ["SPOOLDADD_CACHE_DIR"] = str(self.root / "cache")

    def configure(self, text=""):
        (self.node.spool / ".spool" / "worker.toml").write_text(text)

    def drop(self, name, command, sandbox=ALL, more=""):
        self.node.drop(f"{name}.toml", f"command = '''{command}'''\n{more}\n[sandbox]\n{sandbox}\n")

    def run(self, name, command, sandbox=ALL, more=""):
        self.drop(name, command, sandbox, more)
        self.node.drain()
        return self.node.finished(name)

    def reason(self, name):
        return result_of(self.node.finished(name))["reason"]


@pytest.fixture(scope="module")
def desk():
    with temporary_node() as node:
        yield Desk(node)


def said(record):
    return (record / "output.log").read_text()


@needs_bwrap
def test_what_is_closed_is_closed(desk, tmp_path):
    desk.configure()
    (tmp_path / "outside").write_text("outside\n")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    connect = f"import socket; socket.create_connection((None, {port}), 5)"  # without quotes: they are all replaced
    desk.node.drop("other.toml", 'command = "echo other"\n')
    tries = {
        "network": f"python3 -c '{connect}'",
        "run": "ls /run | grep .",  # before `mount`, which leaves its notes there
        "system": "touch /etc/spooldadd-test",
        "remount": "mount -o remount,rw /",
        "tmp": f"cat {tmp_path}/outside",
        "spool": f"cat {desk.node.spool}/.spool/format.toml",
        "spool-write": f"touch {desk.node.spool}/planted.toml",
        "record": 'touch "$SPOOLDADD_RECORD/planted"',
        "work": 'touch "$SPOOLDADD_WORKDIR/../planted"',
        "processes": f"kill -0 {os.getpid()}",
        "home": "ls ~/.profile || ls ~/.bashrc || ls ~/.ssh",
    }
    lines = "\n".join(f"( {command} ) > /dev/null 2>&1 && echo {name} is open" for name, command in tries.items())
    works = (
        'touch mine /tmp/mine && test -r "$SPOOLDADD_RECORD/spec.toml" && cat "$APP_SETTINGS_JSON" && cat && echo all-works'
    )
    record = desk.run("closed", f"{lines}\n{works}".replace("'", '"'), more='stdin = "from stdin\\n"\n[config]\nkey = 1\n')
    listener.close()
    text = said(record)
    assert "is open" not in text, text
    assert "from stdin\nall-works" in text, text
    assert '"key": 1' in text


@needs_bwrap
def test_ends_are_told_as_without_a_sandbox(desk):
    desk.configure()
    desk.drop("code", "exit 139")
    desk.drop("segv", "kill -SEGV $$")
    desk.drop("missing", "true", more="retry.attempts = 1\n")
    desk.node.drop("nothing.toml", f'command = ["no-such-program"]\n[sandbox]\n{ALL}')
    desk.drop(
        "stubborn",
        'trap "" TERM; echo up; while :; do sleep 0.2; done',
        more='[limits]\ntimeout = "2s"\nkill_after = "1s"\n',
    )
    desk.drop("tidy", 'trap "echo bye; exit 7" TERM; while :; do sleep 0.1; done', more='[limits]\ntimeout = "2s"\n')
    desk.drop("left", "sleep 600 & echo started", more='[limits]\nkill_after = "1s"\n')
    desk.drop("files", "ulimit -n", more="[limits]\nopen_files = 77\n")
    desk.node.drain()
    results = {name: result_of(desk.node.finished(name)) for name in ("code", "segv", "nothing", "stubborn", "tidy", "left")}
    assert (results["code"]["outcome"], results["code"]["exit_code"]) == ("exit", 139)
    assert (results["segv"]["outcome"], results["segv"]["signal"]) == ("signal", 11)
    assert (results["nothing"]["outcome"], results["nothing"]["exit_code"]) == ("exit", 127)
    assert "cannot be started in its sandbox" in results["nothing"]["reason"]
    assert (results["stubborn"]["outcome"], results["stubborn"]["signal"]) == ("timeout", 9)
    assert (results["tidy"]["outcome"], results["tidy"]["exit_code"]) == ("timeout", 7)
    assert "bye" in said(desk.node.finished("tidy"))
    assert results["left"]["outcome"] == "success"
    assert said(desk.node.finished("files")) == "77\n"
    until(lambda: not processes_of(desk.node.work), "nothing of any job is left")


@needs_bwrap
def test_secrets_and_python_environments_reach_it(desk):
    secrets = desk.root / "secrets"
    secrets.mkdir(mode=0o700)
    (secrets / "warehouse").write_text("s3cret-of-the-house")
    (secrets / "warehouse").chmod(0o600)
    desk.configure(f'secrets_dir = "{secrets}"\n')
    script = (
        f'wc -c < "$DB_FILE"; cat {secrets}/warehouse 2> /dev/null; '
        'python -c "import sys; print(sys.prefix)"; touch "$VIRTUAL_ENV/x"'
    )
    more = (
        '[secrets]\ndb = "warehouse"\n[python]\nrequirements = []\n'
        '[[build]]\ncommand = "ls /run | wc -l > built; id > /etc/x || true"\n'
    )
    record = desk.run("whole", f"{script}; cat built", more=more)
    lines = said(record).splitlines()
    assert lines[0] == str(len("s3cret-of-the-house"))
    assert lines[1].startswith(str(desk.root / "cache")), lines
    assert "Read-only file system" in lines[2]
    assert lines[3] == "0"
    assert not os.path.exists("/etc/x")
    desk.configure()


@needs_bwrap
def test_a_spec_tightens_the_floor_of_its_node_and_never_loosens_it(desk):
    desk.configure('[sandbox]\nnetwork = false\nsystem = "read-only"\nread = ["/etc"]\n')
    desk.node.drop("plain.toml", 'command = "touch /etc/spooldadd-test || cat /proc/net/dev | wc -l"\n')
    desk.drop("looser", "true", "network = true\n")
    desk.drop("writer", "true", 'write = ["/etc"]\n')
    desk.drop("looser-by-following", "true", 'home = "writable"\n')
    desk.drop("fetcher", "true", "", '[[files]]\nurl = "file:///etc/passwd"\npath = "x"\n')
    desk.drop("copier", "true", "", '[[files]]\nsource = "failed/x/output.log"\npath = "x"\n')
    desk.drop("tighter", "ls ~/.profile ~/.bashrc 2> /dev/null | wc -l", 'home = "hidden"\n')
    desk.node.drain()
    assert said(desk.node.finished("plain")).endswith("3\n"), said(desk.node.finished("plain"))
    assert said(desk.node.finished("tighter")) == "0\n"
    reason = desk.reason("looser")
    assert "`sandbox.network = true` would loosen" in reason
    assert "`sandbox.network = false`" in reason
    assert "line 4" in reason
    assert "would open `/etc`" in desk.reason("writer")
    assert '`sandbox.system = "read-only"`' in desk.reason("looser-by-following")
    assert "takes no `file:` URL" in desk.reason("fetcher")
    assert "takes nothing from `failed/` of the spool" in desk.reason("copier")
    desk.configure()


@needs_bwrap
def test_run_honours_it_and_doctor_proves_it(desk, tmp_path):
    desk.configure()
    spec = tmp_path / "spec.toml"
    spec.write_text(f"command = 'touch /etc/spooldadd-test; exit 5'\n[sandbox]\n{ALL}")
    assert desk.node.run("run", "-q", str(spec), check=False).returncode == 5
    assert not os.path.exists("/etc/spooldadd-test")
    assert "a sandbox can be made" in desk.node.run("doctor", check=False).stdout


@pytest.mark.parametrize("case", ["missing", "broken"])
def test_without_a_sandbox_nothing_is_run(desk, tmp_path, case):
    place = tmp_path / "bin"
    place.mkdir()
    for name in ("sh", "touch", "python3"):
        (place / name).symlink_to(shutil.which(name))
    if case == "broken":
        (place / "bwrap").write_text("#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n")
        (place / "bwrap").chmod(0o755)
    desk.configure("[sandbox]\nnetwork = false\n")
    mark = tmp_path / "ran"
    environ = {**desk.node.environ, **desk.node.quick, "PATH": str(place)}
    desk.node.drop(f"never-{case}.toml", f'command = ["touch", "{mark}"]\n')
    desk.node.run("worker", str(desk.node.spool), "--drain", env=environ)
    result = result_of(desk.node.finished(f"never-{case}"))
    assert result["outcome"] == "build"
    assert ("not installed" if case == "missing" else "No permissions") in result["reason"], result["reason"]
    assert "doctor" in result["reason"]
    assert not mark.exists()
    done = desk.node.run("doctor", check=False, env=environ)
    assert "sandbox" in done.stdout
    assert done.returncode == 1
    desk.configure()
