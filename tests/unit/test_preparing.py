"""What `submit` writes into a spec, which files go with it, and what stays as it is."""

from __future__ import annotations

import datetime
import os
import tarfile
import tomllib

import pytest

from spooldadd import bundle, preparing
from spooldadd.preparing import Changes, prepare
from spooldadd.spec import InvalidSpec, parse

SPEC = b"""\
# nightly load
command = ["echo", "{{ vars.day }}"]
queue = "etl"

[vars]
day = "2026-11-20"
rows = 4
share = 0.5
full = false
since = 2026-11-20
"""


# -- freezing


def test_a_spec_without_options_is_dropped_to_the_byte():
    assert prepare(SPEC, "nightly.toml", Changes()).data == SPEC


def test_options_that_say_what_the_spec_says_change_no_byte():
    changes = Changes({"day": "2026-11-20", "rows": "4"}, queue="etl")
    assert prepare(SPEC, "nightly.toml", changes).data == SPEC


def test_options_are_written_into_the_spec_after_a_line_that_names_them():
    at = datetime.datetime(2026, 11, 22, 1, tzinfo=datetime.UTC)
    data = prepare(SPEC, "nightly.toml", Changes({"day": "x"}, "report", "slow", 7, at)).data
    table = tomllib.loads(data.decode())
    assert (table["name"], table["queue"], table["priority"]) == ("report", "slow", 7)
    assert table["run"] == {"not_before": at}
    assert table["vars"]["day"] == "x"
    first = data.decode().split("\n")[0]
    assert first.startswith("# nightly.toml, changed by `spooldadd submit`")
    assert "--queue slow" in first
    assert "--var day=x" in first


def test_a_frozen_spec_differs_in_nothing_but_what_the_options_say():
    frozen = parse(prepare(SPEC, "a.toml", Changes(queue="slow")).data, source="a.toml")
    assert frozen == parse(SPEC.replace(b'"etl"', b'"slow"'), source="a.toml")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("rows", "12", 12),
        ("rows", "-3", -3),
        ("share", "2", 2.0),
        ("share", "0.25", 0.25),
        ("full", "true", True),
        ("since", "2026-12-01", datetime.date(2026, 12, 1)),
        ("day", "12", "12"),
        ("day", "", ""),
    ],
)
def test_a_variable_keeps_the_type_that_the_spec_gives_it(name, text, value):
    assert prepare(SPEC, "a.toml", Changes({name: text})).spec.vars[name] == value


@pytest.mark.parametrize(
    ("name", "text"),
    [("rows", "many"), ("rows", "1.5"), ("rows", "1\nx = 2"), ("full", "yes"), ("share", "true"), ("since", "soon")],
)
def test_a_variable_of_the_wrong_type_is_a_problem_that_names_the_option(name, text):
    with pytest.raises(InvalidSpec) as caught:
        prepare(SPEC, "a.toml", Changes({name: text}))
    (problem,) = caught.value.problems
    assert problem.origin == f"--var {name}={text}"
    assert "as in the spec" in problem.message


def test_problems_of_options_and_of_the_file_are_told_together():
    with pytest.raises(InvalidSpec) as caught:
        prepare(SPEC + b"[limits]\ntimeout = 'soon'\n", "a.toml", Changes({"rows": "x"}, queue="no queue"))
    assert {(problem.key, problem.origin, bool(problem.line)) for problem in caught.value.problems} == {
        ("vars.rows", "--var rows=x", False),
        ("queue", "--queue no queue", False),
        ("limits.timeout", None, True),
    }


def test_a_template_that_only_an_option_makes_whole_is_accepted():
    data = b'command = ["echo", "{{ vars.day }}"]'
    with pytest.raises(InvalidSpec):
        prepare(data, "a.toml", Changes())
    assert prepare(data, "a.toml", Changes({"day": "x"})).spec.vars == {"day": "x"}


def test_a_variable_that_nothing_in_the_spec_speaks_of_is_warned_about():
    assert "`--var dya`" in prepare(SPEC, "a.toml", Changes({"dya": "x"})).warnings[0]
    assert not prepare(SPEC, "a.toml", Changes({"day": "x"})).warnings


def test_control_characters_in_an_option_stay_out_of_the_comment():
    data = prepare(SPEC, "a.toml", Changes({"day": "a\nb = 1\x1b"})).data
    assert tomllib.loads(data.decode())["vars"]["day"] == "a\nb = 1\x1b"


def test_what_cannot_be_read_is_a_problem(tmp_path):
    with pytest.raises(InvalidSpec, match="cannot be read: No such file"):
        preparing.load(str(tmp_path / "gone.toml"), Changes())


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("specs/nightly.toml", "nightly"),
        ("nightly.20261121T101500Z.bcdfg.toml", "nightly"),
        ("nightly.toml.held", "nightly"),
        ("failed/nightly.20261121T101500Z.bcdfg/spec.toml", "nightly"),
        ("spec.toml", "spec"),
    ],
)
def test_a_job_without_a_name_is_called_after_its_file(source, name):
    assert prepare(b'command = "true"', source, Changes()).name == name


# -- scripts

SCRIPT = """\
# /// script
# dependencies = ["six"]
# [tool.spooldadd]
# args = ["--day", "{{ vars.day }}"]
# vars.day = "2026-11-20"
# ///
print("here")
"""


@pytest.fixture
def beside(tmp_path):
    """A directory with a script, a spec, and files that they name."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "data.csv").write_text("1\n")
    (tmp_path / "requirements.txt").write_text("-r more.txt\nsix\n")
    (tmp_path / "more.txt").write_text("requests\n")
    (tmp_path / "backfill.py").write_text(SCRIPT)
    return tmp_path


def load(beside, text, changes=None, *, name="job.toml", spool_root=None):
    if text is not None:
        (beside / name).write_text(text)
    return preparing.load(str(beside / name), changes or Changes(), spool_root)


def written(prepared, tmp_path):
    """Write what would be dropped; return the names and contents in it."""
    path = tmp_path / "written.tar"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    prepared.write(fd)
    os.close(fd)
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}


def refusal(beside, text, **options):
    with pytest.raises(InvalidSpec) as caught:
        load(beside, text, **options)
    return caught.value.problems


def test_a_script_that_nothing_changes_is_dropped_as_it_is(beside):
    prepared = load(beside, None, name="backfill.py")
    assert (prepared.suffix, prepared.name, prepared.data) == (".py", "backfill", SCRIPT.encode())
    assert prepared.spec.command == ("python", "backfill.py", "--day", "{{ vars.day }}")


def test_arguments_go_behind_those_of_the_script_which_stays_as_it_is(beside, tmp_path):
    changes = Changes({"day": "2026-11-21"}, queue="etl", arguments=("--all", "a b"))
    prepared = load(beside, None, changes, name="backfill.py")
    assert prepared.suffix == ".tar"
    found = written(prepared, tmp_path)
    assert list(found) == ["spec.toml", "backfill.py"]
    assert found["backfill.py"] == SCRIPT.encode()
    first_line, _, text = found["spec.toml"].decode().partition("\n")
    assert first_line.endswith("changed by `spooldadd submit` --queue etl --var day=2026-11-21 -- --all 'a b'")
    spec = parse(text.encode(), source="spec.toml")
    assert spec.command == ("python", "backfill.py", "--day", "{{ vars.day }}", "--all", "a b")
    assert (spec.queue, spec.vars, spec.files[0].source) == ("etl", {"day": "2026-11-21"}, "backfill.py")
    assert spec.python.requirements == ("six",)


def test_a_script_whose_job_has_another_name_keeps_its_own(beside, tmp_path):
    text = SCRIPT.replace("# args", '# name = "nightly"\n# args')
    prepared = load(beside, text, name="backfill.py")
    assert (prepared.name, prepared.suffix) == ("nightly", ".tar")
    assert written(prepared, tmp_path) == {"backfill.py": text.encode()}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("job.toml", 'command = "true"', "only a script takes arguments"),
        ("x.py", '# /// script\n# tool.spooldadd.command = "true"\n# ///\n', "a `command` of its own"),
    ],
)
def test_arguments_need_a_script_that_python_runs(beside, name, text, words):
    (problem,) = refusal(beside, text, name=name, changes=Changes(arguments=("a",)))
    assert words in problem.message
    assert problem.origin == "-- a"


def test_a_script_in_a_record_gets_its_jobs_name_back(tmp_path):
    record = tmp_path / "backfill.20261121T101500Z.bcdfg"
    record.mkdir()
    (record / "spec.py").write_text(SCRIPT)
    prepared = preparing.load(str(record / "spec.py"), Changes())
    assert (prepared.name, prepared.own_name, prepared.suffix) == ("backfill", "backfill.py", ".py")


# -- files that go with it

FILES = 'command = "true"\n[[files]]\nsource = "in/data.csv"\n[python]\nrequirements = "requirements.txt"\n'


def test_files_beside_the_spec_go_with_it_and_what_they_include(beside, tmp_path):
    prepared = load(beside, FILES)
    found = written(prepared, tmp_path)
    assert list(found) == ["spec.toml", "in/data.csv", "more.txt", "requirements.txt"]
    assert found["spec.toml"] == FILES.encode()
    assert not prepared.warnings


def test_a_bundle_of_the_same_content_is_the_same_to_the_byte(beside, tmp_path):
    written(load(beside, FILES), tmp_path)
    first = (tmp_path / "written.tar").read_bytes()
    os.utime(beside / "in" / "data.csv", (1, 1))
    written(load(beside, FILES), tmp_path)
    assert (tmp_path / "written.tar").read_bytes() == first
    assert b"root" not in first


def test_a_lock_takes_its_project_along_and_a_wheel_goes_alone(beside, tmp_path):
    for name in ("uv.lock", "pyproject.toml", "job-1.0-py3-none-any.whl"):
        (beside / name).write_text("x")
    told = 'command = "true"\n[python]\nrequirements = "{}"\n'
    assert {"uv.lock", "pyproject.toml"} < set(written(load(beside, told.format("uv.lock")), tmp_path))
    wheel = "job-1.0-py3-none-any.whl"
    assert list(written(load(beside, told.format(wheel)), tmp_path)) == ["spec.toml", wheel]


def test_a_name_that_a_variable_makes_is_frozen(beside, tmp_path):
    told = 'command = "true"\nvars.what = "{}"\n[[files]]\nsource = "in/{{{{ vars.what }}}}.csv"\n'
    assert "in/data.csv" in written(load(beside, told.format("data")), tmp_path)
    assert "in/data.csv" in written(load(beside, told.format("x"), Changes({"what": "data"})), tmp_path)


def test_a_name_that_is_known_only_when_the_job_runs_is_left_to_the_spool(beside):
    prepared = load(beside, 'command = "true"\n[[files]]\nsource = "{{ job.id }}.csv"\npath = "x"\n')
    assert "known only when the job runs" in prepared.warnings[0]
    assert prepared.suffix == ".toml"


def test_a_file_that_lies_in_the_spool_stays_there(beside, tmp_path):
    (tmp_path / "spool").mkdir()
    told = 'command = "true"\n[[files]]\nsource = "shared.csv"\n'
    (problem,) = refusal(beside, told, spool_root=str(tmp_path / "spool"))
    assert "`shared.csv` is not there" in problem.message
    assert problem.line == 2
    assert "need it in the spool" in load(beside, told).warnings[0]  # `check` knows no spool
    (tmp_path / "spool" / "shared.csv").write_text("")
    assert load(beside, told, spool_root=str(tmp_path / "spool")).suffix == ".toml"


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside.csv"])
def test_a_link_that_leaves_the_directory_is_refused(beside, target):
    (beside.parent / "outside.csv").write_text("secret")
    (beside / "link.csv").symlink_to(target)
    (problem,) = refusal(beside, 'command = "true"\n[[files]]\nsource = "link.csv"\n')
    assert "leaves the directory of the spec" in problem.message


def test_a_link_within_the_directory_is_followed(beside, tmp_path):
    (beside / "link.csv").symlink_to("in/data.csv")
    found = written(load(beside, 'command = "true"\n[[files]]\nsource = "link.csv"\n'), tmp_path)
    assert found["link.csv"] == b"1\n"


@pytest.mark.parametrize("name", ["in", "pipe"])
def test_only_regular_files_are_taken(beside, name):
    os.mkfifo(beside / "pipe")
    (problem,) = refusal(beside, f'command = "true"\n[[files]]\nsource = "{name}"\n')
    assert "is not a regular file" in problem.message


@pytest.mark.parametrize(
    ("requirements", "words"),
    [
        ("-r gone.txt", "names `gone.txt`, which is not there"),
        ("./job-1.0-py3-none-any.whl", "names the local file"),
        ("-r ../outside.txt", "leaves the directory"),
    ],
)
def test_what_a_requirements_file_cannot_do_without_must_be_there(beside, requirements, words):
    (beside.parent / "outside.txt").write_text("")
    (beside / "requirements.txt").write_text(f"six\n{requirements}\n")
    (problem,) = refusal(beside, FILES)
    assert words in problem.message
    assert problem.line == 5


def test_no_file_may_take_the_name_of_the_spec_in_the_bundle(beside):
    (beside / "spec.toml").write_text("x")
    (problem,) = refusal(beside, 'command = "true"\n[[files]]\nsource = "spec.toml"\n')
    assert "has the name of the spec in a bundle" in problem.message


def test_too_much_is_refused_before_any_of_it_is_read(beside):
    with (beside / "large.csv").open("wb") as file:
        file.truncate(bundle.MAX_BUNDLE_BYTES + 1)
    (problem,) = refusal(beside, 'command = "true"\n[[files]]\nsource = "large.csv"\n')
    assert "1073741825 bytes" in problem.message


def test_a_file_that_changes_while_it_is_read_is_noticed(beside, tmp_path):
    prepared = load(beside, FILES)
    for text in ("22\n22", ""):
        (beside / "in" / "data.csv").write_text(text)
        with pytest.raises(bundle.NoBundle, match=r"`in/data.csv` was changed"):
            written(prepared, tmp_path)
    (beside / "in" / "data.csv").unlink()
    with pytest.raises(bundle.NoBundle, match=r"`in/data.csv` cannot be read"):
        written(prepared, tmp_path)


# -- bundles that are there


def hand_made(beside, *names, name="job.tar"):
    with tarfile.open(beside / name, "w") as tar:
        for one in names:
            tar.add(beside / one, one)
    return beside / name


def test_a_bundle_that_nothing_changes_is_dropped_as_it_is(beside, tmp_path):
    (beside / "spec.toml").write_text(FILES)
    path = hand_made(beside, "./spec.toml", "in", "requirements.txt")
    prepared = preparing.load(str(path), Changes())
    assert (prepared.name, prepared.suffix, prepared.as_is) == ("job", ".tar", str(path))
    written(prepared, tmp_path)
    assert (tmp_path / "written.tar").read_bytes() == path.read_bytes()


def test_a_changed_bundle_is_made_anew_with_all_its_files(beside, tmp_path):
    (beside / "spec.toml").write_text(FILES)
    (beside / "in" / "data.csv").chmod(0o755)
    path = hand_made(beside, "in", "requirements.txt", "./spec.toml")
    prepared = preparing.load(str(path), Changes(queue="etl"))
    found = written(prepared, tmp_path)
    assert list(found) == ["spec.toml", "in/data.csv", "requirements.txt"]
    assert parse(found["spec.toml"], source="").queue == "etl"
    assert (found["in/data.csv"], found["requirements.txt"]) == (b"1\n", b"-r more.txt\nsix\n")
    with tarfile.open(tmp_path / "written.tar") as tar:
        assert tar.getmember("in/data.csv").mode == 0o755


def test_a_changed_bundle_of_a_script_keeps_the_script(beside, tmp_path):
    path = hand_made(beside, "backfill.py", "in")
    prepared = preparing.load(str(path), Changes(arguments=("x",)))
    found = written(prepared, tmp_path)
    assert list(found) == ["spec.toml", "backfill.py", "in/data.csv"]
    assert parse(found["spec.toml"], source="").command[-1] == "x"


def test_problems_of_a_spec_in_a_bundle_name_both(beside):
    (beside / "spec.toml").write_text("comand = 1\n")
    with pytest.raises(InvalidSpec, match=r"job\.tar/spec\.toml.* has a problem at line 1"):
        preparing.load(str(hand_made(beside, "spec.toml")), Changes())


def test_what_is_no_bundle_says_why(beside):
    with pytest.raises(InvalidSpec, match=r"`job\.tar` holds no spec"):
        preparing.load(str(hand_made(beside, "in")), Changes())
    whole = hand_made(beside, "backfill.py").read_bytes()
    (beside / "job.tar").write_bytes(whole[:-1024])
    assert preparing.load(str(beside / "job.tar"), Changes()).as_is  # there is still an end behind it
    (beside / "job.tar").write_bytes(whole[:1024])
    with pytest.raises(InvalidSpec, match="is cut"):
        preparing.load(str(beside / "job.tar"), Changes())
