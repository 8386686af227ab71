"""Signed specs, by the real ssh-keygen: what holds runs once, and every attack is filed with its reason."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path

import pytest

from spooldadd import signature, signing
from tests.support import result_of, temporary_node

pytestmark = [
    pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs the capability ssh-keygen"),
    pytest.mark.slow,
]
SPEC = 'command = ["true"]\n'
NOW = datetime.datetime.now(datetime.UTC)


class Desk:
    """A spool that takes signed specs only, and a signer."""

    def __init__(self, node):
        self.node = node
        self.root = node.spool.parent
        self.key = self.make_key("alice")
        self.allowed = self.root / "allowed_signers"
        public = (self.root / "alice.pub").read_text()
        self.allowed.write_text(f'alice@example.org namespaces="spooldadd-spec,mail" {public}')
        self.allowed.chmod(0o644)
        self.configure("required")

    def make_key(self, name):
        key = self.root / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)], check=True)
        return key

    def configure(self, demand):
        text = f'[trust]\nallowed_signers = "{self.allowed}"\nsigned = "{demand}"\n'
        (self.node.spool / ".spool" / "worker.toml").write_text(text)

    def sign(self, name, text=SPEC, *, key=None, **statement):
        """Return a signed spec; what the statement says may be untrue."""
        made = signing.new_statement(NOW, 3600)
        told = signature.Statement(**{**vars(made), **statement})
        return signing.sign(text.encode() if isinstance(text, str) else text, told, str(key or self.key))

    def outcome(self, name):
        return result_of(self.node.finished(name))


@pytest.fixture(scope="module")
def desk():
    with temporary_node() as node:
        yield Desk(node)


def attacks(desk):
    """Return what must not run: its bytes, and what the reason has to say."""
    good = desk.sign("x")
    at = datetime.timedelta
    later, past = NOW.replace(microsecond=0) + at(hours=1), NOW.replace(microsecond=0) - at(hours=2)
    at_byte = good.index(b"# -----END") - 20
    replaced = good[:at_byte] + (b"A" if good[at_byte : at_byte + 1] != b"A" else b"B") + good[at_byte + 1 :]
    told = signature.message(SPEC.encode(), signing.new_statement(NOW, 3600))
    mail = subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-n", "mail", "-f", str(desk.key)], input=told, capture_output=True, check=True
    )
    stranger, other = desk.make_key("stranger"), desk.make_key("other")
    old, authority = desk.make_key("old"), desk.make_key("authority")
    certify = ["ssh-keygen", "-q", "-s", str(authority), "-I", "x", "-n", "eve@example.org", f"{desk.make_key('eve')}.pub"]
    subprocess.run(certify, check=True)
    public = {name: Path(f"{key}.pub").read_text() for name, key in (("other", other), ("old", old))}
    with desk.allowed.open("a") as file:
        file.write(f'other@example.org namespaces="mail" {public["other"]}')
        file.write(f'old@example.org valid-before="20200101" {public["old"]}')
    return {
        "not-for-specs": (desk.sign("x", key=other), f"{desk.allowed}:2: key is not permitted"),
        "key-expired": (desk.sign("x", key=old), "or not for now (`valid-before`"),
        "own-authority": (desk.sign("x", key=desk.root / "eve-cert.pub"), "does not list"),
        "unsigned": (SPEC.encode(), "is not signed"),
        "before": (good.replace(b"true", b"date", 1), "does not hold"),
        "statement": (good.replace(b"# expires-at: 2", b"# expires-at: 3", 1), "does not hold"),
        "inside": (replaced, "does not hold"),
        "after": (good + b"# more\n", "goes on behind its signature"),
        "blank-after": (good + b"\n", "goes on behind its signature"),
        "cut": (good[:-1], "damaged"),
        "two-blocks": (good + good[good.index(b"# spooldadd-signature") :], "two signatures"),
        "crlf": (good.replace(b"\n", b"\r\n"), "line ends"),
        "other-namespace": (signature.closed(told, mail.stdout), "does not hold"),
        "expired": (desk.sign("x", signed_at=past, expires_at=past + at(hours=1)), "expired"),
        "to-come": (desk.sign("x", signed_at=later, expires_at=later + at(hours=1)), "still to come"),
        "elsewhere": (desk.sign("x", nodes=("web-9",)), "signed for web-9"),
        "stranger": (desk.sign("x", key=stranger), "does not list"),
    }


def test_every_attack_is_filed_with_its_reason(desk):
    tried = attacks(desk)
    for name, (data, _) in tried.items():
        desk.node.drop(f"{name}.toml", data)
    desk.node.drop("good.toml", desk.sign("good"))
    desk.node.drain()
    assert desk.outcome("good")["outcome"] == "success"
    for name, (_, said) in tried.items():
        result = desk.outcome(name)
        assert (result["state"], result["outcome"], result["queue"]) == ("failed", "invalid", "default"), (name, result)
        assert said in result["reason"], (name, result["reason"])
        assert "signed_by" not in result


def test_one_signature_starts_one_job_and_its_retry(desk):
    data = desk.sign("once", 'command = "exit 3"\n')
    desk.node.drop("once.toml", data)
    desk.node.drain()
    record = desk.node.finished("once")
    assert result_of(record)["signed_by"] == "alice@example.org"
    assert tomllib.loads((record / "claim.toml").read_text())["signed_by"] == "alice@example.org"
    assert "alice@example.org" in desk.node.run("explain", record.name).stdout
    desk.node.drop("again.toml", data)
    desk.node.run("retry", record.name)
    desk.node.drain()
    assert "was used already, by `once." in desk.outcome("again")["reason"]
    again = result_of(desk.node.finished("once"))
    assert (again["attempt"], again["outcome"]) == (2, "exit")


def test_commands_sign_and_verify(desk, tmp_path):
    spec = tmp_path / "by-command.toml"
    spec.write_text('command = ["cat", "data.txt"]\n\n[[files]]\nsource = "data.txt"\npath = "data.txt"\n')
    (tmp_path / "data.txt").write_text("signed data\n")
    script = tmp_path / "script.py"
    script.write_text('# /// script\n# dependencies = []\n# ///\nprint("from a script")\n')
    keys = ("--key", str(desk.key))
    assert "needs files beside it" in desk.node.run("sign", str(spec), *keys, check=False).stderr
    job = tmp_path / "bundle.tar"
    desk.node.run("sign", str(spec), *keys, "--output", str(job), "--expires", "1h")
    desk.node.run("sign", str(script), *keys)
    desk.node.run("sign", str(script), *keys)  # a second one takes the place of the first
    signers = ("--allowed-signers", str(desk.allowed))
    assert desk.node.run("verify", str(job), str(script), *signers).stdout.count("signed by alice@example.org") == 2
    desk.node.drop("bundle.tar", job.read_bytes())
    desk.node.drop("script.py", script.read_bytes())
    bad = repacked(job, tmp_path / "bad.tar")
    assert "other files" in desk.node.run("verify", str(bad), *signers, check=False).stderr
    signed = desk.sign("changed")
    bad_spec = tmp_path / "bad.toml"
    bad_spec.write_bytes(signed.replace(b"true", b"date"))
    assert desk.node.run("verify", str(bad_spec), *signers, check=False).returncode == 1
    # Signed anew, for the spec in it alone has been used; then one of its files is exchanged.
    desk.node.run("sign", str(job), *keys)
    desk.node.drop("exchanged.tar", repacked(job, tmp_path / "exchanged.tar").read_bytes())
    desk.node.run("submit", str(spec), "--name", "submitted", "--sign", *keys)
    desk.node.drain()
    for name in ("bundle", "submitted"):
        assert desk.outcome(name)["outcome"] == "success", desk.outcome(name)
        assert (desk.node.finished(name) / "output.log").read_text() == "signed data\n"
    assert desk.outcome("script")["outcome"] == "success", desk.outcome("script")
    assert "not those that were signed" in desk.outcome("exchanged")["reason"]


def test_a_certificate_of_an_authority_that_is_listed_holds_and_lines_in_a_text_cannot_be_signed(desk, tmp_path):
    authority, carol = desk.make_key("house"), desk.make_key("carol")
    with desk.allowed.open("a") as file:
        file.write(f'*@ca.example.org cert-authority,namespaces="spooldadd-spec" {Path(f"{authority}.pub").read_text()}')
    certify = ["ssh-keygen", "-q", "-s", str(authority), "-I", "carol", "-n", "carol@ca.example.org", f"{carol}.pub"]
    subprocess.run(certify, check=True)
    desk.node.drop("certified.toml", desk.sign("certified", key=desk.root / "carol-cert.pub"))
    desk.node.drain()
    assert (desk.outcome("certified")["outcome"], desk.outcome("certified")["signed_by"]) == (
        "success",
        "carol@ca.example.org",
    )
    looks_so = tmp_path / "looks-so.toml"
    looks_so.write_text('command = ["cat"]\nstdin = """\n# spooldadd-signature: 1\n"""\n')
    refused = desk.node.run("sign", str(looks_so), "--key", str(desk.key), check=False)
    assert refused.returncode == 1
    assert f"`{looks_so}` cannot be signed" in refused.stderr
    assert "remove the lines that look like one" in refused.stderr


def repacked(bundle: Path, target: Path) -> Path:
    """Write the bundle once more, with other data in one file."""
    with tarfile.open(bundle) as source, tarfile.open(target, "w") as made:
        for member in source:
            if member.name == "data.txt":
                other = target.parent / "other.txt"
                other.write_text("other  data\n")
                made.add(other, "data.txt")
            else:
                made.addfile(member, source.extractfile(member))
    return target


def test_a_signed_spec_takes_no_file_that_was_not_signed(desk):
    text = 'command = ["cat", "loose.txt"]\n\n[[files]]\nsource = "loose.txt"\npath = "loose.txt"\n'
    (desk.node.spool / "loose.txt").write_text("anybody wrote this\n")
    desk.node.drop("loose.toml", desk.sign("loose", text))
    desk.node.drain()
    assert desk.outcome("loose")["outcome"] == "build"


def test_a_list_of_signers_that_others_can_change_is_refused(desk):
    node, kept = desk.node, desk.allowed
    link, loose = desk.root / "link", desk.root / "loose"
    link.symlink_to(kept)
    shutil.copy(kept, loose)
    loose.chmod(0o666)
    open_to_all = desk.root / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    shutil.copy(kept, open_to_all / "allowed")
    cases = {link: "symbolic link", loose: "changed by everybody", open_to_all / "allowed": "its directory"}
    cases[desk.root / "missing"] = "No such file"
    for path, said in cases.items():
        desk.allowed = path
        desk.configure("required")
        done = node.run("worker", str(node.spool), "--drain", check=False)
        assert done.returncode == 78, (path, done.stderr)
        assert said in done.stderr, done.stderr
    desk.allowed = kept
    desk.configure("if-present")
    node.drop("plain.toml", SPEC)
    node.drop("altered.toml", desk.sign("altered").replace(b"true", b"date"))
    node.drain()
    assert desk.outcome("plain")["outcome"] == "success"
    assert "does not hold" in desk.outcome("altered")["reason"]
    desk.configure("required")


def test_without_ssh_keygen_there_is_a_clear_word(desk):
    (desk.root / "spec.toml").write_text(SPEC)
    empty = desk.root / "empty"
    empty.mkdir()
    environ = {**desk.node.environ, "PATH": str(empty)}
    done = desk.node.run("sign", str(desk.root / "spec.toml"), "--key", str(desk.key), check=False, env=environ)
    assert (done.returncode, "`ssh-keygen` is not installed" in done.stderr) == (1, True), done.stderr
    done = desk.node.run("worker", str(desk.node.spool), "--drain", check=False, env=environ)
    assert (done.returncode, "`ssh-keygen` is not installed" in done.stderr) == (78, True), done.stderr
    assert os.path.exists(desk.root / "spec.toml")
