r"""Bodies and replies encrypted at rest: AES-256-GCM, keys of each producer's own, bound to where they belong.

A folder holds the keys of one producer, one file a key: its name is the key's id, its content 32 bytes as hex or base64.
The last id in the order of names seals; all of them open. So a key is rotated by adding a file (`2026-12`), first
for the workers, then for the producer, and the old one may go when nothing sealed with it is left. Folders are read
again when they change.

A sealed text is `\0 1 <length of the id> <id> <nonce> <ciphertext and tag>`. Producer, request id and kind are part of
what the tag proves, so that a text moved to another key does not open. Needs `groupage[encryption]`.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
from pathlib import Path
from typing import Any, Final, Literal

from groupage.errors import GroupageError

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
"""Random nonces of 96 bits: rotate a key before 2**32 texts (NIST SP 800-38D section 8.3; from memory)."""

MARK: Final = b"\x001"
"""How a sealed text begins; JSON never does."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Kind = Literal["request", "reply"]


class EncryptionError(GroupageError, ValueError):
    """A folder of keys cannot be used, or a text cannot be opened."""


class KeyMissing(EncryptionError):
    """The key that a text was sealed with is not in the folder; it may come."""


class NotAuthentic(EncryptionError):
    """A text was changed, or belongs to another request or producer; it never opens."""


def is_sealed(text: bytes) -> bool:
    """Whether a body or reply is encrypted."""
    return text.startswith(MARK)


class KeyRing:
    """The keys of one producer.

    Args:
        folder: Where they are.
        producer: Its name.

    Raises:
        EncryptionError: If the folder holds no key, or a file that is none.
        ImportError: If the library is not installed.
    """

    def __init__(self, folder: Path | str, producer: str) -> None:
        self._folder, self._producer = Path(folder), producer
        self._seen_ns = -1
        self._ciphers: dict[str, Any] = {}
        self._current = ""
        self._digest_key = b""
        self._read()

    def seal(self, kind: Kind, id: str, text: bytes) -> bytes:  # noqa: A002 - the word of the contract
        """Encrypt a text with the newest key."""
        self._read()
        nonce, name = os.urandom(NONCE_BYTES), self._current.encode()
        sealed: bytes = self._ciphers[self._current].encrypt(nonce, text, self._context(kind, id))
        return b"".join((MARK, bytes((len(name),)), name, nonce, sealed))

    def open(self, kind: Kind, id: str, text: bytes) -> bytes:  # noqa: A002 - as above
        """Decrypt a text; one that is not sealed is returned as it is.

        Raises:
            KeyMissing: If its key is not here.
            NotAuthentic: If it is not what this producer's request had.
        """
        if not is_sealed(text):
            return text
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - only who has keys needs the library

        start = len(MARK) + 1
        end = start + (text[len(MARK)] if len(text) > len(MARK) else 0)
        name = text[start:end].decode("ascii", "replace")
        self._read()
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise KeyMissing(
                f"{kind} {id!r} of {self._producer} is sealed with a key that is not in its folder"
            )
        nonce, sealed = text[end : end + NONCE_BYTES], text[end + NONCE_BYTES :]
        try:
            opened: bytes = cipher.decrypt(nonce, sealed, self._context(kind, id))
        except (InvalidTag, ValueError):
            raise NotAuthentic(
                f"{kind} {id!r} of {self._producer} does not open: changed, or another's"
            ) from None
        return opened

    def digest(self, body: bytes) -> str:
        """What tells one body of an id from another; says nothing of the body to who has no key.

        Made with the oldest key, so that it stays the same while keys are added.
        """
        self._read()
        return hmac.new(self._digest_key, body, hashlib.sha256).hexdigest()[:32]

    def _context(self, kind: Kind, id: str) -> bytes:  # noqa: A002 - as above
        return f"{self._producer}|{id}|{kind}".encode()

    def _read(self) -> None:
        """Read the folder if it has changed."""
        try:
            changed_ns = self._folder.stat().st_mtime_ns
            if changed_ns == self._seen_ns:
                return
            # names that begin with a dot are how Kubernetes swaps a mounted secret
            paths = sorted(path for path in self._folder.iterdir() if not path.name.startswith("."))
            keys = {path.name: _key(path) for path in paths}
        except OSError as error:
            if self._ciphers:
                # while a mount is being swapped, the keys that were there still do
                return
            raise EncryptionError(f"keys of {self._producer} cannot be read ({error.strerror})") from None
        if not keys:
            raise EncryptionError(f"keys of {self._producer}: the folder holds none")
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - as above

        names = list(keys)
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self._current = names[-1]
        self._digest_key = hmac.new(keys[names[0]], b"groupage digest", hashlib.sha256).digest()
        self._seen_ns = changed_ns


def _key(path: Path) -> bytes:
    """The key in a file.

    Raises:
        EncryptionError: If it is none; nothing of its content is repeated.
    """
    if not _ID.fullmatch(path.name):
        raise EncryptionError(f"key {path.name!r}: its name must match {_ID.pattern}")
    text = path.read_bytes().strip()
    for decode in (binascii.unhexlify, lambda value: base64.b64decode(value, validate=True)):
        try:
            key: bytes = decode(text)
        except ValueError:
            continue
        if len(key) == KEY_BYTES:
            return key
    raise EncryptionError(f"key {path.name!r}: must be {KEY_BYTES} bytes as hex or base64")


class KeyRings:
    """The keys of every producer: one folder each, named as the producer. One without a folder is not encrypted.

    Args:
        folder: Where the folders are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rings: dict[str, KeyRing] = {}

    def of(self, producer: str) -> KeyRing | None:
        """The keys of one producer; None if it has none.

        Raises:
            EncryptionError: If its folder cannot be used.
        """
        ring = self._rings.get(producer)
        if ring is None and (self._folder / producer).is_dir():
            ring = self._rings[producer] = KeyRing(self._folder / producer, producer)
        return ring
