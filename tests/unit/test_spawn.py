import os
import resource
import signal

import pytest

from spooldadd import spawn
from spooldadd.spawn import CannotStart, Streams, find_program


def script(path, text="#!/bin/sh\n", mode=0o755):
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def refusal(name, **environ):
    with pytest.raises(CannotStart) as caught:
        find_program([name], environ)
    return str(caught.value), caught.value.exit_code


def test_a_program_is_found_on_the_jobs_own_path(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    script(tmp_path / "a" / "tool", mode=0o644)  # passed over, as a shell does
    program = script(tmp_path / "b" / "tool")
    assert find_program(["tool", "x"], {"PATH": f"{tmp_path}/missing:{tmp_path}/a:{tmp_path}/b"}) == program
    assert os.path.basename(find_program(["sh"], {})) == "sh"


def test_a_name_with_a_slash_is_not_searched_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script(tmp_path / "tool")
    assert find_program(["./tool"], {"PATH": "/nowhere"}) == "./tool"
    assert find_program(["tool"], {"PATH": "/nowhere:"}) == "./tool"  # an empty entry is the current directory


def test_what_is_missing_names_where_it_was_looked_for(tmp_path):
    sentence, code = refusal("no-such-tool", PATH="/nowhere:/never")
    assert code == 127
    assert "`no-such-tool` was not found on PATH (/nowhere:/never)" in sentence
    assert "did you mean `python3`?" in refusal("python", PATH="/nowhere")[0]
    assert refusal(str(tmp_path / "x")) == (f"the command `{tmp_path}/x` does not exist", 127)


def test_what_cannot_be_executed_says_why(tmp_path):
    plain = script(tmp_path / "plain", mode=0o644)
    assert refusal(plain) == (f"the command `{plain}` is not executable; `chmod +x` it", 126)
    assert refusal(str(tmp_path)) == (f"the command `{tmp_path}` is a directory", 126)
    assert "is not executable" in refusal("plain", PATH=str(tmp_path))[0]  # found, and nothing better


def run(program, command, tmp_path, limits=None, environ=None):
    """Run a program to its end with its output in a file; return its status and what it printed."""
    out = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    null = os.open(os.devnull, os.O_RDONLY)
    streams = Streams(null, out, out)
    try:
        if limits is None:
            pid = spawn.spawn(program, command, environ or {}, streams)
        else:
            pid = spawn.spawn_limited(program, command, environ or {}, streams, limits)
        _, status = os.waitpid(pid, 0)
    finally:
        streams.close()
    return os.waitstatus_to_exitcode(status), (tmp_path / "out").read_text()


@pytest.mark.parametrize("limits", [None, {}], ids=["spawned", "forked"])
def test_a_job_starts_in_a_session_of_its_own(tmp_path, limits):
    command = ["sh", "-c", "cut -d' ' -f1,5,6 /proc/self/stat; echo $A >&2; exit 3"]
    code, printed = run("/bin/sh", command, tmp_path, limits, {"A": "b", "PATH": "/bin:/usr/bin"})
    numbers, value = printed.splitlines()
    _, group, session = numbers.split()
    assert (code, value) == (3, "b")
    assert group == session != str(os.getsid(0))


@pytest.mark.parametrize("limits", [None, {}], ids=["spawned", "forked"])
@pytest.mark.parametrize(
    ("text", "sentence", "exit_code"),
    [
        ("#!/no/such/interpreter\n", "an interpreter in its first line that is not there", 127),
        ("echo hello\n", "a script needs a first line such as `#!/bin/sh`", 126),
        ("", "a script needs a first line", 126),
    ],
)
def test_a_script_that_cannot_run_says_why(tmp_path, limits, text, sentence, exit_code):
    program = script(tmp_path / "script", text)
    with pytest.raises(CannotStart, match=sentence) as caught:
        run(program, [program], tmp_path, limits)
    assert caught.value.exit_code == exit_code


def test_a_limit_of_the_kernel_holds_in_the_job_alone(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    _, printed = run("/bin/sh", ["sh", "-c", "ulimit -Sn; ulimit -Hn"], tmp_path, {resource.RLIMIT_NOFILE: (50, 60)})
    assert printed.split() == ["50", "60"]
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_no_limit_is_raised_above_the_one_that_stands(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (5, 10))
    assert spawn._below_hard(resource.RLIMIT_NOFILE, (20, 30)) == (10, 10)
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (5, resource.RLIM_INFINITY))
    assert spawn._below_hard(resource.RLIMIT_NOFILE, (20, 30)) == (20, 30)


def test_no_descriptor_is_left_after_a_start_that_failed(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for limits in (None, {}):
        with pytest.raises(CannotStart):
            run(str(tmp_path), ["x"], tmp_path, limits)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("limits", [None, {resource.RLIMIT_NOFILE: (64, 64)}])
def test_a_job_ignores_no_signal_whoever_started_the_worker(tmp_path, limits):
    # Under `nohup` every job ignored HUP, and behind `&` in a script INT too.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGINT)}
    try:
        _, text = run("/bin/grep", ["grep", "SigIgn", "/proc/self/status"], tmp_path, limits)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert int(text.split()[1], 16) & (1 << signal.SIGHUP - 1 | 1 << signal.SIGINT - 1) == 0
