"""A server that runs an ACL file of `groupage acl`, with one more user that may look at everything."""

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from redis.asyncio import Redis

from groupage.connect import connect, disconnect
from groupage_emulator.redis_server import EmbeddedRedis

PRODUCERS = ("shop", "shop1", "mail")
ADMIN = "admin"
EVERYBODY = "user default on nopass ~* &* +@all\n"
"""The line of a user that may do everything, without a password."""


class Guarded:
    """The server and its users.

    Attributes:
        admin: A client that may do everything.
    """

    def __init__(self, server: EmbeddedRedis, passwords: Path, admin: "Redis[bytes]") -> None:
        self.admin = admin
        self._server, self._passwords = server, passwords

    def url(self, user: str) -> str:
        """The URL of one user; `admin` may do everything."""
        password = "any" if user == ADMIN else (self._passwords / user).read_text()
        return self._server.url.replace("unix://", f"unix://{user}:{password}@")

    @contextlib.asynccontextmanager
    async def client(self, user: str) -> AsyncIterator["Redis[bytes]"]:
        """A client of one user."""
        client: Redis[bytes] = connect(self.url(user))
        try:
            yield client
        finally:
            await disconnect(client)

    async def refusals(self) -> list[str]:
        """What the server refused to any user: user, reason and object, newest first."""
        return [
            " ".join(str(entry[name]) for name in ("username", "reason", "object"))
            for entry in await self.admin.acl_log()
        ]


def acl_file(passwords: Path) -> str:
    """What the command prints."""
    words = [word for name in PRODUCERS for word in ("--producer", name)]
    return subprocess.run(
        [sys.executable, "-m", "groupage_worker.operator", "acl", "--passwords", str(passwords), *words],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@contextlib.asynccontextmanager
async def guarded(folder: Path) -> AsyncIterator[Guarded]:
    """A server of its own; the users' file is loaded once it runs, because that file locks out everybody else."""
    path, passwords = folder / "users.acl", folder / "passwords"
    passwords.mkdir()
    admin_line = EVERYBODY.replace("default", ADMIN)
    path.write_text(EVERYBODY + admin_line)
    with EmbeddedRedis(options={"aclfile": str(path)}) as server:
        admin: Redis[bytes] = connect(server.url.replace("unix://", "unix://admin:any@"))
        try:
            await admin.ping()
            path.write_text(acl_file(passwords) + admin_line)
            await admin.acl_load()
            yield Guarded(server, passwords, admin)
        finally:
            await disconnect(admin)
