"""Tell who signed specs, and whether the signatures hold.

Says what a node would say: that no byte was changed, that the list of signers has the key, that the time is right. Whether
a signature was used already only the spool knows. Exit 0 where every signature holds, else 1.

examples:
  spooldadd verify nightly.toml --allowed-signers /etc/spooldadd/allowed_signers
  spooldadd verify done/*/spec.toml               # the list of signers that the configuration names
  spooldadd verify job.tar --json
"""

from __future__ import annotations

import os

from spooldadd import sealing, signing
from spooldadd.cli.common import UsageError, add_json, print_json, say, spool_path
from spooldadd.cli.configured import load_config
from spooldadd.errors import SpecError, SpoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("specs", metavar="SPEC", nargs="+", help="a spec, a script or a bundle")
    parser.add_argument(
        "--allowed-signers", metavar="FILE", help="who may sign (default: `trust.allowed_signers` of the configuration)"
    )
    parser.add_argument("--node", metavar="NAME", help="ask as this node, where a signature is for some nodes only")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Verify each of them."""
    signers = _signers(options)
    signers.check()
    told = [_verify(path, signers, options) for path in options.specs]
    if options.json:
        print_json({"allowed_signers": signers.allowed, "files": told})
    return int(not all(one["holds"] for one in told))


def _signers(options: argparse.Namespace) -> signing.Signers:
    if options.allowed_signers:
        return signing.Signers(os.path.abspath(options.allowed_signers))
    rule = load_config(options, _spool(options)).trust
    if not rule.allowed_signers:
        remedy = "name it with `--allowed-signers`, or as `trust.allowed_signers` in the configuration"
        raise UsageError(f"nothing says who may sign; {remedy}")
    return signing.Signers(rule.allowed_signers, rule.revoked_signers or "")


def _spool(options: argparse.Namespace) -> str | None:
    try:
        return spool_path(options)
    except SpoolError:
        return None


def _verify(path: str, signers: signing.Signers, options: argparse.Namespace) -> dict[str, object]:
    try:
        found = sealing.verify_file(path, signers, options.node)
    except (SpecError, OSError) as error:
        sentence = f"`{path}`: {error.strerror}" if isinstance(error, OSError) else str(error)
        say(f"spooldadd: {sentence}")
        return {"file": path, "holds": False, "reason": sentence}
    statement = found.statement
    at, until = (moment.isoformat().replace("+00:00", "Z") for moment in (statement.signed_at, statement.expires_at))
    if not options.json:
        only = f", only for {', '.join(statement.nodes)}" if statement.nodes else ""
        print(f"{path}: signed by {found.signed_by} at {at}, until {until}{only}")
    return {
        "file": path,
        "holds": True,
        "signed_by": found.signed_by,
        "signed_at": at,
        "expires_at": until,
        "nodes": list(statement.nodes),
    }
