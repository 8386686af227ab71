import time
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooldadd.tomlpos import MAX_DEPTH, positions
from spooldadd.tomltext import dumps, key
from tests.unit.toml_data import keys, scalars, tables, values

TEXT = '''\
name = "x" # name = 1
 a . "b c".'d' = [ 1, # ] comment
   "]", { e = 1, f.g = [[]] },
]
[ t . u ]
m = """a""b
\\""" [no] """""
l = \'\'\'x = 1
''[y]\'\'\'\'\'
[[jobs]]
when = 1979-05-27 07:32:00
[jobs.env]
A = 1
[[jobs.steps]]
[[jobs.steps]]
run = "é"
[[jobs]]
[[jobs.steps]]
é_after_multibyte = 1
'''.replace("é_after", "e_after")


def paths_of(data, above=()):
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, value in items:
        yield (*above, name)
        yield from paths_of(value, (*above, name))


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("name",), (1, 1)),
        (("a",), (2, 2)),
        (("a", "b c"), (2, 6)),
        (("a", "b c", "d"), (2, 12)),
        (("a", "b c", "d", 0), (2, 20)),
        (("a", "b c", "d", 1), (3, 4)),
        (("a", "b c", "d", 2), (3, 9)),
        (("a", "b c", "d", 2, "e"), (3, 11)),
        (("a", "b c", "d", 2, "f", "g"), (3, 20)),
        (("a", "b c", "d", 2, "f", "g", 0), (3, 25)),
        (("t",), (5, 3)),
        (("t", "u"), (5, 7)),
        (("t", "u", "m"), (6, 1)),
        (("t", "u", "l"), (8, 1)),
        (("jobs",), (10, 3)),
        (("jobs", 0), (10, 3)),
        (("jobs", 0, "when"), (11, 1)),
        (("jobs", 0, "env", "A"), (13, 1)),
        (("jobs", 0, "steps", 1, "run"), (16, 1)),
        (("jobs", 1), (17, 3)),
        (("jobs", 1, "steps", 0), (18, 8)),
        (("jobs", 1, "steps", 0, "e_after_multibyte"), (19, 1)),
    ],
)
def test_each_key_and_element_is_found_where_it_stands(path, place):
    assert positions(TEXT)[path] == place


def test_exactly_the_keys_that_tomllib_finds_have_a_place():
    assert set(positions(TEXT)) == set(paths_of(tomllib.loads(TEXT)))


@given(tables)
@settings(deadline=None)
def test_written_documents_have_a_place_for_exactly_their_keys(table):
    assert set(positions(dumps(table))) == set(paths_of(table))


spaces = st.sampled_from(["", " ", "\t", "  "])
comments = st.sampled_from(["", " # [x] = \"'", " #"])
line_ends = st.sampled_from(["\n", "\r\n"])
written_strings = st.sampled_from(
    [
        '"a#b"',
        '"]"',
        '"\\""',
        '"\\\\"',
        "''",
        "'\\'",
        '""',
        '"""x"""',
        '"""\n"\\""""',
        "'''\n[a]\n''x'''",
        '"""a\n"""""',
        "''''a'''",
    ]
)
written_keys = keys.map(key) | st.sampled_from(["'q.#'", "''", '"\\u0061"', "1.2", "a . b", 'x."y z".w', "true"])


@st.composite
def written_values(draw, depth=2):
    shape = draw(st.integers(0, 5 if depth else 3))
    if shape <= 1:
        return draw(written_strings)
    if shape <= 3:
        scalar = draw(scalars.filter(lambda value: not isinstance(value, str)))
        return dumps({"k": scalar}).removeprefix("k = ").rstrip("\n")
    inner = draw(st.lists(written_values(depth=depth - 1), max_size=3))
    gap = draw(spaces)
    if shape == 4:
        gap = draw(st.sampled_from([gap, "\n", " # ]\n", "\r\n\t"]))
        return f"[{gap}" + f"{gap},{gap}".join(inner) + f"{gap}{',' if inner and draw(st.booleans()) else ''}{gap}]"
    names = [draw(written_keys) for _ in inner]
    return "{" + gap + f"{gap},{gap}".join(f"{n}{gap}={gap}{v}" for n, v in zip(names, inner, strict=True)) + gap + "}"


@st.composite
def documents(draw):
    """Text as people write it: any spacing, comments, headers in any order. Not always valid, because keys may repeat."""
    lines = []
    for _ in range(draw(st.integers(0, 8))):
        name, gap = draw(written_keys), draw(spaces)
        shape = draw(st.integers(0, 5))
        opened, closed = {0: ("[", "]"), 1: ("[[", "]]")}.get(shape, ("", ""))
        body = f"{opened}{gap}{name}{gap}{closed}" if opened else f"{name}{gap}={gap}{draw(written_values())}"
        lines.append(draw(spaces) + body + draw(comments) + draw(line_ends))
    return "".join(lines)


@given(documents())
@settings(max_examples=200, deadline=None)
def test_documents_written_by_hand_have_a_place_for_exactly_their_keys(text):
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    found = positions(text)
    assert set(found) == set(paths_of(data))
    lines = text.split("\n")
    assert all(1 <= place.column <= len(lines[place.line - 1]) for place in found.values())


@given(st.dictionaries(keys, values, min_size=1, max_size=5), st.randoms())
@settings(deadline=None)
def test_the_place_of_a_top_level_key_is_where_its_line_begins_with_it(table, _random):
    text = dumps(table)
    for (name, *rest), (line, column) in positions(text).items():
        if not rest:
            assert text.split("\n")[line - 1][column - 1 :].startswith(key(name))


@given(st.text(max_size=200) | st.text("ab.[]{}=\"'#\\,\n 1", max_size=200))
@settings(max_examples=300, deadline=None)
def test_what_is_not_toml_ends_the_walk_without_an_error(text):
    positions(text)


def test_a_text_as_deep_as_tomllib_takes_it_is_walked_without_recursion():
    text = "a = " + "[" * 10_000 + "]" * 10_000
    assert max(map(len, positions(text))) == MAX_DEPTH


def test_a_key_of_very_many_parts_costs_no_memory_in_their_square():
    started = time.process_time()
    positions("a." * 100_000 + "a = 1")
    assert time.process_time() - started < 5


def test_a_long_text_of_one_kind_is_walked_in_one_go():
    started = time.process_time()
    for text in ('k = "' + "\\\\" * 200_000 + '"', 'k = """' + '""x' * 100_000 + '"""', "k = '''" + "''x" * 100_000 + "'''"):
        assert positions(text) == {("k",): (1, 1)}
    assert time.process_time() - started < 5
