"""The three tables: what is taken, what is refused and in which words; versions, locks, scripts."""

import datetime

import pytest
from pydantic import ValidationError

from spooldadd.environment.download import is_same_origin
from spooldadd.environment.interpreters import fits
from spooldadd.environment.locks import Form, Lock, form_of, is_hashed, refuse_directories
from spooldadd.environment.models import BuildStep, FileEntry, PythonTable, Table
from spooldadd.environment.plan import Answer, Plan, explain, read_plan
from spooldadd.errors import BuildError


def problem(model, table):
    with pytest.raises(ValidationError) as error:
        model.model_validate(table)
    return explain(error.value)


def test_a_fetched_file_gets_the_name_it_has_there():
    assert FileEntry(url="https://example.org/a/load%20it.py?x=1").place == "load it.py"
    assert FileEntry(source="data/x.csv").place == "x.csv"
    assert FileEntry(url="https://example.org/a.tgz", unpack=True).place == "."


def test_a_path_alone_is_a_file_beside_the_spec():
    entry = FileEntry.model_validate({"path": "data/x.csv"})
    assert (entry.source, entry.place) == ("data/x.csv", "data/x.csv")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "exactly one of"),
        ({"url": "https://example.org/f", "source": "f"}, "given: url, source"),
        ({"url": "ftp://example.org/f"}, "`ftp` is no scheme"),
        ({"url": "https://ann:pw@example.org/f"}, "credentials do not belong"),
        ({"url": "https://example.org/"}, "ends in no file name"),
        ({"url": "https:///f"}, "names no host"),
        ({"content": "x"}, "needs a `path`"),
        ({"content": "x", "path": "f", "unpack": True}, "cannot be unpacked"),
        ({"source": "/etc/passwd"}, "beside the spec"),
        ({"source": "a/../../b"}, "beside the spec"),
        ({"content": "x", "path": "/f"}, "below the work directory"),
        ({"content": "x", "path": "~/f"}, "below the work directory"),
        ({"content": "x", "path": "f", "mode": "4755"}, "no mode"),
        ({"content": "x", "path": "f", "mode": 644}, "no mode"),
        ({"content": "x", "path": "f", "strip": 1}, "`strip` needs"),
        ({"content": "x", "path": "f", "headers": {"A": "b"}}, "http or https"),
        ({"source": "a.tgz", "unpack": True, "mode": "0644"}, "both are the archive's"),
        ({"url": "https://example.org/f", "sha256": "12"}, "sha256"),
        ({"url": "https://example.org/f", "headers": {"A": {"secret": "../x"}}}, "no name of a secret"),
        ({"url": "https://example.org/f", "tempalte": True}, "tempalte"),
    ],
)
def test_a_file_entry_that_cannot_be_is_refused(table, words):
    assert words in problem(FileEntry, table)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"version": "three"}, "no Python version"),
        ({"requirements": ["--index-url https://example.org"]}, "options go into keys"),
        ({"requirements": " "}, "is empty"),
        ({"requirements": "ftp://example.org/r.txt"}, "no scheme"),
        ({"requirements": "r.txt", "sha256": "0" * 64}, "`sha256` needs"),
        ({"index_url": "https://ann:pw@example.org/simple"}, "credentials do not belong"),
        ({"index_url": "example.org/simple"}, "no package index"),
        ({"exclude_newer": "tomorrow"}, "Invalid isoformat"),
        ({"refresh": "soon"}, "duration"),
        ({"installer": "conda"}, "'auto', 'uv' or 'pip'"),
    ],
)
def test_a_python_table_that_cannot_be_is_refused(table, words):
    assert words in problem(PythonTable, table)


def test_days_and_times_of_toml_become_text_for_uv():
    days = [datetime.date(2024, 3, 1), datetime.datetime(2024, 3, 1, 12), "2024-03-01", "2024-03-01T12:00:00+01:00"]
    assert [PythonTable(exclude_newer=day).exclude_newer for day in days] == [
        "2024-03-01T00:00:00Z", "2024-03-01T12:00:00Z", "2024-03-01T00:00:00Z", "2024-03-01T12:00:00+01:00",
    ]  # fmt: skip


def test_durations_are_read_from_their_toml_keys():
    assert PythonTable.model_validate({"refresh": "2h"}).refresh_s == 7200.0
    assert BuildStep.model_validate({"command": ["make"], "timeout": "90s"}).timeout_s == 90.0


def test_every_key_of_every_table_is_described():
    tables = [FileEntry, PythonTable, BuildStep, *Table.__subclasses__()]
    assert not [name for table in tables for name, field in table.model_fields.items() if not field.description]


@pytest.mark.parametrize(
    ("specifier", "version", "is_fitting"),
    [
        ("3.12", (3, 12, 4), True), ("3.12", (3, 11, 4), False), ("3", (3, 9, 0), True), ("3.12.1", (3, 12, 2), False),
        (">=3.11", (3, 11, 0), True), (">=3.11", (3, 10, 9), False), (">=3.11,<3.13", (3, 13, 0), False),
        ("==3.12.*", (3, 12, 9), True), ("!=3.12.*", (3, 12, 9), False), ("~=3.11", (3, 13, 0), True),
        ("~=3.11.2", (3, 12, 0), False), ("~=3.11.2", (3, 11, 9), True), (">3.11", (3, 11, 1), True),
        ("<=3.11", (3, 11, 0), True),
    ],
)  # fmt: skip
def test_versions_are_compared_as_packaging_does(specifier, version, is_fitting):
    assert fits(version, specifier) is is_fitting


def test_a_file_is_hashed_only_if_each_requirement_is_and_nothing_else_is_in_it():
    line = f"alpha==1 \\\n  --hash=sha256:{'0' * 64} # why\n"
    assert is_hashed(line)
    assert not is_hashed(line + "beta==1\n")
    assert not is_hashed(line + "-r more.txt\n")
    assert not is_hashed("# nothing\n")


def test_lock_files_are_known_by_their_names():
    names = ["a/uv.lock", "pylock.toml", "pylock.dev.toml", "requirements.txt", "https://example.org/pylock.toml?x=1"]
    assert [form_of(name) for name in names] == [
        Form.UV_LOCK, Form.PYLOCK, Form.PYLOCK, Form.REQUIREMENTS, Form.PYLOCK,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line", ["-e ./lib", "./lib", "/srv/lib", "lib @ file:///srv/lib", "~/lib", "-e git+https://example.org/x"]
)
def test_directories_and_editable_installs_are_refused(line):
    with pytest.raises(BuildError, match="build a wheel"):
        refuse_directories(f"alpha==1\n{line}\n")


@pytest.mark.parametrize("line", ["/c/x-1-py3-none-any.whl", "x @ file:///c/x.whl", "x @ https://example.org/x.whl", "x==1"])
def test_wheels_and_packages_are_not_refused(line):
    refuse_directories(f"{line} \\\n --hash=sha256:00\n")


def test_a_key_depends_on_all_that_matters_and_on_nothing_else():
    lock = Lock("alpha==1\n", Form.REQUIREMENTS)
    key = lock.key(["python"], ["uv", False])
    assert key == Lock("alpha==1\n", Form.REQUIREMENTS).key(["python"], ["uv", False])
    others = [
        Lock("alpha==2\n", Form.REQUIREMENTS).key(["python"], ["uv", False]),
        Lock("alpha==1\n", Form.PYLOCK).key(["python"], ["uv", False]),
        lock.key(["other"], ["uv", False]),
        lock.key(["python"], ["uv", True]),
    ]
    assert len({key, *others}) == 5


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("https://example.org/a", "https://example.org/b", True),
        ("https://example.org/a", "https://example.org:443/b", True),
        ("http://example.org/a", "https://example.org/b", True),
        ("https://example.org/a", "http://example.org/b", False),
        ("https://example.org/a", "https://files.example.org/b", False),
        ("https://example.org/a", "https://example.org:8443/b", False),
        ("http://example.org:8000/a", "https://example.org/b", False),
    ],
)
def test_headers_go_to_the_same_origin_or_to_its_safer_self(first, second, is_same):
    assert is_same_origin(first, second) is is_same


def test_a_plan_is_read_from_json_and_from_toml_alike():
    toml = b'schema = 1\nwork_dir = "/w"\ncache_dir = "/c"\n[[build]]\ncommand = "make"\ntimeout = "1m"\n'
    json = b'{"work_dir": "/w", "cache_dir": "/c", "build": [{"command": "make", "timeout": "1m"}]}'
    assert read_plan(toml) == read_plan(json)
    assert isinstance(read_plan(json), Plan)


def test_a_plan_of_a_later_schema_is_refused():
    with pytest.raises(BuildError, match="schema"):
        read_plan(b'{"schema": 2, "work_dir": "/w", "cache_dir": "/c"}')


def test_an_answer_says_which_schema_it_is():
    assert b'"schema":1' in Answer(ok=True).to_bytes()
