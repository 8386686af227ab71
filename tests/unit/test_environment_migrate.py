"""Dadd's specs as ours, and what became of each key."""

import tomllib

import pytest

from spooldadd.environment.migrate import migrate, read_old
from spooldadd.environment.models import FileEntry, PythonTable
from spooldadd.errors import SpecError

# From Dadd's README, example/hello_spec.yaml and tests/lsspec.json.
README = """{
  "cmd": "python -m mypackage",
  "download_urls": ["https://example.org/mybucket/some_data.json"],
  "config": {"db": "postgres://username:pw@db.example.org:5432/mydb"},
  "python_deps": ["mypackage"],
  "python_cheeseshop": "http://cheese.example.org"
}"""
HELLO = """cmd: venv/bin/python hello_server.py
download_urls:
  hello_server.py: http://localhost:5000/files/hello_server.py
python_deps:
  - flask
"""


def new(old):
    made = migrate(old)
    table = tomllib.loads(made.to_toml())
    assert table == made.table
    for file in table.get("files", []):
        FileEntry.model_validate(file)
    PythonTable.model_validate(table.get("python", {}))
    return table, {note.key: note.became for note in made.notes}


def test_the_spec_of_the_readme_becomes_one_of_ours():
    table, notes = new(read_old(README, "x.json"))
    assert table == {
        "command": ["python", "-m", "mypackage"],
        "files": [{"url": "https://example.org/mybucket/some_data.json"}],
        "config": {"db": "postgres://username:pw@db.example.org:5432/mydb"},
        "python": {"requirements": ["mypackage"], "index_url": "http://cheese.example.org"},
    }
    assert set(notes) == {"cmd", "download_urls", "config", "python_deps", "python_cheeseshop"}
    assert "APP_SETTINGS_JSON" in notes["config"]


def test_the_example_of_dadd_becomes_one_of_ours():
    pytest.importorskip("yaml", reason="needs the capability to read YAML: the pyyaml package")
    table, notes = new(read_old(HELLO, "hello_spec.yaml"))
    assert table == {
        "command": ["python", "hello_server.py"],
        "files": [{"url": "http://localhost:5000/files/hello_server.py", "path": "hello_server.py"}],
        "python": {"requirements": ["flask"]},
    }
    assert "on PATH" in notes["cmd"]


def test_the_spec_of_dadds_tests_becomes_one_of_ours():
    assert new(read_old('{"cmd": "ls -la"}', "lsspec.json"))[0] == {"command": ["ls", "-la"]}


@pytest.mark.parametrize(
    ("deps", "python"),
    [
        ("flask", {"requirements": ["flask"]}),
        (["a b>=2", "c >= 3, < 4"], {"requirements": ["a", "b>=2", "c>=3,<4"]}),
        (["-i http://one.example.org a"], {"requirements": ["a"], "index_url": "http://one.example.org"}),
        (
            ["-i http://one.example.org a", "--index-url=http://two.example.org b --extra-index-url http://x.example.org c"],
            {
                "requirements": ["a", "b", "c"],
                "index_url": "http://one.example.org",
                "extra_index_urls": ["http://x.example.org", "http://two.example.org"],
            },
        ),
        (["-r requirements.txt"], {"requirements": "requirements.txt"}),
        (["--only-binary :all: a"], {"requirements": ["a"], "only_binary": True}),
        (['a; python_version < "4"'], {"requirements": ['a; python_version < "4"']}),
        (["a @ https://example.org/a-1-py3-none-any.whl"], {"requirements": ["a@https://example.org/a-1-py3-none-any.whl"]}),
    ],
)  # fmt: skip
def test_python_deps_are_read_as_the_arguments_for_pip_that_they_were(deps, python):
    assert new({"cmd": "x", "python_deps": deps})[0]["python"] == python


def test_options_that_have_no_key_are_told():
    _, notes = new({"cmd": "x", "python_deps": ["--pre -r more.txt a"]})
    assert "`--pre` is left out" in notes["python_deps"]
    assert "`-r more.txt` is left out" in notes["python_deps"]


def test_the_settings_on_the_command_line_are_found_by_the_shell():
    table, notes = new({"cmd": ["run", "my file", "$APP_SETTINGS"], "config": {"a": 1}})
    assert table["command"] == "run 'my file' \"$APP_SETTINGS_JSON\""
    assert "shell" in notes["cmd"]


def test_what_looks_like_a_template_stays_as_it_is():
    table, _ = new({"cmd": ["echo", "{{ x }}"], "config": {"t": ["{% if %}"], "n": 1}})
    assert table["command"] == ["echo", "{% raw %}{{ x }}{% endraw %}"]
    assert table["config"] == {"t": ["{% raw %}{% if %}{% endraw %}"], "n": 1}


def test_null_in_config_and_unknown_keys_are_told():
    table, notes = new({"cmd": "x", "config": {"a": None, "b": {"c": None, "d": 1}}, "process_id": 7, "color": "red"})
    assert table["config"] == {"b": {"d": 1}}
    assert "`config.a`, `config.b.c`" in notes["config"]
    assert "left out" in notes["process_id"]
    assert "left out" in notes["color"]


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("{", "x.json", "no JSON"),
        ("[1]", "x.json", "no table of keys"),
        ('{"cmd": 3}', "x.json", "`cmd` must be"),
        ('{"cmd": "a \'b"}', "x.json", "cannot be split"),
        ('{"x": 3}', "x.json", "no `cmd`"),
        ('{"cmd": "a", "download_urls": 3}', "x.json", "`download_urls` must be"),
        ('{"cmd": "a", "python_deps": [1]}', "x.json", "`python_deps` must be"),
        ('{"cmd": "a", "config": [1]}', "x.json", "`config` must be"),
    ],
)
def test_what_is_no_spec_of_dadd_is_refused(text, name, words):
    with pytest.raises(SpecError, match=words):
        migrate(read_old(text, name))
