import datetime
import subprocess
import sys

import pytest

import spooldadd
from spooldadd.spec import InvalidSpec, Spec, parse
from spooldadd.template import SAMPLE, Context, JobFacts, check_templates, render

CONTEXT = Context(JobFacts("n.1", "n", 2, "etl", datetime.datetime(2026, 11, 21, 10, 15, tzinfo=datetime.UTC)), "web-3")
TEXT = b"""\
command = ["load", "{{ vars.day }}", "plain"]
stdin = "{{ job.submitted_at.strftime('%Y') }} {{ job.queue }}"
queue = "etl"
[vars]
day = 2026-01-02
looks = "{{ 1 }}"
[env]
NODE = "{{ node.name }}"
[config]
list = [{ attempt = "{{ job.attempt }}", n = 1 }, 2026-01-01]
[keep]
files = ["{{ vars.day }}.csv"]
[limits]
timeout = "1h"
"""


def found(text):
    return [(problem.line, problem.column, problem.message) for problem in check_templates(parse(text, source="x"))]


def test_each_value_that_may_hold_a_template_is_rendered():
    spec = render(parse(TEXT, source="x"), CONTEXT)
    assert spec.command == ("load", "2026-01-02", "plain")
    assert spec.stdin == "2026 etl"
    assert spec.env == {"NODE": "web-3"}
    assert spec.config == {"list": [{"attempt": "2", "n": 1}, "2026-01-01"]}
    assert spec.keep.files == ("2026-01-02.csv",)


def test_what_has_no_template_stays_as_it_is_variables_included():
    before = parse(TEXT, source="x")
    after = render(before, CONTEXT)
    assert after.vars == before.vars
    assert after.vars["looks"] == "{{ 1 }}"
    assert (after.limits, after.retry, after.queue) == (before.limits, before.retry, before.queue)
    assert after.limits.model_fields_set == {"timeout_s"}


def test_a_spec_without_templates_is_returned_itself():
    spec = parse(b'command = "true"', source="x")
    assert render(spec, CONTEXT) is spec


def test_a_command_for_the_shell_is_rendered_too():
    assert render(Spec(command="echo {{ job.name }}"), CONTEXT).command == "echo n"


def test_what_a_variable_holds_is_not_rendered_again():
    assert render(parse(b'command = "{{ vars.a }}"\nvars.a = "{{ vars.b }}"', source="x"), CONTEXT).command == "{{ vars.b }}"


def test_every_undefined_name_is_a_problem_at_its_key():
    assert found(b'command = ["a", "{{ vars.dya }}"]\nenv.A = "{{ job.idd }}"\nvars.day = 1\n') == [
        (1, 17, "template of `command[1]`: `vars.dya` is not defined; did you mean `vars.day`?"),
        (2, 5, "template of `env.A`: `job.idd` is not defined; did you mean `job.id`?"),
    ]


def test_bad_syntax_is_found_when_the_spec_is_read_together_with_other_problems():
    with pytest.raises(InvalidSpec) as caught:
        parse(b'command = ["{{ vars.x"]\nstdin = "{{ vras }}"\nqueue = 1\nvars.x = 1\n', source="x")
    assert [(problem.line, problem.message.split(":")[0]) for problem in caught.value.problems] == [
        (1, "template of `command[0]`"),
        (2, "template of `stdin`"),
        (3, "`queue` must be a string, not a whole number"),
    ]


def test_undefined_names_are_found_together_with_other_problems():
    """They were only told when all else was right: a person mended one error after the other."""
    with pytest.raises(InvalidSpec) as caught:
        parse(b'command = ["{{ vars.y }}", "{{ job.id }}{{ job.idd }}"]\nqueu = "etl"\nvars.x = 1\n', source="x")
    assert [problem.message for problem in caught.value.problems] == [
        "template of `command[0]`: `vars.y` is not defined; known: `vars.x`",
        "template of `command[1]`: `job.idd` is not defined; did you mean `job.id`?",
        "unknown key `queu`; did you mean `queue`?",
    ]


def test_without_usable_variables_nothing_is_said_of_their_names():
    with pytest.raises(InvalidSpec) as caught:
        parse(b'command = ["{{ vars.y }}"]\nvars = 1\n', source="x")
    assert [problem.line for problem in caught.value.problems] == [2]


def test_a_rendered_value_is_checked_as_if_it_had_been_written():
    assert found(
        b"command = \"{{ '\\\\x00' }}\"\nenv.A = \"{{ 'a' * 200000 }}\"\n"
        b"keep.files = [\"{{ '/x' }}\"]\nstdin = \"{{ '\\\\ud800' }}\""
    ) == [
        (1, 1, "`command` must not hold a NUL character: no program can be given one"),
        (2, 5, "`env.A` is longer than the 128 KiB that the kernel passes to a program"),
        (3, 15, "`keep.files[0]` leads out of the work directory"),
        (4, 1, "`stdin` holds half of a surrogate pair, which is no character"),
    ]
    assert found(b"command = [\"{{ '' }}\"]")[0][2] == "`command` must name a program first"


def test_a_valid_spec_has_no_problems_before_there_is_a_job():
    assert check_templates(parse(TEXT, source="x")) == ()
    assert SAMPLE.job.attempt == 1


def test_jinja_is_not_imported_for_specs_without_templates():
    program = (
        "import sys; from spooldadd.spec import parse; from spooldadd.template import SAMPLE, render;"
        "render(parse(b'command = \"true\"', source='x'), SAMPLE); print('jinja2' in sys.modules)"
    )
    root = spooldadd.__file__.removesuffix("/spooldadd/__init__.py")
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert result.stdout == "False\n"
