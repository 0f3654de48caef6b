"""The command `groupage`: what a person looks at and decides. It needs Redis and the worker's settings."""
# ruff: noqa: T201 - what a command says is printed

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from redis.exceptions import RedisError

from groupage import faults
from groupage.errors import GroupageError, InvalidRequest, UnknownLane, UnknownRequest
from groupage_worker import configfile
from groupage_worker.errors import ConfigurationError
from groupage_worker.operator.errors import Mistake, NotDone
from groupage_worker.operator.grammar import Grammar
from groupage_worker.operator.session import opened

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
"""Also what argparse uses: the caller has to change something before it makes sense to try again."""
EXIT_INTERRUPTED = 130

NOT_THIS_USER = (
    "the Redis user may not do this; `groupage acl` makes users that may: `operator`, and for submit and collect also "
    "the producer's own (--redis-file)"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments after the command's name; default: the process's.

    Returns:
        Exit status: 0 done, 1 something outside is in the way, 2 the call must be changed.
    """
    words = sys.argv[1:] if argv is None else argv
    # stray bytes come as halves of surrogate pairs, which can be neither sent to Redis nor printed
    stray = next((number for number, word in enumerate(words, 1) if not _is_text(word)), 0)
    if stray:
        return _say(f"argument {stray} is not UTF-8 text", EXIT_USAGE)
    args = Grammar().parser.parse_args(words)
    try:
        return asyncio.run(_run(args))
    except (Mistake, InvalidRequest, UnknownLane, UnknownRequest) as error:
        return _say(str(error), EXIT_USAGE)
    except ConfigurationError as error:
        found = error.problems
        return _say(
            "\n".join([f"the settings cannot work, {len(found)} problems:", *map("- {}".format, found)]),
            EXIT_USAGE,
        )
    except (NotDone, GroupageError) as error:
        is_forbidden = error.__cause__ is not None and faults.is_forbidden(error.__cause__)
        return _say(NOT_THIS_USER if is_forbidden else str(error), EXIT_FAILED)
    except (RedisError, OSError) as error:
        if faults.is_forbidden(error):
            return _say(NOT_THIS_USER, EXIT_FAILED)
        if isinstance(error, BrokenPipeError):
            # whoever read our output (head, less) has seen enough; Python must not complain at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_OK
        return _say(
            f"Redis cannot be used ({type(error).__name__}); `groupage-worker check` says what is wrong",
            EXIT_FAILED,
        )
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


async def _run(args: argparse.Namespace) -> int:
    if "on_fleet" not in args:
        return int(await args.on_files(args))
    async with opened(configfile.load(args.config)) as session:
        return int(await args.on_fleet(args, session))


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _say(text: str, exit_status: int) -> int:
    print(f"groupage: {text}", file=sys.stderr)
    return exit_status
