"""The notifier: a fresh program that tells what jobs came to, sends what is due, and ends.

Started by a worker when there is something to tell, and by a supervisor whose worker is gone. `spooldadd mail flush` does
the same in the foreground.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys

from spooldadd import claim, spool
from spooldadd.config import load
from spooldadd.errors import ConfigError, SpooldaddError
from spooldadd.log import Log
from spooldadd.mail.notifier import Notifier

CONFIGURATION = 78


def main(arguments: list[str]) -> int:
    """Do one pass. What is in the way of it is said in one line; nothing is lost by it."""
    parser = argparse.ArgumentParser(prog="spooldadd-notifier")
    parser.add_argument("--spool", required=True)
    parser.add_argument("--node", required=True)
    parser.add_argument("--config")
    options = parser.parse_args(arguments)
    os.umask(0o077)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        config = load(options.config, environ=os.environ, overrides={"node": options.node})
    except ConfigError as error:
        Log().error("mail-failed", error=str(error), then="nothing is told until it is mended")
        return CONFIGURATION
    wish = config.log.format
    log = Log(2, ("journal" if os.environ.get("JOURNAL_STREAM") else "plain") if wish == "auto" else wish, config.log.level)
    try:
        the_spool = spool.open_spool(options.spool, claim.Holder(options.node))
        Notifier(config, the_spool, log, os.environ).run()
    except (SpooldaddError, OSError) as error:
        log.warning("mail-failed", error=str(error), then="trying again in 30 s")
        return 1
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    gc.freeze()  # or the interpreter looks through all that lives for garbage at its end, for a tenth of our time
    sys.exit(code)
