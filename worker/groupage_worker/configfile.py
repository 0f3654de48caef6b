"""Reads the settings: a YAML or TOML file, over it the environment; every problem is named at once.

The only place of the worker that reads the environment.
"""

import dataclasses
import os
import re
import tomllib
import typing
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError
from pydantic_settings.sources.utils import parse_env_vars

from groupage_worker import crosscheck, notes, problems
from groupage_worker.errors import ConfigurationError
from groupage_worker.settings import Settings

PREFIX = "GROUPAGE_"
CONFIG_VARIABLE = "GROUPAGE_CONFIG"

_SERVICE_LINK = re.compile(r"[A-Z0-9_]*?(_SERVICE_HOST|(_SERVICE)?_PORT(_[A-Z0-9_]+)?)")
"""Kubernetes puts `<SERVICE>_PORT_6379_TCP_ADDR` and the like into every pod; a service called `groupage-redis`
would otherwise look like a misspelt setting (kubernetes.io, "Service: environment variables", 2026-11-20)."""

_NAMED: typing.Final = ("regions", "deployments", "lanes")
"""Settings that map names to groups."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings that can work.

    Attributes:
        settings: The settings.
        sources: Where each value came from.
        notes: What works but is hardly meant, one sentence each.
    """

    settings: Settings
    sources: problems.Sources
    notes: list[str]


def load(path: Path | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Read and check the settings.

    Args:
        path: YAML or TOML file, told apart by suffix; default: what GROUPAGE_CONFIG names, else no file.
        env: The environment; default: the process's.

    Raises:
        ConfigurationError: If they cannot work; it holds every problem.
    """
    return load_with_sources(path, env).settings


def file_of(path: Path | None = None, env: Mapping[str, str] | None = None) -> Path | None:
    """The settings file: the one given, else what GROUPAGE_CONFIG names, else none."""
    env = os.environ if env is None else env
    named = env.get(CONFIG_VARIABLE)
    return Path(named) if path is None and named else path


def load_with_sources(path: Path | None = None, env: Mapping[str, str] | None = None) -> Loaded:
    """Read and check the settings, and keep where each came from.

    Args:
        path: As for `load`.
        env: As for `load`.

    Raises:
        ConfigurationError: If they cannot work; it holds every problem.
    """
    env = os.environ if env is None else env
    path = file_of(path, env)
    tree: dict[str, typing.Any] = {}
    origins: dict[problems.Path, str] = {}
    found: list[str] = []
    if path is not None:
        tree, file_problems = _read_file(path)
        found += file_problems
        origins |= dict.fromkeys(_leaves(tree), path.name)
    found += _overlay(tree, origins, env)
    sources = problems.Sources(tree=tree, origins=origins)
    settings, more = _validate(sources)
    declared = {name: frozenset(map(str, _mapping(tree.get(name)))) for name in _NAMED}
    found += more + crosscheck.problems(settings, declared) + crosscheck.surroundings(settings)
    if found:
        raise ConfigurationError(found)
    return Loaded(settings=settings, sources=sources, notes=notes.notes(settings))


def _mapping(value: object) -> Mapping[typing.Any, typing.Any]:
    """The value if it is a mapping, else an empty one: what is no mapping is reported by its type."""
    return value if isinstance(value, Mapping) else {}


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a name given twice is an error instead of the last one winning silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, typing.Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _read_file(path: Path) -> tuple[dict[str, typing.Any], list[str]]:
    """Read a settings file; the messages name line and column but repeat no text, which may be a secret."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not UTF-8 text"
        return {}, [f"settings file {path}: cannot be read ({reason})"]
    parse = {".toml": _parse_toml, ".yaml": _parse_yaml, ".yml": _parse_yaml}.get(path.suffix)
    if parse is None:
        return {}, [f"settings file {path}: its name must end in .yaml, .yml or .toml"]
    try:
        data = parse(text)
    except _UnreadableError as error:
        return {}, [f"settings file {path}: {error}"]
    if not isinstance(data, dict):
        return {}, [f"settings file {path}: it must be a mapping such as `cluster: blue`"]
    return {str(key): value for key, value in data.items()}, []


class _UnreadableError(Exception):
    """A text is not YAML or TOML; says where, without repeating it."""


def _parse_yaml(text: str) -> object:
    try:
        return yaml.load(text, _StrictLoader)  # noqa: S506 - a SafeLoader  # nosec B506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        raise _UnreadableError(f"{where}: {error.problem or 'it is not YAML'}") from None
    except yaml.YAMLError:
        raise _UnreadableError("it is not YAML") from None


def _parse_toml(text: str) -> object:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"at line \d+, column \d+|at end of document", str(error))
        raise _UnreadableError(f"it is not TOML ({where.group() if where else 'somewhere'})") from None


def _leaves(tree: Mapping[str, typing.Any], path: problems.Path = ()) -> Iterator[problems.Path]:
    """Paths of everything in a tree that is not itself a mapping."""
    for key, value in tree.items():
        here = (*path, str(key))
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, here)
        else:
            yield here


class _Variable(EnvSettingsSource):
    """pydantic-settings' reading of one environment variable."""

    def __init__(self, name: str, value: str) -> None:
        self._given = {name: value}
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return parse_env_vars(
            self._given, self.case_sensitive, self.env_ignore_empty, self.env_parse_none_str
        )


def _overlay(
    tree: dict[str, typing.Any], origins: dict[problems.Path, str], env: Mapping[str, str]
) -> list[str]:
    """Write the environment's values over the file's; returns what is wrong with the variables."""
    found = []
    for name in sorted(env):
        if not name.startswith(PREFIX) or name == CONFIG_VARIABLE:
            continue
        path = tuple(name.removeprefix(PREFIX).lower().split("__"))
        if path[0] not in Settings.model_fields:
            if "__" in name or not _SERVICE_LINK.fullmatch(name):
                known = [PREFIX + field.upper() for field in Settings.model_fields]
                hint = problems.nearest(PREFIX + path[0].upper(), known)
                found.append(f"environment variable {name}: there is no such setting; {hint}")
            continue
        try:
            given = _Variable(name, env[name])()
        except SettingsError:
            # the library's error repeats nothing, but its cause holds the whole text
            found.append(f"environment variable {name}: must be JSON, such as " + '["a", "b"] or {"a": 1}')
            continue
        _merge(tree, given)
        origins |= dict.fromkeys(_leaves(given), name)
    return found


def _merge(under: dict[str, typing.Any], over: Mapping[str, typing.Any]) -> None:
    """Write one tree over another, in place."""
    for key, value in over.items():
        below = under.get(key)
        if isinstance(value, Mapping) and isinstance(below, dict):
            _merge(below, value)
        else:
            under[key] = value


def _validate(sources: problems.Sources) -> tuple[Settings, list[str]]:
    """Make settings of the input; what is broken is left out of them, so that the rest can still be checked."""
    try:
        return Settings.model_validate(sources.tree), []
    except ValidationError as error:
        found = problems.sentences(error, sources)
        broken = {
            tuple(map(str, one["loc"][:2])) for one in error.errors(include_input=False, include_url=False)
        }
    return _salvage(sources.tree, broken), found


def _salvage(tree: Mapping[str, typing.Any], broken: set[problems.Path]) -> Settings:
    """The valid groups of an invalid input; defaults stand in for the others."""
    parts: dict[str, typing.Any] = {"cluster": "unnamed"}
    for name, field in Settings.model_fields.items():
        kind = problems.annotation_at((name, "any") if name in _NAMED else (name,))
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)) or issubclass(kind, BaseSettings):
            continue
        given = _mapping(tree.get(name))
        if name in _NAMED:
            valid = {key: value for key, value in given.items() if (name, str(key)) not in broken}
            parts[name] = {key: kind.model_validate(value) for key, value in valid.items()}
        elif any(path[0] == name for path in broken):
            parts[name] = field.get_default()
        else:
            parts[name] = kind.model_validate(given)
    return Settings.model_construct(**parts)
