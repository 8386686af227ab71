"""What a node has seen of the locks of others: proof that a lock taken on one machine keeps another one out.

A lost node's jobs may be taken over by themselves only where this was proven. Each node writes what it saw in a file of its
own, `.spool/proofs/<observer>.toml`, so that no two write one file: `<peer> = "shared"` where the peer's lock kept us out
while the peer was seen to live, `"private"` where it did not. One who never looked has no entry.

If we die here: the old file or the new one. What it says is proven again while the nodes serve.
"""

from __future__ import annotations

import os

from spooldadd import durable, record
from spooldadd.layout import Layout
from spooldadd.tomltext import dumps

SHARED, PRIVATE, UNKNOWN = "shared", "private", "unknown"
VERDICTS = (SHARED, PRIVATE)


def read(places: Layout, observer: str) -> dict[str, str]:
    """Return what this observer has seen, by peer. A missing or damaged file says nothing."""
    peers = (record.read_table(_path(places, observer)) or {}).get("peers")
    if not isinstance(peers, dict):
        return {}
    return {peer: seen for peer, seen in peers.items() if seen in VERDICTS}


def locks(places: Layout, observer: str, peer: str) -> str:
    """Return `shared`, `private`, or `unknown` where this observer never tried it with this peer."""
    return read(places, observer).get(peer, UNKNOWN)


def note(places: Layout, observer: str, peer: str, verdict: str) -> bool:
    """Write down what was seen; return whether that is news. Raises: OSError."""
    assert verdict in VERDICTS, verdict
    seen = read(places, observer)
    if seen.get(peer) == verdict:
        return False
    os.makedirs(os.path.dirname(_path(places, observer)), exist_ok=True)
    table = {"schema": record.SCHEMA, "observer": observer, "peers": dict(sorted({**seen, peer: verdict}.items()))}
    durable.write(_path(places, observer), dumps(table).encode(), sync=False)
    return True


def _path(places: Layout, observer: str) -> str:
    return os.path.join(places.proofs, f"{observer}.toml")
