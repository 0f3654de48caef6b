"""What is there for good is taken out of Python's garbage collection.

A worker that is ready holds some 90,000 objects of its libraries and settings. A full collection looks at all of them,
which stalled the event loop for 70 ms (measured on 2026-11-21: nearly all of the worst stall under full load). They
never become garbage, so they are not looked at again.
"""

import gc


def postpone() -> None:
    """Collect nothing while libraries are imported: what they make stays."""
    gc.disable()


def settle() -> None:
    """From here on only what is made from here on is looked at."""
    gc.freeze()
    gc.enable()
