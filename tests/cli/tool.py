"""The command `groupage` as a process of its own, and the settings it is given."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from groupage_worker.settings import Settings


class Answer:
    """What one call said."""

    def __init__(self, done: "subprocess.CompletedProcess[str]") -> None:
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def data(self) -> Any:
        """Its JSON."""
        assert self.status == 0, self.err
        return json.loads(self.out)


class Tool:
    """Calls `groupage` with one settings file.

    Args:
        config: The file.
    """

    def __init__(self, config: Path) -> None:
        self.config = config

    async def __call__(self, *words: str, config: bool = True, stdin: str | None = None) -> Answer:
        """Run it to its end; it never shows a traceback."""
        given = ["--config", str(self.config)] if config else []
        return await ended(
            [sys.executable, "-m", "groupage_worker.operator", *words, *given], stdin=stdin or ""
        )


async def ended(command: list[str], *, stdin: str = "", env: Mapping[str, str] = os.environ) -> Answer:
    """Run a command to its end, which shows no traceback."""
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        input=stdin,
        env=env,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Answer(done)


def write_settings(folder: Path, settings: Settings, redis_url: str, **groups: Any) -> Path:
    """The settings of a fleet in this process as a file for the tool."""
    tree = json.loads(settings.model_dump_json(exclude_defaults=True))
    for name, region in settings.regions.items():
        if region.api_key is not None:
            tree["regions"][name]["api_key"] = region.api_key.get_secret_value()
    tree["redis"] = {"data_url": redis_url}
    path = folder / "worker.yaml"
    path.write_text(yaml.safe_dump(tree | groups))
    return path
