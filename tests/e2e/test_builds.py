"""What a job brings, from outside: specs dropped into a spool, real uv, an index and a web server of the tests' own."""

import json
import os
import pty
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from spooldadd import upkeeping
from spooldadd.tomltext import dumps
from tests.e2e.environment_index import Index
from tests.e2e.environment_web import Web, sha256
from tests.support import Node, processes_of, result_of, until

pytestmark = pytest.mark.slow
LOGIN = "robot:s3cret-of-the-index"
TOKEN = "t0ken-of-the-download"
EDIT = "import os, alpha; os.chmod(alpha.__file__, 0o644); open(alpha.__file__, 'w').write('VERSION = \"edited\"\\n')"
SHOW = ["python", "-c", "import alpha; print(alpha.VERSION)"]


@pytest.fixture(scope="module")
def web():
    with Web() as server:
        yield server


@pytest.fixture(scope="module")
def index(web):
    index = Index(web)
    index.add("alpha", "1.0", needs=["beta"])
    index.add("beta", "1.0")
    index.add("beta", "2.0")
    index.add("broken", "1.0", tamper=True)
    index.add("gamma", "1.0", needs=["beta>=2"])
    return index


@pytest.fixture(scope="module")
def private(web):
    index = Index(web, login=LOGIN, prefix="/private")
    index.add("secretly", "1.0")
    return index


def a_node(make):
    """A spool whose node has a cache and secrets of its own."""
    node = make(environ={"SPOOLDADD_INTAKE__SETTLE": "0.3s"})
    root = node.spool.parent
    node.cache, node.secrets = root / "cache", root / "secrets"
    node.secrets.mkdir(mode=0o700)
    (node.secrets / "index-login").write_text(f"{LOGIN}\n")
    (node.secrets / "download-token").write_text(f"{TOKEN}\n")
    node.environ |= {"SPOOLDADD_CACHE_DIR": str(node.cache), "SPOOLDADD_SECRETS_DIR": str(node.secrets)}
    node.environ = {name: value for name, value in node.environ.items() if not name.startswith(("UV_", "PIP_"))}
    return node


@pytest.fixture
def node(make_node):
    node = a_node(make_node)
    yield node
    writable(node)


def writable(node):
    for place, _, _ in os.walk(node.cache):
        os.chmod(place, 0o700)


def python(index, *requirements, **options):
    return {"requirements": list(requirements), "index_url": index.url, **options}


def build_log(record):
    return (record / "build.log").read_text()


# -- many specs, one worker: what each came to


def host(web):
    return f"127.0.0.1:{web.server_port}"


def specs(web, index, private, root):
    data = b"some data\n"
    web.put("/data.txt", data)
    web.put("/private.csv", b"a,b\n", needs={"Authorization": f"Bearer {TOKEN}"})
    header = {"Authorization": {"secret": "download-token", "prefix": "Bearer "}}
    step_once = f"test -e {root}/tried || {{ touch {root}/tried; echo not yet; exit 7; }}"
    retry = {"attempts": 2, "backoff": "0.1s"}
    return {
        "ready": {"command": SHOW, "python": python(index, "alpha")},
        "missing": {"command": SHOW, "python": python(index, "no-such-package")},
        "conflict": {"command": SHOW, "python": python(index, "gamma", "beta<2")},
        "broken": {"command": SHOW, "python": python(index, "broken")},
        "wrong-sum": {"command": ["true"], "files": [{"url": web.url("/data.txt"), "sha256": "0" * 64}]},
        "right-sum": {"command": ["cat", "data.txt"], "files": [{"url": web.url("/data.txt"), "sha256": sha256(data)}]},
        "retried": {"command": ["true"], "build": [{"command": step_once}], "retry": {**retry, "on": ["build"]}},
        "not-retried": {"command": ["true"], "build": [{"command": "exit 7"}], "retry": {**retry, "on": ["exit"]}},
        "login": {
            "command": ["secretly-run"],
            "python": python(private, "secretly", credentials={host(web): "index-login"}),
            "files": [{"url": web.url("/private.csv"), "headers": header}],
        },
        "no-login": {"command": ["true"], "python": python(private, "secretly")},
        "templates": {
            "command": "cat data.txt built.txt settings.ini; alpha-run",
            "vars": {"site": web.url(""), "package": "alpha", "sum": sha256(data)},
            "python": python(index, "{{ vars.package }}==1.*"),
            "files": [
                {"url": "{{ vars.site }}/data.txt", "sha256": "{{ vars.sum }}"},
                {"path": "settings.ini", "content": "[{{ job.name }}]\n", "template": True},
            ],
            "build": [{"command": "echo {{ job.name }} $STEP > built.txt", "env": {"STEP": "{{ vars.package }}"}}],
        },
        "steps": {
            "command": ["cat", "version"],
            "python": python(index, "alpha"),
            "build": [{"command": "alpha-run > version"}, {"command": ["chmod", "0600", "version"]}],
        },
    }


@pytest.fixture(scope="module")
def batch(web, index, private, tmp_path_factory):
    """Every spec of `specs`, run by one worker."""
    nodes = []

    def make(**options):
        nodes.append(Node(tmp_path_factory.mktemp("batch"), **options))
        return nodes[-1]

    node = a_node(make)
    for name, spec in specs(web, index, private, node.spool.parent).items():
        node.drop(f"{name}.toml", dumps(spec))
    node.worker_log = node.drain("--jobs", "4")
    yield node
    writable(node)
    node.close()


def of(batch, name):
    record = batch.finished(name)
    assert record, batch.worker_log
    return record, result_of(record)


def test_a_job_runs_in_the_environment_that_it_asked_for(batch):
    record, result = of(batch, "ready")
    assert (result["outcome"], (record / "output.log").read_text()) == ("success", "1.0\n")
    assert (batch.cache / "environments" / result["environment"] / "ready.json").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", ["no-such-package", "not found"]),
        ("conflict", ["gamma", "beta<2", "unsatisfiable"]),
        ("no-login", ["secretly", "401"]),
    ],
)
def test_a_build_that_fails_ends_in_build_with_the_last_lines_of_uv_in_the_reason(batch, name, words):
    record, result = of(batch, name)
    assert (record.parent.name, result["outcome"], result["attempt"]) == ("failed", "build", 1)
    for word in words:
        assert word in result["reason"], result["reason"]
        assert word in build_log(record)
    assert not (record / "output.log").read_bytes()
    assert result["reason"].count("\n") == 0


def test_a_wheel_that_is_not_what_it_says_fails_with_the_key_of_the_environment(batch):
    record, result = of(batch, "broken")
    assert result["outcome"] == "build"
    key = result["reason"].partition("environment ")[2].partition(":")[0]
    assert f"environment {key}: building" in build_log(record)
    assert "broken.py" in result["reason"]
    assert not (batch.cache / "environments" / key).exists()


def test_a_wrong_sha256_fails_with_both_sums_and_nothing_is_stored(batch):
    record, result = of(batch, "wrong-sum")
    assert result["outcome"] == "build"
    assert "0" * 64 in result["reason"]
    assert sha256(b"some data\n") in result["reason"]
    assert "0" * 64 in build_log(record)
    assert of(batch, "right-sum")[0].joinpath("output.log").read_text() == "some data\n"
    assert not list((batch.cache / "blobs").rglob("0000*"))


def test_a_build_is_tried_again_where_the_spec_says_so(batch):
    record, result = of(batch, "retried")
    assert (record.parent.name, result["attempt"]) == ("done", 2)
    assert result_of(record / "attempts" / "1")["outcome"] == "build"
    assert "not yet" in build_log(record / "attempts" / "1")
    assert of(batch, "not-retried")[1]["attempt"] == 1
    assert of(batch, "not-retried")[1]["outcome"] == "build"


def test_an_index_and_a_download_with_logins_by_name_show_no_secret_anywhere(batch):
    record, _ = of(batch, "login")
    assert (record / "output.log").read_text() == "secretly 1.0\n"
    told = batch.worker_log + batch.run("status", "--all", "--json").stdout
    told += batch.run("explain", "login").stdout + batch.run("explain", "no-login").stdout
    for path in [*batch.spool.rglob("*"), *batch.cache.rglob("*")]:
        if path.is_file() and "site-packages" not in str(path):
            told += path.read_bytes().decode("utf-8", "replace")
    for secret in (TOKEN, LOGIN, LOGIN.partition(":")[2]):
        assert secret not in told


def test_a_spec_without_the_login_gets_nothing_that_was_fetched_with_it(batch, private):
    # It did: a resolution, and uv's own cache of the index, were shared by all who named the same index.
    of(batch, "login")
    spec = batch.spool.parent / "no-login.toml"
    spec.write_text(dumps({"command": ["secretly-run"], "python": python(private, "secretly")}))
    done = batch.run("run", str(spec), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "401" in done.stderr


def test_templates_in_urls_requirements_steps_and_files_are_filled_in(batch):
    record, result = of(batch, "templates")
    assert result["outcome"] == "success", result
    assert (record / "output.log").read_text() == "some data\ntemplates alpha\n[templates]\nalpha 1.0\n"


def test_steps_run_with_the_environment_before_the_command(batch):
    assert of(batch, "steps")[0].joinpath("output.log").read_text() == "alpha 1.0\n"
    assert "alpha-run" in build_log(of(batch, "steps")[0])


def test_two_specs_that_come_to_the_same_packages_share_one_environment(batch):
    keys = {of(batch, name)[1]["environment"] for name in ("ready", "steps", "templates")}
    assert len(keys) == 1


def test_env_list_shows_what_there_is_with_size_use_and_packages(batch):
    told = json.loads(batch.run("env", "list", "--json").stdout)
    assert told["cache_dir"] == str(batch.cache)
    found = {one["environment"]: one for one in told["environments"]}
    alpha = found[of(batch, "ready")[1]["environment"]]
    assert alpha["packages"] == ["alpha==1.0", "beta==2.0"]
    assert alpha["size_bytes"] > 0
    assert alpha["in_use"] is False
    assert len(found) == 2
    lines = batch.run("env", "list").stdout.splitlines()
    assert lines[-1].startswith("2 in all, ")
    assert any("alpha==1.0, beta==2.0" in line for line in lines)


def test_a_damaged_download_is_found_removed_and_fetched_anew(batch):
    told = json.loads(batch.run("cache", "list", "--json").stdout)
    blob = next(one for one in told["files"] if one["sha256"] == sha256(b"some data\n"))
    path = Path(blob["path"])
    path.chmod(0o644)
    path.write_bytes(b"SOME DATA\n")
    done = batch.run("cache", "verify", "--json", check=False)
    assert (done.returncode, json.loads(done.stdout)["damaged"][0]["sha256"]) == (1, blob["sha256"])
    assert not path.exists()
    assert batch.run("cache", "verify").returncode == 0


def test_a_spec_is_locked_and_runs_from_its_lock(batch, index, tmp_path):
    spec = tmp_path / "report.toml"
    spec.write_text(dumps({"command": SHOW, "python": python(index, "alpha")}))
    printed = batch.run("lock", str(spec))
    assert "alpha==1.0 \\\n    --hash=sha256:" in printed.stdout
    assert "beta==2.0" in printed.stdout
    assert "2 packages" in printed.stderr
    batch.run("lock", str(spec), "--output", str(tmp_path / "requirements.lock"))
    assert (tmp_path / "requirements.lock").read_text() == printed.stdout
    table = {"requirements": "requirements.lock", "index_url": index.url}
    spec.write_text(dumps({"command": SHOW, "python": table}))
    assert batch.run("run", str(spec)).stdout == "1.0\n"


def test_a_spec_without_python_has_nothing_to_lock(batch, tmp_path):
    spec = tmp_path / "plain.toml"
    spec.write_text('command = ["true"]\n')
    done = batch.run("lock", str(spec), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no `[python]` table" in done.stderr


# -- at the same moment


@pytest.mark.slow
def test_twenty_jobs_that_need_the_same_new_environment_at_once_cause_one_build(node, web):
    index = Index(web, prefix="/twenty")
    index.add("alpha", "1.0")
    for number in range(20):
        node.drop(f"twin-{number}.toml", dumps({"command": SHOW, "python": python(index, "alpha")}))
    node.drain("--jobs", "20")
    records = node.records("done")
    assert len(records) == 20
    assert {(record / "output.log").read_text() for record in records} == {"1.0\n"}
    logs = [build_log(record) for record in records if (record / "build.log").exists()]
    assert sum(": building" in log for log in logs) == 1
    assert sum("resolving" in log for log in logs) == 1


def test_a_job_that_is_cancelled_while_it_is_built_ends_with_all_that_its_build_started(node):
    node.start()
    node.drop("slow.toml", dumps({"command": ["true"], "build": [{"command": "echo begun; sleep 1000"}]}))
    log = until(lambda: next(iter((node.spool / "running").glob("slow.*/build.log")), None), "it is built")
    until(lambda: "begun" in log.read_text(), "its step runs")
    node.run("cancel", "slow")
    assert result_of(node.wait_finished("slow"))["outcome"] == "cancelled"
    assert not [pid for pid in processes_of(node.work) if b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def building(node, name):
    """Wait until the step of this job says that it runs; return the pid of its supervisor."""
    log = until(lambda: next(iter((node.spool / "running").glob(f"{name}.*/build.log")), None), "it is built")
    until(lambda: "begun" in log.read_text(), "its step runs")
    return json.loads(node.run("status", name, "--json").stdout)["supervisor_pid"]


def test_a_worker_killed_during_a_build_does_not_disturb_it(node, tmp_path):
    worker = node.start()
    step = f"echo begun; until test -e {tmp_path}/go; do sleep 0.05; done; echo built > made"
    node.drop("slow.toml", dumps({"command": ["cat", "made"], "build": [{"command": step}]}))
    building(node, "slow")
    worker.kill()
    worker.wait()
    (tmp_path / "go").touch()
    record = node.wait_finished("slow")
    assert (record.parent.name, (record / "output.log").read_text()) == ("done", "built\n")


def test_a_job_whose_supervisor_and_worker_were_killed_during_its_build_is_lost_and_runs_again(node, index, tmp_path):
    worker = node.start()
    step = f"echo begun; test -e {tmp_path}/go || sleep 1000"
    spec = {"command": SHOW, "python": python(index, "alpha"), "build": [{"command": step}], "restartable": True}
    node.drop("slow.toml", dumps({**spec, "retry": {"attempts": 2, "backoff": "0.1s"}}))
    supervisor = building(node, "slow")
    worker.kill()
    os.kill(supervisor, signal.SIGKILL)
    worker.wait()
    (tmp_path / "go").touch()
    node.start()
    record = node.wait_finished("slow")
    assert (record.parent.name, (record / "output.log").read_text()) == ("done", "1.0\n")
    assert result_of(record / "attempts" / "1")["outcome"] == "lost"
    assert not [name for name in os.listdir(node.cache / "environments") if name.startswith(".")]
    assert not [pid for pid in processes_of(node.work) if b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()]


# -- a job that edits its environment


@pytest.mark.slow
def test_a_job_that_edits_its_environment_changes_no_later_job_and_not_the_cache(node, index):
    spec = {"python": python(index, "alpha")}
    for name, command in (("first", SHOW), ("edit", ["python", "-c", EDIT]), ("later", SHOW)):
        node.drop(f"{name}.toml", dumps({**spec, "command": command}))
        log = node.drain("--jobs", "1")
        assert ("environment-edited" in log) == (name == "edit"), log
    first, edit, later = (node.finished(name) for name in ("first", "edit", "later"))
    assert result_of(edit)["outcome"] == "success", (edit / "output.log").read_text()
    assert (later / "output.log").read_text() == "1.0\n"
    assert result_of(first)["environment"] == result_of(later)["environment"]
    assert f"environment {result_of(later)['environment']}: building" in build_log(later)
    assert node.run("env", "verify").returncode == 0
    assert len(json.loads(node.run("env", "list", "--json").stdout)["environments"]) == 1


# When the upkeep of the cache was quicker than the job's end, the supervisor said nothing, for it was done, and the upkeep
# said it at the level that nobody reads. Here a person has it done, unless the worker's own program looks just then.


@pytest.mark.slow
def test_an_edit_that_the_upkeep_finds_before_the_job_has_ended_is_told_once(node, index, tmp_path):
    wait = f"import time; open('{tmp_path}/edited', 'w')\nwhile not os.path.exists('{tmp_path}/go'): time.sleep(0.02)"
    node.start()
    node.drop("edit.toml", dumps({"command": ["python", "-c", f"{EDIT}; {wait}"], "python": python(index, "alpha")}))
    until((tmp_path / "edited").exists, f"it is edited\n{node.said()}")
    by_hand = node.run("env", "prune").stderr
    (tmp_path / "go").touch()
    record = node.wait_finished("edit")
    assert result_of(record)["outcome"] == "success", (record / "output.log").read_text()
    until(lambda: "environment-edited" in node.said() + by_hand, "it is told")
    [line] = [line for line in (node.said() + by_hand).splitlines() if "environment-edited" in line]
    assert " warning " in line and "alpha.py" in line


@pytest.mark.parametrize(
    "edit",
    [
        "open(os.path.join(os.path.dirname(alpha.__file__), 'added.py'), 'w')",
        "os.unlink(alpha.__file__)",
        "os.rename(alpha.__file__, alpha.__file__ + '.old')",
        "open(os.path.join(sys.prefix, 'bin', 'new'), 'w')",
        "[open(alpha.__file__, 'a').write(' '), os.utime(alpha.__file__, (1, 1))]",
        "open(os.path.join(sys.prefix, 'added'), 'w')",
    ],
)
@pytest.mark.slow
def test_every_way_to_edit_an_environment_is_noticed(batch, index, edit):
    code = f"import os, sys, alpha; [os.chmod(p, 0o755) for p, _, _ in os.walk(sys.prefix)]; {edit}"
    spec = batch.spool.parent / "edit.toml"
    spec.write_text(dumps({"command": ["python", "-c", code], "python": python(index, "alpha")}))
    done = batch.run("run", str(spec), check=False)
    assert done.returncode == 0, done.stderr
    assert "environment-edited" in done.stderr
    spec.write_text(dumps({"command": SHOW, "python": python(index, "alpha")}))
    done = batch.run("run", str(spec))
    assert (done.stdout, done.stderr) == ("1.0\n", "")


def test_a_job_that_runs_in_an_environment_that_another_edits_finds_its_files_again(node, index, tmp_path):
    wait = (
        f"import os, time\nwhile not os.path.exists('{tmp_path}/go'): time.sleep(0.02)\nimport alpha; print(alpha.VERSION)"
    )
    spec = {"python": python(index, "alpha")}
    node.start("--jobs", "2")
    node.drop("long.toml", dumps({**spec, "command": ["python", "-c", wait]}))
    until(lambda: "event=started" in node.said(), "it runs")
    for name, command in (("edit", ["python", "-c", EDIT]), ("later", SHOW)):
        node.drop(f"{name}.toml", dumps({**spec, "command": command}))
        node.wait_finished(name)
    (tmp_path / "go").touch()
    assert (node.wait_finished("long") / "output.log").read_text() == "1.0\n"
    assert (node.finished("later") / "output.log").read_text() == "1.0\n"
    assert not [name for name in os.listdir(node.cache / "environments") if name.startswith(".")]


def as_nobody(command):
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]


def test_an_ordinary_user_cannot_write_into_an_environment(batch):
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs the capability to become another user: root and `setpriv`")
    key = of(batch, "ready")[1]["environment"]
    root = batch.cache / "environments" / key
    modes = [path.lstat().st_mode for path in [root, *root.rglob("*")] if not path.is_symlink()]
    assert not [mode for mode in modes if stat.S_IMODE(mode) & 0o222]
    file = next(root.rglob("alpha.py"))
    opened = []
    for place in [root, *root.parents]:  # the test's own directories are private
        if not place.stat().st_mode & 0o001:
            opened.append((place, stat.S_IMODE(place.stat().st_mode)))
            place.chmod(0o711)
    try:
        for line in (f"echo >> {file}", f"touch {file.parent}/added.py", f"rm -f {file}", f"chmod u+w {file}"):
            done = subprocess.run(as_nobody(["sh", "-c", line]), capture_output=True, text=True)
            assert done.returncode != 0, line
            assert "denied" in done.stderr or "permitted" in done.stderr, done.stderr
    finally:
        for place, mode in opened:
            place.chmod(mode)


# -- looking after it


def test_prune_never_takes_what_a_job_uses(node, index):
    node.cache.mkdir(exist_ok=True)
    (node.cache / upkeeping.STAMP).touch()  # or the worker has the cache pruned itself, before we do
    node.start()
    for name, command in (("done", ["true"]), ("using", "echo begun; sleep 1000")):
        packages = ["alpha"] if name == "using" else ["beta"]
        node.drop(f"{name}.toml", dumps({"command": command, "python": python(index, *packages)}))
    node.wait_finished("done")
    until(lambda: any(b"begun" in path.read_bytes() for path in node.spool.glob("running/using.*/output.log")), "it runs")
    for marker in node.cache.glob("environments/*/ready.json"):
        os.utime(marker, (1, 1))
    would = json.loads(node.run("env", "prune", "--dry-run", "--json").stdout)
    assert [one["packages"] for one in would["environments"]] == [["beta==2.0"]]
    assert would["removed"] == 1
    assert len(json.loads(node.run("env", "list", "--json").stdout)["environments"]) == 2
    assert "1 were removed" in node.run("env", "prune").stderr
    left = json.loads(node.run("env", "list", "--json").stdout)["environments"]
    assert [(one["packages"], one["in_use"]) for one in left] == [(["alpha==1.0", "beta==2.0"], True)]
    node.run("cancel", "using")
    node.wait_finished("using")


def test_bounds_belong_to_prune(node):
    done = node.run("env", "list", "--dry-run", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "belong to `prune`" in done.stderr


def test_a_worker_has_its_cache_pruned_once_a_day_by_a_program_of_its_own(node, index, web):
    web.put("/old.txt", b"old\n")
    spec = {"command": ["true"], "python": python(index, "beta"), "files": [{"url": web.url("/old.txt")}]}
    node.drop("old.toml", dumps(spec))
    node.drain()
    for path in [*node.cache.glob("environments/*/ready.json"), *node.cache.glob("blobs/*/*")]:
        os.utime(path, (1, 1))
    (node.cache / "pruned").unlink(missing_ok=True)
    worker = node.start(environ={"SPOOLDADD_KEEP__CACHE_DAYS": "1"})
    until(lambda: "event=cache-pruned" in node.said(), "the cache is pruned")
    assert "files=1 environments=1" in node.said()
    assert not list(node.cache.glob("environments/*")) + list(node.cache.glob("blobs/*/*"))
    until(lambda: not zombies(worker.pid), "what it started is collected", 30)
    pruned_at = (node.cache / "pruned").stat().st_mtime
    assert time.time() - pruned_at < 60
    node.drain()
    assert (node.cache / "pruned").stat().st_mtime == pruned_at


def zombies(pid):
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    threads = Path(f"/proc/{pid}/task").iterdir()
    found = {child for thread in threads for child in (thread / "children").read_text().split()}
    return [child for child in found if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"]


# -- in the foreground


def on_a_terminal(command, environ):
    """Run a command with a terminal for its streams; return what the terminal saw."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
    os.close(theirs)
    seen = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data
    os.close(ours)
    assert process.wait(30) == 0, seen
    return seen.decode()


def test_run_shows_a_build_on_a_terminal_and_is_quiet_elsewhere(node, index, web):
    spec = node.spool.parent / "report.toml"
    spec.write_text(dumps({"command": SHOW, "python": python(index, "alpha")}))
    done = node.run("run", str(spec))
    assert (done.stdout, done.stderr) == ("1.0\n", "")
    spec.write_text(dumps({"command": SHOW, "python": python(index, "alpha", "gamma")}))
    seen = on_a_terminal([*node.command, "run", str(spec)], node.environ)
    assert ": building" in seen
    assert ": ready after" in seen
    spec.write_text(dumps({"command": ["true"], "build": [{"command": "echo said it; exit 3"}]}))
    done = node.run("run", str(spec), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "said it" in done.stderr
    assert "spooldadd: build: its build failed" in done.stderr


def test_run_finds_the_files_beside_the_spec(node):
    spec = node.spool.parent / "report.toml"
    (node.spool.parent / "regions.csv").write_text("north\n")
    spec.write_text(dumps({"command": ["cat", "in.csv"], "files": [{"source": "regions.csv", "path": "in.csv"}]}))
    assert node.run("run", str(spec)).stdout == "north\n"


# -- a shell


def test_a_shell_opens_where_a_job_failed_with_its_variables_and_its_python(node, index):
    command = "echo left > behind; exit 3"
    spec = {"command": command, "env": {"OWN": "{{ job.attempt }}"}, "config": {"a": 1}, "python": python(index, "alpha")}
    node.drop("broken.toml", dumps(spec))
    node.drain()
    shown = "cat behind; echo $OWN; alpha-run; cat $APP_SETTINGS_JSON; echo; echo $SPOOLDADD_JOB; pwd"
    lines = node.run("shell", "broken", "-c", shown).stdout.splitlines()
    result = result_of(node.finished("broken"))
    assert lines[:3] == ["left", "1", "alpha 1.0"]
    assert json.loads("".join(lines[3:-2])) == {"a": 1}
    assert lines[-2:] == [result["job"], result["workdir"]]
    assert node.run("shell", "broken", "--command", "exit 5", check=False).returncode == 5


def test_a_shell_opens_where_a_job_runs(node, index):
    node.start()
    spec = {"command": "echo begun; sleep 1000", "python": python(index, "alpha"), "env": {"OWN": "mine"}}
    node.drop("using.toml", dumps(spec))
    until(lambda: any(b"begun" in path.read_bytes() for path in node.spool.glob("running/using.*/output.log")), "it runs")
    assert node.run("shell", "using", "-c", "echo $OWN; alpha-run").stdout == "mine\nalpha 1.0\n"
    node.run("cancel", "using")
    node.wait_finished("using")


def test_a_shell_says_why_there_is_no_work_directory(node):
    for name, command in (("fine", "true"), ("failed", "false")):
        node.drop(f"{name}.toml", dumps({"command": [command]}))
    node.drain()
    done = node.run("shell", "fine", "-c", "pwd", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "it was removed when the job had ended" in done.stderr
    shutil.rmtree(result_of(node.finished("failed"))["workdir"])
    done = node.run("shell", "failed", "-c", "pwd", check=False)
    assert "is gone" in done.stderr
    assert "spooldadd retry failed." in done.stderr
    assert node.run("shell", "nobody", "-c", "pwd", check=False).returncode == 3


# -- Dadd's own specs


FLASK = """import http.server, sys


class Flask:
    def __init__(self, name):
        self.routes = {}

    def route(self, path):
        return lambda function: self.routes.setdefault(path, function)

    def run(self, port=5000):
        routes = self.routes

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = routes[self.path]().encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()


def main():
    pass
"""


def test_dadds_hello_server_is_migrated_and_runs(node, web):
    pytest.importorskip("yaml", reason="needs the capability to read YAML: the pyyaml package")
    index = Index(web, prefix="/hello")
    index.add("flask", "1.0", code=FLASK)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = "from flask import Flask\n\n\napp = Flask(__name__)\napp.debug = True\n\n\n"
    server += f"@app.route('/')\ndef index():\n    return 'Hello World!'\n\n\napp.run(port={port})\n"
    url = web.put("/files/hello_server.py", server.encode())
    old = node.spool.parent / "hello_spec.yaml"
    old.write_text(
        f"cmd: venv/bin/python hello_server.py\ndownload_urls:\n  hello_server.py: {url}\n"
        f"python_cheeseshop: {index.url}\npython_deps:\n  - flask\n"
    )
    done = node.run("migrate", str(old))
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
        "cmd", "download_urls", "python_cheeseshop", "python_deps",
    ]  # fmt: skip
    node.start()
    node.drop("hello.toml", done.stdout)

    def hello():
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
        except OSError:
            assert not node.finished("hello"), build_log(node.finished("hello"))
            return None

    assert until(hello, "the server answers") == b"Hello World!"
    node.run("cancel", "hello")
    assert result_of(node.wait_finished("hello"))["outcome"] == "cancelled"


def test_dadds_ls_spec_is_migrated_and_runs(node):
    old = node.spool.parent / "lsspec.json"
    old.write_text('{"cmd": "ls -la"}')
    new = node.spool.parent / "ls.toml"
    node.run("migrate", str(old), "--output", str(new))
    node.run("submit", str(new))
    node.drain()
    assert " .." in (node.finished("ls") / "output.log").read_text()
    done = node.run("migrate", str(old), "--output", str(new), check=False)
    assert (done.returncode, new.read_text().count("command")) == (2, 2)  # once in the note above it


def test_yaml_without_its_package_says_what_to_install(tmp_path):
    old = tmp_path / "old.yaml"
    old.write_text("cmd: ls -la\n")
    code = "import sys; sys.modules['yaml'] = None; from spooldadd.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, "migrate", str(old)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "install `spooldadd[migrate]`" in done.stderr


def test_what_is_no_spec_of_dadd_is_refused(tmp_path):
    old = tmp_path / "old.json"
    for text, word in (("[]", "no table"), ("{}", "no `cmd`"), ("{", "no JSON")):
        old.write_text(text)
        done = subprocess.run([sys.executable, "-m", "spooldadd", "migrate", str(old)], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (1, "")
        assert word in done.stderr
