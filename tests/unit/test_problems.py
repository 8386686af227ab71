from hypothesis import given, settings
from hypothesis import strategies as st

from spooldadd.problems import Problem, dotted, in_order, render, summary, visible

UNKNOWN = Problem("unknown key `comand`; did you mean `command`?", "comand", 4, 1, 'comand = ["true"]')


def test_a_problem_is_shown_with_its_line_and_a_mark_below_the_column():
    assert render([UNKNOWN], "nightly.toml") == (
        'nightly.toml:4:1: unknown key `comand`; did you mean `command`?\n    4 | comand = ["true"]\n      | ^\n'
    )


def test_a_hint_follows_below_the_mark():
    assert render([UNKNOWN._replace(hint="write less")], "x").endswith("      | ^\n      = write less\n")


def test_all_problems_are_shown_in_the_order_of_their_places():
    problems = [Problem("c", line=12, column=1), Problem("b", line=2, column=9), Problem("a", line=2, column=3)]
    shown = render(problems, "x")
    assert [line for line in shown.splitlines() if line.startswith("x:")] == ["x:2:3: a", "x:2:9: b", "x:12:1: c"]
    assert [problem.message for problem in in_order(problems)] == ["a", "b", "c"]


def test_a_problem_without_a_line_names_the_file_or_what_else_is_to_blame():
    assert render([Problem("is away")], "x.toml") == "x.toml: is away\n"
    assert render([Problem("is odd", origin="SPOOLDADD_JOBS")], "x.toml") == "SPOOLDADD_JOBS: is odd\n"


def test_control_characters_of_the_line_and_the_name_are_made_visible():
    shown = render([Problem("m", line=1, column=7, text="a\x1b[0m\tb\x00\u202e")], "x\n\udce9")
    assert shown == "x␊�:1:7: m\n    1 | a␛[0m b␀�\n      |       ^\n"


def test_the_mark_stands_below_its_character_behind_wide_and_combining_ones():
    text = "日本e\u0301 = 1"
    shown = render([Problem("m", line=1, column=text.index("=") + 1, text=text)], "x").splitlines()
    assert shown[2].index("^") - shown[1].index("日") == 2 + 2 + 1 + 1


def test_a_very_long_line_is_cut_around_the_column():
    text = "a" * 500 + "X" + "b" * 500
    excerpt, mark = render([Problem("m", line=1, column=501, text=text)], "x").splitlines()[1:]
    assert len(excerpt) < 120
    assert excerpt[mark.index("^")] == "X"
    assert excerpt[8] == excerpt[-1] == "…"


@given(st.text(max_size=400), st.integers(1, 401))
@settings(deadline=None)
def test_any_line_is_shown_on_one_line_of_bounded_length(text, column):
    text = text.replace("\n", "")
    shown = render([Problem("m", line=1, column=min(column, len(text) + 1), text=text)], "x").removesuffix("\n")
    assert len(shown.split("\n")) == 3
    assert all(len(line) <= 8 + 2 * 102 for line in shown.split("\n"))
    assert all(character.isprintable() or character == "\n" or character.isspace() for character in shown)


def test_the_summary_is_one_sentence_with_the_file_the_count_and_the_first_place():
    later = Problem("later", line=9, column=1)
    assert summary([UNKNOWN], "n.toml") == f"`n.toml` has a problem at line 4, column 1: {UNKNOWN.message}"
    assert summary([later, UNKNOWN], "n.toml") == (
        f"`n.toml` has 2 problems, the first at line 4, column 1: {UNKNOWN.message}"
    )
    assert summary([Problem("m", origin="SPOOLDADD_JOBS")], "n") == "`n` has a problem in `SPOOLDADD_JOBS`: m"


def test_the_summary_stays_on_one_line_and_short_whatever_the_message_holds():
    sentence = summary([Problem("a\nb" * 1000, line=1, column=1)], "x\ny")
    assert "\n" not in sentence
    assert len(sentence) == 400


def test_each_invisible_character_becomes_one_visible_so_that_columns_stay():
    assert visible("plain") == "plain"
    every = "".join(map(chr, [*range(0x20), 0x7F, 0x85, 0x200B, 0x2028, 0xFEFF, 0xDC80]))
    assert len(visible(every)) == len(every)
    assert visible(every).isprintable()


def test_a_path_is_written_as_people_do():
    assert dotted(("limits", "timeout")) == "limits.timeout"
    assert dotted(("command", 1)) == "command[1]"
    assert dotted(("env", "A=B", 0, "c")) == 'env."A=B"[0].c'
    assert dotted(()) == ""
