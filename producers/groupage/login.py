"""User and password of a Redis URL, read anew for each connection, so that a rotated password needs no restart."""

import logging
import re
from collections.abc import Callable
from urllib.parse import unquote

from redis.credentials import CredentialProvider

log = logging.getLogger("groupage")

_LOGIN = re.compile(r"(?P<scheme>[a-z+]+://)(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?(?P<rest>.*)")


def split_login(url: str) -> tuple[str, tuple[str, ...]]:
    """The URL without user and password, and what AUTH takes: (password,), (user, password), or nothing."""
    match = _LOGIN.fullmatch(url)
    if match is None or not match["password"]:
        return url, ()
    user = (unquote(match["user"]),) if match["user"] else ()
    return match["scheme"] + match["rest"], (*user, unquote(match["password"]))


class Rereading(CredentialProvider):
    """Asks for the URL anew at each new connection; while it cannot be read, the last login stands.

    Connections that are open stay open: Redis asks for a password only once.
    """

    def __init__(self, read: Callable[[], str], login: tuple[str, ...]) -> None:
        self._read, self._login = read, login

    def get_credentials(self) -> tuple[str, ...]:  # type: ignore[override] # one or two, as AUTH takes them
        """What AUTH is sent with."""
        try:
            _, login = split_login(self._read())
        except Exception as error:  # noqa: BLE001 - whatever a caller's function raises, the last login may still do
            log.warning("the Redis URL cannot be read anew (%s); the last one stands", type(error).__name__)
            return self._login
        self._login = login or self._login
        return self._login

    async def get_credentials_async(self) -> tuple[str, ...]:  # type: ignore[override] # as above
        """The same; a mounted file is read in microseconds."""
        return self.get_credentials()
