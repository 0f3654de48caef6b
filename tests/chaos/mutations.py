"""Guards taken out one at a time: `python -m tests.chaos.mutations` shows that each is missed by some check.

A mutation is a text patch on a copy of the tree. The finders are tried from the cheapest to the dearest until one
fails; a mutation that none finds is a hole in the tests, one that no longer fits is a hole in the table (`guards.py`).
"""

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.guards import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
LEFT = (".git", ".venv*", ".*_cache", ".hypothesis", ".work", "__pycache__", "*.egg-info", "node_modules")
"""What is not copied: nobody reads it, and some of it is large."""

TIMEOUT_S = 1_500
"""Of one finder; some take minutes on a busy machine, and what never ends there would be taken for found."""

_PYTEST = ["-m", "pytest", "-n", "0", "-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"]
FINDERS: dict[str, list[str]] = {
    "scripts": [
        *_PYTEST,
        "tests/chaos/test_guards.py",
        "tests/scripts",
        "tests/properties",
        "tests/producers/test_scripts.py",
        "tests/unit",
    ],
    "azure": [
        *_PYTEST,
        "tests/azure/test_creates.py",
        "tests/azure/test_calls.py",
        "tests/azure/test_transfers.py",
    ],
    "stages": [
        *_PYTEST,
        *(
            f"tests/integration/test_{name}.py"
            for name in (
                "deliver",
                "gather_and_submit",
                "recovery",
                "hardening",
                "hardening_claims",
                "matrix_creates",
            )
        ),
    ],
    "producers": [
        *_PYTEST,
        *(f"tests/producers/test_{name}.py" for name in ("late_answers", "history", "cluster")),
    ],
    "scheduling": [
        *_PYTEST,
        *(f"tests/integration/test_scheduling_{name}.py" for name in ("moves", "deadlines", "quota")),
    ],
    "history": [
        *_PYTEST,
        *(
            f"tests/integration/test_{name}.py"
            for name in ("lost_history", "lost_in_part", "lost_attempts", "online_ownership")
        ),
    ],
    "unnamed": [*_PYTEST, "tests/integration/test_unnamed_batches.py"],
    "creates": [*_PYTEST, "tests/integration/test_matrix_creates.py"],
    "sweep lines": [
        "-m",
        "tests.chaos.sweep",
        "--profile",
        "lines",
        "--phases",
        "before,sent",
        "--shards",
        "3",
    ],
    "sweep rude": [
        "-m",
        "tests.chaos.sweep",
        "--profile",
        "rude",
        "--phases",
        "before,sent",
        "--shards",
        "2",
    ],
    "sweep split": [
        "-m",
        "tests.chaos.sweep",
        "--profile",
        "split",
        "--phases",
        "before,sent",
        "--shards",
        "2",
    ],
    "simulation": ["-m", "tests.chaos.simulation", "--seeds", "150", "--stop"],
    "cluster": [*_PYTEST, "tests/acceptance/test_cluster.py"],
    "time travel": [*_PYTEST, "tests/integration/test_time_travel.py"],
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one mutation: who found it, empty for nobody."""

    guard: str
    file: str
    found_by: str
    seconds: float
    note: str = ""


class Lab:
    """A copy of the tree in which guards are taken out and put back."""

    def __init__(self, folder: Path, source: Path) -> None:
        self._folder = folder
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*LEFT), dirs_exist_ok=True)
        paths = [folder, *(folder / name for name in ("producers", "worker", "emulator"))]
        self._environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            # two patches within a second leave files that a cached compilation would be taken for
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def passes(self, finder: str) -> tuple[bool, str]:
        """Run one finder; whether it finds nothing, and the end of what it said."""
        try:
            done = subprocess.run(
                [sys.executable, *FINDERS[finder]],
                cwd=self._folder,
                env=self._environment,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False, "it never ended"
        return done.returncode == 0, (done.stdout + done.stderr)[-400:]

    def try_out(self, mutation: Mutation) -> Outcome:
        """Take one guard out, see who finds it, put it back."""
        started = time.monotonic()
        path = self._folder / mutation.file
        text = path.read_text()
        if text.count(mutation.old) != 1:
            return Outcome(
                guard=mutation.guard, file=mutation.file, found_by="", seconds=0.0, note="does not fit"
            )
        patched = text.replace(mutation.old, mutation.new)
        if "dataclasses." in mutation.new and "\nimport dataclasses" not in text:
            patched = patched.replace("\nimport structlog", "\nimport dataclasses\nimport structlog", 1)
        path.write_text(patched)
        found_by = note = ""
        try:
            for finder in mutation.finders:
                is_fine, said = self.passes(finder)
                if not is_fine:
                    found_by, note = finder, said
                    break
        finally:
            path.write_text(text)
        return Outcome(
            guard=mutation.guard,
            file=mutation.file,
            found_by=found_by,
            seconds=round(time.monotonic() - started, 1),
            note=_told(note)[:160],
        )


def _told(said: str) -> str:
    """What a finder said of its first failure."""
    lines = said.strip().splitlines()
    return next((line for line in lines if line.startswith("FAILED")), lines[-1] if lines else "")


def main() -> int:
    """The command; exit status 1 when a mutation was not found or does not fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="guards whose words contain this")
    parser.add_argument("--source", type=Path, default=ROOT, help="tree to copy")
    parser.add_argument("--shard", type=int, default=0)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument(
        "--skip-baseline", action="store_true", help="do not run the finders on the unchanged tree"
    )
    parser.add_argument("--fits", action="store_true", help="only look whether every patch still fits")
    options = parser.parse_args()
    if options.fits:
        bad = misfits(options.source)
        print("\n".join(bad) or f"all {len(MUTATIONS)} fit")
        return 1 if bad else 0
    chosen = [m for m in MUTATIONS if options.only in m.guard][options.shard :: options.shards]
    with tempfile.TemporaryDirectory(prefix="groupage-mutations-") as name:
        lab = Lab(Path(name), options.source.resolve())
        if not options.skip_baseline:
            for finder in dict.fromkeys(finder for mutation in chosen for finder in mutation.finders):
                is_fine, said = lab.passes(finder)
                if not is_fine:
                    print(f"{finder} fails on the unchanged tree:\n{said}")
                    return 2
        outcomes = []
        for mutation in chosen:
            outcomes.append(lab.try_out(mutation))
            print(json.dumps(dataclasses.asdict(outcomes[-1])), flush=True)
    missed = [outcome for outcome in outcomes if not outcome.found_by]
    print(f"{len(outcomes) - len(missed)} of {len(outcomes)} found; missed: {[m.guard for m in missed]}")
    return 1 if missed else 0


def misfits(source: Path = ROOT) -> list[str]:
    """Mutations whose text does not stand in its file exactly once."""
    return [m.guard for m in MUTATIONS if (source / m.file).read_text().count(m.old) != 1]


if __name__ == "__main__":
    sys.exit(main())
