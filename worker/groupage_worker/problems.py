"""What pydantic found wrong, as sentences: the place, the value unless it may be a secret, what would be right."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from groupage_worker.settings import Settings

Path = tuple[str, ...]

_RULES: typing.Final = {
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be one of {expected}",
    "enum": "must be one of {expected}",
    "string_pattern_mismatch": (
        "must be 1 to 63 characters: lower-case letters, digits, '.', '_' and '-', the first a letter or digit"
    ),
    "string_too_short": "must not be empty",
    "too_short": "needs at least {min_length} entry",
    "finite_number": "must be a finite number",
}
"""pydantic's error type -> the rule in words; `{...}` is filled from the error's context."""

_KINDS: typing.Final = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "tuple": "a list",
    "dict": "a mapping of names to values",
    "model": "a group of settings",
}
"""Start of pydantic's error types `..._type` and `..._parsing` -> what is wanted."""

_SHOWN_CHARS = 60
"""Longest part of a wrong value that is repeated."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The merged input of the settings, and where each leaf of it came from.

    Attributes:
        tree: Nested values as file and environment gave them.
        origins: Path of a value -> its origin: a file's name or an environment variable.
    """

    tree: Mapping[str, typing.Any]
    origins: Mapping[Path, str]

    def origin(self, path: Path) -> str | None:
        """Where a value came from, or the nearest group around it; None for a default."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins:
                return self.origins[path[:end]]
        return None

    def value(self, path: Path) -> object:
        """The value at a path, None where there is none."""
        node: object = self.tree
        for part in path:
            if isinstance(node, Mapping):
                node = node.get(part)
            elif isinstance(node, list | tuple) and part.isdigit() and int(part) < len(node):
                node = node[int(part)]
            else:
                return None
        return node


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint after an unknown name: the nearest known one, else all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"known: {', '.join(names)}" if names else "none is declared"


def _unwrap(annotation: object) -> object:
    """The annotation without `| None` and `Annotated`."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin in (typing.Union, types.UnionType):
            annotation = next(arg for arg in typing.get_args(annotation) if arg is not types.NoneType)
        else:
            return annotation


def annotation_at(path: Path) -> object:
    """The type of the setting at a path, None where there is no such setting."""
    here: object = Settings
    for part in path:
        here = _unwrap(here)
        if isinstance(here, type) and issubclass(here, BaseModel):
            field = here.model_fields.get(part)
            here = None if field is None else field.annotation
        elif typing.get_origin(here) is dict:
            here = typing.get_args(here)[1]
        else:
            return None
    return _unwrap(here)


def fields_at(path: Path) -> dict[str, FieldInfo]:
    """The settings known in a group, empty where the path is no group."""
    group = annotation_at(path)
    return group.model_fields if isinstance(group, type) and issubclass(group, BaseModel) else {}


def sentence(error: ErrorDetails, sources: Sources) -> str:
    """One of pydantic's errors as a sentence.

    Args:
        error: The error, taken without its input.
        sources: Where value and origin are looked up.
    """
    path = tuple(str(part) for part in error["loc"])
    if path[-1:] == ("[key]",):
        path = path[:-1]
        return f"{'.'.join(path[:-1])}: the name {path[-1]!r} {_RULES['string_pattern_mismatch']}"
    place = ".".join(path)
    if error["type"] == "missing":
        return f"{place}: is missing; {_describe(path)}"
    origin = sources.origin(path)
    where = f" (from {origin})" if origin else ""
    if error["type"] == "extra_forbidden":
        # an unknown name may hold a misspelt secret, so its value is never shown
        return f"{place}: there is no such setting{where}; {nearest(path[-1], fields_at(path[:-1]))}"
    return f"{place}{_shown(path, sources)}: {_rule(error)}{where}"


def _describe(path: Path) -> str:
    """What a missing setting is for."""
    field = fields_at(path[:-1]).get(path[-1])
    return (field.description if field is not None else None) or "it has no default"


def _shown(path: Path, sources: Sources) -> str:
    """The wrong value, unless it is a secret or not a single value."""
    value = sources.value(path)
    if annotation_at(path) is SecretStr or not isinstance(value, str | int | float | bool):
        return ""
    text = str(value)
    return f" = {text[:_SHOWN_CHARS]}{'...' if len(text) > _SHOWN_CHARS else ''}"


def _rule(error: ErrorDetails) -> str:
    """What would be right."""
    rule = _RULES.get(error["type"])
    if rule is not None:
        return rule.format_map(error.get("ctx", {}))
    kind = error["type"].partition("_")[0]
    if kind in _KINDS:
        return f"must be {_KINDS[kind]}"
    # pydantic's own words for whatever is left hold the rule, never the input
    return error["msg"][:1].lower() + error["msg"][1:]


def sentences(error: ValidationError, sources: Sources) -> list[str]:
    """Every error of a validation as a sentence."""
    # the input stays out of pydantic's hands here: it would repeat secrets
    details = error.errors(include_url=False, include_input=False)
    return [sentence(one, sources) for one in details]
