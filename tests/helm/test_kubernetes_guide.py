"""Commands of docs/kubernetes.md that need no cluster are run as they stand there."""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from groupage.connect import connect
from tests.helm.manifests import CHART

GUIDE = (CHART.parents[1] / "docs" / "kubernetes.md").read_text()


def block(words: str) -> str:
    """The block of commands that holds these words."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    (found,) = [text for text in blocks if words in text]
    return str(found)


def run_in(folder: Path, commands: str, **programs: str) -> None:
    """Run commands of the guide with stand-ins for the programs that need an account."""
    for name, says in programs.items():
        program = folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{says}\n")
        program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    # what shells start with on most machines: others may read what is written
    subprocess.run(["bash", "-ec", f"umask 022\n{commands}"], cwd=folder, env=environment, check=True)


@pytest.mark.parametrize("key", ["plain1234=", "a/b+c/d==", "%2F@:#?"])
def test_the_azure_url_can_be_used_whatever_the_key(key: str, tmp_path: Path) -> None:
    """The recipe writes a URL that a client takes and that holds this very key, in a file for its owner alone."""
    run_in(tmp_path, block("list-keys"), az=f"case \"$*\" in *list-keys*) printf '%s\\n' '{key}';; esac")
    file = tmp_path / "redis-url"
    client = connect(file.read_text())
    assert client.connection_pool.connection_kwargs["password"] == key
    assert client.connection_pool.connection_kwargs["port"] == 10_000
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_keys_stay_off_the_command_line(tmp_path: Path) -> None:
    """The recipe for a producer's key makes a good one, in a file for its owner alone, and names only the file."""
    commands = block("groupage-keys-shop")
    run_in(tmp_path, commands, kubectl='echo "$@" >>said')
    (key,) = [path for path in tmp_path.iterdir() if path.name not in {"bin", "said"}]
    assert re.fullmatch(r"[0-9a-f]{64}", key.read_text().strip())
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_text().strip() not in (tmp_path / "said").read_text()
