"""`python -m tests.dst`: see `tests.dst.run`."""

import sys

from tests.dst.run import main

sys.exit(main())
