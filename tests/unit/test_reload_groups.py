"""Each group of settings is either read at start only, and said to be, or read anew wherever it is used."""

import inspect
import re
from pathlib import Path
from typing import Final

import pytest

from groupage_worker import app
from groupage_worker.reload import FIXED
from groupage_worker.settings import Settings

HANDED_OVER: Final = {
    "regions": "the reloader makes their clients anew",
    "retention": "the reloader tells the store how long closed batches are kept",
    "gather": "what a dead worker left in the spool is cleaned once, at start",
}
"""Groups that the composition root reads at start although a reload may change them."""

DOCS: Final = Path(__file__).parents[2] / "docs"


def test_what_is_kept_from_the_start_is_fixed() -> None:
    """The composition root keeps no group of its first settings but those that a reload refuses or hands over."""
    kept = set(re.findall(r"self\._settings\.(\w+)", inspect.getsource(app)))
    assert kept <= {*Settings.model_fields}
    assert kept - set(FIXED) == set(HANDED_OVER)


@pytest.mark.parametrize("page", ["configuration.md", "kubernetes.md"])
def test_the_docs_name_what_is_read_at_start(page: str) -> None:
    """Both guides list every group that needs a restart; the chart sets `health` itself."""
    lines = [line for line in (DOCS / page).read_text().splitlines() if "read at start only" in line]
    named = set(re.findall(r"`(\w+)`", lines[0].rpartition("they read")[2]))
    assert named | {"health"} == set(FIXED)
