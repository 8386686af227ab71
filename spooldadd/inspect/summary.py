"""How a spool stands, in numbers: what runs and waits, and which nodes serve it. Only reads.

Who pushes specs asks for it on the other machine, where locks tell who lives; a file that a dead node left behind would not.
"""

from __future__ import annotations

import os

from spooldadd import commons, layout
from spooldadd.inspect import workers
from spooldadd.inspect.listing import Listing
from spooldadd.layout import Layout


def summary(places: Layout, nodes: list[workers.Node], listing: Listing) -> dict[str, object]:
    """Return counts, whether all is paused, and each node, as `status --summary --json` has them."""
    return {
        "spool": places.root,
        "counts": listing.counts(),
        "paused": commons.is_paused_by(os.path.join(places.root, layout.PAUSED)),
        "nodes": [_node(node) for node in nodes],
    }


def look(places: Layout) -> dict[str, object]:
    """Return the same after a look at the spool."""
    nodes = workers.all_nodes(places)
    return summary(places, nodes, Listing(places, workers.suffixes(nodes)))


def _node(node: workers.Node) -> dict[str, object]:
    said = {"state": node.state, **{key: node.table.get(key) for key in ("jobs", "running", "waiting", "release")}}
    return {
        "node": node.name,
        "serving": node.is_serving,
        **{key: value for key, value in said.items() if value is not None},
    }
