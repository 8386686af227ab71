"""Throughput of a full queue, and what a job costs in CPU: both against the bare loop."""

from __future__ import annotations

import os
import time

from tests.bench import bare, place
from tests.bench.measure import Row, interleaved, ratio

WIDTH = 2
DIFFERENT = 'command = ["/bin/true", "{number}"]\nname = "number-{number}"\n'


def rows(jobs: int, rounds: int, directory: str | None) -> list[Row]:
    """Measure with `durability = "process"` and `"power"`, and the bare loop, in turn."""
    costs: list[float] = []

    def ours(durability: str) -> float:
        rate, cost_s = served(jobs, durability, directory)
        if durability == "process":
            costs.append(cost_s)
        return rate

    kinds = {
        "bare": lambda: bare.rate(jobs, WIDTH),
        "process": lambda: ours("process"),
        "power": lambda: ours("power"),
        "different": lambda: served(jobs, "process", directory, DIFFERENT)[0],
    }
    found = interleaved(kinds, rounds)
    bare_cost_s = bare.cpu_s(jobs, WIDTH)
    middle = sorted(found["bare"])[rounds // 2]
    return [
        Row("bare posix_spawn loop, two at a time", middle, "jobs/s"),
        Row("throughput, durability process, against bare", ratio(found, "process", "bare"), "x", 0.9, at_least=True),
        Row("throughput, durability power, against process", ratio(found, "power", "process"), "x", 0.6, at_least=True),
        Row("throughput, every spec another, against all the same", ratio(found, "different", "process"), "x"),
        Row("CPU beyond the job's own, against a bare spawn", min(costs) / bare_cost_s, "x", 1.0),
        Row("bare spawn, CPU", bare_cost_s * 1e3, "ms"),
    ]


def served(jobs: int, durability: str, directory: str | None, spec: str = place.SPEC) -> tuple[float, float]:
    """Serve a full queue; return jobs a second, and our CPU seconds a job, from the first claim to the last filing."""
    with place.spool(durability, directory) as node:
        place.fill(node, jobs, spec)
        done, running = node.spool / "done", node.spool / "running"
        time.sleep(0.5)
        os.sync()
        node.start("--jobs", str(WIDTH))
        started = place.wait_for(lambda: place.count(running) + place.count(done) > 0, look_s=0.001)
        begun, begun_s = place.count(done), place.cpu_of(place.ours(node))[0]
        ended = place.wait_for(lambda: place.count(done) >= jobs)
        own_s, _ = place.cpu_of(place.ours(node))
        return (jobs - begun) / (ended - started), (own_s - begun_s) / (jobs - begun)
