"""What becomes of a running job whose node is silent: who takes it over and when, or why nobody does.

Only reads; the workers decide by themselves (`takeover`), from what they have seen for longer than anybody looks here.
"""

from __future__ import annotations

import os

from spooldadd.inspect import tables, words

TYPE_CHECKING = False  # not from `typing`: that import alone would take a tenth of the time of `status`
if TYPE_CHECKING:
    from collections.abc import Iterable

    from spooldadd.inspect.job import Job
    from spooldadd.inspect.workers import Node
    from spooldadd.layout import Layout

NEVER = "never"


def prospect(places: Layout, record: str, node: str, nodes: Iterable[Node]) -> str:
    """Say what becomes of this running record; empty where its node serves, or nobody knows whose it is."""
    nodes = list(nodes)
    if not node or any(one.name == node and one.is_serving for one in nodes):
        return ""
    if _is_held(places, record):
        return (
            "its lease is held: it runs on without a worker, or the server has not let go of a lost machine's locks yet; "
            "before that nobody takes it over"
        )
    return silent_node(places, node, nodes)


def silent_node(places: Layout, node: str, nodes: Iterable[Node]) -> str:
    """Say who takes over what a silent node ran, or why nobody does, and the remedy."""
    name = words.show(node)
    remedy = f"where it is dead for good, `spooldadd recover --node {name}` brings its jobs back"
    kind = str((tables.read(places.format) or {}).get("kind", "local"))
    if kind != "shared":
        return f"on a {kind} spool only `{name}` itself brings its jobs back; {remedy}"
    others = [one for one in nodes if one.is_serving and one.name != node]
    if not others:
        return f"no other worker serves this spool, as far as this machine can see; {remedy}"
    willing = [one for one in others if one.table.get("takeover") != NEVER]
    if not willing:
        return f"`[takeover] after` is `never` on every node that serves; {remedy}"
    from spooldadd import proof  # late: few have to ask

    locks = {one.name: proof.between(places, one.name, node) for one in willing}
    heirs = [one for one in willing if locks[one.name] == proof.SHARED]
    if heirs:
        after = heirs[0].table.get("takeover")
        long = f"for {words.show(after)}" if isinstance(after, str) else "for long enough"
        return f"`{words.show(heirs[0].name)}` takes its jobs over when it has seen `{name}` be silent {long}"
    if proof.PRIVATE in locks.values():
        return f"the locks of `{name}` do not reach other nodes, so a free lease says nothing; {remedy}"
    return f"nobody has seen a lock of `{name}` keep another node out, so a free lease says nothing; {remedy}"


def notices(places: Layout, found: Iterable[Job], nodes: list[Node]) -> list[str]:
    """Return a sentence for each silent node whose jobs are among these."""
    if (tables.read(places.format) or {}).get("kind") != "shared":
        return []
    serving = {one.name for one in nodes if one.is_serving}
    silent: dict[str, list[Job]] = {}
    for job in found:
        node = str(job.claim().get("node", "")) if job.state == "running" else ""
        if node and node not in serving:
            silent.setdefault(node, []).append(job)
    sentences = []
    for node, its in sorted(silent.items()):
        free = [job for job in its if not _is_held(places, job.record_name)]
        if free:
            count = "1 running job" if len(free) == 1 else f"{len(free)} running jobs"
            sentences.append(f"node `{words.show(node)}` is silent and left {count}: {silent_node(places, node, nodes)}")
    return sentences


def _is_held(places: Layout, record: str) -> bool:
    """By a shared lock, let go of at once; not `claim.is_held`, which brings a third-party library along."""
    from spooldadd import locking  # late: few have to ask

    try:
        fd = os.open(places.lock(record), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:  # not ours to try: nothing is known
        return True
    try:
        return not locking.try_lock(fd, is_shared=True)
    except OSError:
        return True
    finally:
        os.close(fd)
