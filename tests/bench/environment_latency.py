"""How much later does a job with a ready Python environment start than the same job without one?

    .venv/bin/python -m tests.bench.environment_latency [JOBS]

One worker, one spool; jobs of both kinds are dropped in turn, each when the one before is filed. From the rename into the
spool to the first instruction of the command, which notes the clock. Prints the medians and quartiles side by side, in
milliseconds. Measures only: it passes or fails on nothing.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from spooldadd.tomltext import dumps
from tests.e2e.environment_index import Index
from tests.e2e.environment_web import Web
from tests.support import Node

# As large as an environment with a web framework is: what a job pays must not grow with it.
FILES = 2000
# `date` is on every machine and starts in a millisecond; both kinds of jobs run the same one.
COMMAND = ["/bin/date", "+%s%N"]


def main(jobs):
    with Web() as web, tempfile.TemporaryDirectory(prefix="spooldadd-bench-") as root:
        index = Index(web)
        extra = {f"alpha_data/part{number}.py": f"NUMBER = {number}\n" for number in range(FILES)}
        index.add("alpha", "1.0", extra=extra)
        place = Path(root) / "node"
        place.mkdir()
        node = Node(place, environ={"SPOOLDADD_CACHE_DIR": f"{root}/cache"})
        try:
            measure(node, index, jobs)
        finally:
            node.close()
            for place, _, _ in os.walk(root):
                Path(place).chmod(0o700)


def measure(node, index, jobs):
    table = {"requirements": ["alpha"], "index_url": index.url}
    kinds = {"plain": dumps({"command": COMMAND}), "ready": dumps({"command": COMMAND, "python": table})}
    node.start("--jobs", "2")
    for name, text in kinds.items():  # the first of each is not counted: one builds, both warm up
        latency_ms(node, f"{name}-first", text)
    found, filed = {name: [] for name in kinds}, {name: [] for name in kinds}
    for number in range(jobs):
        for name in sorted(kinds, reverse=bool(number % 2)):
            first_ms, filed_ms = latency_ms(node, f"{name}-{number}", kinds[name])
            found[name].append(first_ms)
            filed[name].append(filed_ms)
    assert not list(node.spool.glob("done/ready-0.*/build.log")), "it was not ready"
    print(f"{jobs} jobs of each kind, in turn; an environment of {FILES} files; load {os.getloadavg()[0]:.1f}")
    for what, table in (("drop to first instruction", found), ("drop to filed", filed)):
        show(what, table)


def latency_ms(node, name, text):
    temporary = node.spool / f".{name}.part"
    temporary.write_text(text)
    started_ns = time.time_ns()
    temporary.rename(node.spool / f"{name}.toml")
    while not (done := next(iter(node.spool.glob(f"done/{name}.*/result.toml")), None)):
        time.sleep(0.001)
    filed_ns = time.time_ns()
    first_ns = int((done.parent / "output.log").read_text())
    return (first_ns - started_ns) / 1e6, (filed_ns - started_ns) / 1e6


def show(what, found):
    print(what)
    for name, values in found.items():
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"  {name:<6} median {middle:7.2f} ms   quartiles {low:7.2f} {high:7.2f}")
    print(f"  difference of the medians {statistics.median(found['ready']) - statistics.median(found['plain']):+.2f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
