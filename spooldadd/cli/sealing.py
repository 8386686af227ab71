"""What `sign` and `submit --sign` share: the options that say how to sign."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from spooldadd.cli import moments
from spooldadd.cli.plain import unfit

if TYPE_CHECKING:
    import argparse

    from spooldadd.preparing import Prepared
    from spooldadd.sealing import Wish

# Long enough for a job that waits over the weekend, short enough that a copy that turns up next month starts nothing.
VALID_S = 7 * 86400.0
LONGEST_S = 3660 * 86400.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the key and the time."""
    parser.add_argument(
        "--key",
        metavar="FILE",
        help="the ssh key; a `.pub` file takes the agent's (default: $SPOOLDADD_SIGNING_KEY, else from ~/.ssh)",
    )
    parser.add_argument(
        "--expires", metavar="TIME", type=_valid, help="how long the signature may start a job (default: `7d`)"
    )


def wish_of(options: argparse.Namespace, nodes: tuple[str, ...]) -> Wish:
    """Return how to sign. Raises: SpecError where there is no key."""
    from spooldadd import sealing, signing  # late: few submitters sign

    return sealing.Wish(signing.find_key(options.key, os.environ), options.expires or VALID_S, nodes)


def signed(prepared: list[Prepared], options: argparse.Namespace) -> list[Prepared]:
    """Return what is to be dropped, each signed, for the node that it goes to where there is one. Raises: SpecError."""
    from spooldadd import sealing  # late: few submitters sign

    wish = wish_of(options, (options.node,) if options.node else ())
    return [sealing.signed(one, wish) for one in prepared]


def _valid(text: str) -> float:
    value = moments.duration(text)
    if not 1 <= value <= LONGEST_S:
        raise unfit(f"`{text}` is no time for a signature: from `1s` to `3660d`")
    return value
