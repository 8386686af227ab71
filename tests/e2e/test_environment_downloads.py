"""Downloads from real servers on loopback: fetched once, continued, revalidated, and never mixed."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spooldadd.environment.blobs import Blobs
from spooldadd.environment.download import HttpTransport, Patience
from spooldadd.environment.fetch import Fetcher, Request
from spooldadd.environment.httpcache import BlobCache
from spooldadd.environment.records import DiskRecords, RedisRecords, SharedRecords
from spooldadd.environment.report import Report
from spooldadd.errors import BuildError
from tests.e2e.environment_web import Web, basic, eventually, sha256

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def web():
    with Web() as server:
        yield server


@pytest.fixture(autouse=True)
def no_netrc(tmp_path, monkeypatch):
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


class Bench:
    """A store, a log and a clock that notes how long was waited instead of waiting."""

    def __init__(self, root):
        self.root, self.lines, self.waits = root, [], []
        self.report = Report(self.lines.append)
        self.store = Blobs(str(root / "cache"))
        self.records = DiskRecords(str(root / "cache/urls"))
        self.work = root / "work"
        self.work.mkdir()
        self.patience = Patience(sleep=self.waits.append)

    def fetch(self, url, records=None, **options):
        transport = HttpTransport(records or self.records, self.report, self.patience)
        with Fetcher(self.store, {"http": transport}, self.report, str(self.work)) as fetcher:
            fetched = fetcher.fetch(Request(url, **options))
            return Path(fetched.blob.path).read_bytes(), fetched.how

    def blobs(self):
        return [blob.sha256 for blob in self.store.entries()]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_a_pinned_file_is_fetched_once_ever(web, bench):
    url = web.put("/f", b"data", headers={"Cache-Control": "no-store"})
    assert bench.fetch(url, sha256=sha256(b"data")) == (b"data", "fetched")
    assert bench.fetch(url, sha256=sha256(b"data")) == (b"data", "pinned")
    assert bench.fetch("http://nowhere.example.org/other", sha256=sha256(b"data")) == (b"data", "pinned")
    assert web.count("/f") == 1


def test_a_wrong_sha256_is_a_build_error_with_both_sums_and_nothing_is_stored(web, bench):
    url = web.put("/f", b"data", etag='"1"')
    with pytest.raises(BuildError, match=sha256(b"data")) as error:
        bench.fetch(url, sha256=sha256(b"other"))
    assert sha256(b"other") in str(error.value)
    assert bench.blobs() == []
    assert os.listdir(bench.root / "cache/parts") == []


def test_a_fresh_answer_is_not_asked_for_again(web, bench):
    url = web.put("/f", b"data", headers={"Cache-Control": "Max-Age=1000"})
    assert [bench.fetch(url)[1] for _ in range(2)] == ["fetched", "fresh"]
    assert web.count("/f") == 1


@pytest.mark.parametrize("validator", [{"etag": '"v1"'}, {"modified_s": 1_700_000_000.0}])
def test_a_stale_answer_is_revalidated_by_etag_or_last_modified(web, bench, validator):
    url = web.put("/f", b"one", **validator)
    assert [bench.fetch(url) for _ in range(3)] == [(b"one", "fetched"), (b"one", "revalidated"), (b"one", "revalidated")]
    web.put("/f", b"two", etag='"v2"', modified_s=1_700_000_100.0)
    assert bench.fetch(url) == (b"two", "fetched")


def test_no_cache_asks_even_where_max_age_says_fresh(web, bench):
    url = web.put("/f", b"one", etag='"1"', headers={"Cache-Control": "max-age=1000, No-Cache"})
    assert [bench.fetch(url)[1] for _ in range(2)] == ["fetched", "revalidated"]
    assert web.count("/f") == 2


def test_no_store_leaves_no_record(web, bench):
    url = web.put("/f", b"one", etag='"1"', headers={"Cache-Control": "no-store, max-age=1000"})
    assert [bench.fetch(url)[1] for _ in range(2)] == ["fetched", "fetched"]
    assert list(bench.records.keys()) == []


def test_a_304_brings_new_headers_for_the_same_body(web, bench):
    url = web.put("/f", b"one", etag='"1"')
    bench.fetch(url)
    web.pages["/f"].headers["Cache-Control"] = "max-age=1000"
    assert [bench.fetch(url)[1] for _ in range(2)] == ["revalidated", "fresh"]


@pytest.mark.parametrize("damage", ["lost", "truncated", "emptied"])
def test_a_lost_or_truncated_blob_heals(web, bench, damage):
    url = web.put("/f", b"whole", etag='"1"', headers={"Cache-Control": "max-age=1000"})
    bench.fetch(url)
    (blob,) = bench.store.entries()
    os.chmod(blob.path, 0o644)
    if damage == "lost":
        os.unlink(blob.path)
    else:
        os.truncate(blob.path, 3 if damage == "truncated" else 0)
    assert bench.fetch(url) == (b"whole", "fetched")
    assert bench.fetch(url, sha256=sha256(b"whole")) == (b"whole", "pinned")


def test_verify_finds_damage_that_keeps_the_size_and_the_next_fetch_heals_it(web, bench):
    url = web.put("/f", b"whole", etag='"1"')
    bench.fetch(url)
    (blob,) = bench.store.entries()
    os.chmod(blob.path, 0o644)
    Path(blob.path).write_bytes(b"wh0le")
    ((found, problem),) = bench.store.verify()
    assert found.sha256 == blob.sha256
    assert sha256(b"wh0le") in problem
    assert bench.fetch(url) == (b"whole", "fetched")


def test_a_cut_connection_resumes_where_it_was_cut(web, bench):
    body = os.urandom(300_000)
    url = web.put("/f", body, etag='"1"', cuts=[100_000, 50_000])
    assert bench.fetch(url) == (body, "resumed")
    ranges = [headers.get("Range") for _, headers in web.seen]
    assert ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert web.seen[1][1]["If-Range"] == '"1"'


def test_a_download_that_keeps_being_cut_ends_as_long_as_it_gets_further(web, bench):
    body = os.urandom(100_000)
    url = web.put("/f", body, etag='"1"', cuts=[5_000] * 19)
    assert bench.fetch(url)[0] == body


def test_a_server_without_ranges_that_cuts_at_the_same_place_is_given_up(web, bench):
    url = web.put("/f", b"x" * 1000, cuts=[500] * 100, takes_ranges=False)
    with pytest.raises(BuildError, match=r"given up after 6 attempts"):
        bench.fetch(url)
    assert bench.blobs() == []


def test_what_changed_between_cut_and_resume_is_fetched_whole(web, bench):
    url = web.put("/f", b"a" * 100_000, etag='"a"', cuts=[60_000])
    web.pages["/f"].make = lambda handler: change(web, handler)

    def change(web, handler):
        if handler.headers.get("Range"):
            web.pages["/f"].etag = '"b"'
            return b"b" * 100_000, {}
        return b"a" * 100_000, {}

    assert bench.fetch(url) == (b"b" * 100_000, "fetched")


def test_a_killed_download_is_continued_by_the_next(web, bench):
    body = os.urandom(400_000)
    url = web.put("/f", body, etag='"1"', cuts=[100_000] * 3)
    bench.patience = Patience(tries=1)
    with pytest.raises(BuildError, match="cut after"):
        bench.fetch(url)
    web.pages["/f"].cuts.clear()
    assert bench.fetch(url) == (body, "resumed")


def test_a_wrong_end_of_a_pinned_download_is_noticed_and_fetched_anew(web, bench):
    good = os.urandom(100_000)
    url = web.put("/f", good, cuts=[60_000])  # no validator: only the sum can tell
    web.pages["/f"].make = lambda handler: (good if not handler.headers.get("Range") else b"?" * 100_000, {})
    assert bench.fetch(url, sha256=sha256(good)) == (good, "fetched")


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_error_is_tried_again_after_as_long_as_the_server_asks(web, bench, status):
    url = web.put("/f", b"data", statuses=[(status, {"Retry-After": "7"}), (status, {})])
    assert bench.fetch(url)[0] == b"data"
    assert bench.waits[0] == 7.0
    assert 0.5 < bench.waits[1] < 1.5


def test_retry_after_as_a_date_is_compared_with_the_servers_own_clock(web, bench):
    headers = {"Retry-After": "Sun, 06 Nov 1994 08:49:47 GMT", "Date": "Sun, 06 Nov 1994 08:49:37 GMT"}
    url = web.put("/f", b"data", statuses=[(503, headers)])
    bench.fetch(url)
    assert bench.waits == [10.0]


def test_a_server_that_asks_for_an_hour_is_not_waited_for(web, bench):
    url = web.put("/f", b"data", statuses=[(503, {"Retry-After": "3600"})])
    with pytest.raises(BuildError, match="asks to wait 3600 s"):
        bench.fetch(url)
    assert bench.waits == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_an_answer_that_will_not_change_is_not_tried_again(web, bench, status):
    url = web.put("/f", statuses=[(status, {})] * 3)
    with pytest.raises(BuildError, match=str(status)):
        bench.fetch(url)
    assert web.count("/f") == 1


def test_a_server_that_is_not_there_is_given_up_with_its_name(bench):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/f"
        with pytest.raises(BuildError, match=r"given up after 6 attempts"):
            bench.fetch(url)
    assert len(bench.waits) == 5


def test_netrc_is_used_and_its_password_is_in_no_log(web, bench, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ann password s3cret\n")
    url = web.put("/f", b"data", login="ann:s3cret")
    assert bench.fetch(url)[0] == b"data"
    assert "s3cret" not in "".join(bench.lines)


def test_an_authorization_of_the_spec_wins_over_netrc(web, bench, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ann password s3cret\n")
    url = web.put("/f", b"data", login="ben:other")
    assert bench.fetch(url, headers={"Authorization": basic("ben:other")})[0] == b"data"


def test_headers_of_the_spec_are_not_sent_to_another_host(web, bench):
    with Web() as other:
        target = other.put("/g", b"data")
        url = web.put("/f", statuses=[(302, {"Location": target})])
        assert bench.fetch(url, headers={"X-Key": "k3y", "Authorization": "Bearer t0ken"})[0] == b"data"
        (first,), (second,) = [headers for _, headers in web.seen], [headers for _, headers in other.seen]
    assert (first["X-Key"], first["Authorization"]) == ("k3y", "Bearer t0ken")
    assert not {"X-Key", "Authorization"} & set(second)
    assert not [line for line in bench.lines if "k3y" in line or "t0ken" in line]


def test_headers_of_the_spec_follow_a_redirect_on_the_same_host(web, bench):
    web.put("/g", b"data", needs={"X-Key": "k3y"})
    url = web.put("/f", statuses=[(302, {"Location": "/g"})])
    assert bench.fetch(url, headers={"X-Key": "k3y"})[0] == b"data"


def test_a_redirect_is_asked_for_each_time_even_if_its_target_is_fresh(web, bench):
    fresh = {"Cache-Control": "max-age=1000"}
    web.put("/v1", b"one", headers=fresh)
    web.put("/v2", b"two", headers=fresh)
    url = web.put("/latest", statuses=[(302, {"Location": "/v1"}), (302, {"Location": "/v2"})])
    assert [bench.fetch(url)[0] for _ in range(2)] == [b"one", b"two"]


def test_a_redirect_to_a_file_is_refused(web, bench):
    url = web.put("/f", statuses=[(302, {"Location": "file:///etc/passwd"})])
    with pytest.raises(BuildError, match="refused"):
        bench.fetch(url)


def test_redirects_in_circles_end(web, bench):
    url = web.put("/f", statuses=[(302, {"Location": "/f"})] * 50)
    with pytest.raises(BuildError, match="redirects"):
        bench.fetch(url)


def test_a_private_answer_is_not_served_to_another_credential_nor_to_none(web, bench):
    def personal(handler):
        return handler.headers.get("Authorization", "nobody").encode(), {"Cache-Control": "max-age=1000"}

    url = web.put("/f", make=personal)
    asked = [{}, {"Authorization": "Bearer a"}, {"Authorization": "Bearer b"}, {"Authorization": "Bearer a"}]
    bodies = [bench.fetch(url, headers=headers) for headers in asked]
    assert bodies == [(b"nobody", "fetched"), (b"Bearer a", "fetched"), (b"Bearer b", "fetched"), (b"Bearer a", "fresh")]


def test_no_credential_is_written_into_the_cache(web, bench):
    url = web.put("/f", b"data", etag='"1"', headers={"Vary": "Authorization, X-Key", "Set-Cookie": "id=c00kie"})
    bench.fetch(url, headers={"Authorization": "Bearer t0ken", "X-Key": "k3y"})
    kept = b"".join(path.read_bytes() for path in (bench.root / "cache").rglob("*") if path.is_file())
    assert not [word for word in (b"t0ken", b"k3y", b"c00kie") if word in kept]
    assert bench.fetch(url, headers={"Authorization": "Bearer t0ken", "X-Key": "k3y"})[1] == "revalidated"


@pytest.mark.parametrize("problem", ["a file in its place", "a full disk"])
def test_an_unwritable_cache_never_fails_a_download(web, bench, problem, monkeypatch):
    if problem == "a file in its place":
        (bench.root / "cache").write_text("")
    else:
        bench.store = Blobs("/dev/full/cache")
    url = web.put("/f", b"data", etag='"1"')
    assert bench.fetch(url) == (b"data", "fetched")
    assert bench.fetch(url, sha256=sha256(b"data"))[0] == b"data"
    assert "cannot be written" in "".join(bench.lines)
    assert os.listdir(bench.work) == []


def test_a_full_cache_disk_never_fails_a_download(web, bench):
    if os.geteuid() != 0:
        pytest.skip("needs the capability to mount a small file system")
    small = bench.root / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("needs the capability to mount a tmpfs")
    try:
        bench.store = Blobs(str(small / "cache"))
        body = os.urandom(3_000_000)
        assert bench.fetch(web.put("/f", body)) == (body, "fetched")
        assert "No space left" in "".join(bench.lines)
    finally:
        subprocess.run(["umount", str(small)], check=True)


FETCH = """
import sys
from spooldadd.environment.fetch import Request
from spooldadd.environment.fetching import open_fetcher
from spooldadd.environment.report import Report
cache, work, url, count = sys.argv[1:]
for _ in range(int(count)):
    with open_fetcher(cache, work, Report(lambda line: None)) as fetcher:
        fetched = fetcher.fetch(Request(url))
        with open(fetched.blob.path, "rb") as file:
            head = file.read(40).hex()
        print(fetched.how, fetched.blob.sha256, fetched.blob.size_bytes, head, flush=True)
with open("/proc/self/status") as status:
    print(*(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def fetch_elsewhere(bench, url, count=1):
    command = [sys.executable, "-c", FETCH, str(bench.root / "cache"), str(bench.work), url, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT)


def test_three_processes_on_a_changing_url_never_see_a_mixed_header_and_body(web, bench):
    made = iter(range(10_000))

    def changing(handler):
        body = f"{next(made):06}".encode() * 5_000
        return body, {"ETag": f'"{sha256(body)}"', "X-Body": sha256(body), "Cache-Control": "max-age=0"}

    url = web.put("/f", make=changing)
    workers = [fetch_elsewhere(bench, url, 30) for _ in range(3)]
    seen = []
    reader = BlobCache(bench.store, bench.records)
    while any(worker.poll() is None for worker in workers):
        metadata = reader.get(url)
        body = reader.get_body(url)
        if metadata and body:
            with body:
                seen.append(sha256(body.read()).encode() in metadata)
    outputs = [worker.communicate(timeout=60)[0].split() for worker in workers]
    assert all(len(output) == 30 * 4 + 1 for output in outputs)
    assert len(seen) > 10
    assert all(seen)


def test_several_processes_that_want_a_fresh_url_at_once_cause_one_download(web, bench):
    url = web.put("/f", os.urandom(2_000_000), headers={"Cache-Control": "max-age=1000"})
    workers = [fetch_elsewhere(bench, url) for _ in range(4)]
    hows = sorted(worker.communicate(timeout=60)[0].split()[0] for worker in workers)
    assert hows == ["fetched", "fresh", "fresh", "fresh"]
    assert web.count("/f") == 1


@pytest.mark.slow
def test_2300_megabytes_stay_under_60_megabytes_of_memory(web, bench):
    size = 2_300_000_000
    url = web.put("/big", zeros=size, etag='"big"', cuts=[size // 2])
    worker = fetch_elsewhere(bench, url)
    # Of its own address space: what `wait4` says begins with the memory of the process that forked it, which is ours.
    how, _, got, _, peak_kb = worker.communicate(timeout=500)[0].split()
    shutil.rmtree(bench.root / "cache")
    print(f"peak memory {int(peak_kb) / 1024:.1f} MB")
    assert (how, int(got)) == ("resumed", size)
    assert int(peak_kb) < 60 * 1024


def test_progress_is_told_now_and_then(web, bench):
    ticks = iter(range(0, 100_000, 3))
    bench.report = Report(bench.lines.append, clock=lambda: float(next(ticks)))
    bench.fetch(web.put("/f", os.urandom(5_000_000), headers={"Cache-Control": "max-age=9"}))
    assert [line for line in bench.lines if "of 5.0 MB" in line and "MB/s" in line]


def test_a_query_is_in_no_log(web, bench):
    bench.fetch(web.put("/f?signature=s3cret", b"data"))
    assert "s3cret" not in "".join(bench.lines)


@pytest.fixture
def redis_server(tmp_path):
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("needs the capability to run redis-server, which is not installed")
    path = f"{tmp_path}/redis.sock" if len(str(tmp_path)) < 80 else f"/tmp/spooldadd-redis-{os.getpid()}.sock"
    command = [program, "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    eventually(lambda: os.path.exists(path))
    yield process, f"unix://{path}"
    process.terminate()
    process.wait(10)


def node(bench, name, url):
    return SharedRecords(DiskRecords(str(bench.root / name)), RedisRecords(url, bench.report))


def test_a_node_uses_what_another_one_learned_through_redis(web, bench, redis_server):
    url = web.put("/f", b"data", headers={"Cache-Control": "max-age=1000"})
    assert bench.fetch(url, node(bench, "one", redis_server[1]))[1] == "fetched"
    assert bench.fetch(url, node(bench, "two", redis_server[1]))[1] == "fresh"
    assert web.count("/f") == 1


def test_connections_to_redis_are_closed(web, bench, redis_server):
    import redis

    bench.fetch(web.put("/f", b"data", etag='"1"'), node(bench, "one", redis_server[1]))
    with redis.Redis.from_url(redis_server[1]) as client:
        eventually(lambda: len(client.client_list()) == 1)


def test_redis_going_down_fails_no_download_and_is_said_once(web, bench, redis_server):
    process, address = redis_server
    records = node(bench, "one", address)
    url = web.put("/f", b"data", etag='"1"')
    bench.fetch(url, records)
    process.kill()
    process.wait(10)
    assert bench.fetch(url, records) == (b"data", "revalidated")
    assert len([line for line in bench.lines if "shared index" in line]) == 1


def test_a_redis_that_was_never_there_fails_no_download(web, bench):
    records = node(bench, "one", "redis://127.0.0.1:1/0")
    assert bench.fetch(web.put("/f", b"data"), records)[0] == b"data"


def test_the_cache_serves_any_session_of_cachecontrol_and_close_publishes_what_waits(web, bench):
    import requests
    from cachecontrol import CacheControl

    url = web.put("/f", b"data" * 1000, etag='"1"')
    cache = BlobCache(bench.store, bench.records)
    with CacheControl(requests.Session(), cache=cache) as session:
        assert [session.get(url).content for _ in range(2)] == [b"data" * 1000] * 2
    cache.close()
    found = BlobCache(bench.store, bench.records).find(url)
    assert found is not None
    assert found[1].size_bytes == 4000
    assert [headers.get("If-None-Match") for _, headers in web.seen] == [None, '"1"']


def test_new_headers_are_never_joined_to_a_body_that_was_stored_meanwhile(web, bench):
    # Two processes share a URL without our lock: one revalidates an old body while the other stores a new one.
    slow, quick = (BlobCache(bench.store, bench.records) for _ in range(2))
    slow.set("u", b"headers of old")
    slow.set_body("u", b"old")
    slow.get("u")
    quick.set("u", b"headers of new")
    quick.set_body("u", b"new")
    slow.set("u", b"later headers of old")
    slow.close()
    assert quick.get("u") == b"later headers of old"
    with quick.get_body("u") as body:
        assert body.read() == b"old"


def test_an_old_blob_is_pruned_and_one_in_recent_use_is_not(web, bench):
    for name in ("a", "b"):
        bench.fetch(web.put(f"/{name}", name.encode() * 1000))
    old = bench.store.find(sha256(b"a" * 1000))
    os.utime(old.path, (time.time() - 90_000,) * 2)
    pruned = bench.store.prune(max_bytes=0, max_age_s=0.0)
    assert (pruned.removed, pruned.freed_bytes) == (1, 1000)
    assert bench.blobs() == [sha256(b"b" * 1000)]
