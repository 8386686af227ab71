"""Print the completion script for a shell.

It completes commands, options, files, and the ids of the jobs in the spool.

examples:
  source <(spooldadd completion bash)            # in ~/.bashrc
  spooldadd completion zsh > ~/.zfunc/_spooldadd # in a directory of $fpath
  spooldadd completion fish > ~/.config/fish/completions/spooldadd.fish
"""

from __future__ import annotations

import argparse
import os
import sys

from spooldadd import layout
from spooldadd.cli.common import UsageError, spool_path

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("shell", nargs="?", choices=SHELLS, help="which one (default: the one in $SHELL)")
    # What the scripts ask. Not for people, so not in the help.
    parser.add_argument("--list-jobs", nargs="*", metavar="STATE", choices=layout.STATES, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Print the script, or what a script asks for."""
    if options.list_jobs is not None:
        return _list_jobs(options, options.list_jobs or list(layout.STATES))
    shell = options.shell or os.path.basename(os.environ.get("SHELL", ""))
    if shell not in SHELLS:
        raise UsageError(f"name a shell: {', '.join(SHELLS)}")
    from spooldadd.cli import shapes, shells  # late: they load every command, and a script asks for jobs in a blink

    sys.stdout.write(shells.SCRIPTS[shell](shapes.all_shapes()))
    return 0


def _list_jobs(options: argparse.Namespace, states: list[str]) -> int:
    from spooldadd.inspect.drops import carried_job_id
    from spooldadd.inspect.jobs import list_jobs

    for job in list_jobs(layout.Layout(spool_path(options)), states):
        name = (carried_job_id(job.id) or job.id) if job.is_drop else job.id
        if name.isprintable() and " " not in name:  # others a shell would take apart
            print(name)
    return 0
