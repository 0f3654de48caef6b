"""The work of the benchmarks: bodies and output lines of the sizes that the targets name."""

import itertools
import json
import random
from typing import Any

WORDS = [
    "the",
    "batch",
    "holds",
    "many",
    "small",
    "requests",
    "and",
    "each",
    "of",
    "them",
    "asks",
    "for",
    "a",
    "short",
    "text",
    "about",
    "one",
    "product",
    "of",
    "the",
    "catalogue",
    "with",
    "its",
    "colour",
    "size",
    "price",
    "and",
    "care",
    "instructions",
    "in",
    "plain",
    "words",
    "that",
    "a",
    "customer",
    "understands",
    "at",
    "once",
    "so",
    "that",
    "nobody",
    "has",
    "to",
    "call",
    "the",
    "shop",
    "before",
    "an",
    "order",
    "is",
    "placed",
    "or",
    "after",
    "it",
    "has",
    "arrived",
]

BODY_BYTES = 2_048
OUTPUT_BODY_BYTES = 1_700


def prose(chooser: random.Random, size: int) -> str:
    """Words up to a number of characters; like text, it compresses and never repeats."""
    words: list[str] = []
    length = 0
    while length < size:
        word = chooser.choice(WORDS)
        words.append(word)
        length += len(word) + 1
    return " ".join(words)[:size]


def bodies(n: int, *, size: int = BODY_BYTES, seed: int = 1) -> list[dict[str, Any]]:
    """Chat bodies of about `size` bytes as compact JSON, each different."""
    chooser = random.Random(seed)
    texts = [prose(chooser, max(1, size - 175)) for _ in range(min(n, 512))]
    system = "You write short product texts."
    return [
        {
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": f"{index:08d} {text}"},
            ],
            "temperature": 0.2,
            "max_tokens": 400,
        }
        for index, text in zip(range(n), itertools.cycle(texts), strict=False)
    ]


def compact(body: dict[str, Any]) -> bytes:
    """A body as the product stores it."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def output_lines(custom_ids: list[str], *, size: int = OUTPUT_BODY_BYTES, seed: int = 2) -> list[bytes]:
    """Lines of an output file for these requests, in another order."""
    chooser = random.Random(seed)
    texts = [prose(chooser, size) for _ in range(min(len(custom_ids), 512))]
    lines = [output_line(name, text) for name, text in zip(custom_ids, itertools.cycle(texts), strict=False)]
    chooser.shuffle(lines)
    return lines


def output_line(custom_id: str, text: str) -> bytes:
    """One line of an output file."""
    line = {
        "custom_id": custom_id,
        "response": {
            "status_code": 200,
            "request_id": "00000000-0000-0000-0000-000000000000",
            "body": {
                "id": "chatcmpl-000000000000000000000000000",
                "object": "chat.completion",
                "created": 1_790_000_000,
                "model": "gpt-4o-mini-2024-07-18",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": text, "refusal": None},
                        "logprobs": None,
                        "finish_reason": "stop",
                    }
                ],
                "usage": {
                    "prompt_tokens": 512,
                    "completion_tokens": 400,
                    "total_tokens": 912,
                    "prompt_tokens_details": {"cached_tokens": 0},
                },
                "system_fingerprint": "fp_0000000000",
            },
        },
        "error": None,
    }
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
