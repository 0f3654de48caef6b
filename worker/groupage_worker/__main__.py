"""`python -m groupage_worker`, the same as `groupage-worker`."""

import os
import signal
import sys
from types import FrameType
from typing import Final

from groupage_worker import heap

STOPPED: Final = 128 + signal.SIGTERM
"""Exit status of a worker that was stopped before it began; a shell shows the same for a process that SIGTERM ended."""


def main() -> int:
    """Run the command; returns its exit status."""
    # the kernel drops a SIGTERM for which process 1 of a container has no handler, so a stop during the imports
    # would be lost; the application puts its own in this one's place
    signal.signal(signal.SIGTERM, _stop)
    heap.postpone()
    from groupage_worker.cli import main as command  # noqa: PLC0415 - takes half a second

    return command()


def _stop(_signal: int, _frame: FrameType | None) -> None:
    """End at once: nothing has begun that would have to end in order."""
    os._exit(STOPPED)


if __name__ == "__main__":
    sys.exit(main())
