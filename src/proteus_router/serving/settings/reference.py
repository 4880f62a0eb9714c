"""The tables of docs/configuration.md, generated: ``python -m proteus_router.serving.settings.reference``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from proteus_router.serving.settings.sections import GatewaySettings

__all__ = ["END", "START", "reference"]

START, END = "<!-- generated: settings -->", "<!-- end of generated -->"


def reference() -> str:
    """One table a section, in the order of the file; Markdown."""
    pages = []
    for path, section in _sections("", GatewaySettings):
        rows = [
            _row(name, field) for name, field in section.model_fields.items() if _section_of(field) is None
        ]
        if rows:
            title = f"`{path}`" if path else "Top level"
            pages.append(
                f"### {title}\n\n{_summary(section)}\n\n| key | default | meaning |\n|---|---|---|\n"
                + "\n".join(rows)
            )
    return "\n\n".join(pages) + "\n"


def _sections(path: str, section: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, section
    for name, field in section.model_fields.items():
        inner = _section_of(field)
        if inner is not None:
            place = f"{name}.<name>" if name == "tiers" else name
            yield from _sections(f"{path}.{place}".lstrip("."), inner)


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    for annotation in (field.annotation, *get_args(field.annotation)):
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
    return None


def _summary(section: type[BaseModel]) -> str:
    return (section.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ").replace("``", "`")


def _row(name: str, field: FieldInfo) -> str:
    meaning = (field.description or "").replace("|", "\\|").replace("``", "`")
    return f"| `{name}` | {_default(field.default)} | {meaning} |"


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(reference())
