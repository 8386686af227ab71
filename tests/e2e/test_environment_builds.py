"""The builder as a program: real packages from an index of our own, real uv, real pip, and what a kill leaves."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from spooldadd import process
from spooldadd.environment import manifest, ready
from spooldadd.environment.environments import Environments
from spooldadd.environment.report import Report
from spooldadd.log import Log
from tests.e2e.environment_index import Index, wheel
from tests.e2e.environment_web import Web, eventually, sha256

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parents[2]
HOUR_S = 3600.0


@pytest.fixture
def web():
    with Web() as server:
        yield server


@pytest.fixture
def index(web):
    return Index(web)


class Node:
    """A node's cache, and jobs that are built on it."""

    def __init__(self, root):
        self.root, self.cache, self.spec, self.secrets = root, root / "cache", root / "spec", root / "secrets"
        for directory in (self.spec, self.secrets):
            directory.mkdir()
        self.count = 0
        self.started = []
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
        self.environ = {**kept, "PYTHONPATH": str(PROJECT), "NETRC": str(root / "netrc")}

    def plan(self, **tables):
        self.count += 1
        work = self.root / f"work{self.count}"
        work.mkdir()
        told = {"schema": 1, "work_dir": str(work), "cache_dir": str(self.cache), "base_dirs": [str(self.spec)]}
        return {**told, "secrets_dir": str(self.secrets), "environ": {"PATH": "/usr/bin:/bin"}, **tables}

    def start(self, plan, **options):
        path = self.root / f"plan{self.count}.json"
        path.write_text(json.dumps(plan))
        answer = self.root / f"answer{self.count}.json"
        log = self.root / f"build{self.count}.log"
        command = [sys.executable, "-P", "-m", "spooldadd.environment", str(path), str(answer)]
        with log.open("wb") as file:
            started = subprocess.Popen(command, stdout=file, stderr=file, env=self.environ, cwd="/", **options)
        self.started.append(started)
        started.answer, started.log, started.work = answer, log, Path(plan["work_dir"])
        return started

    def build(self, **tables):
        return Done(self, self.start(self.plan(**tables)))

    def ready(self, table):
        return ready.find_ready(str(self.cache), table, (str(self.spec),))

    def environments(self):
        return Environments(str(self.cache), Report(lambda line: None))


class Done:
    def __init__(self, node, started, timeout_s=120):
        self.code = started.wait(timeout_s)
        self.log = started.log.read_text()
        self.answer = json.loads(started.answer.read_text()) if started.answer.exists() else {}
        assert self.answer, self.log
        self.work = started.work
        self.node = node
        self.reason = self.answer["reason"]

    def run(self, *command):
        environ = {"PATH": "/usr/bin:/bin", **self.answer["environ"]}
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=30).stdout


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path)
    yield node
    for started in node.started:  # only a test that failed has left some
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait(10)
    for place, _, _ in os.walk(tmp_path):
        os.chmod(place, 0o700)


def python(index, *requirements, **options):
    return {"requirements": list(requirements), "index_url": index.url, **options}


@pytest.fixture(params=["uv", pytest.param("pip", marks=pytest.mark.slow)])
def installer(request, node):
    if request.param == "pip":
        probe = subprocess.run(["/usr/bin/python3", "-m", "pip", "--version"], capture_output=True)
        if probe.returncode:
            pytest.skip("needs the capability to run pip: the system's Python has none")
    return request.param


def test_a_package_is_installed_with_its_dependency_and_its_script_runs(node, index, installer):
    index.add("alpha", "1.0", needs=["beta>=2"])
    index.add("beta", "2.5")
    done = node.build(python=python(index, "alpha", installer=installer))
    assert done.code == 0, done.log
    assert done.run("alpha-run") == "alpha 1.0\n"
    assert done.run("python", "-c", "import beta; print(beta.VERSION)") == "2.5\n"
    assert done.run(done.answer["interpreter"], "-c", "import alpha; print(alpha.VERSION)") == "1.0\n"
    assert set(done.answer["elapsed_s"]) == {"python"}
    assert done.answer["environment"] in done.log


def test_an_index_of_html_pages_is_read_as_well(node, web, installer):
    index = Index(web, is_html=True)
    index.add("alpha", "1.0")
    assert node.build(python=python(index, "alpha", installer=installer)).run("alpha-run") == "alpha 1.0\n"


def test_the_second_job_is_found_ready_and_asks_nothing(node, index):
    index.add("alpha", "1.0")
    table = python(index, "alpha")
    assert node.ready(table) is None
    first = node.build(python=table)
    asked = len(index.asked())
    found = node.ready(table)
    assert found.key == first.answer["environment"]
    assert found.applied({"PATH": "/usr/bin:/bin"}) == {**first.answer["environ"]}
    second = node.build(python=table)
    assert second.answer["environment"] == found.key
    assert len(index.asked()) == asked
    os.close(found.hold_fd)


def test_a_table_that_differs_in_anything_is_not_found_ready(node, index):
    index.add("alpha", "1.0")
    table = python(index, "alpha")
    node.build(python=table)
    for other in ({**table, "only_binary": True}, {**table, "requirements": ["alpha", "beta"]}, {**table, "refresh": "2d"}):
        assert node.ready(other) is None


def test_a_requirements_file_that_was_edited_is_not_found_ready(node, index):
    index.add("alpha", "1.0")
    index.add("alpha", "2.0")
    (node.spec / "requirements.txt").write_text("-c limits.txt\nalpha\n")
    (node.spec / "limits.txt").write_text("alpha<2\n")
    table = {"requirements": "requirements.txt", "index_url": index.url}
    assert node.build(python=table).run("alpha-run") == "alpha 1.0\n"
    assert node.ready(table) is not None
    (node.spec / "limits.txt").write_text("alpha>=2\n")
    assert node.ready(table) is None
    assert node.build(python=table).run("alpha-run") == "alpha 2.0\n"


def test_an_unpinned_resolution_is_reused_for_refresh_and_then_made_again(node, index):
    index.add("alpha", "1.0")
    table = python(index, "alpha", refresh="1h")
    node.build(python=table)
    index.add("alpha", "2.0")
    assert node.build(python=table).run("alpha-run") == "alpha 1.0\n"
    assert ready.find_ready(str(node.cache), table, (), time.time() + 1.1 * HOUR_S) is None
    for path in (node.cache / "resolutions").iterdir():
        told = json.loads(path.read_text())
        path.write_text(json.dumps({**told, "resolved_at_s": told["resolved_at_s"] - 1.1 * HOUR_S}))
    assert node.build(python=table).run("alpha-run") == "alpha 2.0\n"


def test_a_file_with_hashes_needs_no_resolution_and_stays_ready_for_ever(node, index):
    index.add("alpha", "1.0")
    _, data = wheel("alpha", "1.0")
    (node.spec / "requirements.txt").write_text(f"alpha==1.0 \\\n    --hash=sha256:{sha256(data)}\n")
    table = {"requirements": "requirements.txt", "index_url": index.url}
    done = node.build(python=table)
    assert "resolving" not in done.log
    assert ready.find_ready(str(node.cache), table, (str(node.spec),), time.time() + 10_000 * HOUR_S) is not None


def test_a_wheel_with_another_hash_than_locked_is_refused(node, index):
    index.add("alpha", "1.0")
    (node.spec / "requirements.txt").write_text(f"alpha==1.0 --hash=sha256:{'0' * 64}\n")
    done = node.build(python={"requirements": "requirements.txt", "index_url": index.url})
    assert done.code == 1
    assert "0000" in done.reason
    assert "hash" in done.reason.lower()


def test_a_pylock_file_is_installed_as_it_is(node, index):
    url = index.add("alpha", "1.0")
    name, data = wheel("alpha", "1.0")
    text = (
        'lock-version = "1.0"\ncreated-by = "tests"\n[[packages]]\nname = "alpha"\nversion = "1.0"\n'
        f'wheels = [{{ name = "{name}", url = "{url}", hashes = {{ sha256 = "{sha256(data)}" }} }}]\n'
    )
    (node.spec / "pylock.toml").write_text(text)
    done = node.build(python={"requirements": "pylock.toml"})
    assert done.code == 0, done.log
    assert done.run("alpha-run") == "alpha 1.0\n"


def test_a_project_with_uv_lock_brings_its_dependencies(node, index):
    from spooldadd.environment.installers import find_uv

    index.add("alpha", "1.0")
    text = '[project]\nname = "job"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["alpha"]\n'
    (node.spec / "pyproject.toml").write_text(text)
    command = [find_uv(), "lock", "--quiet", "--project", str(node.spec), "--default-index", index.url]
    subprocess.run(command, env={**node.environ, "UV_CACHE_DIR": str(node.root / "uv")}, check=True)
    done = node.build(python={"requirements": "uv.lock"})
    assert done.code == 0, done.log
    assert done.run("alpha-run") == "alpha 1.0\n"


def test_a_wheel_by_url_is_installed(node, web):
    name, data = wheel("alpha", "1.0")
    url = web.put(f"/{name}", data)
    done = node.build(python={"requirements": url, "sha256": sha256(data)})
    assert done.code == 0, done.log
    assert done.run("alpha-run") == "alpha 1.0\n"


def test_requirements_by_url_and_requirements_brought_by_files_are_read(node, web, index):
    index.add("alpha", "1.0")
    url = web.put("/requirements.txt", b"alpha\n")
    assert node.build(python={"requirements": url, "index_url": index.url}).run("alpha-run") == "alpha 1.0\n"
    done = node.build(
        files=[{"path": "wanted.txt", "content": "alpha\n"}],
        python={"requirements": "wanted.txt", "index_url": index.url},
    )
    assert done.run("alpha-run") == "alpha 1.0\n"


def test_exclude_newer_resolves_as_of_its_day(node, index):
    index.add("alpha", "1.0", day="2024-01-01")
    index.add("alpha", "2.0", day="2024-06-01")
    done = node.build(python=python(index, "alpha", exclude_newer="2024-03-01"))
    assert done.run("alpha-run") == "alpha 1.0\n"


def test_a_version_of_python_that_is_not_there_is_told_with_those_that_are(node, index):
    done = node.build(python=python(index, "alpha", version="3.99"))
    assert done.code == 1
    assert "no Python 3.99 is installed on this node; found: 3." in done.reason


def test_the_version_is_the_one_that_was_asked_for(node):
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    done = node.build(python={"version": version})
    assert done.run("python", "-c", "import sys; print(*sys.version_info[:2], sep='.')") == f"{version}\n"


def test_an_index_with_a_login_is_read_with_a_secret_by_name_that_no_output_shows(node, web, installer):
    index = Index(web, login="ann:pass/w@rd")
    index.add("alpha", "1.0")
    (node.secrets / "index").write_text("ann:pass/w@rd\n")
    host = f"127.0.0.1:{web.server_port}"
    done = node.build(python=python(index, "alpha", installer=installer, credentials={host: "index"}))
    assert done.code == 0, done.log
    assert done.run("alpha-run") == "alpha 1.0\n"
    kept = [path for path in node.root.rglob("*") if path.is_file() and path.parent != node.secrets]
    assert not [path for path in kept if b"pass/w@rd" in path.read_bytes() or b"pass%2Fw%40rd" in path.read_bytes()]


def test_an_index_with_a_login_refuses_without_and_the_reason_says_so(node, web, installer):
    index = Index(web, login="ann:secret")
    index.add("alpha", "1.0")
    done = node.build(python=python(index, "alpha", installer=installer))
    assert done.code == 1
    assert any(word in done.reason for word in ("401", "credentials", "No matching distribution")), done.reason


def test_a_further_index_is_asked_first(node, web, index):
    index.add("alpha", "1.0")
    further = Index(web, prefix="/more")
    further.add("alpha", "0.5")
    table = python(index, "alpha", extra_index_urls=[further.url])
    assert node.build(python=table).run("alpha-run") == "alpha 0.5\n"


def test_a_package_that_does_not_exist_fails_with_the_installers_own_words(node, index, installer):
    done = node.build(python=python(index, "nothing-like-it", installer=installer))
    assert done.code == 1
    assert "nothing-like-it" in done.reason
    assert "was not found" in done.reason or "No matching distribution" in done.reason
    assert "\n" not in done.reason


def test_two_packages_that_conflict_fail_with_the_installers_own_words(node, index, installer):
    index.add("alpha", "1.0", needs=["gamma<2"])
    index.add("beta", "1.0", needs=["gamma>=2"])
    index.add("gamma", "1.0")
    index.add("gamma", "2.0")
    done = node.build(python=python(index, "alpha", "beta", installer=installer))
    assert done.code == 1
    assert "gamma" in done.reason
    assert "unsatisfiable" in done.reason or "conflict" in done.reason.lower()


def test_a_wheel_that_is_no_wheel_fails_with_the_installers_own_words(node, index, installer):
    index.add("alpha", "1.0", broken=b"this is no zip file")
    done = node.build(python=python(index, "alpha", installer=installer))
    assert done.code == 1
    assert "alpha" in done.reason
    assert "zip" in done.reason.lower() or "invalid" in done.reason.lower()


def test_a_wheel_whose_file_is_not_what_its_record_says_is_refused_with_the_key(node, index):
    index.add("alpha", "1.0", tamper=True)
    done = node.build(python=python(index, "alpha"))
    assert done.code == 1
    assert "alpha.py" in done.reason
    assert "RECORD" in done.reason
    assert done.reason.startswith("environment ")
    assert [path.name for path in (node.cache / "environments").iterdir()] == []


def test_a_source_directory_is_refused_because_it_could_change(node, index):
    (node.spec / "lib").mkdir()
    (node.spec / "lib/pyproject.toml").write_text('[project]\nname = "lib"\nversion = "1"\n')
    (node.spec / "requirements.txt").write_text(f"{node.spec}/lib\n")
    done = node.build(python={"requirements": "requirements.txt", "index_url": index.url})
    assert done.code == 1
    assert "build a wheel" in done.reason


def test_an_environment_is_read_only_and_bytecode_goes_beside_it(node, index):
    index.add("alpha", "1.0")
    done = node.build(python=python(index, "alpha"))
    path = node.cache / "environments" / done.answer["environment"]
    writable = [p for p in path.rglob("*") if not p.is_symlink() and p.stat().st_mode & 0o222]
    assert [*writable, *(p for p in [path] if p.stat().st_mode & 0o222)] == []
    done.run("python", "-c", "import alpha")
    assert list((node.cache / "bytecode").rglob("alpha.*.pyc"))
    assert manifest.first_difference(str(path)) == ""


def test_a_job_that_edits_a_file_of_its_environment_changes_no_other_and_not_the_cache(node, index):
    index.add("alpha", "1.0")
    index.add("beta", "1.0")
    one = node.build(python=python(index, "alpha"))
    edited = Path(one.run("python", "-c", "import alpha; print(alpha.__file__)").strip())
    as_nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    for place in [node.root, *node.root.parents]:
        if as_nobody and not place.stat().st_mode & 0o001:
            as_nobody = {}
    if as_nobody or os.geteuid() != 0:
        tried = subprocess.run(["sh", "-c", f"echo >> {edited}"], capture_output=True, **as_nobody)
        assert tried.returncode != 0
    os.chmod(edited, 0o644)  # whoever owns it can insist
    edited.write_text("raise SystemExit('edited')\n")
    two = node.build(python=python(index, "alpha", "beta"))
    assert two.run("alpha-run") == "alpha 1.0\n"
    problems = [problem for _, problem in node.environments().verify()]
    assert problems == ["`" + str(edited.relative_to(Path(one.answer["environ"]["VIRTUAL_ENV"]))) + "` was changed"]
    assert node.build(python=python(index, "alpha")).run("alpha-run") == "alpha 1.0\n"


@pytest.mark.slow
def test_twenty_jobs_that_need_the_same_new_environment_at_once_cause_one_build(node, index):
    index.add("alpha", "1.0")
    table = python(index, "alpha")
    started = [node.start(node.plan(python=table)) for _ in range(20)]
    done = [Done(node, each, 240) for each in started]
    assert [each.code for each in done] == [0] * 20
    assert sum(": building" in each.log for each in done) == 1
    assert sum("resolving" in each.log for each in done) == 1
    assert len({each.answer["environment"] for each in done}) == 1
    assert [path.name for path in (node.cache / "environments").iterdir()] == [done[0].answer["environment"]]


def test_an_environment_in_use_is_never_removed_and_one_that_is_not_goes(node, index):
    index.add("alpha", "1.0")
    table = python(index, "alpha")
    key = node.build(python=table).answer["environment"]
    held = node.ready(table)
    job = subprocess.Popen(["sleep", "60"], pass_fds=[held.hold_fd])
    os.close(held.hold_fd)
    environments = node.environments()
    os.utime(node.cache / "environments" / key / "ready.json", (1, 1))
    assert environments.prune(max_bytes=0, max_age_s=0).removed == 0
    assert environments.remove(key) is False
    job.kill()
    job.wait(10)
    assert environments.prune(max_bytes=0, max_age_s=0).removed == 1
    assert os.listdir(node.cache / "environments") == []
    assert node.ready(table) is None
    assert node.build(python=table).run("alpha-run") == "alpha 1.0\n"


def test_the_least_recently_used_environments_go_first(node, index):
    keys = []
    for number, name in enumerate(("alpha", "beta", "gamma")):
        index.add(name, "1.0")
        keys.append(node.build(python=python(index, name)).answer["environment"])
        os.utime(node.cache / "environments" / keys[-1] / "ready.json", (1000 + number, 1000 + number))
    environments = node.environments()
    sizes = {entry.key: entry.size_bytes for entry in environments.entries()}
    environments.prune(max_bytes=sizes[keys[1]] + sizes[keys[2]], max_age_s=1e12)
    assert sorted(entry.key for entry in environments.entries()) == sorted(keys[1:])


def whole(node):
    """Check all that a later job could use: published environments as they were written, blobs as they are named."""
    for entry in node.environments().entries():
        assert manifest.first_difference(entry.path) == ""
    for path in (node.cache / "blobs").rglob("*-*"):
        assert sha256(path.read_bytes()) == path.name.partition("-")[0]


@pytest.mark.slow
def test_a_builder_killed_at_any_point_leaves_nothing_half_made(node, web, index):
    index.add("alpha", "1.0", extra={f"alpha_data/{n}.py": "x = 1\n" * 50 for n in range(200)})
    data = os.urandom(500_000)
    file = {"url": web.put("/data", data, etag='"1"'), "path": "data"}
    plan = {"files": [file], "python": python(index, "alpha"), "build": [{"command": "cp data copy"}]}
    started_s = time.monotonic()
    assert node.build(**plan).code == 0
    whole_s = time.monotonic() - started_s
    kills = 24
    for number in range(kills):
        for name in ("environments", "requests", "resolutions", "urls", "blobs"):
            for place, _, _ in os.walk(node.cache / name):
                os.chmod(place, 0o700)
            shutil.rmtree(node.cache / name, ignore_errors=True)
        started = node.start(node.plan(**plan))
        try:
            started.wait(whole_s * 1.1 * number / kills)
        except subprocess.TimeoutExpired:
            os.kill(started.pid, signal.SIGKILL)  # it alone: what it started goes on
            started.wait(10)
        found = node.ready(plan["python"])
        if found:
            os.close(found.hold_fd)
        whole(node)
    done = node.build(**plan)
    assert (done.code, (done.work / "copy").read_bytes()) == (0, data)
    assert done.run("alpha-run") == "alpha 1.0\n"
    whole(node)
    node.environments().prune(max_bytes=1 << 40, max_age_s=1e12)
    names = os.listdir(node.cache / "environments")
    assert names == [done.answer["environment"]]


def test_a_child_of_a_killed_builder_does_not_write_into_the_next_build(node, index, request):
    # A uv that is slow: it waits at a gate while it installs, is orphaned by the kill, and goes on afterwards.
    index.add("alpha", "1.0")
    gate, trace, bin_dir = node.root / "gate", node.root / "trace", node.root / "bin"
    bin_dir.mkdir()
    from spooldadd.environment.installers import find_uv

    script = (
        f'#!/bin/sh\nif [ "$1 $2" = "pip sync" ] && [ ! -e {gate} ]; then echo $$ $PWD >> {trace}; '
        f"while [ ! -e {gate} ]; do sleep 0.02; done; fi\n"
        f'exec {find_uv()} "$@"\n'
    )
    (bin_dir / "uv").write_text(script)
    (bin_dir / "uv").chmod(0o755)
    node.environ["PATH"] = f"{bin_dir}:{node.environ['PATH']}"
    shadow = node.root / "shadow"  # hides the `uv` package, so that the one on PATH is taken
    shadow.mkdir()
    (shadow / "uv.py").write_text("def find_uv_bin():\n    raise FileNotFoundError\n")
    node.environ["PYTHONPATH"] = f"{shadow}:{PROJECT}"

    first = node.start(node.plan(python=python(index, "alpha")))
    request.addfinalizer(gate.touch)  # nobody waits for ever, whatever fails
    eventually(trace.exists)
    first.kill()
    first.wait(10)
    orphan, place = eventually(lambda: trace.read_text().split())
    assert os.path.isdir(place)
    second = node.start(node.plan(python=python(index, "alpha")))
    eventually(lambda: len(trace.read_text().split()) == 4)
    other = trace.read_text().split()[3]
    assert other != place
    assert os.path.isdir(place)  # its writer lives, so it is not removed under it
    gate.touch()
    done = Done(node, second)
    eventually(lambda: process.start_ticks(int(orphan)) is None)
    assert done.run("alpha-run") == "alpha 1.0\n"
    assert manifest.first_difference(done.answer["environ"]["VIRTUAL_ENV"]) == ""
    node.environments().prune(max_bytes=1 << 40, max_age_s=1e12)
    assert os.listdir(node.cache / "environments") == [done.answer["environment"]]


def test_a_builder_that_is_told_to_stop_ends_what_it_started(node):
    started = node.start(node.plan(build=[{"command": "echo $$ > pid; sleep 300"}]))
    pid = int(eventually(lambda: (started.work / "pid").exists() and (started.work / "pid").read_text().strip()))
    started.terminate()
    assert started.wait(20) == 143
    assert process.start_ticks(pid) is None
    assert not started.answer.exists()


def test_steps_run_in_order_in_the_work_directory_with_the_environment(node, index):
    index.add("alpha", "1.0")
    steps = [
        {"command": ["sh", "-c", "pwd > where; alpha-run > one"]},
        {"command": "cat one - > two; echo $FLAVOUR >> two", "env": {"FLAVOUR": "plum"}},
    ]
    done = node.build(python=python(index, "alpha"), build=steps)
    assert done.code == 0, done.log
    assert (done.work / "where").read_text().strip() == str(done.work)
    assert (done.work / "two").read_text() == "alpha 1.0\nplum\n"


def test_a_step_that_fails_ends_the_build_with_its_output_in_the_log(node):
    done = node.build(build=[{"command": "echo cannot do it >&2; exit 3"}, {"command": "touch never"}])
    assert (done.code, done.reason) == (1, "the step `echo cannot do it >&2; exit 3` ended with 3")
    assert "cannot do it\n" in done.log
    assert not (done.work / "never").exists()


def test_a_step_that_takes_too_long_is_ended_with_all_that_it_started(node):
    command = "(setsid sh -c 'echo $$ > far; trap \"\" TERM; sleep 301' & ) ; echo $$ > near; sleep 302"
    done = node.build(build=[{"command": command, "timeout": "1s"}])
    assert "took longer than 1s" in done.reason
    for name in ("near", "far"):
        assert process.start_ticks(int((done.work / name).read_text())) is None


def test_what_a_step_leaves_running_ends_with_it(node):
    done = node.build(build=[{"command": "setsid sleep 303 & echo $! > left"}])
    assert done.code == 0
    assert process.start_ticks(int((done.work / "left").read_text())) is None


def test_a_program_that_is_not_there_is_named(node):
    done = node.build(build=[{"command": ["no-such-program"]}])
    assert "`no-such-program` cannot be started" in done.reason


def test_files_arrive_from_everywhere_with_sums_modes_and_templates(node, web):
    (node.spec / "local.txt").write_text("local\n")
    (node.root / "elsewhere").write_text("elsewhere\n")
    files = [
        {"url": web.put("/a/load.py", b"print(1)\n"), "sha256": sha256(b"print(1)\n"), "mode": "0755"},
        {"source": "local.txt", "path": "in/local.txt"},
        {"url": f"file://{node.root}/elsewhere", "path": "in/far"},
        {"content": "day = {{ vars.day }}\n", "path": "plain.ini", "mode": "0600"},
        {"content": "day = {{ vars.day }}\n", "path": "made.ini", "template": True},
        {"url": web.put("/t", b"{% for n in vars.list %}{{ n }};{% endfor %}"), "path": "made.txt", "template": True},
    ]
    done = node.build(files=files, variables={"vars": {"day": "2026-11-20", "list": [1, 2]}})
    assert done.code == 0, done.log
    texts = {name: (done.work / name).read_text() for name in ("load.py", "in/local.txt", "in/far", "plain.ini")}
    assert texts == {
        "load.py": "print(1)\n", "in/local.txt": "local\n", "in/far": "elsewhere\n", "plain.ini": "day = {{ vars.day }}\n",
    }  # fmt: skip
    assert (done.work / "made.ini").read_text() == "day = 2026-11-20\n"
    assert (done.work / "made.txt").read_text() == "1;2;"
    modes = [stat.S_IMODE((done.work / name).stat().st_mode) for name in ("load.py", "plain.ini", "in/local.txt")]
    assert modes == [0o755, 0o600, 0o644]
    assert sorted(os.listdir(done.work)) == ["in", "load.py", "made.ini", "made.txt", "plain.ini"]


def test_a_job_that_writes_into_a_fetched_file_does_not_change_the_store(node, web):
    file = {"url": web.put("/f", b"data"), "sha256": sha256(b"data")}
    first = node.build(files=[file])
    (first.work / "f").write_bytes(b"edited")
    assert (node.build(files=[file]).work / "f").read_bytes() == b"data"


def test_an_archive_is_unpacked_and_a_later_file_through_its_link_stays_inside(node, web):
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, kind, target in (("top/d", tarfile.DIRTYPE, ""), ("top/l", tarfile.SYMTYPE, "d")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, target, 0o755
            tar.addfile(info)
    archive = {"url": web.put("/x.tgz", buffer.getvalue()), "unpack": True, "strip": 1}
    done = node.build(files=[archive, {"content": "x", "path": "l/f"}])
    assert done.code == 0, done.log
    assert (done.work / "d/f").read_text() == "x"


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ({"content": "{{ vars.nothing }}", "path": "f", "template": True}, "nothing"),
        ({"content": "{% if %}", "path": "f", "template": True}, "the template `f`: "),
        ({"content": "{{ ''.__class__.__mro__ }}", "path": "f", "template": True}, "the template `f`: "),
        ({"source": "missing.txt"}, "`missing.txt` is not there"),
        ({"source": "up/../../f"}, "beside the spec"),
        ({"content": "x", "path": "../f"}, "below the work directory"),
        ({"content": "x", "path": "f", "sha256": "0" * 64}, "but the spec says 0000"),
        ({"url": "http://ann:secret@example.org/f"}, "credentials do not belong into a URL"),
        ({"url": "https://example.org/f", "headers": {"X": {"secret": "gone"}}}, "secret `gone` cannot be read"),
        ({"url": "https://example.org/f", "content": "x", "path": "f"}, "exactly one of"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_is_a_build_error_that_says_why(node, file, words):
    done = node.build(files=[file], variables={"vars": {}})
    assert done.code == 1
    assert words in done.reason
    assert os.listdir(done.work) == []


def test_a_source_is_not_followed_out_of_the_directory_of_the_spec(node):
    (node.root / "private").write_text("x")
    (node.spec / "way").symlink_to(node.root / "private")
    assert "`way` is not there" in node.build(files=[{"source": "way"}]).reason


def test_a_secret_header_reaches_the_server_and_no_output(node, web):
    (node.secrets / "token").write_text("t0p-s3cret\n")
    url = web.put("/f", b"data", needs={"X-Token": "Key t0p-s3cret"})
    header = {"secret": "token", "prefix": "Key "}
    done = node.build(files=[{"url": url, "headers": {"X-Token": header}}], build=[{"command": "true"}])
    assert done.code == 0, done.log
    kept = [path for path in node.root.rglob("*") if path.is_file() and path.parent != node.secrets]
    assert not [path for path in kept if b"t0p-s3cret" in path.read_bytes()]


@pytest.fixture
def rsync_url(tmp_path):
    program = shutil.which("rsync")
    if program is None:
        pytest.skip("needs the capability to run rsync, which is not installed")
    module = tmp_path / "module"
    module.mkdir()
    (module / "load.py").write_text("print('rsync')\n")
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "rsyncd.conf").write_text(f"use chroot = no\n[data]\npath = {module}\n")
    options = ["--daemon", "--no-detach", "--address=127.0.0.1", f"--port={port}", f"--config={tmp_path}/rsyncd.conf"]
    server = subprocess.Popen([program, *options], stderr=subprocess.DEVNULL)

    def answers():
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    eventually(answers)
    yield f"rsync://127.0.0.1:{port}/data"
    server.terminate()
    server.wait(10)


def test_a_file_comes_by_rsync(node, rsync_url):
    done = node.build(files=[{"url": f"{rsync_url}/load.py"}])
    assert done.code == 0, done.log
    assert (done.work / "load.py").read_text() == "print('rsync')\n"
    missing = node.build(files=[{"url": f"{rsync_url}/missing.py"}])
    assert missing.code == 1
    assert "No such file" in missing.reason


@pytest.fixture
def sftp_port(tmp_path, node):
    program = shutil.which("sshd") or "/usr/sbin/sshd"
    if not os.path.exists(program) or not shutil.which("sftp") or os.geteuid() != 0:
        pytest.skip("needs the capability to run sshd and sftp as root")
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{tmp_path}/{name}"], check=True)
    (tmp_path / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/user.pub\n"
        "StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n"
    )
    os.makedirs("/run/sshd", exist_ok=True)
    server = subprocess.Popen([program, "-D", "-e", "-f", f"{tmp_path}/sshd_config"], stderr=subprocess.DEVNULL)
    wrapper = tmp_path / "bin"
    wrapper.mkdir()
    known = f"-o StrictHostKeyChecking=no -o UserKnownHostsFile={tmp_path}/known -i {tmp_path}/user"
    (wrapper / "sftp").write_text(f'#!/bin/sh\nexec {shutil.which("sftp")} {known} "$@"\n')
    (wrapper / "sftp").chmod(0o755)
    node.environ["PATH"] = f"{wrapper}:{node.environ['PATH']}"

    def answers():
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    eventually(answers)
    yield port
    server.terminate()
    server.wait(10)


def test_a_file_comes_by_sftp_also_with_odd_characters_and_continued(node, sftp_port, tmp_path):
    odd = tmp_path / 'odd "name" [1]*.bin'
    odd.write_bytes(os.urandom(300_000))
    from urllib.parse import quote

    url = f"sftp://root@127.0.0.1:{sftp_port}{quote(str(odd))}"
    done = node.build(files=[{"url": url, "path": "f"}])
    assert done.code == 0, done.log
    assert (done.work / "f").read_bytes() == odd.read_bytes()
    missing = node.build(files=[{"url": f"sftp://root@127.0.0.1:{sftp_port}/nowhere/f"}])
    assert "not found" in missing.reason.lower() or "no such file" in missing.reason.lower()


FLASK = """
import http.server


class Flask:
    def __init__(self, name):
        self.pages = {}

    def route(self, path):
        return lambda page: self.pages.setdefault(path, page)

    def run(self, port):
        pages = self.pages

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(pages[self.path]().encode())

        http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()


def main():
    pass
"""


def test_dadds_own_example_migrates_and_runs(node, web, index):
    # Dadd's example/hello_spec.yaml and example/hello_server.py, but for the hosts and the port.
    import socket
    import urllib.request

    from spooldadd.environment.migrate import migrate, read_old

    pytest.importorskip("yaml", reason="needs the capability to read YAML: the pyyaml package")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = "from flask import Flask\n\n\napp = Flask(__name__)\napp.debug = True\n\n\n"
    server += f"@app.route('/')\ndef index():\n    return 'Hello World!'\n\n\napp.run(port={port})\n"
    index.add("flask", "1.0", code=FLASK)
    text = "cmd: venv/bin/python hello_server.py\ndownload_urls:\n"
    text += (
        f"  hello_server.py: {web.put('/files/hello_server.py', server.encode())}\npython_deps:\n  - -i {index.url} flask\n"
    )
    table = migrate(read_old(text, "hello_spec.yaml")).table
    done = node.build(files=table["files"], python=table["python"])
    assert done.code == 0, done.log
    environ = {"PATH": "/usr/bin:/bin", **done.answer["environ"]}
    job = subprocess.Popen(["/usr/bin/env", *table["command"]], cwd=done.work, env=environ, stderr=subprocess.DEVNULL)

    def hello():
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
        except OSError:
            return None

    try:
        assert eventually(hello) == b"Hello World!"
    finally:
        job.kill()
        job.wait(10)


def test_a_plan_that_cannot_be_read_is_answered_with_every_problem(node):
    done = node.build(files=[{"mode": "0644"}], build=[{"command": "x", "tiemout": "1s"}], python={"versoin": "3"})
    assert done.code == 1
    assert "exactly one of" in done.reason
    assert "tiemout" in done.reason


def test_a_ready_environment_costs_a_job_well_under_five_milliseconds(node, index):
    index.add("alpha", "1.0")
    table = python(index, "alpha")
    node.build(python=table)
    times = []
    for _ in range(200):
        started_s = time.perf_counter()
        found = node.ready(table)
        times.append(time.perf_counter() - started_s)
        os.close(found.hold_fd)
    median_s = sorted(times)[100]
    print(f"find_ready: {median_s * 1e6:.0f} us")
    assert median_s < 0.005


def test_looking_for_a_ready_environment_imports_nothing_heavy():
    code = "import sys, spooldadd.environment.ready; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"pydantic", "requests", "jinja2", "filelock", "urllib3", "subprocess", "tempfile"}


def test_a_removal_during_lookups_is_never_seen_half_done(node, index):
    index.add("alpha", "1.0")
    table = python(index, "alpha")
    key = node.build(python=table).answer["environment"]
    seen, stop = [], threading.Event()

    def look():
        while not stop.is_set():
            found = node.ready(table)
            if found:
                seen.append(os.path.exists(found.interpreter))
                os.close(found.hold_fd)

    looker = threading.Thread(target=look)
    looker.start()
    eventually(lambda: len(seen) > 50)
    environments = node.environments()
    eventually(lambda: environments.remove(key))
    stop.set()
    looker.join()
    assert all(seen)
    assert node.ready(table) is None


def test_pruning_removes_what_led_to_nothing_and_leaves_what_is_used(node, index, web):
    from spooldadd.environment.upkeep import Bounds, prune_environments, prune_files

    index.add("alpha", "1.0")
    table = python(index, "alpha")
    file = {"url": web.put("/f", b"data", etag='"1"')}
    first = node.build(python=table, files=[file])
    for path in [
        *(node.cache / "blobs").rglob("*-*"),
        node.cache / "environments" / first.answer["environment"] / "ready.json",
    ]:
        os.utime(path, (1, 1))
    held = ready.hold(str(node.cache), first.answer["environment"])
    assert prune_files(str(node.cache), Bounds()).removed == 1
    assert os.listdir(node.cache / "urls") == []
    report = Report(lambda line: None)
    assert prune_environments(str(node.cache), Bounds(), report, Log()).removed == 0
    os.close(held.hold_fd)
    os.utime(node.cache / "environments" / first.answer["environment"] / "ready.json", (1, 1))
    assert prune_environments(str(node.cache), Bounds(), report, Log()).removed == 1
    assert node.build(python=table, files=[file]).code == 0


def test_a_place_that_was_made_a_moment_ago_is_not_swept_before_it_has_its_lock(node):
    fresh, old = (node.cache / "environments" / f".building.key.{name}" for name in ("fresh", "old"))
    for path in (fresh, old):
        path.mkdir(parents=True)
    os.utime(old, (1, 1))
    node.environments().prune(max_bytes=1 << 40, max_age_s=1e12)
    assert (fresh.exists(), old.exists()) == (True, False)
