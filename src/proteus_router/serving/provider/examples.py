"""A value that fits a JSON schema: arguments for a tool, or an answer in structured form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["example_of"]

_DEEPEST = 12


def example_of(schema: Any, answer: str) -> Any:
    """A small value that `schema` accepts, with `answer` wherever it takes a text.

    Covers what tools and response formats use: types, enum, const, properties, items, anyOf/oneOf/allOf and local
    ``$ref``. A schema that nests without end is cut off with null.
    """
    root = schema if isinstance(schema, Mapping) else {}
    return _value(root, root, answer, 0)


def _value(schema: Mapping[str, Any], root: Mapping[str, Any], answer: str, depth: int) -> Any:
    if depth > _DEEPEST:
        return None
    if "$ref" in schema:
        return _value(_resolve(str(schema["$ref"]), root), root, answer, depth + 1)
    for fixed in ("const", "default"):
        if fixed in schema:
            return schema[fixed]
    if schema.get("enum"):
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf", "allOf"):
        if schema.get(choice):
            return _value(schema[choice][0], root, answer, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: _value(part, root, answer, depth + 1) for name, part in properties.items()}
    if kind == "array":
        count = max(1, int(schema.get("minItems", 1)))
        return [_value(schema.get("items") or {}, root, answer, depth + 1) for _ in range(count)]
    return _scalar(kind, schema, answer)


def _scalar(kind: str, schema: Mapping[str, Any], answer: str) -> Any:
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    if kind in ("integer", "number"):
        value = int(answer) if answer.isdigit() else 1
        value = min(value, schema.get("maximum", value))
        return max(value, schema.get("minimum", value))
    return answer


def _resolve(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part, {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, Mapping) else {}
