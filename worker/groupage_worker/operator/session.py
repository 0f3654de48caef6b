"""The connections of one call of the tool."""

import contextlib
import dataclasses
from argparse import Namespace
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from groupage import Producer
from groupage.clock import ServerClock, SystemClock
from groupage.connect import connect, disconnect
from groupage.encryption import EncryptionError
from groupage_worker import configfile
from groupage_worker.operator.errors import Mistake
from groupage_worker.problems import nearest
from groupage_worker.secretfile import read_secret
from groupage_worker.settings import Settings
from groupage_worker.store import BatchStore, RequestStore
from groupage_worker.store.client import RedisClient
from groupage_worker.store.desk import Desk


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What commands work with.

    Attributes:
        clock: Set by the control server's.
    """

    settings: Settings
    control: RedisClient
    batches: BatchStore
    requests: RequestStore
    desk: Desk
    clock: ServerClock


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Session]:
    """Connect to both servers.

    Raises:
        RedisError: If the control server cannot be used.
    """
    timeout_s = settings.redis.socket_timeout_s
    clock = ServerClock(SystemClock())
    control: RedisClient = connect(settings.redis.control.get_secret_value(), socket_timeout_s=timeout_s)
    data: RedisClient = connect(settings.redis.data.get_secret_value(), socket_timeout_s=timeout_s)
    try:
        await clock.sync(control)
        batches = BatchStore(control, clock=clock, closed_s=settings.retention.closed_s)
        yield Session(
            settings=settings,
            control=control,
            batches=batches,
            requests=RequestStore(data, clock=clock),
            desk=Desk(control=control, data=data, batches=batches, clock=clock),
            clock=clock,
        )
    finally:
        await disconnect(control)
        await disconnect(data)


def lane_of(args: Namespace, settings: Settings) -> str:
    """The lane that is meant: the one named, or the only one there is.

    Raises:
        Mistake: If it is none of the settings', or none is named and there are several.
    """
    names = list(settings.lanes)
    if args.lane is None:
        if len(names) > 1:
            raise Mistake(f"--lane: name one of {', '.join(names)}")
        return names[0]
    if args.lane not in names:
        raise Mistake(f"--lane: there is no lane {args.lane}; {nearest(args.lane, names)}")
    return str(args.lane)


def check_deployment(name: str, settings: Settings) -> str:
    """A deployment of the settings.

    Raises:
        Mistake: If it is none.
    """
    if name not in settings.deployments:
        raise Mistake(f"there is no deployment {name}; {nearest(name, settings.deployments)}")
    return name


class Place(NamedTuple):
    """Where a producer's requests go: URL of the data server, lane, and folder of its keys, if it has any."""

    url: str
    lane: str
    keys_dir: Path | None

    def producer(self, name: str) -> Producer:
        """Somebody who submits there.

        Raises:
            Mistake: If its keys cannot be used.
        """
        try:
            return Producer(self.url, name=name, lane=self.lane, keys_dir=self.keys_dir)
        except EncryptionError as error:
            raise Mistake(f"{error}; --keys-dir names the folder of {name}'s keys") from None
        except ImportError:
            raise Mistake(
                "encryption needs the library cryptography; install groupage[worker,encryption]"
            ) from None


def producers_place(args: Namespace) -> Place:
    """The place of a call that only needs what a backend service has.

    Raises:
        Mistake: If lane or URL are missing.
        ConfigurationError: If settings or file cannot be read.
    """
    if args.redis_file is not None:
        if args.lane is None:
            raise Mistake("--lane: name the lane; without worker settings none is known")
        url = read_secret(args.redis_file, "--redis-file").get_secret_value()
        return Place(url, str(args.lane), args.keys_dir)
    settings = configfile.load(args.config)
    keys_dir = args.keys_dir
    if keys_dir is None and settings.encryption.keys_dir is not None:
        # as workers do: who has no folder there is not encrypted
        folder = settings.encryption.keys_dir / args.producer
        keys_dir = folder if folder.is_dir() else None
    return Place(settings.redis.data.get_secret_value(), lane_of(args, settings), keys_dir)
