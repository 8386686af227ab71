"""Print the JSON Schema of a spec or of the configuration.

For editors: most complete and check TOML files by a schema.

examples:
  spooldadd schema > spec.schema.json
  spooldadd schema config > config.schema.json
"""

from __future__ import annotations

import json
import sys

from spooldadd import config, spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    # Not an option `--config`: that one names a file, before and after every command.
    parser.add_argument("of", nargs="?", choices=("spec", "config"), default="spec", help="which of them (default: spec)")


def run(options: argparse.Namespace) -> int:
    """Print it."""
    json.dump(config.schema() if options.of == "config" else spec.schema(), sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0
