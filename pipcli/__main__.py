"""``python -m pipcli`` is ``pipcli``."""

import sys

from pipcli.cli import main

if __name__ == "__main__":
    sys.exit(main())
