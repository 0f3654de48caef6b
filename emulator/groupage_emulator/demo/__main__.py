"""`python -m groupage_emulator.demo`."""

import sys

from groupage_emulator.demo.cli import main

if __name__ == "__main__":
    sys.exit(main())
