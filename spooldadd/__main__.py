"""`python -m spooldadd` is `spooldadd`."""

import sys

from spooldadd.cli import main

sys.exit(main())
