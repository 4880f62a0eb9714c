"""The report's documents: one HTML file that needs nothing else, its Markdown twin, and numbers as people read them."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from proteus_router.evaluation.harness.compare import Interval
from proteus_router.evaluation.harness.results import Results, Row
from proteus_router.evaluation.report.document import (
    Document,
    Figure,
    Figures,
    Note,
    Paragraph,
    Section,
    Table,
)
from proteus_router.evaluation.report.html import render_html
from proteus_router.evaluation.report.markdown import render_markdown
from proteus_router.evaluation.report.numbers import DASH, difference, percent, plain, plus_minus, usd
from proteus_router.evaluation.report.style import canvas, look_of, save


class _Reader(HTMLParser):
    """Collects addresses, visible text and whether tags are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.anchors: set[str] = set()
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.anchors |= {value or "" for name, value in attrs if name == "id"}
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def document(tmp_path: Path) -> Document:
    with canvas() as (figure, (axes,)):
        axes.plot([0, 1], [0, 1], label="line")
        axes.legend()
        path = save(figure, tmp_path / "figures" / "line")
    table = Table(
        "Costs",
        ("router", "REQ", "a | b"),
        (("ours <b>", "0.7", "1|2"), ("theirs", "0.8", "-")),
        strong=frozenset({0}),
        note="n = 5",
    )
    section = Section(
        "Cost at equal accuracy",
        [table, Figures((Figure(path, "A line.", "A [line]"),)), Note(("one", "two"))],
    )
    return Document("Report", [Paragraph("**Bold**, `code` and 1 < 2.")], [section])


def test_html_needs_no_network_and_is_well_formed(document: Document) -> None:
    page = render_html(document)
    reader = _Reader()
    reader.feed(page)
    assert reader.open == []
    assert all(address.startswith(("data:", "#")) for address in reader.addresses)
    assert {address[1:] for address in reader.addresses if address.startswith("#")} <= reader.anchors
    assert "<script" not in page
    assert "http://" not in page.replace('xmlns="http://', "")
    assert "<strong>Bold</strong>" in page
    assert "<code>code</code>" in page
    assert "1 &lt; 2" in page
    assert "ours &lt;b&gt;" in page
    assert 'class="strong"' in page


def test_every_cell_carries_its_label_for_narrow_screens(document: Document) -> None:
    page = render_html(document)
    assert page.count('data-label="REQ"') == 2
    assert "max-width: 600px" in page


def test_markdown_says_the_same(document: Document, tmp_path: Path) -> None:
    text = render_markdown(document, folder=tmp_path)
    reader = _Reader()
    reader.feed(render_html(document))
    for piece in ("Cost at equal accuracy", "theirs", "0.8", "n = 5", "two", "A line."):
        assert piece in text
        assert any(piece in part for part in reader.text), piece
    assert "| **ours <b>** | **0.7** | **1\\|2** |" in text
    assert "![A (line)](figures/line.png)" in text
    assert (tmp_path / "figures" / "line.png").exists()


def test_a_table_with_a_short_row_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells in a row of 2"):
        Table("x", ("a", "b"), (("1",),))


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with canvas() as (figure, (axes,)):
            axes.plot([0, 1], [1, 0])
            save(figure, tmp_path / name)
    for suffix in (".svg", ".png"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


def test_routers_differ_by_more_than_colour() -> None:
    names = ["proteus", "static-mix", "a", "b", "c", "d"]
    looks = [look_of(name, "proteus", names) for name in names]
    assert len({look.colour for look in looks}) == len(names)
    assert len({(look.marker, look.dash) for look in looks}) == len(names)


def _results(*values: float | None) -> Results:
    return Results(Row("main", "d", seed, "r", "m", value) for seed, value in enumerate(values))


def test_numbers_are_printed_with_their_error_or_as_a_dash() -> None:
    assert plus_minus(_results(0.6, 0.8)) == "0.700 ± 0.100"
    assert plus_minus(_results(0.6)) == "0.600"
    assert plus_minus(_results(None, None)) == DASH
    assert plus_minus(_results(None, 0.5)) == "0.500"
    assert plain(None) == percent(None) == usd(None) == difference(None) == DASH
    assert percent(0.123) == "12%"
    assert [usd(value) for value in (0.0, 1.234e-5, 0.00123, 0.0123, 1.0)] == [
        "0",
        "0.0123",
        "1.23",
        "12.3",
        "1000",
    ]
    assert difference(Interval(-0.05, -0.08, -0.02, 0.01)) == "-0.050 [-0.080, -0.020]"
    assert np.isfinite(_results(0.6, None).by_seed()).all()
