"""The table of every setting, made from the models, for `docs/configuration.md`."""

import types
import typing
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import annotated_types
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from groupage_worker.settings import Settings

_WORDS: typing.Final = {
    bool: "yes or no",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    SecretStr: "secret",
    tuple: "list of names",
    dict: "names to numbers",
}


def table() -> str:
    """Markdown: one table a group, in the order of the models."""
    parts = []
    top = [(name, field) for name, field in Settings.model_fields.items() if _group_of(field) is None]
    parts.append(_section("Top level", "", "", top))
    for name, field in Settings.model_fields.items():
        group = _group_of(field)
        if group is None:
            continue
        is_map = typing.get_origin(field.annotation) is dict
        prefix = f"{name}.NAME." if is_map else f"{name}."
        parts.append(
            _section(f"`{prefix.rstrip('.')}`", prefix, group.__doc__ or "", list(group.model_fields.items()))
        )
    return "\n".join(parts)


def _group_of(field: FieldInfo) -> type[BaseModel] | None:
    """The group of settings a field holds, by name or alone."""
    kind = field.annotation
    if typing.get_origin(kind) is dict:
        kind = typing.get_args(kind)[1]
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _section(title: str, prefix: str, about: str, fields: list[tuple[str, FieldInfo]]) -> str:
    rows = [
        f"| `{prefix}{name}` | {_kind(field)} | {_default(field)} | {field.description} |"
        for name, field in fields
    ]
    head = [
        f"### {title}",
        "",
        *([about, ""] if about else []),
        "| setting | value | default | meaning |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def _kind(field: FieldInfo) -> str:
    words = _type_words(field.annotation)
    bounds = ", ".join(_bounds(field))
    return f"{words}, {bounds}" if bounds else words


def _type_words(kind: object) -> str:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _type_words(args[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_words(arg) for arg in args if arg is not types.NoneType)
    if origin is typing.Literal:
        return ", ".join(f"`{word}`" for word in args)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return ", ".join(f"`{word.value}`" for word in kind)
    return _WORDS[origin or typing.cast("type", kind)]


def _bounds(field: FieldInfo) -> Iterator[str]:
    for rule in field.metadata:
        match rule:
            case annotated_types.Gt(bound):
                yield f"> {bound}"
            case annotated_types.Ge(bound):
                yield f"≥ {bound:,}"
            case annotated_types.Lt(bound):
                yield f"< {bound}"
            case annotated_types.Le(bound):
                yield f"≤ {bound:,.0f}"
            case _:
                # patterns and lengths are told by the sentence of their error
                continue


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    match value:
        case None:
            text = "none"
        case bool():
            text = "yes" if value else "no"
        case SecretStr():
            text = f"`{value.get_secret_value()}`"
        case int() | float():
            text = f"{value:,}" if value % 1 else f"{value:,.0f}"
        case {} | ():
            text = "empty"
        case _:
            text = f"`{value}`"
    return text
