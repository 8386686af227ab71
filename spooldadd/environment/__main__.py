"""Run the builder: `python -m spooldadd.environment PLAN RESULT`."""

import sys

from spooldadd.environment.builder import main

sys.exit(main(sys.argv[1:]))
