"""Which form a spec has, and where the inline metadata of a script are: as the specifications have it, only faster."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooldadd import forms, layout

# The expression that the specifications give.
REFERENCE = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
LINES = st.lists(
    st.sampled_from(
        ["# /// script", "# /// other", "# ///", "#", "# x = 1", "#x", "", "print(1)", "# /// bad type", "# /// "]
    )
)


@given(LINES)
def test_blocks_are_found_where_the_reference_expression_finds_them(lines):
    text = "\n".join(lines) + "\n"
    ours = [(block.kind, "".join(f"{line}\n" for line in block.lines)) for block in forms.blocks(text) if block.lines]
    theirs = [(match["type"], match["content"]) for match in REFERENCE.finditer(text)]
    if not re.search(r"(?m)^# /// [a-zA-Z0-9-]+\n# ///$", text):  # an empty block, which they leave open
        assert ours == theirs


def test_an_empty_block_is_a_block():
    (block,) = forms.blocks("# /// script\n# ///\n")
    assert (block.kind, block.toml(), block.first) == ("script", "", 1)


@pytest.mark.parametrize("line", ["# /// x\n", "# /// script\n", "#\n", "# ///\n", "# /// x\n#\n"])
def test_a_text_made_to_be_slow_takes_no_longer(line):
    started = time.process_time()
    list(forms.blocks(line * (1_000_000 // len(line))))
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("data", "opens"),
    [
        (b"# /// script\n", True),
        (b"import os\n\n# /// script\r\n# ///\r\n", True),
        (b"\xef\xbb\xbf# /// script\n", True),
        (b"# /// script  \n", True),  # a mistake, and meant
        (b"x = '# /// script'\n", False),
        (b" # /// script\n", False),
        (b"# /// scripts\n", False),
        (b"", False),
    ],
)
def test_a_python_file_is_meant_as_a_spec_by_its_opening_line(tmp_path, data, opens):
    (tmp_path / "x.py").write_bytes(data)
    assert forms.opens_block(data) is opens
    assert forms.is_meant(str(tmp_path / "x.py"), "x.py") is opens
    assert forms.is_meant(str(tmp_path / "x.py"), "x.toml")  # by its name, whatever is in it


def test_what_is_no_readable_file_is_no_script(tmp_path):
    (tmp_path / "d.py").mkdir()
    (tmp_path / "l.py").symlink_to(tmp_path / "x.py")
    (tmp_path / "x.py").write_text("# /// script\n")
    assert not any(forms.is_meant(str(tmp_path / name), name) for name in ("d.py", "l.py", "gone.py"))


def test_only_the_beginning_of_a_large_python_file_is_looked_at(tmp_path):
    (tmp_path / "x.py").write_text("#\n" * forms.HEAD_BYTES + "# /// script\n# ///\n")
    assert not forms.is_meant(str(tmp_path / "x.py"), "x.py")


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("a.toml", "spec.toml"),
        ("a.py", "spec.py"),
        ("a.tar", "spec.tar"),
        ("a.py.held", "spec.py"),
        ("a.job", "spec.toml"),
        ("py", "spec.toml"),
        ("a.tar.toml", "spec.toml"),
    ],
)
def test_a_record_keeps_the_form_of_what_was_dropped(name, entry):
    assert layout.spec_entry(name) == entry


def test_a_records_spec_is_found_in_whatever_form(tmp_path):
    assert layout.find_spec(str(tmp_path)) == str(tmp_path / "spec.toml")
    for entry in reversed(layout.SPECS):
        (tmp_path / entry).touch()
        assert layout.find_spec(str(tmp_path)) == str(tmp_path / entry)
