"""The table of guards: it fits the tree of today, and a guard that is taken out is really missed."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.mutations import FINDERS, MUTATIONS, ROOT, Lab, misfits


def test_every_mutation_fits_the_tree() -> None:
    """Each patch stands in its file exactly once, so that the long run does not quietly skip it."""
    assert misfits() == []
    assert len(MUTATIONS) >= 25
    assert {finder for mutation in MUTATIONS for finder in mutation.finders} <= set(FINDERS)


def test_every_mutation_knows_its_names(tmp_path: Path) -> None:
    """No Python patch uses an undefined name: that would end its step, and be noticed for that alone."""
    for number, mutation in enumerate(m for m in MUTATIONS if m.file.endswith(".py")):
        text = (ROOT / mutation.file).read_text().replace(mutation.old, mutation.new)
        (tmp_path / f"guard_{number}.py").write_text(text)
    ruff = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--no-cache",
        "--select",
        "F821",
        str(tmp_path),
    ]
    done = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.timeout(120)
def test_a_missing_guard_is_found(tmp_path: Path) -> None:
    """Without the check of the fence some test fails, and the copy is whole again afterwards."""
    mutation = next(m for m in MUTATIONS if "fence" in m.guard)
    lab = Lab(tmp_path, ROOT)
    before = (tmp_path / mutation.file).read_text()
    outcome = lab.try_out(dataclasses.replace(mutation, finders=("scripts",)))
    # by the test of that guard, not by one that misses something else in the copy
    assert outcome.found_by == "scripts"
    assert "::test_commit_needs_the_fence" in outcome.note
    assert (tmp_path / mutation.file).read_text() == before
