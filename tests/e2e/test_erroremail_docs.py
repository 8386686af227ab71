"""The page about ErrorEmail is executed: each block runs as it stands, but for the port and the interpreter's name."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import spooldadd.erroremail
from spooldadd.erroremail import KEYS
from tests.e2e.mail_servers import MailServer

FILE = pathlib.Path(spooldadd.erroremail.__file__)
PAGE = (FILE.parents[1] / "docs" / "erroremail.md").read_text()
FENCE = re.compile(r"(?:<!-- (?P<note>[^\n]*) -->\n)?```(?P<kind>\w+)\n(?P<code>.*?)```\n", re.S)
BLOCKS = [found.groupdict() for found in FENCE.finditer(PAGE)]
RUNNABLE = [block for block in BLOCKS if block["kind"] in ("python", "sh")]


def test_every_block_says_what_it_does():
    assert len(RUNNABLE) >= 9
    for block in BLOCKS:
        assert block["kind"] == "text" or block["note"], block["code"]


@pytest.mark.parametrize("block", RUNNABLE, ids=lambda block: block["code"].strip().splitlines()[-1][:40])
def test_a_block_of_the_page_does_what_it_says(tmp_path, block):
    shutil.copy(FILE, tmp_path)
    with MailServer() as server:
        for other in BLOCKS:
            if (other["note"] or "").startswith("file: "):
                (tmp_path / other["note"].removeprefix("file: ")).write_text(fitted(other["code"], server))
        name = "script.py" if block["kind"] == "python" else "script.sh"
        (tmp_path / name).write_text(fitted(block["code"], server))
        command = [sys.executable, name] if block["kind"] == "python" else ["sh", "-e", name]
        environ = {**os.environ, "TMPDIR": str(tmp_path)}
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
        mails, status = re.fullmatch(r"mails: (\d+), exit: (\d+)", block["note"]).groups()
        assert len(server.deliveries) == int(mails), done.stderr
        assert done.returncode == int(status), done.stderr
        assert "erroremail: no mail" not in done.stderr
        for got in server.deliveries:
            assert "DE00" not in got.text("plain") + got.text("html") + got.mail["Subject"]


def fitted(code, server):
    return code.replace("2525", str(server.port)).replace("python3", sys.executable)


def test_every_key_of_the_configuration_is_in_the_table():
    table = "\n".join(line for line in PAGE.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`([A-Z_]+)`", "\n".join(line.split("|")[1] for line in table.splitlines()))) == set(KEYS)


def test_the_picture_is_there_and_small():
    picture = FILE.parents[1] / "docs" / "images" / "erroremail.png"
    assert 1_000 < picture.stat().st_size < 200_000
