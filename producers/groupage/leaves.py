"""Whether the values of a body are fit for JSON as every parser reads it: proofs in C first, a walk if they fail."""

import math
import re
from typing import Any, Final

from groupage.errors import InvalidRequest
from groupage.links import FIELDS

DEPTH_MAX: Final = 64
"""Nesting of lists and objects (reliability.md 5.2, 2026-11-20: parsers give up between 1,000 and 1,025)."""

INTEGER_MAX: Final = 2**53
"""Integers beyond it are changed by parsers that use doubles (reliability.md 5.2, 2026-11-20)."""

_STR: Final = frozenset({str})
_TEXT: Final = frozenset({str, type(None)})
_FLAT: Final = frozenset({str, bool, type(None)})
_URL_FIELDS: Final = frozenset(FIELDS)
_MEMBERS: Final = 2  # role and content
_NO_DIGITS = bytes(set(range(256)) - set(b"0123456789"))
_LARGE_DIGITS: Final = 16  # digits of INTEGER_MAX
_large_number = re.compile(rb"[1-9]\d{15}").search


def is_flat(body: dict[str, Any]) -> bool:
    """Whether a body holds nothing but scalars and one level of objects of text, by exact types; False proves nothing.

    Exact types, because the encoder turns others into something else on the way: keys that are numbers, subclasses,
    dates. Nothing in here can be nested too deep or name a URL.
    """
    for name, item in body.items():
        if type(name) is not str:
            return False
        kind = type(item)
        if kind is list:
            if not all(map(_is_text_object, item)):
                return False
        elif kind is int or kind is float:
            # false for NaN as well
            if not -INTEGER_MAX <= item <= INTEGER_MAX:
                return False
        elif kind not in _FLAT:
            return False
    return True


def is_flat_chat(body: dict[str, Any], messages_max: int) -> bool:
    """Whether a body is messages of nothing but a role and a text, and scalars; False proves nothing.

    Most chat bodies are. One look proves what `is_flat` does, and the rules for messages too.
    """
    messages = body.get("messages")
    if type(messages) is not list or not 0 < len(messages) <= messages_max:
        return False
    for message in messages:
        if type(message) is not dict or len(message) != _MEMBERS:
            return False
        role = message.get("role")
        if type(role) is not str or not role or type(message.get("content")) is not str:
            return False
    for name, item in body.items():
        if type(name) is not str:
            return False
        kind = type(item)
        if kind is int or kind is float:
            if not -INTEGER_MAX <= item <= INTEGER_MAX:
                return False
        elif item is not messages and kind not in _FLAT:
            return False
    return True


def _is_text_object(entry: Any) -> bool:
    return (
        type(entry) is dict
        and _TEXT.issuperset(map(type, entry.values()))
        and _STR.issuperset(map(type, entry))
        and _URL_FIELDS.isdisjoint(entry)
    )


def is_plain(raw: bytes, value: dict[str, Any]) -> bool:
    """Whether canonical JSON surely holds neither a large integer nor deep nesting; False proves nothing."""
    # cheap passes first: most bodies have few digits, and fewer brackets than levels are allowed
    if len(raw.translate(None, _NO_DIGITS)) >= _LARGE_DIGITS and _large_number(raw) is not None:
        return False
    return raw.count(b"{") + raw.count(b"[") <= DEPTH_MAX or _is_shallow(value, DEPTH_MAX)


def _is_shallow(value: Any, levels: int) -> bool:
    if levels == 0:
        return False
    for item in value.values() if type(value) is dict else value:
        kind = type(item)
        if (kind is dict or kind is list) and not _is_shallow(item, levels - 1):
            return False
    return True


def check_values(body: Any) -> None:
    """Look at every value without recursion.

    Raises:
        InvalidRequest: Naming the first that breaks a rule.
    """
    stack: list[tuple[Any, str, int]] = [(body, "", 1)]
    while stack:
        value, path, depth = stack.pop()
        if not isinstance(value, dict | list):
            _check_leaf(value, path)
        elif depth > DEPTH_MAX:
            raise InvalidRequest(_short(path), f"at most {DEPTH_MAX} levels deep", "more")
        elif isinstance(value, list):
            stack.extend((item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value))
        else:
            for name, item in value.items():
                if not isinstance(name, str):
                    raise InvalidRequest(_short(path) or "body", "keys of type str", type(name).__name__)
                _check_leaf(name, f"a key of {path or 'body'}")
                stack.append((item, f"{path}.{name[:40]}" if path else name[:40], depth + 1))


def _check_leaf(value: Any, path: str) -> None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidRequest(_short(path), "text without lone surrogates", "a lone surrogate") from None
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidRequest(_short(path), "a finite number", repr(value))
    elif isinstance(value, int):
        if abs(value) > INTEGER_MAX:
            raise InvalidRequest(_short(path), "integers from -2**53 to 2**53", "one beyond")
    elif value is not None:
        raise InvalidRequest(_short(path), "JSON values only", type(value).__name__)


def _short(path: str) -> str:
    return path if len(path) <= 80 else f"{path[:77]}..."
