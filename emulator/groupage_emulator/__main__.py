"""`python -m groupage_emulator`: runs the emulator, or with `redis` an embedded Redis, until it is told to stop."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from groupage_emulator import config
from groupage_emulator.emulator import Emulator
from groupage_emulator.redis_server import EmbeddedRedis, RedisStartError

PORT_DEFAULT = 8801


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m groupage_emulator", description=__doc__)
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML; see default.yaml in the package")
    parser.add_argument(
        "--port",
        type=int,
        help=f"first region's port, others follow, control last; 0 picks free ones ({PORT_DEFAULT})",
    )
    parser.add_argument(
        "--ready-file", type=Path, metavar="PATH", help="write addresses, keys, deployments as JSON"
    )
    parser.add_argument("--journal", metavar="PATH", help="append all that is billed to this file")
    parser.add_argument("--data-dir", metavar="DIR", help="keep files here instead of a temporary directory")
    parser.add_argument("--time-scale", type=float, help="service seconds per real second")
    commands = parser.add_subparsers(dest="command", metavar="{redis}")
    redis = commands.add_parser("redis", help="run an embedded Redis in the foreground")
    redis.add_argument("--port", dest="redis_port", type=int, default=0, help="0 picks a free one")
    redis.add_argument("--data-dir", dest="redis_dir", type=Path, help="keep data here")
    return parser


def _configuration(arguments: argparse.Namespace) -> config.Config:
    """The file or the defaults, changed by the command line."""
    made = config.load(arguments.config) if arguments.config else config.Config()
    if arguments.port is not None or not arguments.config:
        first = PORT_DEFAULT if arguments.port is None else arguments.port
        for place, region in enumerate(made.regions):
            region.port = first + place if first else 0
        made.control_port = first + len(made.regions) if first else 0
    made.journal = arguments.journal or made.journal
    made.data_dir = arguments.data_dir or made.data_dir
    made.time_scale = arguments.time_scale or made.time_scale
    return made


def _stop_event() -> asyncio.Event:
    """Set by SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _run(made: config.Config, ready_file: Path | None) -> None:
    async with Emulator(made) as emulator:
        ready = msgspec.json.format(msgspec.json.encode(emulator.ready()))
        if ready_file is not None:
            partial = ready_file.with_name(ready_file.name + ".part")
            partial.write_bytes(ready)
            partial.replace(ready_file)
        sys.stdout.write(ready.decode() + "\n")
        sys.stdout.flush()
        await _stop_event().wait()


async def _run_redis(port: int, data_dir: Path | None) -> None:
    async with EmbeddedRedis(port=port, data_dir=data_dir) as server:
        sys.stdout.write(server.url + "\n")
        sys.stdout.flush()
        await _stop_event().wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until SIGINT or SIGTERM; returns the exit status, 2 for a wrong configuration."""
    logging.basicConfig(level=os.environ.get("GROUPAGE_EMULATOR_LOG", "WARNING"))
    parsed = _parser().parse_args(arguments)
    try:
        if parsed.command == "redis":
            asyncio.run(_run_redis(parsed.redis_port, parsed.redis_dir))
        else:
            asyncio.run(_run(_configuration(parsed), parsed.ready_file))
    except (config.ConfigError, RedisStartError, OSError) as error:
        sys.stderr.write(f"groupage_emulator: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
