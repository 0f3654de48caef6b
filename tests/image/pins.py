"""`python -m tests.image.pins [--sbom FILE]`: every lock pins with hashes; a bill of materials names just what is locked."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCKS = sorted([*ROOT.glob("requirements/*.txt"), *ROOT.glob(".ci/requirements/*.txt")])
_PIN = re.compile(r"([a-z0-9][a-z0-9._-]*)(?:\[[a-z0-9,._-]+\])?==[^\s;]+( ; [^\\]+)?")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def pins(lock: Path) -> Iterator[tuple[str, str, int]]:
    """Name, the whole pin, and how many hashes it has, of each requirement of a lock."""
    for entry in lock.read_text().replace("\\\n", " ").splitlines():
        if entry.strip() and not entry.startswith("#"):
            pin, _, hashes = entry.partition("--hash")
            yield (
                pin.partition("==")[0].partition("[")[0].strip(),
                pin.strip(),
                len(_HASH.findall(f"--hash{hashes}")),
            )


def problems(lock: Path) -> Iterator[str]:
    """What is not pinned as it must be."""
    for _, pin, hashes in pins(lock):
        if not _PIN.fullmatch(pin):
            yield f"{lock.relative_to(ROOT)}: {pin!r} is no exact version"
        if not hashes:
            yield f"{lock.relative_to(ROOT)}: {pin!r} has no hash"


def unlike(sbom: Path) -> Iterator[str]:
    """How a bill of materials differs from the image's lock."""
    components = json.loads(sbom.read_text())["components"]
    named = {one["name"].lower().replace("_", "-") for one in components}
    locked = {name for name, pin, _ in pins(ROOT / "requirements" / "image.txt") if " ; " not in pin}
    optional = {name for name, pin, _ in pins(ROOT / "requirements" / "image.txt") if " ; " in pin}
    yield from (f"{name} is locked but not in {sbom}" for name in sorted(locked - named))
    yield from (f"{name} is in {sbom} but not locked" for name in sorted(named - locked - optional))
    yield from (f"{one['name']} has no version or package URL" for one in components if not one.get("purl"))


def main(*words: str) -> int:
    """Print what is wrong; exit status 1 if anything is."""
    found = [one for lock in LOCKS for one in problems(lock)]
    if words[:1] == ("--sbom",):
        found += unlike(Path(words[1]))
    print("\n".join(found) or f"{len(LOCKS)} locks, every entry pinned and hashed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
