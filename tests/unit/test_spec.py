import datetime
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from spooldadd.complaints import known_keys
from spooldadd.errors import SpecError
from spooldadd.spec import MAX_SPEC_BYTES, InvalidSpec, Limits, Peek, Retry, Spec, describe, parse, peek, peeking, schema
from spooldadd.tomltext import dumps
from tests.unit.toml_data import tables

FULL = b"""\
name = "nightly"
command = ["python3", "load.py", "--day", "2026-11-20"]
queue = "etl"
priority = -5
restartable = true
stdin = "a\\nb"
[vars]
day = 2026-11-20
n = 3
[env]
TZ = "UTC"
[config]
db = "postgres://db.example.org/dwh"
since = 2026-01-01T00:00:00Z
rows = [1, 2.5, { deep = [true, 12:30:00] }]
[limits]
timeout = "2h"
stall = "15m"
kill_after = 0
memory = "2G"
open_files = 1024
output = "1GiB"
cpu_time = "30m"
[retry]
attempts = 3
backoff = "1m"
backoff_max = "10m"
on = ["exit", "output"]
[run]
not_before = 2026-11-22T01:00:00+01:00
split_output = true
[keep]
files = ["out/*.csv", "report.html"]
workdir = "always"
"""


def problems(text):
    with pytest.raises(InvalidSpec) as caught:
        parse(text if isinstance(text, bytes) else text.encode(), source="x.toml")
    return [(problem.line, problem.column, problem.message) for problem in caught.value.problems]


def messages(text):
    return [message for _, _, message in problems(text)]


def test_a_full_spec_is_read_into_values_with_units():
    spec = parse(FULL, source="nightly.toml")
    assert spec.command == ("python3", "load.py", "--day", "2026-11-20")
    assert (spec.name, spec.queue, spec.priority, spec.restartable, spec.stdin) == ("nightly", "etl", -5, True, "a\nb")
    assert spec.vars == {"day": datetime.date(2026, 11, 20), "n": 3}
    assert spec.env == {"TZ": "UTC"}
    assert spec.limits == Limits(
        timeout_s=7200, stall_s=900, kill_after_s=0, memory_bytes=2 * 2**30, open_files=1024, output_bytes=2**30,
        cpu_time_s=1800,
    )  # fmt: skip
    assert spec.retry == Retry(attempts=3, backoff_s=60, backoff_max_s=600, on=("exit", "output"))
    assert spec.run.not_before == datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)
    assert spec.run.split_output
    assert spec.keep.files == ("out/*.csv", "report.html")
    assert spec.keep.workdir == "always"


def test_dates_in_the_config_table_become_texts_that_json_can_hold():
    assert parse(FULL, source="x").config == {
        "db": "postgres://db.example.org/dwh",
        "since": "2026-01-01T00:00:00+00:00",
        "rows": [1, 2.5, {"deep": [True, "12:30:00"]}],
    }


def test_a_spec_with_only_a_command_has_the_defaults():
    spec = parse(b'command = "true"', source="x")
    assert (spec.name, spec.command, spec.queue, spec.priority, spec.restartable) == (None, "true", "default", 0, False)
    assert spec.limits == Limits(kill_after_s=10.0, output_bytes=100 * 2**20)
    assert (spec.retry.attempts, spec.retry.backoff_s, spec.retry.backoff_max_s) == (None, 30.0, 3600.0)
    assert spec.retry.on == ("exit", "signal", "timeout", "stall", "oom", "build")
    assert (spec.run.not_before, spec.run.split_output) == (None, False)
    assert (spec.keep.files, spec.keep.workdir) == ((), "failure")


def test_a_spec_knows_which_of_its_keys_were_given():
    assert parse(b'command = "true"\n[limits]\noutput = "100M"', source="x").limits.model_fields_set == {"output_bytes"}


def test_a_spec_cannot_be_changed():
    with pytest.raises(ValidationError):
        parse(b'command = "true"', source="x").queue = "other"


@pytest.mark.parametrize("prefix", [b"\xef\xbb\xbf", b"", b"\r\n# comment\r\n"])
def test_a_byte_order_mark_and_other_line_ends_are_accepted(prefix):
    assert parse(prefix + b'command = "true"\r\nqueue = "q"\r\n', source="x").queue == "q"


def test_a_spec_made_in_a_program_takes_attribute_names_and_a_file_does_not():
    assert Limits(timeout_s=5).timeout_s == 5
    assert messages('command = "x"\n[limits]\ntimeout_s = 5\n') == [
        "unknown key `limits.timeout_s`; did you mean `timeout`?"
    ]


def test_a_spec_written_from_its_values_reads_back_as_the_same():
    spec = parse(FULL, source="x")
    written = dumps(spec.model_dump(by_alias=True, exclude_none=True))
    assert parse(written.encode(), source="y") == spec


def test_all_problems_of_a_file_are_reported_at_once_in_order():
    assert problems(
        'comand = ["true"]\nqueue = "-q"\npriority = true\ntimeout = "2h"\n[env]\nPORT = 8080\n[limits]\n'
        'timeout = "2x"\n[retry]\non = ["exit", "tmeout"]\nbackoff = "2h"\n[run]\nnot_before = 2026-11-22T01:00:00\n'
        '[keep]\nfiles = ["ok", "/x"]\n[vars]\nv = [1]\n[container]\nversion = "3"\n'
    ) == [
        (1, 1, "unknown key `comand`; did you mean `command`?"),
        (2, 1, "`queue` is not a usable name"),
        (3, 1, "`priority` must be a whole number, not a boolean"),
        (4, 1, "unknown key `timeout`; `timeout` belongs in `[limits]`"),
        (6, 1, "`env.PORT` must be a string, not a whole number"),
        (8, 1, "`limits.timeout` has a bad value: `2x` is not a duration"),
        (
            10,
            15,
            "`retry.on[1]` must be `exit`, `signal`, `timeout`, `stall`, `output`, `oom` or `build`; "
            "did you mean `timeout`?",
        ),
        (11, 1, "`retry.backoff` is longer than `retry.backoff_max`, which is 1h"),
        (13, 1, "`run.not_before` has no time zone"),
        (15, 16, "`keep.files[1]` leads out of the work directory"),
        (17, 1, "`vars.v` must be a single value, not a list"),
        (18, 2, "unknown key `container`"),
    ]


def test_the_message_is_one_sentence_and_the_error_is_a_spec_error():
    with pytest.raises(SpecError) as caught:
        parse(b"x = 1\ny = 2", source="a.toml")
    assert str(caught.value) == "`a.toml` has 3 problems, the first at line 1, column 1: `command` is missing"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("command = 5", "`command` must be a list of strings or one string, not a whole number"),
        ("command = []", "`command` must name a program first"),
        ('command = [""]', "`command` must name a program first"),
        ('command = " "', "`command` must not be empty"),
        ('command = ["a", 1]', "`command[1]` must be a string, not a whole number"),
        ('command = ["a\\u0000"]', "`command[0]` must not hold a NUL character: no program can be given one"),
        ('command = "a\\u0000"', "`command` must not hold a NUL character: no program can be given one"),
        (f'command = "{"x" * 131_072}"', "`command` is longer than the 128 KiB that the kernel passes to a program"),
    ],
)
def test_a_command_that_cannot_be_run_is_refused(text, message):
    assert messages(text) == [message]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ('name = ""', "`name` is not a usable name"),
        ('name = ".hidden"', "`name` is not"),
        ('name = "a b"', "`name` is not"),
        ('name = "a/b"', "`name` is not"),
        ('name = "a\\n"', "`name` is not"),
        ('name = "é"', "`name` is not"),
        (f'name = "{"n" * 101}"', "`name` is not"),
        ("priority = 1.0", "not a number with a fraction"),
        ("priority = 1000001", "at most 1000000"),
        (f"priority = 0x{'f' * 5000}", "at most 1000000"),
        ("restartable = 1", "must be `true` or `false`, not a whole number"),
        ("stdin = 1", "must be a string"),
        ("env = 1", "`env` must be a table, not a whole number"),
        ('env = {"A=B" = "x"}', 'env."A=B"` is no name'),
        ('env = {"" = "x"}', "is no name"),
        ('env = {SPOOLDADD_X = "x"}', "`env.SPOOLDADD_X` is no name"),
        ('env = {"A\\u0000" = "x"}', "NUL"),
        ('env = {A = "\\u0000"}', "`env.A` must not hold a NUL"),
        ("env = {A = true}", "`env.A` must be a string, not a boolean"),
        ("vars = {a = {b = 1}}", "`vars.a` must be a single value, not a table"),
        ("vars = {a = 99999999999999999999}", "beyond 64 bits"),
        ("config = []", "`config` must be a table, not a list"),
        ("config = {a = [1, {b = nan}]}", "`config.a[1].b` must be finite"),
        ("config = {a = 99999999999999999999}", "`config.a` is beyond 64 bits"),
        ('config.x = 1\nenv.APP_SETTINGS_JSON = "x"', "would be hidden by `env.APP_SETTINGS_JSON`"),
        ("limits = 5", "`limits` must be a table"),
        ("limits.timeout = 0", "zero makes no sense"),
        ("limits.timeout = -1", "cannot be negative"),
        ("limits.timeout = nan", "cannot be negative or `nan`"),
        ("limits.timeout = inf", "above ten years"),
        ("limits.timeout = true", "not a duration"),
        ("limits.memory = 100", "below 1M"),
        ("limits.memory = 1.5", "not a size"),
        ("limits.open_files = 3", "at least 16"),
        ('limits.open_files = "64"', "not a string"),
        ("retry.attempts = 0", "at least 1"),
        ("retry.attempts = 1001", "at most 1000"),
        ('retry.on = "exit"', "`retry.on` must be a list, not a string"),
        ('retry.on = ["lost"]', "`retry.on[0]` must be"),
        ("run.not_before = 2026-01-01", "`run.not_before` must be a date with time and zone, not a date"),
        ('run.not_before = "2026-01-01T00:00:00Z"', "not a string"),
        ('run.after = ["x"]', "unknown key `run.after`"),
        ('keep.files = ["../x"]', "leads out"),
        ('keep.files = ["a/../../x"]', "leads out"),
        ('keep.files = ["."]', "names no file"),
        ('keep.files = ["a\\u0000"]', "NUL"),
        ('keep.workdir = "sometimes"', "`keep.workdir` must be `never`, `failure` or `always`"),
    ],
)
def test_a_bad_value_is_refused_at_its_line(line, part):
    found = problems(f'command = "true"\n{line}\n')
    assert len(found) == 1
    assert part in found[0][2]
    assert found[0][0] >= 2


def test_a_shorter_longest_delay_alone_is_no_contradiction():
    assert parse(b'command = "x"\nretry.backoff_max = "10s"', source="x").retry.backoff_max_s == 10


def test_an_integer_in_the_environment_comes_with_the_remedy():
    with pytest.raises(InvalidSpec) as caught:
        parse(b'command = "x"\n[env]\nPORT = 8080\n', source="x")
    assert caught.value.problems[0].hint == "write it in quotes"


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"# a\n# b\n", "holds only comments"),
        ('command = "x"'.encode("utf-16"), "UTF-16"),
        (b'command = "\xff"', "not valid UTF-8"),
        (b"\x00" * 50, "not text"),
        (b"x" * (MAX_SPEC_BYTES + 1), "too large"),
        (b'command = ["a"', "list has no end"),
        (b"a = " + b"[" * 50_000, "nested deeper"),
    ],
)
def test_what_is_no_spec_at_all_is_refused_with_one_clear_reason(data, part):
    found = messages(data)
    assert len(found) == 1
    assert part in found[0]


def test_every_prefix_of_a_spec_is_read_or_refused_and_nothing_else():
    for length in range(len(FULL)):
        try:
            parse(FULL[:length], source="x")
        except InvalidSpec:
            pass


@given(st.binary(max_size=200) | st.text("command=\"x'[]{}\n.#1-:T", max_size=100).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_spec_or_an_invalid_spec(data):
    try:
        parse(data, source="x")
    except InvalidSpec as error:
        assert error.problems


@given(
    st.dictionaries(
        st.sampled_from([path[-1] for path in known_keys(Spec) if path] + list(Spec.model_fields)),
        st.integers() | st.text("{}%# a", max_size=8) | tables,
        max_size=6,
    )
)
@settings(max_examples=200, deadline=None)
def test_any_data_below_our_keys_is_a_spec_or_an_invalid_spec(table):
    try:
        parse(dumps({"command": "x"} | table).encode(), source="x")
    except InvalidSpec as error:
        assert all(problem.line for problem in error.problems)


def test_a_peek_finds_what_queueing_needs():
    seen = peek(FULL)
    assert (seen.name, seen.queue, seen.priority) == ("nightly", "etl", -5)
    assert seen.not_before == datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)


def test_a_peek_does_not_look_where_no_key_can_be():
    assert peek(b'command = "true"\n') == Peek()
    assert peek(b"[[[[ no toml") == Peek()
    assert peek(b"queue" * MAX_SPEC_BYTES) == Peek()


@pytest.mark.parametrize(
    "text",
    [
        'name = 5\nqueue = ["x"]\npriority = "high"\nrun = 1',
        'name = "a b"\nqueue = "../x"\npriority = true\n[run]\nnot_before = 2026-01-01T00:00:00',
        "priority = 1.5\n[run]\nnot_before = 2026-01-01",
        "priority = 1000001",
    ],
)
def test_wrong_values_count_as_absent_for_a_peek(text):
    assert peek(text.encode()) == Peek()


def test_a_peek_into_what_is_no_toml_finds_nothing():
    assert peek(b"queue = ") == Peek()
    assert peek(b'queue = "\xff"') == Peek()


def test_a_key_behind_an_escape_is_found_too():
    assert peek(b'"\\u0071ueue" = "etl"').queue == "etl"


_LINES = [
    "", "# queue = 'not'", "  # x", 'queue = "etl"', "queue='a.b'  # why", 'queue = "../x"', "queue = 5",
    "queue = true", "queue =", 'name = "n1"', "name='n 2'", 'name = ["x"]', "priority = 7", "priority = -3",
    "priority = 1_0", "priority = 0x10", "priority = 1000001", 'priority = "9"', "priority = 1.0",
    'command = ["a", "b",]', 'command = "x # y"', "command = [", "]", 'stdin = """', '"""', "'queue = 9'",
    '"queue" = "quoted"', "queue.a = 1", "[env]", "[queue]", "[name]", 'note = "a\\"b"', "[[files]]", 'path = "x"',
    "[run]", "not_before = 2026-01-01T00:00:00Z", "[place]", 'node = "x"', "a = 1 b = 2", "\tx = []",
    '["pl\\u0061ce"]', 'labels = ["gpu"]', "x = { queue = 'q' }",
]  # fmt: skip


@given(st.lists(st.sampled_from(_LINES), max_size=7), st.sampled_from(["\n", "\r\n"]), st.booleans())
@settings(max_examples=500, deadline=None)
def test_a_glance_sees_what_a_parser_sees(lines, end, is_ended):
    """Which of the two looks is no matter of the spec: its turn would depend on a comment."""
    data = (end.join(lines) + (end if is_ended else "")).encode()
    glanced = peeking._glance(data)
    try:
        table = tomllib.loads(data.decode())
    except tomllib.TOMLDecodeError:
        return
    assert glanced is None or glanced == peeking._peeked(table)


@given(st.binary(max_size=100) | st.text('name="queue\n[run]{}.', max_size=80).map(str.encode))
@settings(deadline=None)
def test_a_peek_never_raises(data):
    peek(data)


def test_each_key_of_each_model_has_a_description():
    assert all(row.description.endswith(".") for row in describe())
    assert {row.key for row in describe()} >= {"command", "limits.timeout", "retry.on", "run.not_before", "keep.files"}


def test_the_reference_rows_have_types_and_defaults_as_people_write_them():
    rows = {row.key: (row.type, row.default) for row in describe()}
    assert rows["command"] == ("list of strings or string", "required")
    assert rows["limits.kill_after"] == ("duration", '"10s"')
    assert rows["limits.output"] == ("size", '"100M"')
    assert rows["limits.timeout"] == ("duration", "unset")
    assert rows["priority"] == ("whole number from -1000000 to 1000000", "0")
    assert rows["restartable"] == ("boolean", "false")
    assert rows["keep.workdir"] == ("one of `never`, `failure`, `always`", '"failure"')
    assert rows["vars"] == ("table of values", "empty")


def test_the_defaults_in_the_reference_are_the_real_ones():
    table: dict[str, object] = {"command": "true"}
    for row in describe():
        at = table
        *above, last = row.key.split(".")
        if row.key.split(".")[0] in ("python", "files", "build"):
            continue  # these tables are absent where a spec has none, so no key in them has a value then
        for part in above:
            at = at.setdefault(part, {})
        if row.default not in ("required", "unset", "empty"):
            at[last] = tomllib.loads(f"k = {row.default}")["k"]
    assert parse(dumps(table).encode(), source="x") == Spec(command="true")


def test_the_schema_speaks_of_the_keys_in_the_file_and_knows_no_null():
    shown = schema()
    assert shown["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert shown["required"] == ["command"]
    assert shown["additionalProperties"] is False
    assert set(shown["$defs"]["Limits"]["properties"]) == {
        "timeout", "stall", "kill_after", "memory", "open_files", "output", "cpu_time", "cpus", "tasks",
    }  # fmt: skip
    assert "null" not in str(shown)
    assert "_s'" not in str(shown)


def test_every_key_in_the_schema_is_described():
    shown = schema()
    for part in (shown, *shown["$defs"].values()):
        assert all("description" in value or "$ref" in value for value in part["properties"].values())
        assert part["description"]


def test_every_model_is_frozen_and_strict_and_knows_its_keys():
    def models(model):
        yield model
        for field in model.model_fields.values():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from models(field.annotation)

    for model in models(Spec):
        config = model.model_config
        assert (config["frozen"], config["strict"], config["extra"]) == (True, True, "forbid")
