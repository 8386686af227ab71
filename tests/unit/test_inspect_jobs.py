from __future__ import annotations

import os

import pytest

from spooldadd import intake, layout
from spooldadd.errors import NoSuchJob
from spooldadd.inspect import drops, jobs, listing, peeking
from spooldadd.inspect.jobs import AmbiguousJob
from spooldadd.spec import peek
from tests.unit.inspect_records import START, MadeSpool, files_of, job_id, names_of


@pytest.fixture
def made(tmp_path):
    return MadeSpool(tmp_path / "spool")


# -- finding


def test_a_file_in_the_root_is_found_by_its_name(made):
    made.drop("nightly.toml")
    job = jobs.find(made.places, "nightly.toml")
    assert (job.id, job.name, job.state, job.is_drop) == ("nightly.toml", "nightly", "waiting", True)
    assert job.path == str(made.root / "nightly.toml")


@pytest.mark.parametrize("state", layout.STATES)
def test_a_record_is_found_by_its_id_in_every_state(made, state):
    path = made.add(state, job_id())
    job = jobs.find(made.places, job_id())
    assert (job.id, job.state, job.path) == (job_id(), state, str(path))


def test_a_unique_beginning_of_an_id_is_enough(made):
    made.add("done", job_id("nightly"))
    made.add("done", job_id("weekly"))
    assert jobs.find(made.places, "night").id == job_id("nightly")


def test_an_id_that_begins_like_another_is_found_exactly(made):
    made.add("done", job_id())
    made.add("running", job_id(), attempt=2)  # two records of one id: a person copied one
    assert jobs.find(made.places, job_id()).state == "running"


def test_an_ambiguous_beginning_lists_ten_at_most_newest_first(made):
    for second in range(12):
        made.add("failed", job_id(second=second))
    with pytest.raises(AmbiguousJob) as caught:
        jobs.find(made.places, "nightly")
    lines = str(caught.value).split("\n")
    assert "12 jobs begin with `nightly`; type more" in lines[0]
    assert lines[1].split() == [job_id(second=11), "failed"]
    assert lines[10].split() == [job_id(second=2), "failed"]
    assert lines[11:] == ["  and 2 more"]


def test_a_path_into_the_spool_is_as_good_as_the_id(made):
    path = made.add("running", job_id())
    assert jobs.find(made.places, f"{path}/").id == job_id()


def test_an_unknown_job_is_reported(made):
    with pytest.raises(NoSuchJob, match="no job is called `nothing`"):
        jobs.find(made.places, "nothing")


def test_a_submitted_file_is_found_by_the_id_that_its_name_carries(made):
    made.drop(f"{job_id()}.toml")
    assert jobs.find(made.places, job_id()).is_drop


@pytest.mark.parametrize("suffix", [".toml", ".toml.held"])
@pytest.mark.parametrize("state", layout.STATES)
def test_a_drop_that_carries_the_id_of_a_record_does_not_hide_it(made, state, suffix):
    """Anybody can write any id into the name of a file; that one becomes a job of another id."""
    made.add(state, job_id())
    made.drop(f"{job_id()}{suffix}")
    assert jobs.find(made.places, job_id()).state == state
    assert not jobs.find(made.places, job_id()).is_drop
    assert jobs.find(made.places, f"{job_id()}{suffix}").is_drop


def test_a_held_file_is_found_by_the_name_it_had(made):
    made.drop("nightly.toml.held")
    assert jobs.find(made.places, "nightly.toml").is_held


def test_the_newest_job_made_of_a_file_that_is_gone_is_meant(made):
    made.add("done", job_id("a", 1), claim={"source": "nightly.toml"})
    made.add("failed", job_id("b", 3), claim={"source": "nightly.toml"})
    made.add("done", job_id("c", 5), claim={"source": "other.toml"})
    assert jobs.find(made.places, "nightly.toml").name == "b"


def test_among_jobs_of_one_second_the_later_claim_is_newest(made):
    for letter, micro in (("b", 5), ("c", 9), ("d", 7)):
        claim = {"source": "n.toml", "claimed_at": START.replace(microsecond=micro * 1000)}
        made.add("done", job_id("n", random=letter * 5), claim=claim)
    assert jobs.find(made.places, "n.toml").id == job_id("n", random="ccccc")


def test_the_file_of_a_job_that_was_tried_again_is_known_from_its_first_claim(made):
    path = made.add("done", job_id(), attempt=2, claim={"source": ""})
    (path / "attempts" / "1").mkdir(parents=True)
    (path / "attempts" / "1" / "claim.toml").write_text('attempt = 1\nsource = "nightly.toml"\n')
    assert jobs.find(made.places, "nightly.toml").id == job_id()


def test_a_job_that_moves_while_we_look_is_not_missing(made, monkeypatch):
    """From `running/` back to `waiting/`, right between the looks at the two."""
    path = made.add("running", job_id())
    real = listing.entries

    def entries(directory: str) -> list[str]:
        found = real(directory)
        if directory == made.places.waiting and path.exists():
            path.rename(made.root / "waiting" / job_id())
        return found

    monkeypatch.setattr(listing, "entries", entries)
    assert jobs.find(made.places, job_id()).state == "waiting"


@pytest.mark.parametrize("state", ["done", "failed"])
def test_a_job_that_has_ended_is_found_by_its_id_without_listing_all_that_have(made, monkeypatch, state):
    made.add(state, job_id())
    real, listed = listing.entries, []
    monkeypatch.setattr(
        listing, "entries", lambda directory: (listed.append(os.path.basename(directory)), real(directory))[1]
    )
    assert jobs.find(made.places, job_id()).state == state
    assert not {"done", "failed"} & set(listed)


def test_a_drop_that_becomes_a_record_while_we_look_is_one_job(made, monkeypatch):
    made.drop("nightly.toml")
    real = listing.entries

    def entries(directory: str) -> list[str]:
        if directory == made.places.waiting and (made.root / "nightly.toml").exists():
            (made.root / "nightly.toml").unlink()
            made.add("running", job_id())
        return real(directory)

    monkeypatch.setattr(listing, "entries", entries)
    assert jobs.find(made.places, "nightly").state == "running"


def test_a_claim_that_has_no_spec_yet_is_no_job(made):
    """The record is made first and the spec renamed into it last: until then the job waits in the root."""
    path = made.add("running", job_id())
    (path / "spec.toml").rename(made.root / "nightly.toml")
    assert jobs.find(made.places, "nightly").is_drop
    assert names_of(jobs.list_jobs(made.places)) == ["waiting/nightly.toml"]
    assert jobs.count(made.places)["running"] == 0
    (path / "output.log").touch()  # a job that removed its spec is one all the same
    assert jobs.count(made.places)["running"] == 1


# -- listing and counting


def test_jobs_are_listed_running_first_then_waiting_then_finished_newest_first(made):
    made.add("done", job_id("a", 1))
    made.add("failed", job_id("b", 3))
    made.add("done", job_id("c", 2))
    made.add("running", job_id("d", 4))
    made.add("waiting", job_id("e", 5))
    made.drop("f.toml")
    expected = [f"running/{job_id('d', 4)}", "waiting/f.toml", f"waiting/{job_id('e', 5)}"]
    expected += [f"failed/{job_id('b', 3)}", f"done/{job_id('c', 2)}", f"done/{job_id('a', 1)}"]
    assert names_of(jobs.list_jobs(made.places)) == expected


@pytest.mark.parametrize("limit", [0, 1, 3, 29, 30, 99, None])
def test_the_limit_keeps_the_newest_finished_jobs(made, limit):
    for second in range(30):
        made.add("failed" if second % 3 else "done", job_id(second=second))
    expected = [job_id(second=second) for second in reversed(range(30))][:limit]
    assert [job.id for job in jobs.list_jobs(made.places, limit=limit)] == expected


def test_of_many_that_ended_in_one_second_the_limit_keeps_the_same_as_a_full_list(made):
    for number in range(30):
        made.add("failed" if number % 3 else "done", job_id(f"job-{number}", second=number // 10))
    everything = [job.id for job in jobs.list_jobs(made.places)]
    assert [job.id for job in jobs.list_jobs(made.places, limit=5)] == everything[:5]


def test_only_the_states_that_are_wanted_are_listed(made):
    for state in layout.STATES:
        made.add(state, job_id(state))
    assert names_of(jobs.list_jobs(made.places, states=("failed",))) == [f"failed/{job_id('failed')}"]


def test_a_job_that_is_seen_twice_is_where_it_was_seen_last(made):
    made.add("running", job_id())
    made.add("done", job_id())
    made.drop(f"{job_id()}.toml")
    assert names_of(jobs.list_jobs(made.places)) == [f"done/{job_id()}"]


def test_counting_goes_by_names_and_counts_no_foreign_ones(made):
    made.add("done", job_id("a", 1))
    made.add("running", job_id("b"))
    made.add("waiting", job_id("c"))
    for name in ("d.toml", "e.toml.held", ".f.toml", "g.toml~", "#h.toml", "notes.txt", "paused", "a.sync-conflict-1.toml"):
        made.drop(name)
    for name in (".tmp-x", f".{job_id()}", "README", "nightly.20261121T101500Z", job_id() + ".moved-by-me"):
        (made.root / "done" / name).mkdir()
        (made.root / "running" / name).mkdir()
    assert jobs.count(made.places) == {"waiting": 3, "running": 1, "done": 1, "failed": 0}


def test_reading_writes_nothing(made):
    for state in layout.STATES:
        made.add(state, job_id(state))
    made.drop("nightly.toml")
    before = files_of(made.root)
    for job in jobs.list_jobs(made.places):
        job.table()
    assert files_of(made.root) == before


# -- one job


def test_the_table_has_the_state_of_the_directory_and_times_in_utc(made):
    made.add("failed", job_id(), result={"state": "waiting", "exit_code": 3})
    table = jobs.find(made.places, job_id()).table()
    assert table["state"] == "failed"
    assert table["finished_at"] == table["submitted_at"] == "2026-11-21T10:15:00.000Z"
    assert (table["outcome"], table["exit_code"], table["node"], table["attempt"]) == ("exit", 3, "n1", 1)
    assert table["record"] == str(made.root / "failed" / job_id())
    assert "signal" not in table and "schema" not in table and "held" not in table


def test_a_running_job_shows_its_claim_and_its_processes(made):
    path = made.add("running", job_id(), attempt=2)
    with open(made.places.lock(path.name), "w", encoding="utf-8") as lock:
        lock.write('node = "n1"\nworker_pid = 1\nsupervisor_pid = 22\njob_pid = 33\n')
    table = jobs.find(made.places, job_id()).table()
    assert (table["attempt"], table["node"], table["supervisor_pid"], table["job_pid"]) == (2, "n1", 22, 33)
    assert table["claimed_at"] == "2026-11-21T10:15:00.000Z"
    assert "outcome" not in table


def test_a_running_job_does_not_show_the_result_of_an_earlier_attempt(made):
    path = made.add("running", job_id(), attempt=2)
    (path / "result.toml").write_text('attempt = 1\noutcome = "exit"\n')
    assert "outcome" not in jobs.find(made.places, job_id()).table()


@pytest.mark.parametrize("damage", [b"\xff\xfe", b'outcome = "succ', b"", None])
def test_a_damaged_result_does_not_break_a_listing(made, damage):
    path = made.add("done", job_id("a", 1))
    made.add("done", job_id("b", 2))
    (path / "result.toml").unlink()
    if damage is not None:
        (path / "result.toml").write_bytes(damage)
    whole, damaged = jobs.list_jobs(made.places)
    assert whole.table()["outcome"] == "success"
    assert "outcome" not in damaged.table()
    expected = "it has no `result.toml`" if damage is None else "`result.toml` cannot be read"
    assert expected in str(damaged.table()["reason"])


def test_a_waiting_record_is_held_by_a_file_in_it(made):
    path = made.add("waiting", job_id())
    assert not jobs.find(made.places, job_id()).is_held
    (path / "hold").touch()
    job = jobs.find(made.places, job_id())
    assert job.is_held and job.table()["held"] is True


def test_the_attempts_before_a_claim_that_was_given_up_are_counted(made):
    path = made.add("waiting", job_id())
    (path / "claim.toml").unlink()
    (path / "attempts" / "3").mkdir(parents=True)
    assert jobs.find(made.places, job_id()).attempt() == 3


# -- what readers have to know in a lighter form than the core


NAMES = (
    "a.toml", "a.py", "a.toml~", ".a.toml", "~a.toml", "#a.toml", "a", "a.toml.part", "a.sync-conflict-2026.toml",
    "a (conflicted copy).toml", "a_conflict-x.toml", "paused", ".toml", "a b.toml", "ä.toml",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffixes", [(".toml",), (".toml", ".py")])
def test_readers_and_workers_agree_what_a_spec_is_called(name, suffixes):
    assert drops.is_drop(name, suffixes) == intake.is_candidate(name, suffixes)


@pytest.mark.parametrize(
    "text",
    [
        'command = ["true"]',
        'name = "x"\nqueue = "etl"\npriority = 7\n[run]\nnot_before = 2026-11-22T01:00:00Z',
        "priority = true\nqueue = 3",
        "[run]\nnot_before = 2026-11-22",
        'queue = "etl"\nthis is no toml',
        '\ufeffqueue = "etl"',
        "",
    ],
)
def test_readers_and_workers_agree_about_a_specs_turn(tmp_path, text):
    path = tmp_path / "a.toml"
    path.write_text(text)
    light, real = peeking.peek(str(path)), peek(text.encode())
    assert (light.name, light.queue, light.priority, light.not_before) == real[:4]


def test_a_spec_that_is_no_file_has_the_default_turn(tmp_path):
    os.mkfifo(tmp_path / "a.toml")
    assert peeking.peek(str(tmp_path / "a.toml")).queue == "default"


# -- inboxes


def test_a_drop_in_an_inbox_is_found_by_its_key_and_by_its_name(made):
    made.drop("@web-3/nightly.toml")
    for text in ("nightly.toml", "@web-3/nightly.toml", str(made.root / "@web-3" / "nightly.toml"), "night"):
        job = jobs.find(made.places, text)
        assert (job.id, job.name, job.path) == ("@web-3/nightly.toml", "nightly", str(made.root / "@web-3" / "nightly.toml"))


def test_of_two_files_of_one_name_the_one_in_the_root_is_meant(made):
    made.drop("@web-3/nightly.toml")
    made.drop("nightly.toml")
    assert jobs.find(made.places, "nightly.toml").id == "nightly.toml"
    assert jobs.find(made.places, "@web-3/nightly.toml").id == "@web-3/nightly.toml"


def test_a_name_in_two_inboxes_is_ambiguous(made):
    made.drop("@web-3/nightly.toml")
    made.drop("@web-4/nightly.toml")
    with pytest.raises(AmbiguousJob, match=r"@web-4/nightly\.toml"):
        jobs.find(made.places, "nightly.toml")


def test_a_submitted_drop_in_an_inbox_is_found_by_its_id(made):
    made.drop(f"@web-3/{job_id()}.toml.held")
    job = jobs.find(made.places, job_id())
    assert (job.path, job.is_held) == (str(made.root / "@web-3" / f"{job_id()}.toml.held"), True)
    assert jobs.find_id(made.places, job_id()).path == job.path


def test_drops_in_inboxes_are_listed_and_counted(made):
    made.drop("nightly.toml")
    made.drop("@web-3/nightly.toml")
    made.drop("@web-3/.hidden.toml")
    assert [job.id for job in listing.Listing(made.places).jobs()] == ["@web-3/nightly.toml", "nightly.toml"]
    assert jobs.count(made.places)["waiting"] == 2
