"""A report as plain blocks, before it is HTML or Markdown.

Text may hold `code` in backticks, **bold** between double asterisks and [links](target); nothing else is markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "Document", "Figure", "Figures", "Note", "Paragraph", "Section", "Table"]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph of running text."""

    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """Several short lines, as a list."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first column names the row, the others are figures and stand to the right.

    Attributes
    ----------
    strong
        Numbers of the rows printed in bold.
    note
        What n, seeds and intervals are; printed under it.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: frozenset[int] = frozenset()
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"{self.caption!r}: {len(row)} cells in a row of {len(self.columns)} columns."
                )


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture on disk as PNG and SVG.

    Attributes
    ----------
    path
        Without suffix.
    alt
        What it shows, for those who can't see it.
    """

    path: Path
    caption: str
    alt: str


@dataclass(frozen=True, slots=True)
class Figures:
    """Pictures of one kind, side by side where there is room."""

    figures: tuple[Figure, ...]
    caption: str = ""


Block = Paragraph | Note | Table | Figures


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """The heading as a link target, as GitHub makes it."""
        kept = "".join(c for c in self.title.lower() if c.isalnum() or c in " -")
        return kept.replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Document:
    """The whole report."""

    title: str
    lead: Sequence[Block]
    sections: Sequence[Section]
