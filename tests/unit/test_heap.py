"""Full collections do not look at what is there for good."""

import gc
import weakref

from groupage_worker import heap


class Knot:
    """Something that only the collector can free."""

    def __init__(self) -> None:
        self.me = self


def test_only_what_comes_later_is_collected() -> None:
    """While libraries are imported nothing is collected; then only what was made since is looked at."""
    try:
        heap.postpone()
        assert not gc.isenabled()
        old = Knot()
        heap.settle()
        assert gc.isenabled()
        assert len(gc.get_objects()) < gc.get_freeze_count()
        new = Knot()
        seen_old, seen_new = weakref.ref(old), weakref.ref(new)
        del old, new
        gc.collect()
        assert seen_old() is not None
        assert seen_new() is None
    finally:
        gc.unfreeze()
        gc.enable()
