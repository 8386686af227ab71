"""Put a fetcher together: the store, what is known about URLs, and every way to fetch that this node has."""

from __future__ import annotations

import os

from spooldadd.environment.blobs import Blobs
from spooldadd.environment.download import HttpTransport
from spooldadd.environment.fetch import Fetcher, Transport
from spooldadd.environment.records import open_records
from spooldadd.environment.report import Report
from spooldadd.environment.transfers import FileTransport, RsyncTransport, SftpTransport


def open_fetcher(cache_dir: str, work_dir: str, report: Report, redis_url: str = "") -> Fetcher:
    """Return a fetcher over a node's cache; `close` it. `work_dir` takes what a broken cache cannot."""
    http = HttpTransport(open_records(os.path.join(cache_dir, "urls"), redis_url, report), report)
    transports: dict[str, Transport] = {
        "http": http,
        "https": http,
        "file": FileTransport(report),
        "rsync": RsyncTransport(report),
        "sftp": SftpTransport(report),
    }
    return Fetcher(Blobs(cache_dir), transports, report, work_dir)
