"""Docs that name things name all of them."""

import inspect
from pathlib import Path

from groupage import keys
from groupage_worker.states import LEGAL, BatchState

ROOT = Path(__file__).parents[2]


def test_every_key_is_documented() -> None:
    """Each key that `keys.py` can build stands in docs/redis.md."""
    text = (ROOT / "docs" / "redis.md").read_text()
    for name, builder in inspect.getmembers(keys, inspect.isfunction):
        if name in {"lane_prefix", "requests"}:
            # a part of others, and many of one kind at once
            continue
        given = {"lane": "lane", "slot": "<slot>"}
        args = {p: given.get(p, f"<{p}>") for p in inspect.signature(builder).parameters}
        key = builder(**args)
        assert f"`{key}`" in text, key
    for constant in (keys.LANES, keys.DUE_LIGHT, keys.DUE_HEAVY, keys.EPOCH, keys.REFUSALS):
        assert f"`{constant}`" in text, constant


def test_every_state_is_drawn() -> None:
    """Each state of a batch stands in the state machine of docs/architecture.md."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawing = text[text.index("## A batch's life") : text.index("The legal moves are")]
    assert [state for state in BatchState if state.value not in drawing] == []
    assert set(LEGAL) == set(BatchState)
