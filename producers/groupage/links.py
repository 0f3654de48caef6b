"""URLs inside a body: which the service may fetch, and how many tokens an image counts."""

import ipaddress
import re
from typing import Any, Final
from urllib.parse import urlsplit

from groupage.errors import InvalidRequest

IMAGE_TOKENS: Final = {"low": 85}
IMAGE_TOKENS_HIGH: Final = 1_105
"""Tokens of one image: 85 at low detail; 1,105 for 2048 x 4096 pixels at high detail, used for every image whose
size nobody knows (OpenAI vision guide, 'Calculating costs', as quoted in public copies read 2026-11-21). Models
with other tilings differ; the worker's learned factor corrects the mean."""

FIELDS: Final = ("image_url", "file_url")

_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w=.+-]+)*;base64,", re.ASCII)
_PRINTABLE = re.compile(r"[!-\[\]-~]+")
"""ASCII without space, control characters and backslash, which parsers of URLs read in different ways."""

_NUMERIC_LABEL = re.compile(r"\d+|0x[0-9a-f]*", re.IGNORECASE)


def check_links(items: list[Any], path: str) -> tuple[int, int]:
    """Check each URL in messages or input items.

    Returns:
        Bytes of image URLs, which do not count as text, and tokens of the images.

    Raises:
        InvalidRequest: If a URL is neither a base64 data URL nor plain https to a named host.
    """
    left_out = tokens = 0
    stack: list[tuple[Any, str]] = [(items, path)]
    while stack:
        value, where = stack.pop()
        if type(value) is list:
            stack.extend((item, f"{where}[{i}]") for i, item in enumerate(value))
        elif type(value) is dict:
            for name, item in value.items():
                if name not in FIELDS:
                    stack.append((item, f"{where}.{name[:40]}"))
                    continue
                url, place = item, f"{where}.{name}"
                if type(item) is dict:
                    url, place = item.get("url"), f"{place}.url"
                if url is None:
                    continue  # the other way to give an image or file: by its id
                _check_url(url, place)
                if name == "image_url":
                    left_out += len(url)
                    tokens += image_tokens(value, name)
    return left_out, tokens


def image_tokens(part: dict[str, Any], name: str) -> int:
    """Tokens of the image that a part of a message gives by a URL in this member; 0 for a file."""
    given = part[name]
    url, detail = (
        (given.get("url"), given.get("detail")) if type(given) is dict else (given, part.get("detail"))
    )
    if name != "image_url" or url is None:
        return 0
    return IMAGE_TOKENS.get(detail, IMAGE_TOKENS_HIGH) if type(detail) is str else IMAGE_TOKENS_HIGH


def _check_url(url: Any, path: str) -> None:
    if type(url) is not str:
        raise InvalidRequest(path, "a URL", type(url).__name__)
    if _DATA_URL.match(url):
        return
    scheme = url.partition(":")[0].lower()
    if scheme != "https":
        shown = f"{scheme[:12]}:..." if re.fullmatch(r"[a-z][a-z0-9+.-]{0,11}", scheme) else "something else"
        raise InvalidRequest(path, "https://host/... or data:TYPE;base64,...", shown)
    fault = _fault_of_https(url)
    if fault is not None:
        raise InvalidRequest(path, fault, "https:...")


def _fault_of_https(url: str) -> str | None:
    """Why an https URL is refused; the service fetches it, so it must not name a machine inside its network."""
    if not _PRINTABLE.fullmatch(url) or not url[6:].startswith("//"):
        return "printable ASCII after https://, percent-encoded where needed"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "a host name and no port but 443"
    host = (parts.hostname or "").rstrip(".")
    if "@" in parts.netloc:
        return "no user or password in a URL"
    if port not in (None, 443) or "." not in host or "%" in host:
        return "a public host name and no port but 443"
    # a last label that is a number makes clients read the whole host as an IPv4 address (WHATWG URL, 3.5)
    if _NUMERIC_LABEL.fullmatch(host.rpartition(".")[2]) or _is_address(host):
        return "a host name, not an IP address"
    return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
