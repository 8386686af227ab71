"""What we cost while nothing happens, and while jobs run: memory, wake-ups, CPU; and a thousand jobs at once."""

from __future__ import annotations

import time

from tests.bench import place
from tests.bench.measure import Row

SLEEPS = 'command = ["/bin/sleep", "{seconds}"]\n'


def idle_rows(seconds: float, directory: str | None) -> list[Row]:
    """Measure an idle worker after its first jobs."""
    with place.spool("process", directory) as node:
        node.start("--jobs", "2")
        place.fill(node, 4)
        place.wait_for(lambda: place.count(node.spool / "done") == 4)
        time.sleep(45)  # until the supervisors of these jobs have ended; one stands by
        pids = place.ours(node)
        cpu_s, woken = place.run_s(pids), place.wakeups(pids)
        time.sleep(seconds)
        cpu_s, woken = place.run_s(pids) - cpu_s, place.wakeups(pids) - woken
        return [
            Row("idle: CPU of all our processes", 100 * cpu_s / seconds, "% of a core", 0.1),
            Row("idle: wake-ups", woken / seconds, "a second", 1),
            Row("idle: memory of all our processes (PSS)", place.pss_bytes(pids) / 1e6, "MB", 45),
        ]


def running_rows(jobs: int, seconds: float, directory: str | None) -> list[Row]:
    """Run many jobs at once; the commands must answer meanwhile."""
    with place.spool("process", directory) as node:
        node.start("--jobs", str(jobs))
        resting_bytes = place.pss_bytes(place.ours(node))
        started = time.perf_counter()
        place.fill(node, jobs, SLEEPS.format(seconds=seconds))
        place.wait_for(lambda: node.said().count("event=started") >= jobs, look_s=0.2)
        up_s = time.perf_counter() - started
        asked = time.perf_counter()
        node.run("status", "--json")
        answered_s = time.perf_counter() - asked
        pids = place.ours(node)
        each_bytes = (place.pss_bytes(pids) - resting_bytes) / jobs
        woken, before = place.wakeups(pids), time.perf_counter()
        time.sleep(5)
        each_woken = (place.wakeups(pids) - woken) / jobs / (time.perf_counter() - before)
        place.wait_for(lambda: place.count(node.spool / "done") >= jobs, look_s=0.2)
        return [
            Row(f"each of {jobs} running jobs beyond its own process", each_bytes / 1e6, "MB", 1),
            Row(f"each of {jobs} running jobs, wake-ups of ours", each_woken, "a second"),
            Row(f"{jobs} jobs running at once: up after", up_s, "s"),
            Row(f"{jobs} jobs running at once: `status --json` answers", answered_s * 1e3, "ms", 1000),
            Row(f"{jobs} jobs running at once: filed", place.count(node.spool / "done"), "jobs", jobs, at_least=True),
        ]
