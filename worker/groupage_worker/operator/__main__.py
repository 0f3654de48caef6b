"""`python -m groupage_worker.operator`, the same as `groupage`."""

import sys

from groupage_worker.operator import main

if __name__ == "__main__":
    sys.exit(main())
