"""Request bodies like those of real services: a pure function of seed, lane and number.

System prompts, tools, structured outputs, six languages, images as data and as link; chat and responses. A few are made
to be blocked by the content filter, which is an answer too: those requests have to fail, once, and cost nothing.
"""

import base64
import functools
import random
import struct
import zlib
from importlib import resources
from typing import Any, Final, NamedTuple

from groupage_emulator.demo.records import Expected

CHAT: Final = "chat-mini"
RESPONSES: Final = "responses"

LANGUAGES: Final = {
    "en": "English",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "ja": "Japanese",
    "ar": "Arabic",
}

_BLOCKED: Final = "[[emulate:content_filter]]"
"""Makes the emulator answer as if the prompt was blocked (`answers.DIRECTIVES`)."""

_BLOCKED_RATIO: Final = 0.004

_SYSTEM: Final = (
    "You are the assistant of a mail-order house. Answer politely and in the language of the text. Ask for what is missing.",
    "You proofread for a small publisher. Name what is unclear before you suggest a change. Keep the author's voice.",
    "You sort incoming letters. Be brief. Say what the writer wants, how urgent it is, and who should read it.",
    "You translate for a travel agency. Keep names and times as they are, and explain words that have no equal.",
)

_TASKS: Final = (
    "Summarise the text in two sentences.",
    "Which question would you ask the writer first?",
    "Give the text a title of at most six words.",
    "List every point in time that the text mentions.",
    "Rewrite the text for a reader of ten years.",
    "Say in one sentence what the writer wants.",
)

_SCHEMA: Final = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "urgency": {"type": "string", "enum": ["low", "middle", "high"]},
        "topics": {"type": "array", "items": {"type": "string"}, "minItems": 2},
        "needs_answer": {"type": "boolean"},
    },
    "required": ["title", "urgency", "topics", "needs_answer"],
    "additionalProperties": False,
}

_PARAMETERS: Final = {
    "type": "object",
    "properties": {
        "department": {"type": "string"},
        "subject": {"type": "string"},
        "days": {"type": "integer", "minimum": 1},
    },
    "required": ["department", "subject", "days"],
    "additionalProperties": False,
}

_FUNCTION: Final = {
    "name": "open_ticket",
    "description": "Opens a ticket for the department that has to act.",
    "parameters": _PARAMETERS,
}


class Made(NamedTuple):
    """One request body and how it has to end."""

    body: dict[str, Any]
    expected: Expected


@functools.cache
def passages(language: str) -> tuple[str, ...]:
    """The paragraphs that ship with the package in one language."""
    text = resources.files("groupage_emulator.demo").joinpath("texts", f"{language}.txt").read_text("utf-8")
    return tuple(part.strip() for part in text.split("\n\n") if part.strip())


def png(red: int, green: int, blue: int) -> bytes:
    """A picture of 8 by 8 pixels in one colour, made here so that no binary file has to ship."""
    rows = (b"\x00" + bytes((red, green, blue)) * 8) * 8

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def make(lane: str, producer: str, number: int, seed: int) -> Made:
    """The body of one request.

    Args:
        lane: `CHAT` or `RESPONSES`.
        producer: Its service; stands in the text, so that no two requests are equal.
        number: Which of the service's requests.
        seed: Of all choices.
    """
    rng = random.Random(f"{seed}:{lane}:{producer}:{number}")
    is_blocked = rng.random() < _BLOCKED_RATIO
    text = _text(rng, f"{producer}/{number:06d}")
    if is_blocked:
        text += f"\n{_BLOCKED}"
    body = _responses(rng, text) if lane == RESPONSES else _chat(rng, text)
    return Made(body, "failed" if is_blocked else "succeeded")


def _text(rng: random.Random, reference: str) -> str:
    """One to four paragraphs in one language, with a task and a reference number."""
    language = rng.choice(tuple(LANGUAGES))
    chosen = rng.sample(passages(language), k=rng.choice((1, 2, 2, 3, 4)))
    task = rng.choice(_TASKS)
    if rng.random() < 0.25:
        task = f"Translate the text into {LANGUAGES[rng.choice(tuple(LANGUAGES))]}."
    return "\n\n".join((f"{task} (Reference {reference}.)", *chosen))


def _chat(rng: random.Random, text: str) -> dict[str, Any]:
    """A body for /chat/completions."""
    system = {"role": "system", "content": rng.choice(_SYSTEM)}
    user: dict[str, Any] = {"role": "user", "content": text}
    body: dict[str, Any] = {"messages": [system, user], "max_completion_tokens": rng.choice((200, 400, 800))}
    match rng.choices(("plain", "turns", "tool", "schema", "data", "link"), (45, 12, 16, 17, 5, 5))[0]:
        case "plain":
            body["temperature"] = rng.choice((0, 0.2, 0.7))
        case "turns":
            earlier = {"role": "assistant", "content": "Gladly. Please send me the text."}
            body["messages"] = [
                system,
                {"role": "user", "content": "May I ask you something?"},
                earlier,
                user,
            ]
        case "tool":
            body["tools"] = [{"type": "function", "function": _FUNCTION}]
            body["tool_choice"] = "auto"
        case "schema":
            wanted = {"name": "letter", "strict": True, "schema": _SCHEMA}
            body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        case "data":
            picture = base64.b64encode(png(*rng.randbytes(3))).decode()
            user["content"] = _with_image(text, f"data:image/png;base64,{picture}")
        case _:
            user["content"] = _with_image(text, f"https://pictures.example/{rng.randrange(10**6)}.jpg")
    return body


def _with_image(text: str, url: str) -> list[dict[str, Any]]:
    return [
        {"type": "text", "text": text},
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
    ]


def _responses(rng: random.Random, text: str) -> dict[str, Any]:
    """A body for /v1/responses."""
    body: dict[str, Any] = {"instructions": rng.choice(_SYSTEM), "input": text, "max_output_tokens": 400}
    match rng.choices(("plain", "items", "tool", "schema"), (40, 20, 20, 20))[0]:
        case "items":
            body["input"] = [{"role": "user", "content": [{"type": "input_text", "text": text}]}]
        case "tool":
            body["tools"] = [{"type": "function", **_FUNCTION}]
        case "schema":
            wanted = {"type": "json_schema", "name": "letter", "strict": True, "schema": _SCHEMA}
            body["text"] = {"format": wanted}
    return body
