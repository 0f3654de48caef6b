"""`python -m groupage_worker`, the same as `groupage-worker`."""

import sys

from groupage_worker.cli import main

if __name__ == "__main__":
    sys.exit(main())
