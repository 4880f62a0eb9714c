"""A document as Markdown."""

from __future__ import annotations

import os
from pathlib import Path

from proteus_router.evaluation.report.document import Block, Document, Figures, Note, Paragraph, Table

__all__ = ["render_markdown"]


def render_markdown(document: Document, *, folder: Path) -> str:
    """Markdown text whose pictures are linked relative to `folder`."""
    parts = [f"# {document.title}", *(_block(block, folder) for block in document.lead)]
    for section in document.sections:
        parts.append(f"## {section.title}")
        parts += [_block(block, folder) for block in section.blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: Block, folder: Path) -> str:
    match block:
        case Paragraph(text):
            return text
        case Note(lines):
            return "\n".join(f"* {line}" for line in lines)
        case Table():
            return _table(block)
        case Figures():
            return _figures(block, folder)


def _table(table: Table) -> str:
    def line(cells: tuple[str, ...], strong: bool = False) -> str:
        shown = [cell.replace("|", "\\|") for cell in cells]
        return "| " + " | ".join(f"**{cell}**" if strong and cell else cell for cell in shown) + " |"

    lines = [f"**{table.caption}**" if table.caption else "", ""] if table.caption else []
    lines.append(line(table.columns))
    lines.append("|---|" + "--:|" * (len(table.columns) - 1))
    lines += [line(row, number in table.strong) for number, row in enumerate(table.rows)]
    if table.note:
        lines += ["", table.note]
    return "\n".join(lines)


def _figures(block: Figures, folder: Path) -> str:
    parts = [block.caption] if block.caption else []
    for figure in block.figures:
        path = Path(os.path.relpath(figure.path.with_name(figure.path.name + ".png"), folder)).as_posix()
        alt = figure.alt.replace("[", "(").replace("]", ")")
        parts.append(f"![{alt}]({path})\n\n*{figure.caption}*")
    return "\n\n".join(parts)
