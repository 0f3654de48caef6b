"""Runs inside the image, read from standard input of its Python: what is there, as JSON."""

import json
import os
import shutil
import sys
from pathlib import Path

BUILD_TOOLS = ("gcc", "cc", "g++", "c++", "clang", "make", "ld", "cargo", "rustc", "git", "uv")


def writable(path: str) -> bool:
    """Whether a file can be made in it."""
    try:
        Path(path, "probe").touch()
    except OSError:
        return False
    return True


def main() -> None:
    """Print what was found."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    home = Path("/opt/groupage")
    sources = list(home.rglob("groupage_worker/**/*.py"))
    print(
        json.dumps(
            {
                "uid": os.getuid(),
                "gid": os.getgid(),
                "groups": os.getgroups(),
                "capabilities": int(status["CapEff"], 16),
                "no_new_privileges": status["NoNewPrivs"].strip(),
                "writable": [p for p in ("/", "/tmp", "/opt/groupage", "/etc", "/spool") if writable(p)],
                "build_tools": [name for name in BUILD_TOOLS if shutil.which(name)],
                "pip": [str(p) for p in home.rglob("bin/pip*")],
                "caches": [str(p) for p in Path("/").glob("*/.cache/*")],
                "sources": len(sources),
                "bytecode": sum(1 for p in sources if list(p.parent.glob(f"__pycache__/{p.stem}.*.pyc"))),
                "python": sys.version_info[:2],
                "commands": sorted(p.name for p in (home / "bin").glob("groupage*")),
            }
        )
    )


main()
