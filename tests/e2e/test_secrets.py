"""Secrets by name: they reach the job as files in memory, end with the attempt, and stand nowhere else."""

from __future__ import annotations

import http.server
import os
import signal
import threading
import tomllib
from pathlib import Path

import pytest

from tests.support import result_of, temporary_node, until

VALUE = "kettle-and-9-strings"


class Desk:
    """A spool whose node has some secrets."""

    def __init__(self, node):
        self.node = node
        self.secrets = node.spool.parent / "secrets"
        self.secrets.mkdir(mode=0o700)
        self.put("warehouse", VALUE + "\n")
        self.configure()

    def put(self, name, text, mode=0o600):
        path = self.secrets / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def configure(self, more=""):
        text = f'secrets_dir = "{self.secrets}"\n{more}'
        (self.node.spool / ".spool" / "worker.toml").write_text(text)

    def run(self, name, text):
        """Drop a spec, run it to its end; return its record."""
        self.node.drop(f"{name}.toml", text)
        self.node.drain()
        return self.node.finished(name)


@pytest.fixture(scope="module")
def desk():
    with temporary_node() as node:
        yield Desk(node)


def shell(script, secrets):
    return f"command = '''{script}'''\n\n[secrets]\n{secrets}\n"


def test_a_secret_is_a_file_and_stands_nowhere_else(desk):
    script = (
        'wc -c < "$DB_FILE"; test "$DB_FILE" = "$SPOOLDADD_SECRETS/db" && echo named; stat -L -c %a "$DB_FILE"; '
        'case "$SPOOLDADD_SECRETS" in "$SPOOLDADD_WORKDIR"/*) echo inside;; esac; echo ${DB:-no variable}; '
        'echo more 2> /dev/null >> "$DB_FILE" || echo read-only; echo $TOKEN | wc -c; echo "$SPOOLDADD_SECRETS" > place'
    )
    text = shell(script, 'db = "warehouse"\ntoken = { name = "warehouse", environ = true }')
    record = desk.run("simple", text + '\n[keep]\nfiles = ["place"]\n')
    assert (record / "output.log").read_text().split("\n") == [
        str(len(VALUE) + 1), "named", "400", "no variable", "read-only", str(len(VALUE) + 1), "",
    ]  # fmt: skip
    assert not os.path.lexists((record / "place").read_text().strip()), "the directory outlived the attempt"
    for directory in (desk.node.spool, desk.node.work):
        for path in directory.rglob("*"):
            assert not path.is_file() or VALUE.encode() not in path.read_bytes(), path


def test_a_missing_secret_is_named_with_where_it_was_looked_for(desk):
    record = desk.run("missing", shell("true", 'db = "no-such-thing"'))
    result = result_of(record)
    assert (result["outcome"], "exit_code" in result) == ("build", False)
    assert "`no-such-thing`" in result["reason"]
    assert f"`{desk.secrets}/no-such-thing` is not there" in result["reason"]


def test_a_secret_that_others_could_read_is_refused(desk):
    desk.put("open", VALUE, 0o644)
    result = result_of(desk.run("exposed", shell("true", 'db = "open"')))
    assert "`chmod 0600` it" in result["reason"]
    assert VALUE not in result["reason"]


def test_a_command_gives_secrets_within_its_time(desk):
    said = desk.secrets.parent / "ask"
    said.write_text(
        '#!/bin/sh\ncase $1 in slow) exec sleep 600;; odd) echo secret-complaint >&2; exit 3;; esac\nprintf %s "of-$1"\n'
    )
    said.chmod(0o755)
    desk.configure(f'[secrets]\ncommand = ["{said}", "{{name}}"]\ntimeout = "2s"\n')
    desk.node.drop("from-slow.toml", shell("true", 'x = "slow"'))
    desk.node.drop("from-odd.toml", shell("true", 'x = "odd"'))
    record = desk.run("asked", shell('cat "$X_FILE" "$DB_FILE"', 'x = "vault"\ndb = "warehouse"'))
    assert (record / "output.log").read_text() == f"of-vault{VALUE}\n"  # a file comes before the command
    assert "longer than" in result_of(desk.node.finished("from-slow"))["reason"]
    reason = result_of(desk.node.finished("from-odd"))["reason"]
    assert "exit code 3" in reason
    assert "secret-complaint" not in reason
    desk.configure()


def test_credentials_of_the_service_manager_come_first(desk):
    credentials = desk.secrets.parent / "credentials"
    credentials.mkdir()
    (credentials / "warehouse").write_text("from systemd")
    desk.node.environ["CREDENTIALS_DIRECTORY"] = str(credentials)
    script = 'cat "$DB_FILE"; echo; echo "${CREDENTIALS_DIRECTORY:-hidden}"'
    assert (desk.run("first", shell(script, 'db = "warehouse"')) / "output.log").read_text() == "from systemd\nhidden\n"
    desk.configure('[secrets]\norder = ["directory"]\n')
    assert (desk.run("second", shell('cat "$DB_FILE"', 'db = "warehouse"')) / "output.log").read_text() == f"{VALUE}\n"
    del desk.node.environ["CREDENTIALS_DIRECTORY"]
    desk.configure()


def test_secrets_end_with_a_supervisor_that_is_killed(desk):
    """The job lives on without its supervisor; what it has not read it reads no more, and no disk ever had it."""
    node = desk.node
    worker = node.start()
    go = node.spool.parent / "go"
    node.drop("killed.toml", shell(f'echo "$DB_FILE"; until test -e {go}; do sleep 0.1; done', 'db = "warehouse"'))
    record = until(lambda: node.records("running", "killed"), "it runs")[0]
    place = until(lambda: (record / "output.log").exists() and (record / "output.log").read_text().strip(), "it printed")
    assert Path(place).read_text() == f"{VALUE}\n"
    holder = (node.spool / ".spool" / "locks" / f"{record.name}.lock").read_text()
    lines = [tomllib.loads(line) for line in holder.splitlines() if line]
    pid = next(line["supervisor_pid"] for line in lines if "supervisor_pid" in line)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not os.path.exists(place), "the secret is gone")
    go.touch()
    assert result_of(node.wait_finished("killed"))["outcome"] == "lost"
    worker.terminate()
    worker.wait()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('db = "../etc/passwd"', "names no secret"),
        ('"d b" = "x"', "is not a usable name"),
        ("db = 3", "must be a string or a table"),
        ('db = { nme = "x" }', "did you mean `name`"),
        ('path = { name = "x", environ = true }', "is taken"),
        ('db = "x"\nDB = "y"', "in capitals only"),
        ('db = "x"\n[env]\nDB_FILE = "/etc/db"', "would be hidden by `env.DB_FILE`"),
    ],
)
def test_check_says_what_is_wrong_with_line_and_column(desk, tmp_path, table, said):
    spec = tmp_path / "spec.toml"
    spec.write_text(f'command = "true"\n[secrets]\n{table}\n')
    done = desk.node.run("check", str(spec), check=False)
    assert done.returncode == 1
    assert said in done.stdout, done.stdout
    assert f"{spec}:3:" in done.stdout or f"{spec}:4:" in done.stdout, done.stdout


def test_mails_and_explain_hide_what_the_log_holds(desk):
    box = desk.secrets.parent / "maildir"
    desk.configure(f'[mail]\nto = ["ops@example.org"]\n[transport.box]\nkind = "maildir"\ndirectory = "{box}"\n')
    record = desk.run(
        "talkative", shell('echo "value: $(cat "$DB_FILE")"; echo "$DB_FILE is the place"; exit 4', 'db = "warehouse"')
    )
    assert VALUE in (record / "output.log").read_text()  # the job's own
    letter = until(lambda: list((box / "new").iterdir()) if box.exists() else [], "a mail")[0].read_text()
    assert "is the place" in letter.replace("=\n", "")
    assert VALUE not in letter.replace("=\n", "")
    shown = desk.node.run("explain", "talkative").stdout
    assert "is the place" in shown
    assert VALUE not in shown
    assert VALUE not in desk.node.run("failures").stdout
    (desk.secrets / "warehouse").rename(desk.secrets / "away")
    shown = desk.node.run("explain", "talkative").stdout
    (desk.secrets / "away").rename(desk.secrets / "warehouse")
    assert "could not be hidden" in shown
    assert VALUE not in shown
    desk.configure()


def test_transports_name_their_secrets(desk):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append((self.path, self.headers["Authorization"]))
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    desk.put("hook", f"http://127.0.0.1:{server.server_port}/hidden-path\n")
    desk.put("token", "token-of-the-hook\n")
    table = '[mail]\nto = ["ops@example.org"]\n[transport.chat]\nkind = "webhook"\nurl = { secret = "hook" }\n'
    desk.configure(table + 'headers = { Authorization = { secret = "token", prefix = "Bearer " } }\n')
    done = desk.node.run("mail", "test")
    assert asked == [("/hidden-path", "Bearer token-of-the-hook")], done.stdout
    assert "hidden-path" not in done.stdout + desk.node.run("config").stdout
    (desk.secrets / "hook").unlink()
    done = desk.node.run("mail", "test", check=False)
    assert done.returncode == 1
    assert "the secret `hook` is not on this node" in done.stdout
    desk.configure(table.replace('{ secret = "hook" }', '{ secret = "no/name" }'))
    done = desk.node.run("config", check=False)
    assert done.returncode == 78
    assert "`url` names no secret" in done.stderr
    server.shutdown()
    server.server_close()
    desk.configure()
