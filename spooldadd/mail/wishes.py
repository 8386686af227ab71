"""Who is to be told of a job's end, of which ends, and how: the spec first, then its queue, then the node. Pure."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass

from spooldadd.config import Config
from spooldadd.spec import InvalidSpec, Spec, parse
from spooldadd.spec.models import Notify

# These go to a place and not to a person, so they need no address.
WITHOUT_ADDRESS = frozenset({"webhook", "maildir"})


@dataclass(frozen=True)
class Wish:
    """Who is told (addresses as they were written), what, and by which transports."""

    email: tuple[str, ...]
    on: frozenset[str]
    via: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Tell whether nobody is to be told anything."""
        return not (self.on and self.via)

    @property
    def key(self) -> str:
        """Return a short text that is the same for the same readers: what they were told is remembered under it."""
        parts = [*sorted(self.email), "", *sorted(self.via)]
        return hashlib.sha256("\0".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:16]


def wish_of(config: Config, notify: Notify, queue: str) -> Wish:
    """Return what this spec, its queue and the node want together."""
    of_queue, node = config.notify.of_queue(queue), config.notify
    email = _first(notify.email, of_queue.email, config.mail.to)
    on = _first(notify.on, of_queue.on, node.on)
    via = _first(notify.via, of_queue.via, node.via, tuple(config.transport))
    usable = [name for name in via if name in config.transport and (email or _needs_no_address(config, name))]
    return Wish(tuple(email), frozenset(on), tuple(usable))


def wish_of_spec(config: Config, data: bytes, queue: str = "default") -> Wish:
    """Return the wish of a spec's text; of an invalid one, as much as can be understood, because its author waits for it."""
    try:
        spec = parse(data, source="spec.toml")
    except InvalidSpec:
        return wish_of(config, lenient(data), queue)
    return wish_of(config, spec.notify, spec.queue)


def lenient(data: bytes) -> Notify:
    """Return the `[notify]` of a spec that has faults elsewhere; what cannot be understood counts as unset."""
    try:
        table = tomllib.loads(data.decode())["notify"]
        return Notify.model_validate(table)
    except (ValueError, KeyError, TypeError, RecursionError):  # pydantic's ValidationError is a ValueError
        return Notify()


def lacks_transport(config: Config, spec: Spec) -> str | None:
    """Say what a spec asks for in vain on this node; None where it gets what it wants."""
    if spec.notify.email and not config.transport:
        return "`[notify] email` asks for mail, and this node has no `[transport.NAME]`, so there is none"
    missing = [name for name in spec.notify.via or () if name not in config.transport]
    if missing:
        return f"`[notify] via` names `{missing[0]}`, which is no transport of this node"
    return None


def _first(*given: tuple[str, ...] | None) -> tuple[str, ...]:
    return next((value for value in given if value is not None), ())


def _needs_no_address(config: Config, name: str) -> bool:
    return config.transport[name].get("kind") in WITHOUT_ADDRESS
