"""Secrets in mounted files, read anew at each use, so that a rotated one is seen."""

from pathlib import Path

from pydantic import SecretStr

from groupage_worker.errors import ConfigurationError


def read_secret(path: Path, place: str) -> SecretStr:
    """Read a secret from a mounted file, without the newline that editors leave.

    Args:
        path: The file.
        place: Which setting names it, for the sentence of the error.

    Raises:
        ConfigurationError: If the file cannot be read, is not UTF-8 or is empty. Its path is not repeated: whoever
            puts the secret itself there shall not find it in the logs.
    """
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not UTF-8 text"
        raise ConfigurationError([f"{place}: the file cannot be read ({reason})"]) from None
    if not secret:
        raise ConfigurationError([f"{place}: the file is empty; it must hold the secret and nothing else"])
    return SecretStr(secret)
