"""What is known to be right without the models is right by the models as well, whatever the table holds."""

from __future__ import annotations

import datetime
import subprocess
import sys
import tomllib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spooldadd import preparing
from spooldadd.preparing import Changes
from spooldadd.reading import Source
from spooldadd.spec import InvalidSpec, parse
from spooldadd.spec.plain import _KEYS, is_plain
from spooldadd.spec.reading import checked
from spooldadd.template import check_templates
from spooldadd.tomltext import dumps

NOON = datetime.datetime(2026, 11, 22, 12, 0)
# Right values, wrong ones, and those at the edges of both; with each other, and with what hypothesis thinks of.
EDGES = [
    "", "nightly", "a" * 100, "a" * 101, "-x", "x\n", "a b", "ü", "{{ vars.day }}", "{% if x %}", "{#", "\0", "x\0",
    "\udcff", "90s", "0s", "1h30m", "11y", "1M", "1K", "2G", "1E",
    "x" * 131_071, "x" * 131_072, "ü" * 65_536, " ", "true", 0, 1, -1, 1000, 1001,
    1_000_000, 1_000_001, -1_000_000, -1_000_001, 2**20, 2**63, -(2**63), 2**63 - 1, 1.5, float("nan"),
    True, False, NOON, NOON.replace(tzinfo=datetime.UTC), NOON.date(), NOON.time(), [], {}, ["true"], [""], ["x", ""],
    ["x", 1], ["{{ x }}"], ["x\0"], {"A": "x"}, {"": "x"}, {"A=B": "x"}, {"SPOOLDADD_A": "x"}, {"A\0": "x"}, {"A": 1},
    {"{{": "x"}, {"x": NOON}, {"x": [1]}, {"x": 2**63}, None,
]  # fmt: skip
VALUES = st.one_of(
    st.sampled_from([value for value in EDGES if len(str(value)) < 200]),  # the long ones are tried below, each once
    st.text(max_size=8),
    st.integers(),
    st.lists(st.text(max_size=4), max_size=3),
    st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
)
INNER = {
    "limits": ("timeout", "stall", "kill_after", "cpu_time", "memory", "output", "tasks", "typo"),
    "retry": ("attempts", "backoff", "backoff_max", "on"),
    "run": ("not_before", "split_output", "after"),
    "place": ("node", "labels"),
}
TABLES = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("name", "queue", "priority", "restartable", "stdin", "vars", "env", "config", "comand"), VALUES),
        **{key: st.fixed_dictionaries({}, optional=dict.fromkeys(keys, VALUES)) for key, keys in INNER.items()},
        "secrets": VALUES,
        "python": VALUES,
        "files": VALUES,
    },
)
COMMANDS = st.one_of(st.just(["true"]), VALUES)


@settings(deadline=None)
@given(TABLES, COMMANDS)
@example({"limits": {"kill_after": 0}}, ["true"])
@example({"name": "x\n"}, ["true"])
@example({"stdin": "\0"}, "true")
@example({"vars": {"x": "\udcff"}}, ["true"])
@example({"env": {"APP_SETTINGS_JSON": "x"}, "config": {"a": 1}}, ["true"])
def test_whatever_is_known_to_be_right_is_right_by_the_models(table, command):
    table = {**table, "command": command}
    if is_plain(table):
        spec = checked(Source("x"), table)  # raises where the models refuse
        assert check_templates(spec) == ()
        assert (spec.name or None, spec.queue) == (table.get("name"), table.get("queue", "default"))
        assert (spec.python, spec.files, spec.build, spec.place.model_fields_set) == (None, (), (), set())


def test_each_key_at_the_edges_of_what_it_may_hold_is_as_the_models_see_it():
    known = 0
    for path in [*((key,) for key in _KEYS), *((table, key) for table, keys in INNER.items() for key in keys)]:
        for value in EDGES:
            table = {"command": ["true"], **({path[0]: value} if len(path) == 1 else {path[0]: {path[1]: value}})}
            if is_plain(table):
                known += 1
                assert check_templates(checked(Source("x"), table)) == (), (path, value)
    assert known > 100  # it does know some, or this test would say nothing


@pytest.mark.parametrize("text", [
    'command = "make all"',
    'command = ["true"]\nname = "nightly"\nqueue = "etl"\npriority = 5\nrestartable = true\nstdin = "ü"',
    'command = ["true"]\n[vars]\nday = "{{ no template here }}"\nn = 1\n[env]\nTZ = "UTC"',
    'command = ["true"]\n[limits]\ntimeout = "2h"\nmemory = "1G"\n[retry]\nattempts = 3',
    'command = ["true"]\n[run]\nnot_before = 2026-11-22T01:00:00Z\nsplit_output = true',
])  # fmt: skip
def test_a_simple_spec_is_known_to_be_right(text):
    assert is_plain(tomllib.loads(text))
    parse(text.encode(), source="x")


@pytest.mark.parametrize("text", [
    'name = "x"',
    'command = []',
    'command = ["{{ vars.x }}"]',
    'comand = ["true"]\ncommand = ["true"]',
    'command = ["true"]\npriority = true',
    'command = ["true"]\nlimits = 3',
    'command = ["true"]\n[retry]\nbackoff = "2h"',
    'command = ["true"]\n[python]\n',
    'command = ["true"]\n[place]\nnode = "x"',
])  # fmt: skip
def test_the_models_are_asked_about_everything_else(text):
    assert not is_plain(tomllib.loads(text))


@settings(deadline=None)
@given(TABLES)
def test_what_is_prepared_is_the_same_with_and_without_the_models(table):
    try:
        data = dumps({**table, "command": ["true"]}).encode()
    except (TypeError, ValueError):
        return
    try:
        spec = parse(data, source="x.toml")
    except InvalidSpec as expected:
        with pytest.raises(InvalidSpec) as refused:
            preparing.prepare(data, "x.toml", Changes())
        assert refused.value.problems == expected.problems
        return
    if check_templates(spec):
        return
    prepared = preparing.prepare(data, "x.toml", Changes())
    assert (prepared.data, prepared.queue, prepared.name) == (data, spec.queue, spec.name or "x")
    assert prepared.spec == spec
    assert prepared.is_placed == bool(spec.place.model_fields_set)


def test_a_simple_spec_is_prepared_without_the_models():
    program = (
        "import sys; from spooldadd import preparing as p; "
        "done = p.prepare(b'command = [\"true\"]', 'x', p.Changes(priority=3)); "
        "assert done.checked is None and b'priority = 3' in done.data; print('pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
