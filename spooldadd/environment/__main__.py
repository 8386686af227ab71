"""Run the builder: `python -m spooldadd.environment PLAN RESULT`."""

import gc
import sys

from spooldadd.environment.builder import main

code = main(sys.argv[1:])
gc.freeze()  # or the interpreter looks through all that lives for garbage at its end, for a tenth of our time
sys.exit(code)
