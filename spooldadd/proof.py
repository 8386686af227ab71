"""What a node has seen of the locks of others: proof that a lock taken on one machine keeps another one out.

A lost node's jobs may be taken over by themselves only where this was proven. Each node writes what it saw in a file of its
own, `.spool/proofs/<observer>.toml`, so that no two write one file: `<peer> = "shared"` where the peer's lock kept us out
while the peer was seen to live, `"private"` where it did not. One who never looked has no entry.

`doctor --peer` writes there, too, and adds in `[seen]` what else it measured. What it saw between two mounts of one machine
stands under `"*"`: that locks are private there holds for every other node, that they are shared proves nothing, because two
mounts may be one client.

If we die here: the old file or the new one. What it says is proven again while the nodes serve.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from spooldadd import durable, record
from spooldadd.layout import Layout
from spooldadd.tomltext import dumps

SHARED, PRIVATE, UNKNOWN = "shared", "private", "unknown"
VERDICTS = (SHARED, PRIVATE)
# In the place of a node's name: between two mounts of this machine.
MOUNTS = "*"


def read(places: Layout, observer: str) -> dict[str, str]:
    """Return what this observer has seen, by peer. A missing or damaged file says nothing."""
    peers = (record.read_table(_path(places, observer)) or {}).get("peers")
    if not isinstance(peers, dict):
        return {}
    return {peer: seen for peer, seen in peers.items() if seen in VERDICTS}


def locks(places: Layout, observer: str, peer: str) -> str:
    """Return `shared`, `private`, or `unknown` where this observer never tried it with this peer."""
    found = read(places, observer)
    return PRIVATE if found.get(MOUNTS) == PRIVATE else found.get(peer, UNKNOWN)


def between(places: Layout, first: str, second: str) -> str:
    """Return what either of two nodes has seen of the other's locks; one who saw them apart is believed."""
    verdicts = {locks(places, first, second), locks(places, second, first)}
    if PRIVATE in verdicts:
        return PRIVATE
    return SHARED if SHARED in verdicts else UNKNOWN


def note(places: Layout, observer: str, peer: str, verdict: str) -> bool:
    """Write down what was seen; return whether that is news. Raises: OSError."""
    assert verdict in VERDICTS, verdict
    if read(places, observer).get(peer) == verdict:
        return False
    _write(places, observer, peer, verdict, None)
    return True


def note_seen(places: Layout, observer: str, peer: str, seen: Mapping[str, object]) -> None:
    """Write down what an examination has measured, its verdict about `locks` included. Raises: OSError."""
    verdict = seen.get("locks")
    values = {key: value for key, value in seen.items() if value is not None and key != "locks"}
    _write(places, observer, peer, str(verdict) if verdict in VERDICTS else None, values)


def seen(places: Layout, observer: str) -> dict[str, dict[str, object]]:
    """Return what this observer's examinations have measured, by peer."""
    found = (record.read_table(_path(places, observer)) or {}).get("seen")
    if not isinstance(found, dict):
        return {}
    return {peer: values for peer, values in found.items() if isinstance(values, dict)}


def forget(places: Layout, peer: str) -> None:
    """Forget what anybody has seen of a node that is gone. Raises: OSError."""
    try:
        observers = [entry.removesuffix(".toml") for entry in os.listdir(places.proofs) if entry.endswith(".toml")]
    except FileNotFoundError:
        return
    for observer in observers:
        peers, measured = read(places, observer), seen(places, observer)
        if peer in peers or peer in measured:
            peers.pop(peer, None)
            measured.pop(peer, None)
            _put(places, observer, peers, measured)


def slowest_s(places: Layout, observer: str) -> float:
    """Return after how long, at the most, this observer was seen to notice that a file had grown or was new; 0: unknown."""
    values = [values.get(key) for values in seen(places, observer).values() for key in ("size_s", "listed_s")]
    return max((value for value in values if isinstance(value, float)), default=0.0)


def _write(places: Layout, observer: str, peer: str, verdict: str | None, values: Mapping[str, object] | None) -> None:
    peers, measured = read(places, observer), seen(places, observer)
    if verdict is not None:
        peers[peer] = verdict
    if values is not None:
        measured[peer] = dict(values)
    _put(places, observer, peers, measured)


def _put(places: Layout, observer: str, peers: dict[str, str], measured: dict[str, dict[str, object]]) -> None:
    os.makedirs(places.proofs, exist_ok=True)
    table: dict[str, object] = {"schema": record.SCHEMA, "observer": observer, "peers": dict(sorted(peers.items()))}
    if measured:
        table["seen"] = dict(sorted(measured.items()))
    durable.write(_path(places, observer), dumps(table).encode(), sync=False)


def _path(places: Layout, observer: str) -> str:
    return os.path.join(places.proofs, f"{observer}.toml")
