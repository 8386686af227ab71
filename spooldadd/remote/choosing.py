"""Which targets a person means: names from the table of nodes, or targets as they are; all of them, or those with labels."""

from __future__ import annotations

from collections.abc import Iterable

from spooldadd.complaints import near
from spooldadd.config import Config
from spooldadd.config.remote import target_of
from spooldadd.errors import SpooldaddError
from spooldadd.remote import targets
from spooldadd.remote.rsync import Rsync
from spooldadd.remote.targets import Target


class NoSuchNode(SpooldaddError):
    """The person who asked must act: no node of this name is configured, and it is no target."""


def rsync_of(config: Config) -> Rsync:
    """Return how this node's configuration reaches other machines."""
    return Rsync(config.remote.ssh or "", config.remote.timeout_s)


def is_node(config: Config, word: str) -> bool:
    """Tell whether a word names a node of the table, or can only be a target."""
    return word in config.nodes or targets.is_address(word)


def target(config: Config, word: str) -> Target:
    """Return the node of this name, or the target that the word is. Raises: NoSuchNode; BadTarget."""
    if word in config.nodes:
        return target_of(config.nodes, word)
    if targets.is_address(word):
        return targets.parse(word)
    raise NoSuchNode(f"no node is called `{word}`{_instead(config, word)}")


def every(config: Config) -> list[Target]:
    """Return all nodes of the table. Raises: NoSuchNode where it is empty."""
    if not config.nodes:
        raise NoSuchNode(f"no nodes are configured{_instead(config, '')}")
    return [target_of(config.nodes, name) for name in config.nodes]


def labelled(found: Iterable[Target], labels: Iterable[str]) -> list[Target]:
    """Return those that have all these labels. Raises: NoSuchNode where none has."""
    wanted, candidates = set(labels), list(found)
    chosen = [one for one in candidates if wanted <= set(one.labels)]
    if not chosen:
        words = ", ".join(f"`{label}`" for label in sorted(wanted))
        known = sorted({label for one in candidates for label in one.labels})
        raise NoSuchNode(f"no node has the label {words}; there are: {', '.join(known) or 'none'}")
    return chosen


def _instead(config: Config, word: str) -> str:
    if config.nodes:
        meant = near(word, list(config.nodes))
        question = f"did you mean `{meant}`? " if meant else ""
        return f"; {question}the configuration has: {', '.join(config.nodes)}. A target is written `host:/path`"
    where = f"`{config.file}`" if config.file else "the configuration (`spooldadd config` says which file that is)"
    return (
        f'; write `[nodes]` with a line `web-1 = {{ target = "host:/path" }}` into {where}, or name a target, `host:/path`'
    )
