from __future__ import annotations

import datetime
import fcntl
import os
import time

import pytest

from spooldadd import process, sources
from spooldadd.inspect import ended, jobs, running, turn, waiting_rules
from spooldadd.tomltext import dumps
from tests.unit.inspect_records import START, MadeSpool, files_of, job_id

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture
def made(tmp_path):
    return MadeSpool(tmp_path / "spool")


@pytest.fixture
def serve(made):
    """Let a node serve the spool, as far as a reader can see."""
    held = []

    def serve(name: str = "n1", **fields) -> None:
        table = {"node": name, "pid": os.getpid(), "state": "serving", "jobs": 2, "queues": {}, **fields}
        (made.root / ".spool" / "nodes" / f"{name}.toml").write_text(dumps({"schema": 1, "heartbeat": 1, **table}))
        lock = open(made.root / ".spool" / "nodes" / f"{name}.lock", "w")  # noqa: SIM115  # held until the test ends
        fcntl.flock(lock, fcntl.LOCK_EX)
        held.append(lock)

    yield serve
    for lock in held:
        lock.close()


def aged(path) -> None:
    """Let a file look as if nobody had changed it for a minute. Only the time of its change cannot be set back."""
    os.utime(path, (time.time() - 60, time.time() - 60))


def why(made, text: str, now: datetime.datetime | None = None):
    """Return the explanation of a waiting job, by default of a minute later."""
    now = now or datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=1)
    return waiting_rules.explain(jobs.find(made.places, text), now)


def keeping(explanation) -> list[str]:
    return [rule["rule"] for rule in explanation.facts["rules"] if rule["keeps_waiting"]]


def rule(explanation, name: str) -> dict:
    (found,) = [rule for rule in explanation.facts["rules"] if rule["rule"] == name]
    return found


# -- waiting


def test_nothing_keeps_a_quiet_file_waiting_where_a_node_has_room(made, serve):
    serve()
    made.drop("a.toml")
    found = why(made, "a.toml")
    assert keeping(found) == []
    assert found.sentence == "nothing keeps it waiting: a worker should take it at once, at the latest within 30 s"


def test_a_spool_that_nobody_serves_keeps_everything_waiting(made):
    made.drop("a.toml")
    found = why(made, "a.toml")
    assert keeping(found) == ["worker"]
    assert f"start one: `spooldadd worker {made.root}`" in found.lines[0]


PLACED = 'command = ["true"]\n[place]\nnode = "etl-*"\nlabels = ["gpu"]\nrequires = { gpus = 2 }\n'
HAS_GPUS = {"labels": ["gpu"], "capacity": {"cpus": 8.0, "memory_bytes": 2**33, "gpus": 2}}


def test_a_job_that_no_node_ever_takes_does_not_wait_for_those_before_it(made, serve):
    serve("web-1")
    made.drop("a.toml", PLACED)
    made.drop("b.toml", PLACED)
    assert {job: keeping(why(made, job)) for job in ("a.toml", "b.toml")} == {
        "a.toml": ["place-node"],
        "b.toml": ["place-node"],
    }


def test_each_node_has_its_own_reasons_not_to_take_a_job(made, serve):
    serve("web-1")
    serve("etl-1", labels=["ssd"], capacity={"cpus": 8.0, "memory_bytes": 2**33, "gpus": 1})
    made.drop("a.toml", PLACED)
    found = why(made, "a.toml")
    assert keeping(found) == ["place-labels", "place-capacity", "place-node"]
    told = {node["node"]: [reason["rule"] for reason in node["reasons"]] for node in found.facts["nodes"]}
    assert told == {"etl-1": ["place-labels", "place-capacity"], "web-1": ["place-node"]}
    assert any("the job needs more than it has: 2 GPUs, of 1 in all" in line for line in found.lines)


def test_nodes_that_never_take_it_keep_nothing_waiting_where_another_one_does(made, serve):
    serve("web-1")
    serve("etl-1", **HAS_GPUS)
    made.drop("a.toml", PLACED)
    found = why(made, "a.toml")
    assert keeping(found) == []
    assert [node["takes"] for node in found.facts["nodes"]] == [True, False]


def test_what_is_taken_now_keeps_a_job_waiting(made, serve):
    serve("etl-1", **HAS_GPUS)
    made.add("running", job_id("long"), claim={"node": "etl-1", "queue": "default", "gpus": ["1"]})
    made.drop("a.toml", PLACED)
    found = why(made, "a.toml")
    assert keeping(found) == ["place-busy"]
    assert rule(found, "place-busy")["sentence"] == "on node `etl-1` too little is free: 2 GPUs, of 1 now"


def test_a_drop_in_the_inbox_of_a_node_that_nobody_serves_is_told(made, serve):
    serve("n1")
    made.drop("@web-9/a.toml")
    found = why(made, "@web-9/a.toml")
    assert keeping(found) == ["inbox", "node-away"]
    assert "no worker of that name has ever served this spool" in rule(found, "node-away")["sentence"]


def test_a_node_that_would_take_it_and_does_not_serve_is_named(made, serve):
    serve("web-1")
    (made.root / ".spool" / "nodes" / "etl-1.toml").write_text('schema = 1\nnode = "etl-1"\n')
    made.drop("a.toml", PLACED)
    assert keeping(why(made, "a.toml")) == ["node-away", "place-node"]


def test_a_draining_worker_takes_nothing(made, serve):
    serve(state="draining")
    made.drop("a.toml")
    assert keeping(why(made, "a.toml")) == ["worker"]


def test_a_held_file_and_a_held_record_wait_to_be_released(made, serve):
    serve()
    made.drop("a.toml.held")
    (made.add("waiting", job_id("b")) / "hold").touch()
    assert keeping(why(made, "a.toml")) == ["held"]
    assert "`spooldadd release " in rule(why(made, "b"), "held")["sentence"]


def test_pause_files_are_named(made, serve):
    serve()
    made.drop("a.toml", 'command = ["true"]\nqueue = "etl"\n')
    (made.root / "paused.etl").touch()
    (made.root / "paused.other").touch()
    assert keeping(why(made, "a.toml")) == ["queue-paused"]
    assert rule(why(made, "a.toml"), "queue-paused")["value"] == str(made.root / "paused.etl")
    (made.root / "paused").touch()
    assert keeping(why(made, "a.toml")) == ["paused", "queue-paused"]


def test_a_file_that_was_just_changed_has_to_settle(made, serve):
    serve()
    made.drop("a.toml")
    found = why(made, "a.toml", datetime.datetime.now(datetime.UTC))
    assert keeping(found) == ["quiet"]
    assert rule(found, "quiet")["value"]["settle_s"] == 2.0
    assert "it may have to stand still for 2 s" in rule(found, "quiet")["sentence"]


def test_a_file_that_somebody_writes_is_not_quiet(made, serve):
    serve()
    with made.drop("a.toml").open("a"):
        found = why(made, "a.toml")
    if rule(found, "quiet")["value"]["has_writer"] is None:
        pytest.skip("needs the capability: a file system with leases")
    assert keeping(found) == ["quiet"]
    assert "somebody has it open for writing" in rule(found, "quiet")["sentence"]


def test_a_wrong_spec_keeps_nothing_waiting_but_is_said_to_fail(made, serve):
    serve()
    made.drop("a.toml", 'comand = ["true"]\n')
    found = why(made, "a.toml")
    assert keeping(found) == []
    assert "it will fail as soon as it is taken" in rule(found, "valid")["sentence"]
    assert any("a.toml:1:1: unknown key `comand`" in line for line in found.lines)


def test_a_template_that_cannot_be_rendered_is_found(made, serve):
    serve()
    made.drop("a.toml", 'command = ["{{ vars.nothing }}"]\n')
    assert rule(why(made, "a.toml"), "valid")["value"]


def test_a_file_that_everybody_may_change_will_be_refused(made, serve):
    serve()
    made.drop("a.toml").chmod(0o666)
    assert "may be changed by everybody" in rule(why(made, "a.toml"), "trust")["sentence"]


def test_not_before_is_compared_with_now(made, serve):
    serve()
    made.drop("a.toml", 'command = ["true"]\n[run]\nnot_before = 2100-01-01T00:00:00Z\n')
    assert keeping(why(made, "a.toml")) == ["not-before"]
    assert keeping(why(made, "a.toml", datetime.datetime(2100, 1, 2, tzinfo=datetime.UTC))) == []


def test_the_next_attempt_says_when_which_and_after_what(made, serve):
    serve()
    due = START + datetime.timedelta(minutes=5)
    path = made.add("waiting", job_id(), result={"next_attempt_at": due, "outcome": "timeout"})
    (path / "spec.toml").write_text('command = ["true"]\n[retry]\nattempts = 3\n')
    sentence = rule(why(made, "nightly", START), "backoff")["sentence"]
    assert sentence == "attempt 1 ended with `timeout`; attempt 2 of 3 is due at 2026-11-21 10:20:00Z, in 5 min"
    assert keeping(why(made, "nightly", due)) == []
    (path / "now").touch()
    assert keeping(why(made, "nightly", START)) == []


def test_a_full_node_names_what_it_runs(made, serve):
    serve(jobs=1)
    made.add("running", job_id("long"))
    made.add("running", job_id("elsewhere"), claim={"node": "n2"})
    made.drop("a.toml")
    found = why(made, "a.toml")
    assert keeping(found) == ["node-full"]
    assert rule(found, "node-full")["sentence"] == f"node `n1` is full: 1 of 1 run: {job_id('long')}"


def test_a_full_queue_says_its_width(made, serve):
    serve(jobs=8, queues={"etl": 1})
    made.add("running", job_id("long"), claim={"queue": "etl"})
    made.add("running", job_id("other"))
    made.drop("a.toml", 'command = ["true"]\nqueue = "etl"\n')
    assert keeping(why(made, "a.toml")) == ["queue-full"]
    made.drop("b.toml")
    assert keeping(why(made, "b.toml")) == []


def test_a_closed_queue_is_told_from_a_full_one(made, serve):
    serve(queues={"etl": 0})
    made.drop("a.toml", 'command = ["true"]\nqueue = "etl"\n')
    assert keeping(why(made, "a.toml")) == ["queue-closed"]


def test_one_node_with_room_is_enough(made, serve):
    serve("n1", jobs=1)
    serve("n2", jobs=1)
    made.add("running", job_id("long"))
    made.drop("a.toml")
    found = why(made, "a.toml")
    assert keeping(found) == []
    assert rule(found, "room")["value"]["node"] == "n2"


def test_the_place_in_the_queue_follows_priority_then_age(made, serve):
    serve()
    for name, priority in (("a", 0), ("b", 5), ("c", 0)):
        aged(made.drop(f"{name}.toml", f'command = ["true"]\npriority = {priority}\n'))
    made.drop("d.toml", 'command = ["true"]\nqueue = "other"\npriority = 9\n')
    made.drop("e.toml.held", 'command = ["true"]\npriority = 9\n')
    os.utime(made.root / "a.toml", (1, 1))
    places = {name: rule(why(made, f"{name}.toml"), "position")["value"] for name in "abc"}
    assert places["b"] == {"priority": 5, "ahead": 0, "ready": 3}
    assert places["a"] == {"priority": 0, "ahead": 1, "ready": 3}
    assert places["c"]["ahead"] == 2


def test_a_queue_too_long_to_count_is_not_counted(made, monkeypatch):
    monkeypatch.setattr(turn, "MOST", 1)
    for name in "abc":
        made.drop(f"{name}.toml")
    assert rule(why(made, "a.toml"), "position")["value"]["ahead"] is None


def test_the_times_that_are_named_are_those_of_the_worker():
    assert (waiting_rules.SETTLE_S, waiting_rules.NETWORK_SETTLE_S) == (sources.SETTLE_S, sources.NETWORK_SETTLE_S)
    assert (waiting_rules.SCAN_S, waiting_rules.NETWORK_SCAN_S) == (sources.QUIET_SCAN_S, sources.NETWORK_SCAN_S)


def test_explaining_writes_nothing(made, serve):
    serve()
    made.drop("a.toml")
    made.add("running", job_id("b"))
    made.add("failed", job_id("c"))
    before = files_of(made.root)
    why(made, "a.toml")
    running.explain(jobs.find(made.places, "b"), NOW)
    ended.explain(jobs.find(made.places, "c"))
    assert files_of(made.root) == before


# -- running


def lock_of(made, path, **fields) -> None:
    table = {"node": "n1", "boot_id": process.boot_id(), "worker_pid": 1, **fields}
    with open(made.places.lock(path.name), "w", encoding="utf-8") as lock:
        lock.write(dumps(table))


def test_a_running_job_shows_what_it_printed_and_how_long_it_may_run(made):
    path = made.add("running", job_id())
    (path / "output.log").write_bytes(b"one\ntwo \x1b[1m\n")
    (path / "spec.toml").write_text('command = ["true"]\n[limits]\ntimeout = "2h"\nmemory = "1G"\n')
    lock_of(made, path, supervisor_pid=os.getpid(), supervisor_start=process.start_ticks(os.getpid()), job_pid=7)
    found = running.explain(jobs.find(made.places, job_id()), START + datetime.timedelta(minutes=5))
    assert found.sentence == "it has run on `n1` for 5 min, as attempt 1"
    assert found.facts["is_supervised"] is True
    assert (found.facts["printed_bytes"], found.facts["last_line"]) == (13, "two \x1b[1m")
    text = "\n".join(found.lines)
    assert "timeout 2 h (1 h 55 min left), memory 1 GiB" in text
    assert "two ␛[1m" in text
    assert f"process {os.getpid()} watches it, its job is process 7" in text


def test_a_dead_supervisor_is_told_from_one_that_is_elsewhere(made):
    path = made.add("running", job_id())
    lock_of(made, path, supervisor_pid=os.getpid(), supervisor_start=1)
    found = running.explain(jobs.find(made.places, job_id()), NOW)
    assert found.facts["is_supervised"] is False
    assert (
        "it is gone, and so is the job; the next worker that is started calls the attempt lost" in found.facts["supervision"]
    )
    lock_of(made, path, boot_id="another")
    assert running.explain(jobs.find(made.places, job_id()), NOW).facts["is_supervised"] is None


def test_a_job_that_outlived_its_supervisor_is_said_to_live(made):
    path = made.add("running", job_id())
    lock_of(made, path, supervisor_pid=os.getpid(), supervisor_start=1)
    with open(made.places.lock(path.name), "r+b") as lease:
        fcntl.flock(lease, fcntl.LOCK_EX)
        assert "but the job lives on" in running.explain(jobs.find(made.places, job_id()), NOW).facts["supervision"]


# -- ended


def test_a_failed_job_is_explained_with_meaning_log_attempts_and_commands(made):
    path = made.add("failed", job_id(), attempt=2, result={"exit_code": 127, "workdir": str(made.root)})
    (path / "output.log").write_text("".join(f"line {number}\n" for number in range(40)))
    (path / "attempts" / "1").mkdir(parents=True)
    (path / "attempts" / "1" / "result.toml").write_text('attempt = 1\noutcome = "stall"\nreason = "it was silent"\n')
    found = ended.explain(jobs.find(made.places, job_id()))
    text = "\n".join(found.lines)
    assert found.sentence == "it failed with the outcome `exit`: it ended"
    assert "The command was not found" in text
    assert found.facts["last_lines"][-1] == "line 39" and len(found.facts["last_lines"]) == ended.SHOWN_LINES
    assert "1  stall    it was silent" in text
    assert [one["outcome"] for one in found.facts["attempts"]] == ["stall", "exit"]
    assert found.commands == (f"spooldadd logs {job_id()}", f"cd {made.root}", f"spooldadd retry {job_id()}")


def test_an_invalid_spec_shows_its_errors_and_how_to_mend_it(made):
    path = made.add("failed", job_id(), result={"outcome": "invalid"})
    (path / "errors.txt").write_text("nightly.toml:1:1: unknown key `comand`\n")
    found = ended.explain(jobs.find(made.places, job_id()))
    assert "  nightly.toml:1:1: unknown key `comand`" in found.lines
    assert found.commands[0] == f"cp {path}/spec.toml nightly.toml"


def test_a_record_without_a_result_is_explained_too(made):
    path = made.add("failed", job_id())
    (path / "result.toml").unlink()
    found = ended.explain(jobs.find(made.places, job_id()))
    assert found.sentence == "it failed with the outcome `unknown`: it has no `result.toml`: nobody noted how it ended"
