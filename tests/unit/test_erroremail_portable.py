"""That the file works alone: syntax of Python 3.8, nothing but the standard library, copied anywhere."""

import ast
import pathlib
import shutil
import subprocess
import sys

import pytest

import spooldadd.erroremail

FILE = pathlib.Path(spooldadd.erroremail.__file__)
SCRIPT = """
import erroremail
config = {"SENDMAIL": ["sh", "-c", "cat > mail.eml"], "TO": "ops@example.org", "FROM": "j@example.org", "LOCALS": True}
try:
    with erroremail.ErrorEmail(config, queue="etl"):
        try:
            day = {}["day"]
        except KeyError as error:
            raise ValueError("no day") from error
except ValueError:
    print("went on")
"""


def test_the_syntax_is_that_of_python_3_8():
    ast.parse(FILE.read_text(), feature_version=(3, 8))


def imported_names():
    for node in ast.walk(ast.parse(FILE.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield node.module.partition(".")[0]


def test_only_the_standard_library_is_imported():
    assert set(imported_names()) <= sys.stdlib_module_names


def test_modules_that_3_8_does_not_have_are_imported_under_a_version_check():
    tree = ast.parse(FILE.read_text())
    top = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert "tomllib" not in top and "zoneinfo" not in top and "graphlib" not in top


def old_and_new_pythons():
    """Every Python that the machine has: the older ones are what this is about."""
    installed = (
        path for minor in range(8, 20) for path in pathlib.Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")
    )
    names = ["pypy3", *(f"python3.{minor}" for minor in range(8, 20))]
    found = [shutil.which(name) for name in names]
    return sorted({sys.executable, *map(str, installed), *(path for path in found if path and "/shims/" not in path)})


@pytest.mark.parametrize("python", old_and_new_pythons())
def test_a_copy_beside_a_script_works_by_itself(tmp_path, python):
    shutil.copy(FILE, tmp_path)
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([python, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import script"],
                          cwd=tmp_path, capture_output=True, text=True, timeout=60)  # fmt: skip
    assert (done.stdout, done.stderr) == ("went on\n", "")
    assert "no day" in (tmp_path / "mail.eml").read_text()
