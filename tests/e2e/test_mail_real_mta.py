"""A real mail transfer agent, Exim from Debian: what it takes by SMTP and as sendmail arrives, and can be read back."""

import email
import email.policy
import gzip
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from spooldadd.erroremail import ErrorEmail, Server
from spooldadd.mail.letter import Fate
from spooldadd.mail.outbox import SENT, Outbox, Parcel
from spooldadd.mail.transport import Sendmail, Smtp
from tests.e2e.mail_servers import free_port
from tests.unit.test_mail_compose import FAILURE, HEAD, Composer, plain

EXIM = shutil.which("exim4") or "/usr/sbin/exim4"
USER = "Debian-exim"
DEADLINE_S = 30.0
CONFIGURATION = """
primary_hostname = mx.example.org
spool_directory = {root}/spool
log_file_path = {root}/log/%slog
pid_file_path = {root}/exim.pid
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
acl_smtp_rcpt = accept
tls_advertise_hosts =
smtputf8_advertise_hosts = *
keep_environment =
never_users =
begin routers
all:
  driver = accept
  transport = box
begin transports
box:
  driver = appendfile
  directory = {root}/box
  maildir_format
  create_directory
  user = Debian-exim
"""

if not os.path.exists(EXIM) or os.geteuid() != 0:
    pytest.skip("needs the capability to run Exim as root", allow_module_level=True)


class Exim:
    """Exim with a configuration of our own: it takes everything and delivers into one Maildir."""

    def __init__(self):
        self.root, self.port = Path(tempfile.mkdtemp(prefix="spooldadd-exim-")), free_port()
        self.configuration = self.root / "conf"

    def __enter__(self):
        user = pwd.getpwnam(USER)
        for name in ("spool", "log", "box"):
            (self.root / name).mkdir()
            os.chown(self.root / name, user.pw_uid, user.pw_gid)
        self.root.chmod(0o755)
        self.configuration.write_text(CONFIGURATION.format(root=self.root, port=self.port))
        command = [EXIM, "-C", str(self.configuration), "-bdf"]
        self.process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        self.wait(self.is_listening, "Exim listens")
        return self

    def is_listening(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def wait(self, condition, what):
        deadline = time.monotonic() + DEADLINE_S
        while not (value := condition()):
            assert time.monotonic() < deadline, what
            time.sleep(0.05)
        return value

    def mails(self, count):
        new = self.root / "box" / "new"
        self.wait(lambda: new.exists() and len(list(new.iterdir())) >= count, f"{count} mails")
        return [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in sorted(new.iterdir())]

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(DEADLINE_S)
        shutil.rmtree(self.root)


@pytest.fixture
def exim():
    with Exim() as running:
        yield running


@pytest.mark.parametrize("way", ["smtp", "sendmail"])
def test_what_erroremail_sends_arrives_and_can_be_read_back(exim, way, capsys):
    there = {
        "smtp": {"SERVER": "127.0.0.1", "PORT": exim.port},
        "sendmail": {"SENDMAIL": [EXIM, "-C", str(exim.configuration)]},
    }[way]
    recipients = ["Zoë <zoë@exämple.org>", "ops@example.org"]
    with pytest.raises(ValueError), ErrorEmail({**there, "TO": recipients, "FROM": "jobs@example.org"}):
        raise ValueError("naïve " + "ü" * 5000)
    assert capsys.readouterr().err == ""
    for mail in exim.mails(2):
        assert mail["Subject"].startswith("ErrorEmail: ValueError: naïve üü")
        assert "ü" * 5000 in mail.get_body(("plain",)).get_content().replace("\r\n", "\n")
        assert "naïve" in mail.get_body(("html",)).get_content()


@pytest.mark.parametrize("way", ["smtp", "sendmail"])
def test_a_failure_mail_from_the_outbox_arrives_with_its_attachment_intact(exim, way, tmp_path):
    transport = {
        "smtp": Smtp(Server("127.0.0.1", exim.port)),
        "sendmail": Sendmail((EXIM, "-C", str(exim.configuration))),
    }[way]
    outbox = Outbox(str(tmp_path / "outbox"))
    data = Composer().compose(FAILURE, HEAD, plain).as_bytes()
    outbox.put(Parcel("ops", "jobs@example.org", ("ops@example.org",), data))
    assert len(outbox.flush({"ops": transport}).sent) == 1
    (entry,) = outbox.entries(SENT)
    assert entry.answers["ops@example.org"].fate is Fate.SENT
    (mail,) = exim.mails(1)
    assert mail["Subject"] == "[etl-1] nightly failed: ValueError: bad day"
    assert all(part.defects == [] for part in mail.walk())
    (attachment,) = mail.iter_attachments()
    assert gzip.decompress(attachment.get_content()).decode() == FAILURE.log_tail
