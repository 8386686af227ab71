"""A web server of the tests' own, on loopback: ranges, validators, cuts, delays by header, logins, changing bodies."""

import base64
import email.utils
import hashlib
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Page:
    """What one path answers."""

    body: bytes = b""
    etag: str = ""
    modified_s: float = 0.0
    headers: dict = field(default_factory=dict)
    cuts: list = field(default_factory=list)  # for each request to come: close after so many bytes of the body
    statuses: list = field(default_factory=list)  # for each request to come: (status, headers) instead of the page
    login: str = ""  # user:password
    needs: dict = field(default_factory=dict)  # headers that a request must have
    zeros: int = 0  # a body of so many zero bytes, instead of `body`
    takes_ranges: bool = True
    make: object = None  # called for each request, returns (body, headers)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        """Only how long it is, and no word of ranges: uv then reads a wheel as a whole."""
        page = self.server.pages.get(self.path)
        if page is None or (page.login and self.headers.get("Authorization") != basic(page.login)):
            return self.head(404 if page is None else 401, {"Content-Length": "0"})
        return self.head(200, {**page.headers, "Content-Length": str(len(page.body))})

    def do_GET(self):
        server = self.server
        with server.lock:
            server.seen.append((self.path, dict(self.headers.items())))
        page = server.pages.get(self.path)
        if page is None:
            return self.answer(404, b"no such page\n")
        if page.statuses:
            status, headers = page.statuses.pop(0)
            return self.answer(status, b"try again\n", headers)
        if page.login and self.headers.get("Authorization") != basic(page.login):
            return self.answer(401, b"who are you?\n", {"WWW-Authenticate": 'Basic realm="test"'})
        if any(self.headers.get(name) != value for name, value in page.needs.items()):
            return self.answer(403, b"no\n")
        return self.answer_page(page)

    def answer_page(self, page):
        body, headers = (page.body, {}) if page.make is None else page.make(self)
        headers = {**page.headers, **headers}
        if page.etag:
            headers["ETag"] = page.etag
        if page.modified_s:
            headers["Last-Modified"] = email.utils.formatdate(page.modified_s, usegmt=True)
        if self.is_unchanged(page):
            return self.answer(304, None, headers)
        total = page.zeros or len(body)
        first = self.first_byte(page, headers, total)
        if first >= total > 0:
            return self.answer(416, b"", {"Content-Range": f"bytes */{total}"})
        if first:
            headers["Content-Range"] = f"bytes {first}-{total - 1}/{total}"
        self.head(206 if first else 200, {**headers, "Content-Length": str(total - first)})
        cut = page.cuts.pop(0) if page.cuts else None
        return self.send_body(body, first, total, cut)

    def is_unchanged(self, page):
        if page.etag and page.etag == self.headers.get("If-None-Match"):
            return True
        since = self.headers.get("If-Modified-Since")
        return bool(not page.etag and page.modified_s and since == email.utils.formatdate(page.modified_s, usegmt=True))

    def first_byte(self, page, headers, total):
        asked = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if not asked or not page.takes_ranges or (condition and condition not in headers.values()):
            return 0
        return int(asked.removeprefix("bytes=").partition("-")[0])

    def send_body(self, body, first, total, cut):
        left = total - first if cut is None else min(cut, total - first)
        zeros = bytes(1 << 20)
        while left > 0:
            piece = zeros[:left] if not body else body[first : first + min(left, 1 << 16)]
            self.wfile.write(piece)
            first, left = first + len(piece), left - len(piece)
        if cut is not None:
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(2)

    def answer(self, status, body, headers=None):
        self.head(status, {**(headers or {}), **({} if body is None else {"Content-Length": str(len(body))})})
        if body:
            self.wfile.write(body)

    def head(self, status, headers):
        self.send_response_only(status)
        headers = {"Date": self.date_time_string(), **headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


class Web(ThreadingHTTPServer):
    """Pages by path; what was asked is kept."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages, self.seen, self.lock = {}, [], threading.Lock()
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def handle_error(self, request, client_address):
        pass  # clients are killed on purpose

    def put(self, path, body=b"", **options):
        self.pages[path] = Page(body=body, **options)
        return self.url(path)

    def url(self, path, host="127.0.0.1"):
        return f"http://{host}:{self.server_port}{path}"

    def count(self, path):
        return sum(seen == path for seen, _ in self.seen)

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
        self.thread.join()


def basic(login):
    return "Basic " + base64.b64encode(login.encode()).decode()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def eventually(condition, timeout_s=20.0):
    """Wait until the condition holds; return what it gave."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not hold in time"
        time.sleep(0.01)
    return value
