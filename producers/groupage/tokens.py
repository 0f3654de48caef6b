"""Exact counts of input tokens, offline: `Producer(..., count_tokens=TokenCounter())`. Needs `groupage[tokens]`.

Text counts as the model's own encoding cuts it, plus what the service adds to each message. Images count by the constant of
`links`, tools and schemas as their JSON, because how the service shows those to the model is not published; the
worker's learned factor corrects the rest. Without a counter the door's estimate is used, which is right on average only.
"""

from typing import Any, Final

import msgspec

from groupage.errors import InvalidRequest
from groupage.links import FIELDS, image_tokens

try:
    from splintr import Tokenizer
except ImportError as error:
    raise ImportError("groupage.tokens needs a tokenizer: pip install 'groupage[tokens]'") from error

ENCODINGS: Final = ("o200k_base", "cl100k_base")
"""gpt-4o, gpt-4.1, gpt-5 and o-models have the first, gpt-4 and gpt-3.5 the second (tooling.md section 6, 2026-11-20)."""

MESSAGE_TOKENS: Final = 3
NAME_TOKENS: Final = 1
REPLY_TOKENS: Final = 3
"""Added to each message, each name and the whole (OpenAI cookbook, 'How to count tokens with tiktoken', for gpt-4o; from
memory, with its example of 124 tokens as a test)."""

TEXT_MAX: Final = 262_144
"""Characters of one text that are counted; a longer one counts like its beginning. Some 2 ms of one processor."""

_UNSEEN: Final = frozenset({"type", "detail", "id", "tool_call_id", "call_id", "file_id", "filename"})
"""Members of messages and parts that the model is not shown as text."""

_DATA: Final = frozenset({"file_data", "data"})
"""Base64 of files and sounds; nothing offline tells their tokens, so they stay what the door estimates."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class TokenCounter:
    """Counts the input tokens of bodies; costs some 7 us a kilobyte of English, in the caller's thread.

    Args:
        encoding: The model's, of `ENCODINGS`.

    Raises:
        InvalidRequest: If the encoding is unknown.
    """

    def __init__(self, encoding: str = ENCODINGS[0]) -> None:
        if encoding not in ENCODINGS:
            raise InvalidRequest("encoding", f"one of {', '.join(ENCODINGS)}", encoding)
        # ordinary text only: a prompt that spells a special token is text to the service as well
        self._tokens_of = Tokenizer.from_pretrained(encoding).encode_ordinary

    def __call__(self, body: bytes | dict[str, Any]) -> int:
        """Tokens of a body for chat or responses, as a dictionary or JSON.

        Raises:
            ValueError: If it is no JSON object.
        """
        value = _decode(body) if isinstance(body, bytes) else body
        if not isinstance(value, dict):
            raise TypeError("a body is a JSON object")
        total = REPLY_TOKENS + sum(self._message(m) for m in value.get("messages") or ())
        given = value.get("input") or ()
        items = [given] if isinstance(given, str) else given
        total += sum(self._message(item) for item in items)
        if instructions := value.get("instructions"):
            total += self._message(instructions)
        shown = (value.get(name) for name in ("tools", "functions", "response_format", "text"))
        return total + sum(self._text(_encode(part).decode()) for part in shown if part)

    def _message(self, message: Any) -> int:
        name = NAME_TOKENS if isinstance(message, dict) and "name" in message else 0
        return MESSAGE_TOKENS + name + self._value(message)

    def _value(self, value: Any) -> int:
        """Tokens of all text inside; no recursion, because callers decide how deep it goes."""
        total, stack = 0, [value]
        while stack:
            one = stack.pop()
            if isinstance(one, str):
                total += self._text(one)
            elif isinstance(one, list):
                stack.extend(one)
            elif isinstance(one, dict):
                for name, item in one.items():
                    if name in FIELDS:
                        total += image_tokens(one, name)
                    elif name in _DATA and isinstance(item, str):
                        total += -(-len(item) // 4)
                    elif name not in _UNSEEN:
                        stack.append(item)
        return total

    def _text(self, text: str) -> int:
        if len(text) <= TEXT_MAX:
            return len(self._tokens_of(text))
        return round(len(self._tokens_of(text[:TEXT_MAX])) * len(text) / TEXT_MAX)
