"""The demo's command line."""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from redis.exceptions import RedisError

from groupage_emulator.demo import options as defaults
from groupage_emulator.demo import summary, view, world
from groupage_emulator.demo.children import ChildError
from groupage_emulator.demo.options import Options
from groupage_emulator.demo.show import Demo
from groupage_emulator.redis_server import RedisStartError

EXIT_OK, EXIT_WRONG = 0, 1
SIGNAL_S = 0.05
"""Time for a signal to come through the event loop."""

_ABOUT = """\
Shows groupage at its main job, on this machine and without any account: an embedded Redis, an emulated Azure with three
regions of different quotas, worker processes, and three producer services (one steady, one bursty, one huge upload) that
send real chat and responses requests through two lanes.

Every reply is compared with its request and with what the emulator billed. Exit status: 0 only if each request has
exactly one right reply, was billed once, no quota was exceeded and nothing is left behind; 1 if anything is not right;
2 for a wrong call; 130 or 143 when interrupted."""

_EXAMPLES = """\
examples:
  make demo                                           20,000 requests, about a minute
  make demo ARGS="--requests 2000"                    a short one
  make demo ARGS="--kill-worker"                      kill -9 a worker half-way; nothing may be lost
  make demo ARGS="--calm"                             nothing goes wrong on purpose
  make demo ARGS="--keep out --json out.json"         look at journals, settings and logs afterwards

While it runs, kill -9 a worker yourself (ps shows `groupage_worker run`): the demo notices and starts another.

What goes wrong without --calm: """


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m groupage_emulator.demo",
        description=_ABOUT,
        epilog=_EXAMPLES + world.RUDENESS_IN_WORDS + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--requests",
        type=_positive,
        default=defaults.REQUESTS,
        metavar="N",
        help="of all producers together (%(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=_positive,
        default=defaults.WORKERS,
        metavar="N",
        help="worker processes (%(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="of bodies, service times and faults (%(default)s)"
    )
    parser.add_argument("--calm", action="store_true", help="nothing goes wrong on purpose")
    parser.add_argument("--kill-worker", action="store_true", help="kill one worker with SIGKILL half-way")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep journals, settings and logs here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary as JSON too")
    parser.add_argument(
        "--stall",
        type=float,
        default=60.0,
        metavar="S",
        help="give up after so many seconds without a reply (%(default)s)",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    keep: Path | None = given.keep
    if keep is not None and keep.exists() and any(keep.iterdir()):
        parser.error(f"--keep {keep}: the directory is not empty; journals of two demos would mix")
    options = Options(
        requests=given.requests,
        workers=given.workers,
        seed=given.seed,
        is_calm=given.calm,
        kills_worker=given.kill_worker,
        keep=keep,
        json=given.json,
        stall_s=given.stall,
    )
    return asyncio.run(_interruptible(options))


async def _interruptible(options: Options) -> int:
    """Run it; the first SIGINT or SIGTERM ends it in order, more of them change nothing."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    received: list[signal.Signals] = []

    def interrupt(number: signal.Signals) -> None:
        if not received and task is not None:
            received.append(number)
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt, number)
    try:
        status = await _in_folder(options)
        # Redis may have failed because of an interrupt that has not come through to us yet
        await asyncio.sleep(SIGNAL_S if status else 0)
    except (asyncio.CancelledError, RedisError):
        # Ctrl-C reaches the embedded Redis too, which may be gone before the cancellation comes through
        if not received:
            raise
    if not received:
        return status
    sys.stderr.write(f"groupage demo: interrupted by {received[0].name}, everything is stopped\n")
    return 128 + received[0]


async def _in_folder(options: Options) -> int:
    if options.keep is None:
        with tempfile.TemporaryDirectory(prefix="groupage-demo-") as folder:
            return await _demo(options, Path(folder))
    options.keep.mkdir(parents=True, exist_ok=True)
    status = await _demo(options, options.keep.resolve())
    sys.stdout.write(f"kept in {options.keep}\n")
    return status


async def _demo(options: Options, folder: Path) -> int:
    shown = view.make_view(options.requests)
    # a GROUPAGE_ variable would change the workers' settings behind our back
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GROUPAGE_")}
    try:
        result = await Demo(options, folder, environment, shown).run()
    except (ChildError, RedisStartError) as error:
        shown.close()
        sys.stderr.write(f"groupage demo: {error}\n")
        return EXIT_WRONG
    finally:
        shown.close()
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    sys.stdout.write(summary.text_of(result, "" if options.is_calm else world.RUDENESS_IN_WORDS))
    return EXIT_WRONG if result.violations else EXIT_OK
