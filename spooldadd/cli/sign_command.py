"""Sign specs with an ssh key, so that nodes know whose they are.

The signature stands at the end of the file, in comment lines, and covers every byte before it; the file stays a valid spec.
It says from when until when a job may be started with it, and starts one job in each spool. A bundle is signed with all its
files. Each file is checked first and written back signed; one that is signed already gets a new signature.

A key of the agent signs where `--key` names its public half, and so does a hardware key.

examples:
  spooldadd sign nightly.toml
  spooldadd sign nightly.toml --key ~/.ssh/id_ed25519 --expires 1d
  spooldadd sign backfill.py --node web-3         # no other node runs it
  spooldadd sign job.toml --output job.tar        # with the files that it names
  spooldadd submit nightly.toml --var day=2026-11-20 --sign
"""

from __future__ import annotations

from spooldadd import sealing
from spooldadd.cli import sealing as options_of
from spooldadd.cli.common import UsageError, add_json, print_json, say
from spooldadd.errors import SpecError
from spooldadd.problems import render
from spooldadd.spec import InvalidSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("specs", metavar="SPEC", nargs="+", help="a spec, a script or a bundle")
    options_of.add_arguments(parser)
    parser.add_argument("--node", metavar="NAME", action="append", default=[], help="only there; may be repeated")
    parser.add_argument("--output", metavar="FILE", help="write the signed spec there instead")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Sign each of them."""
    if options.output and len(options.specs) > 1:
        raise UsageError("`--output` goes with one spec")
    wish = options_of.wish_of(options, tuple(options.node))
    told = [_sign(path, wish, options) for path in options.specs]
    if options.json:
        print_json({"key": wish.key, "files": told})
    return int(any("error" in one for one in told))


def _sign(path: str, wish: sealing.Wish, options: argparse.Namespace) -> dict[str, object]:
    written = options.output or path
    try:
        statement = sealing.sign_file(path, wish, options.output)
    except InvalidSpec as error:
        say(render(error.problems, error.source).rstrip())
        return {"file": path, "error": str(error)}
    except (SpecError, OSError) as error:
        sentence = f"`{path}`: {error.strerror}" if isinstance(error, OSError) else str(error)
        say(f"spooldadd: {sentence}")
        return {"file": path, "error": sentence}
    until = statement.expires_at.isoformat().replace("+00:00", "Z")
    if not options.json:
        print(f"{written}: signed with {wish.key}, for one job until {until}")
    return {"file": written, "nonce": statement.nonce, "expires_at": until, "nodes": list(statement.nodes)}
