"""A planted password is in no mail, no log of the worker, no status and no result, however it came to the job."""

from __future__ import annotations

import gzip

import pytest

from tests.e2e.mail_node import Hook, configure, maildir, mails, wait_mails
from tests.support import until

PLANTED = {
    "worker": "Wk-planted-8121-x",
    "config": "Cf-planted-8122-x",
    "env": "En-planted-8123-x",
    "secret": "Se-planted-8124-x",
    "url": "Ur-planted-8125-x",
    "local": "Lo-planted-8126-x",
}
SCRIPT = f"""
import json, os, sys
print("the worker's:", os.environ["DB_PASSWORD"], json.load(open(os.environ["APP_SETTINGS_JSON"])))
print("mine", os.environ["API_TOKEN"], "and", open(sys.argv[1]).read())
print("postgres://etl:{PLANTED["url"]}@db.example.org/dwh")
def load(password):
    print("password = %r" % password)
    raise RuntimeError("login failed for password=" + password + " " + os.environ["DB_PASSWORD"])
load(open(sys.argv[2]).read())
"""


@pytest.mark.slow
def test_planted_secrets_are_nowhere_but_in_the_job(make_node):
    node = make_node(durability="process", environ={"DB_PASSWORD": PLANTED["worker"]})
    root = node.spool.parent
    secrets = root / "secrets"
    secrets.mkdir(mode=0o700)
    (root / "local").write_text(PLANTED["local"])
    (secrets / "smtp").write_text(PLANTED["secret"] + "\n")
    node.environ["SPOOLDADD_SECRETS_DIR"] = str(secrets)
    script = root / "load.py"
    script.write_text(SCRIPT)
    with Hook() as hook:
        inbox = f'[transport.inbox]\nkind = "maildir"\ndirectory = "{maildir(node).parent}"\n'
        configure(node, inbox + f'[transport.hook]\nkind = "webhook"\nurl = "{hook.url}"\n')
        node.start()
        spec = (
            f'command = ["python3", "{script}", "{secrets}/smtp", "{root}/local"]\n[env]\nAPI_TOKEN = "{PLANTED["env"]}"\n'
        )
        node.drop("bad.toml", spec + f'[config]\ndb = {{ password = "{PLANTED["config"]}" }}\n')
        record = node.wait_finished("bad")
        wait_mails(node, 1)
        until(lambda: hook.posted, "it was posted")
    log = (record / "output.log").read_text()
    assert all(value in log for value in PLANTED.values()), "the job itself sees them, or this test shows nothing"

    shown = {"mail": next(maildir(node).iterdir()).read_text(), "webhook": str(hook.posted), "worker log": node.said()}
    (packed,) = list(mails(node)[0].iter_attachments())
    shown["attachment"] = gzip.decompress(packed.get_content()).decode()
    shown["text"] = "".join(part.get_content() for part in mails(node)[0].walk() if part.get_content_maintype() == "text")
    shown["result"] = (record / "result.toml").read_text()
    for command in ("status", "status bad", "status bad --json", "failures", "mail list", "config"):
        shown[command] = node.run(*command.split()).stdout
    for path in (root / "mail").rglob("*"):
        shown[str(path)] = path.read_text(errors="replace") if path.is_file() else ""
    for where, text in shown.items():
        assert not [name for name, value in PLANTED.items() if value in text], where
    assert "login failed" in shown["text"] and "[hidden]" in shown["text"]
