"""Instances of JSON schemas, so that an answer fits the request's `response_format` or tool parameters.

Every free string of the instance is the digest mark; an object that may have more members than its schema names gets a
`digest` member beside. Not a validator: unknown keywords are passed over.
"""

from typing import Any

DEPTH_MAX = 12


def instance(schema: Any, mark: str) -> Any:
    """A value that fits a schema in the common subset, with the mark wherever it can stand."""
    value = _build(schema, schema if isinstance(schema, dict) else {}, mark, 0)
    if not isinstance(value, dict):
        return {"digest": mark}
    if mark not in value.values():
        value["digest"] = mark
    return value


def _resolve(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Follows a `$ref` inside the document."""
    target: Any = root
    for part in str(schema["$ref"]).lstrip("#/").split("/"):
        target = target.get(part, {}) if isinstance(target, dict) else {}
    return target if isinstance(target, dict) else {}


def _build(schema: Any, root: dict[str, Any], mark: str, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > DEPTH_MAX:
        return mark
    if "$ref" in schema:
        return _build(_resolve(schema, root), root, mark, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for union in ("anyOf", "oneOf", "allOf"):
        if schema.get(union):
            return _build(schema[union][0], root, mark, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return _of_kind(kind[0] if isinstance(kind, list) and kind else kind, schema, root, mark, depth)


def _of_kind(kind: Any, schema: dict[str, Any], root: dict[str, Any], mark: str, depth: int) -> Any:
    match kind:
        case "object":
            members = schema.get("properties") or {}
            return {name: _build(member, root, mark, depth + 1) for name, member in members.items()}
        case "array":
            count = max(1, int(schema.get("minItems", 1)))
            return [
                _build(schema.get("items", {}), root, mark, depth + 1) for _ in range(min(count, DEPTH_MAX))
            ]
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return mark
