"""A spool whose worker sends mail: into a Maildir, to a server of the test's own, or to a webhook."""

from __future__ import annotations

import email
import email.policy
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support import Node, until


def maildir(node: Node) -> Path:
    """Return the directory that arriving mail is in."""
    return node.spool.parent / "Maildir" / "new"


def mails(node: Node) -> list:
    """Return what has arrived in the Maildir, in the order of events."""
    place = maildir(node)
    paths = sorted(place.iterdir()) if place.exists() else []
    return [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in paths]


def text_of(mail) -> str:
    """Return the plain part."""
    return mail.get_body(("plain",)).get_content().replace("\r\n", "\n")


def kinds(node: Node) -> list[str]:
    """Return the event of each mail."""
    return [mail["X-Spooldadd-Event"] for mail in mails(node)]


def wait_mails(node: Node, count: int) -> list:
    """Wait until so many mails are there; return them."""
    until(lambda: len(mails(node)) >= count, f"{count} mails are there, not {kinds(node)}\n{node.said()[-3000:]}")
    found = mails(node)
    assert len(found) == count, [mail["Subject"] for mail in found]
    return found


def configure(node: Node, transports: str | None = None, mail: str = "", notify: str = "") -> None:
    """Write the node's configuration; without transports there is a Maildir."""
    inbox = f'[transport.inbox]\nkind = "maildir"\ndirectory = "{maildir(node).parent}"\n'
    text = f'jobs = 4\n[mail]\nto = ["ops@example.org"]\n{mail}\n[notify]\n{notify}\n'
    text += inbox if transports is None else transports
    path = node.spool.parent / "worker.toml"
    path.write_text(text)
    node.environ["SPOOLDADD_CONFIG"] = str(path)


def smtp(port: int, *, timeout_s: float = 5.0) -> str:
    """Return the table of a transport to a server of the test's own."""
    return f'[transport.ops]\nkind = "smtp"\nserver = "127.0.0.1"\nport = {port}\ntimeout_s = {timeout_s}\n'


def letters(node: Node, place: str) -> list[Path]:
    """Return the letters in this place of the outbox."""
    return [path for path in (node.spool.parent / "mail" / place).glob("*") if not path.name.startswith(".")]


def make_due(node: Node) -> None:
    """Let every waiting letter be due now, as hours would."""
    node.run("mail", "flush", check=False)


class Hook:
    """A web server that keeps what is posted."""

    def __enter__(self):
        self.posted: list[dict] = []
        posted = self.posted

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self.server.server_port}/hook"

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(20)
