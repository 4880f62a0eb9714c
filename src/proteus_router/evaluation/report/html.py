"""A document as one HTML file that needs nothing else: style inside, pictures inside, no network."""

from __future__ import annotations

import base64
import html
import re

from proteus_router.evaluation.report.document import (
    Block,
    Document,
    Figure,
    Figures,
    Note,
    Paragraph,
    Section,
    Table,
)

__all__ = ["render_html"]

_STYLE = """
:root { color-scheme: light; --ink: #1f2933; --soft: #52606d; --line: #d9e2ec; --band: #f5f7fa; --ours: #e6f0f8; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "DejaVu Sans", sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-top: .6rem; border-top: 2px solid var(--line); }
p, li { max-width: 80ch; }
p { margin: .6rem 0; }
a { color: #0b5394; }
code { font-size: .9em; background: var(--band); padding: .05em .3em; border-radius: 3px; overflow-wrap: anywhere; }
nav { font-size: .92rem; margin: 1.2rem 0; }
nav a { display: inline-block; margin: 0 .9rem .25rem 0; }
.table { margin: 1.1rem 0 1.4rem; }
.table > b { display: block; margin-bottom: .35rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 4px; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .34rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { background: var(--band); font-weight: 600; vertical-align: bottom; }
thead th { white-space: normal; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
td:first-child { white-space: normal; min-width: 8.5rem; }
thead th:first-child { background: var(--band); }
tr:last-child td { border-bottom: 0; }
tr.strong td, tr.strong td:first-child { background: var(--ours); font-weight: 600; }
.note, figcaption { color: var(--soft); font-size: .86rem; max-width: 100ch; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 470px), 1fr)); gap: 1.2rem;
  margin: 1rem 0; }
figure { margin: 0; min-width: 0; }
figure img { width: 100%; height: auto; display: block; }
@media (max-width: 600px) {
  body { font-size: 15px; }
  main { padding: 1rem .75rem 3rem; }
  thead { display: none; }  /* a row becomes its name and, under it, label and figure in pairs */
  table, tbody { display: block; }
  tr { display: block; padding: .4rem .6rem; border-bottom: 1px solid var(--line); }
  tr:last-child { border-bottom: 0; }
  td { display: inline-block; padding: 0 .8rem .1rem 0; border: 0; text-align: left; white-space: normal; }
  td:first-child { display: block; position: static; font-weight: 600; background: none; }
  tr.strong { background: var(--ours); }
  td::before { content: attr(data-label) " "; color: var(--soft); font-weight: 400; font-size: .92em; }
  td:first-child::before { content: none; }
}
@media print { .scroll { overflow: visible; } h2 { break-after: avoid; } figure, .table { break-inside: avoid; } }
"""


def render_html(document: Document) -> str:
    """The whole page."""
    links = "".join(f'<a href="#{s.anchor}">{_inline(s.title)}</a>' for s in document.sections)
    body = "\n".join(
        [
            f"<h1>{_inline(document.title)}</h1>",
            *(_block(block) for block in document.lead),
            f'<nav aria-label="Contents">{links}</nav>' if links else "",
            *(_section(section) for section in document.sections),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(document.title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    blocks = "\n".join(_block(block) for block in section.blocks)
    return f'<section id="{section.anchor}">\n<h2>{_inline(section.title)}</h2>\n{blocks}\n</section>'


def _block(block: Block) -> str:
    match block:
        case Paragraph(text):
            return f"<p>{_inline(text)}</p>"
        case Note(lines):
            return "<ul>" + "".join(f"<li>{_inline(line)}</li>" for line in lines) + "</ul>"
        case Table():
            return _table(block)
        case Figures(figures, caption):
            lead = f"<p>{_inline(caption)}</p>" if caption else ""
            return lead + '<div class="figures">' + "".join(map(_figure, figures)) + "</div>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_inline(name)}</th>' for name in table.columns)
    lines = []
    for number, row in enumerate(table.rows):
        kind = ' class="strong"' if number in table.strong else ""
        cells = (
            f'<td data-label="{html.escape(name)}">{_inline(cell)}</td>'
            for name, cell in zip(table.columns, row, strict=True)
        )
        lines.append(f"<tr{kind}>{''.join(cells)}</tr>")
    caption = f"<b>{_inline(table.caption)}</b>" if table.caption else ""
    note = f'<p class="note">{_inline(table.note)}</p>' if table.note else ""
    return (
        f'<div class="table">{caption}<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>{note}</div>"
    )


def _figure(figure: Figure) -> str:
    picture = base64.b64encode(figure.path.with_name(figure.path.name + ".svg").read_bytes()).decode()
    return (
        f'<figure><img alt="{html.escape(figure.alt)}" src="data:image/svg+xml;base64,{picture}">'
        f"<figcaption>{_inline(figure.caption)}</figcaption></figure>"
    )


def _inline(text: str) -> str:
    shown = html.escape(text, quote=False)
    shown = re.sub(r"`([^`]+)`", r"<code>\1</code>", shown)
    shown = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", shown)
    return re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", _link, shown)


def _link(match: re.Match[str]) -> str:
    return f'<a href="{html.escape(match[2])}">{match[1]}</a>'
