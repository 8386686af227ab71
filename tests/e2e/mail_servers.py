"""Real mail servers on loopback and free ports, and some that misbehave, for the tests of mail."""

import asyncio
import contextlib
import datetime
import email
import email.policy
import pathlib
import socket
import ssl
import threading

import trustme
from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

DEADLINE_S = 20.0


class Delivery:
    """What the server took: who to, and the octets."""

    def __init__(self, envelope, ssl_in_use):
        self.sender = envelope.mail_from
        self.recipients = list(envelope.rcpt_tos)
        self.data = envelope.original_content
        self.is_secure = ssl_in_use
        wide = envelope.smtp_utf8
        policy = email.policy.SMTPUTF8 if wide else email.policy.default
        self.mail = (
            email.message_from_string(self.data.decode(), policy=policy)
            if wide
            else email.message_from_bytes(self.data, policy=policy)
        )

    def text(self, kind="plain"):
        """Return a part's text with plain line ends."""
        return self.mail.get_body((kind,)).get_content().replace("\r\n", "\n")


class Handler:
    """Takes every mail, but answers what `answers` says for an address; `data_answers` are used up one by one."""

    def __init__(self):
        self.deliveries = []
        self.answers = {}
        self.data_answers = []

    async def handle_RCPT(self, server, session, envelope, address, options):
        answer = self.answers.get(address, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server, session, envelope):
        answer = self.data_answers.pop(0) if self.data_answers else "250 OK"
        if answer.startswith("250"):
            self.deliveries.append(Delivery(envelope, session.ssl is not None))
        return "\r\n".join([answer] * len(envelope.rcpt_tos)) if isinstance(server, LMTP) else answer


def check_login(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"jobs", b"hunter2")
    return AuthResult(success=good, handled=False)


class MailServer:
    """An aiosmtpd server in a thread of its own; `options` go to its `SMTP` class."""

    def __init__(self, *, kind=SMTP, tls=None, port=0, **options):
        self.handler = Handler()
        self.kind, self.tls, self.port, self.options = kind, tls, port, {"enable_SMTPUTF8": True, **options}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    @property
    def deliveries(self):
        return self.handler.deliveries

    async def _start(self):
        def protocol():
            return self.kind(self.handler, hostname="mx.example.org", loop=self.loop, **self.options)

        return await self.loop.create_server(protocol, "127.0.0.1", self.port, ssl=self.tls)

    async def _stop(self):
        self.server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __enter__(self):
        self.thread.start()
        self.server = asyncio.run_coroutine_threadsafe(self._start(), self.loop).result(DEADLINE_S)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self._stop(), self.loop).result(DEADLINE_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive()
        self.loop.close()


class LmtpServer(MailServer):
    """The same, speaking LMTP."""

    def __init__(self, **options):
        super().__init__(kind=LMTP, **options)


class ScriptedServer:
    """Accepts connections and lets `talk(connection)` do what it likes with each."""

    def __init__(self, talk):
        self.talk = talk
        self.done = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections = []
        self.thread = threading.Thread(target=self._accept, daemon=True)

    def _accept(self):
        while not self.done.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError), connection:
            self.talk(self, connection)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        for each in [self.listener, *self.connections]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive()


def hang(server, connection):
    """Say nothing at all."""
    server.done.wait(DEADLINE_S)


def drip(server, connection):
    """Send a greeting that never ends, a byte at a time, so that no timeout of a single call is ever reached."""
    connection.sendall(b"220-")
    while not server.done.wait(0.05):
        connection.sendall(b"x")


def die_after_data(server, connection):
    """Take the whole mail and hang up without an answer."""
    _talk_until_end_of_data(connection)


def take_and_die(server, connection):
    """Take the whole mail, say so, and hang up before QUIT."""
    _talk_until_end_of_data(connection)
    connection.sendall(b"250 OK\r\n")


def _talk_until_end_of_data(connection):
    connection.sendall(b"220 mx.example.org\r\n")
    with connection.makefile("rb") as lines:
        for line in lines:
            if line.upper().startswith(b"DATA"):
                break
            connection.sendall(b"250 OK\r\n")
        connection.sendall(b"354 go on\r\n")
        for line in lines:
            if line == b".\r\n":
                return


class Certificates:
    """An authority of the test's own, with contexts for servers."""

    def __init__(self, directory: pathlib.Path):
        self.authority = trustme.CA()
        self.ca_file = str(directory / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca_file)

    def context(self, name="localhost", not_after=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(name, "127.0.0.1", not_after=not_after).configure_cert(context)
        return context

    def expired_context(self):
        yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        long_ago = yesterday - datetime.timedelta(days=30)
        self.authority.issue_cert("localhost", not_before=long_ago, not_after=yesterday).configure_cert(context)
        return context


def free_port():
    """Return a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
