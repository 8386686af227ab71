import datetime
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spooldadd.sandbox import MAX_CHARACTERS, MAX_STEPS, Sandbox, TemplateFault, as_text

NAMES = {
    "vars": {"day": "2026-11-20", "n": 3, "flag": True, "items": "i", "date": datetime.date(2026, 1, 2)},
    "job": {"id": "x.1", "attempt": 1},
    "node": {"name": "web-3"},
}


# A twentieth of what a spec has, so that a test which uses it up is over soon.
FEW_STEPS = MAX_STEPS // 20


def render(text, **options):
    return Sandbox(NAMES, **options).render(text)


def fault(text, **options):
    with pytest.raises(TemplateFault) as caught:
        render(text, **options)
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{{ vars.day }}", "2026-11-20"),
        ("{{ vars['day'] }}\n", "2026-11-20\n"),
        ("{{ vars.day.replace('-', '') }}", "20261120"),
        ("{{ vars.day | replace('-', '') }}", "20261120"),
        ("{{ vars.date.strftime('%Y/%m') }}", "2026/01"),
        ("{{ vars.items }}", "i"),
        ("{{ vars.flag }} {{ vars.date }} {{ 1.5 }}", "true 2026-01-02 1.5"),
        ("{{ vars.day ~ '-' ~ vars.n }}", "2026-11-20-3"),
        ("{{ '%03d' % vars.n }} {{ '%s'|format(true) }}", "003 true"),
        ("{{ [1, 'é'] | join('-') }} {{ [1, 'é'] | tojson }}", '1-é [1, "é"]'),
        ("{{ vars.x | default('d') }} {{ vars.x is defined }}", "d false"),
        ("{% for n in range(3) %}{{ n }}{{ ',' if not loop.last }}{% endfor %}", "0,1,2"),
        ("{% for k in vars if k == 'n' %}{{ k }}={{ vars[k] }}{% endfor %}", "n=3"),
        ("{% if vars.n > 2 %}a{% else %}b{% endif %}{# no #}", "a"),
        ("{{ vars.day.split('-') | map('int') | sum }} {{ vars.day[:4] }}", "2057 2026"),
        ("{% set a = 2 %}{{ a * 3 + 1 }} {{ 2 ** 10 }} {{ 'ab' * 2 }}", "7 1024 abab"),
        ("{% raw %}{{ x }}{% endraw %}{{ '{{' }}", "{{ x }}{{"),
        ("{{ '<' }}", "<"),
    ],
)
def test_a_template_of_the_usual_kind_is_rendered(text, rendered):
    assert render(text) == rendered


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ vars.dya }}", "`vars.dya` is not defined; did you mean `vars.day`?"),
        ("{{ job.zzz }}", "`job.zzz` is not defined; known: `job.id`, `job.attempt`"),
        ("{{ vras.day }}", "`vras` is not defined; did you mean `vars`?"),
        ("{{ day }}", "`day` is not defined; did you mean `vars.day`?"),
        ("{% if false %}{{ env.HOME }}{% endif %}", "`env` is not defined"),
        ("{{ vars.x.y }}", "`vars.x` is not defined"),
        ("{{ vars.foo() }}", "`vars.foo` is not defined"),
        ("{{ vars.day.foo }}", "a string has no `foo`"),
        ("{{ vars.day | uper }}", "no filter is named `uper`; did you mean `upper`?"),
        ("{{ vars.day is strng }}", "no test is named `strng`; did you mean `string`?"),
        ("{{ vars }}", "`vars` is no single value"),
        ("{{ [1] }}", "a list cannot be written as it is"),
        ("{{ none }}", "`none` cannot be written"),
        ("{{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
        ("{{ vars.n + 'a' }}", "TypeError"),
        ("{{ ", "unexpected 'end of template'"),
        ("a\n\n{% if %}", "(line 3 of the value)"),
        ("{% for x in 1 %}{% endfor %}", "TypeError"),
    ],
)
def test_a_wrong_template_is_refused_with_what_was_meant(text, message):
    assert message in fault(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ vars.__init__ }}",
        "{{ vars._table }}",
        "{{ vars['_table'] }}",
        "{{ vars.day.format }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ '{a}'.format_map({'a': 1}) }}",
        "{{ vars.day.encode() }}",
        "{{ self }}",
        "{{ self.__init__ }}",
        "{{ lipsum() }}",
        "{{ cycler('a') }}",
        "{{ dict(a=1) }}",
        "{{ namespace() }}",
        "{{ loop }}",
        "{% for a in [1] %}{{ loop }}{% endfor %}",
        "{{ [1].append(2) }}",
        "{{ range.__self__ }}",
        "{{ 'a' | attr('__class__') }}",
        "{{ ['a'] | map(attribute='__class__') | join }}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{% macro m() %}{% endmacro %}",
        "{% block b %}{% endblock %}",
        "{% filter upper %}a{% endfilter %}",
        "{% set x %}a{% endset %}",
        "{% for x in [1] recursive %}{% endfor %}",
        "{% set vars.x = 1 %}",
        "{{ 'a' | pprint }}",
        "{{ 1 | read }}",
    ],
)
def test_what_leads_out_of_the_sandbox_is_refused(text):
    assert fault(text)


DOUBLED = "{% set x = 'aaaaaaaaaa' %}" + "{% set x = x ~ x %}" * 40
NESTED = "{% set x = ['aaaaaaaaaa'] %}" + "{% set x = [x, x] %}" * 40


@pytest.mark.parametrize(
    "text",
    [
        "{% for i in range(10**9) %}{% endfor %}",
        "{% for i in range(10**30) %}{% endfor %}",
        "{% for i in range(10**6 - 1) %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) if false %}{% endfor %}{% for j in range(999999) %}{% endfor %}",
        "{{ range(99999) | map('string') | map('upper') | map('lower') | join | length }}" * 20,
        "{{ 'a' * 10**10 }}",
        "{{ 10**10 * 'a' }}",
        "{{ [1] * 10**10 }}",
        "{{ 10**9999 }}",
        "{{ (2**4000) * (2**4000) }}",
        "{{ 'a'.ljust(10**10) }}",
        "{{ 'a'.zfill(10**10) }}",
        "{{ 'a'.center(10**10) }}",
        "{{ '%99999999999d' % 1 }}",
        "{{ '%*d' % (99999999, 1) }}",
        "{{ '%(a)s' % {'a': 1} }}",
        "{{ '%99999999999d' | format(1) }}",
        "{{ 'aaa'.replace('', 'b' * 1000000) }}",
        "{{ ('a' * 1000) | replace('a', 'b' * 10000) }}",
        "{{ ('a' * 9999).join(['x'] * 9999) }}",
        "{{ (['x'] * 9999) | join('a' * 9999) }}",
        "{{ 1.5 | round(10**9) }}",
        "{{ 'a' | truncate(10**9) }}",
        DOUBLED,
        DOUBLED.replace("~", "+"),
        NESTED + "{{ x | tojson }}",
        NESTED + "{{ x | string }}",
        NESTED + "{{ '%s' % x }}",
        NESTED + "{% if x == 1 %}{% endif %}",
        NESTED.replace("[", "(").replace("]", ",)") + "{{ {x: 1} | length }}",
        NESTED.replace("[", "(").replace("]", ",)") + "{% set y = {}[x] %}",
        "{% set x = range(99999) | map('string') | list %}{{ x | select('in', x) | list | length }}",
        "{% set x = range(99999) | map('string') | map('list') | list %}{{ x | sum(start=[]) | length }}",
        "{% set x = range(9999) | map('string') | list %}" + "{{ 'b' is in x }}" * 5000,
        "{% set x = 'a' * 999999 %}{{ x }}{{ x }}",
        "{% for i in range(9999) %}{{ 'a' * 9999 }}{% endfor %}",
        "{% set x = 'a' * 999999 %}" + "{% if 'b' in x %}{% endif %}" * 5000,
        "{% set x = 'a' * 999999 %}" + "{% set y = x[1:] %}" * 5000,
        "{{ '{{ x }}' }}" * 80_000,
        "{{" + "(" * 50_000 + "1" + ")" * 50_000 + "}}",
        "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    ],
    ids=range(42),
)
def test_what_would_run_for_long_or_fill_the_memory_is_refused_soon(text):
    started = time.process_time()
    assert fault(text, max_steps=FEW_STEPS)
    assert time.process_time() - started < 5


def test_the_whole_budget_of_a_spec_is_used_up_within_seconds():
    started = time.process_time()
    assert "1,000,000 steps" in fault("{% for i in range(999) %}{% for j in range(999) %}{{ j }}{% endfor %}{% endfor %}")
    assert time.process_time() - started < 20


def test_the_budget_is_one_for_all_values():
    sandbox = Sandbox(NAMES, max_steps=FEW_STEPS)
    with pytest.raises(TemplateFault, match="50,000 steps"):
        for _ in range(200):
            sandbox.render("{{ vars.n }}")


def test_what_all_values_write_together_is_bounded():
    sandbox = Sandbox(NAMES)
    text = "{{ 'a' * 200000 }}"
    with pytest.raises(TemplateFault, match="characters"):
        for _ in range(MAX_CHARACTERS // 200_000 + 1):
            sandbox.render(text)


def test_a_check_finds_syntax_and_unknown_words_without_rendering():
    sandbox = Sandbox({"vars": {}, "job": {}, "node": {}})
    sandbox.check("{{ vars.anything }}")
    for text in ("{{ vras.x }}", "{{ vars.x", "{{ vars.x | foo }}", "{% macro a() %}{% endmacro %}"):
        with pytest.raises(TemplateFault):
            sandbox.check(text)


def test_a_value_is_written_as_toml_does():
    at = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)
    assert [as_text(value) for value in ("a", True, False, 1, 1.5, at, datetime.time(1, 2))] == [
        "a", "true", "false", "1", "1.5", "2026-01-02T03:04:00+00:00", "01:02:00",
    ]  # fmt: skip


pieces = st.sampled_from(
    ["{{", "}}", "{%", "%}", "{#", "#}", "vars", ".day", ".", "for", "if", "in", "range(9)", "endfor", "endif", "set",
     "x", "=", "|", "upper", "join", "(", ")", "[", "]", "'a'", "~", "*", "**", "9", "is", "not", " ", "\n", "loop", "%"]
)  # fmt: skip


@given(st.lists(pieces, max_size=30).map(" ".join) | st.text(max_size=50))
@settings(max_examples=300, deadline=None)
def test_any_text_is_rendered_or_refused(text):
    for template in (text, "{{ " + text + " }}"):
        try:
            assert isinstance(render(template), str)
        except TemplateFault as error:
            assert error.message
