"""The pages are current, complete and linked; what they show as data is valid. That they can be followed, e2e tests show."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

import spooldadd
from spooldadd import cli, config, lifecycle, log, spec
from spooldadd.cli import parsers

REPOSITORY = Path(__file__).resolve().parents[2]


def _load(name):
    found = importlib.util.spec_from_file_location(f"docs_{name}", REPOSITORY / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(found)
    sys.path.insert(0, str(REPOSITORY / "docs"))  # the programs there import each other
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    sys.path.pop(0)
    return module


generate, pages = _load("generate"), _load("pages")
TEXTS = {str(path.relative_to(REPOSITORY)): path.read_text() for path in pages.all_pages()}
# Others look after these pages and their tests.
FOREIGN = ("docs/erroremail.md", "docs/environments.md")
OURS = {name: text for name, text in TEXTS.items() if name not in FOREIGN}
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.M | re.S)
HEADING = re.compile(r"^#+ (.*)$", re.M)


def reference(name):
    return TEXTS[f"docs/reference/{name}.md"]


def test_generated_sections_are_current():
    names = [str(path.relative_to(REPOSITORY)) for path in generate.outdated()]
    assert not names, f"run `.venv/bin/python docs/generate.py`; not current: {names}"


def test_every_section_that_can_be_generated_is_on_some_page():
    found = [name for text in TEXTS.values() for name in generate.section_names(text)]
    assert sorted(found) == sorted(generate.SECTIONS)


def test_a_word_that_is_missing_is_an_error():
    with pytest.raises(generate.source.Forgotten, match="without a word: \\['new'\\]"):
        generate.hold_against(["old"], ["old", "new"], "events")


def test_a_word_about_what_is_gone_is_an_error():
    with pytest.raises(generate.source.Forgotten, match="no longer in the code: \\['old'\\]"):
        generate.hold_against(["old"], [], "events")


def test_a_changed_section_is_found_out():
    text = reference("exit-codes")
    assert generate.filled(text.replace("| 2 |", "| 3 |", 1)) == text


@pytest.mark.parametrize(("page", "rows"), [("spec", spec.describe()), ("configuration", config.describe())])
def test_every_key_is_documented(page, rows):
    for row in rows:
        assert f"| `{row.key}` |" in reference(page), row.key
        assert row.description, row.key


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_and_option_is_documented(command):
    if command not in generate.commands():
        pytest.fail(f"`{command}` stands in the overview of commands, and has no module")
    _, heading, section = reference("commands").partition(f"\n## {command}\n")
    section = section.partition("\n## ")[0]
    assert heading
    for action in generate.arguments_of(command):
        assert action.help, (command, action.dest)
        for option in action.option_strings:
            assert f"`{option}" in section, (command, option)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_examples_in_its_help(command):
    assert "examples:\n" in (parsers.command_parser(command, cli.load(command)).epilog or "")


def test_every_event_that_is_written_is_documented():
    for event in generate.source.log_events(log.EVENTS):
        assert f"| `{event}` |" in reference("events"), event


def test_every_call_of_a_log_is_understood():
    """A call that the generator cannot read would hide an event: one that passes a name on is read at its callers."""
    for path in (REPOSITORY / "spooldadd").rglob("*.py"):
        for event in re.findall(r"\blog\.(?:debug|info|warning|error)\(\s*([^,)\s]+)", path.read_text()):
            assert event.strip('"') in log.EVENTS | {"event"} or path.name == "erroremail.py", (path.name, event)


@pytest.mark.parametrize("outcome", lifecycle.OUTCOMES)
def test_every_outcome_is_documented(outcome):
    assert f"| `{outcome}` |" in reference("result")


def test_every_module_is_on_the_map():
    for path in (REPOSITORY / "spooldadd").iterdir():
        if path.suffix == ".py" and path.stem != "__init__":
            assert f"| `{path.stem}` |" in reference("modules"), path.stem


@pytest.mark.parametrize("name", OURS)
def test_every_block_says_what_it_is(name):
    fences = re.findall(r"^```", OURS[name], re.M)
    found = pages.blocks(OURS[name])
    assert len(fences) == 2 * len(found), "a fence without a language, or one that is not closed"
    for block in found:
        assert block.language in pages.LANGUAGES, (name, block.line)


@pytest.mark.parametrize("name", OURS)
def test_blocks_of_data_are_valid(name):
    assert pages.check_data(OURS[name]) == []


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name):
    for link in LINK.findall(FENCED.sub("", TEXTS[name])):
        if link.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (REPOSITORY / name).parent / path if path else REPOSITORY / name
        assert target.exists(), f"{name}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text()), f"{name}: {link}"


def anchors(text):
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text)}


def test_every_page_can_be_reached_from_the_index():
    index = REPOSITORY / "docs" / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(index.read_text())}
    for path in (REPOSITORY / "docs").rglob("*.md"):
        assert path in linked or path == index, f"docs/index.md does not link to {path.name}"


@pytest.mark.parametrize("name", OURS)
def test_no_page_holds_a_path_of_the_machine_it_was_written_on(name):
    assert str(REPOSITORY) not in OURS[name]
    assert not re.search(r"(?<![\w.])/(work|tmp|root|home/(?!you\b))/?\w*", OURS[name])


@pytest.mark.parametrize("name", OURS)
def test_lines_of_prose_are_short_enough_to_read(name):
    for line in FENCED.sub("", generate.without_sections(OURS[name])).splitlines():
        assert len(line) <= 132 or line.startswith(("|", "<!--")) or "](" in line, line


def test_the_transcript_stands_within_the_first_lines_of_the_readme():
    before, fence, _ = TEXTS["README.md"].partition("```console\n$ ls spool/done/")
    assert fence
    assert before.count("\n") <= 30


def test_every_guarantee_names_a_test_that_exists():
    section = TEXTS["README.md"].partition("## What is guaranteed")[2].partition("\n## ")[0]
    promises = section.split("\n- **")[1:]
    assert len(promises) == 6
    for promise in promises:
        assert "*Limit:*" in promise, promise
        named = re.findall(r"`(tests/[^`]+)`", promise.partition("*Shown by*")[2])
        assert named, promise
        for path in named:
            assert (REPOSITORY / path).exists(), path


def test_every_test_that_a_page_names_exists():
    for name, text in OURS.items():
        for path in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text):
            assert (REPOSITORY / path[0]).exists(), (name, path)
            assert not path[1] or f"def {path[1]}(" in (REPOSITORY / path[0]).read_text(), (name, path)


def test_transcripts_are_compared_without_what_changes():
    assert pages.is_same("job.20261121T101500Z.bcdfg 3 s\n", "job.20270101T000000Z.gfdcb   14 ms\n")
    assert pages.is_same("first\n…\nlast\n", "first\nsecond\nthird\nlast\n")
    assert not pages.is_same("first\nlast\n", "first\nsecond\nlast\n")
    assert not pages.is_same('outcome = "exit"\n', 'outcome = "success"\n')


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_the_table_by_hand_has_every_command(command):
    rows = [line.split("|")[1] for line in TEXTS["docs/howto/by-hand.md"].splitlines() if line.startswith("| `")]
    assert any(re.search(rf"`{command}\b", row) for row in rows)


def test_every_public_name_is_on_the_page_about_python():
    for name in spooldadd.__all__:
        assert name == "__version__" or re.search(rf"^### {name}$|^\| `{name}` \|", reference("python"), re.M), name


@pytest.mark.parametrize("name", [name for name in OURS if "/decisions/" in name])
def test_a_decision_says_context_decision_and_consequence_in_half_a_page(name):
    assert re.findall(r"^\*\*([A-Z][a-z ]+)\.\*\*", OURS[name], re.M) == ["Context", "Decision", "What follows"]
    assert len(OURS[name].splitlines()) < 30
