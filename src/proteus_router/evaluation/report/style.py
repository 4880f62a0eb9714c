"""One look for all figures: eight colours that colour-blind readers can tell apart, and a marker and a dash beside each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["INK", "Look", "canvas", "look_of", "percent_axis", "save", "usd_axis"]

INK, _SOFT = "#1f2933", "#7b8794"


@dataclass(frozen=True, slots=True)
class Look:
    """Colour, marker, dash and width of one router, the same in every figure."""

    colour: str
    marker: str
    dash: str
    width: float = 1.5


# Okabe and Ito (2008); ours is the one strong blue.
_OURS = Look("#0072b2", "o", "-", 2.4)
_STATIC = Look("#000000", "", "--", 1.4)
_OTHERS = (
    Look("#d55e00", "s", "-"),
    Look("#009e73", "^", "-."),
    Look("#cc79a7", "D", "-"),
    Look("#e69f00", "v", "--"),
    Look("#56b4e9", "P", "-."),
    Look("#8c6d1f", "X", ":"),
    Look("#7b8794", "<", "-"),
    Look("#5e4fa2", ">", "--"),
)


def look_of(router: str, ours: str | None, order: list[str]) -> Look:
    """The look of a router among those of a figure."""
    if router == ours:
        return _OURS
    if router == "static-mix":
        return _STATIC
    others = [name for name in order if name not in (ours, "static-mix")]
    return _OTHERS[others.index(router) % len(_OTHERS)]


@contextmanager
def canvas(*, height: float = 4.0, panels: int = 1, columns: int = 1) -> Iterator[tuple[Any, list[Any]]]:
    """A figure about as wide as a column of the report, and its axes; closed at the end."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = -(-panels // columns)
    settings: Any = {
        "font.size": 11,
        "axes.titlesize": 11,
        "axes.labelsize": 11,
        "legend.fontsize": 9.5,
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
        "axes.edgecolor": _SOFT,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "svg.hashsalt": "proteus",  # the same figure, the same bytes
    }
    with plt.rc_context(settings):
        figure, axes = plt.subplots(
            rows, columns, figsize=(6.2, height * rows), layout="constrained", squeeze=False
        )
        flat = list(axes.ravel())
        for unused in flat[panels:]:
            unused.set_visible(False)
        for axis in flat[:panels]:
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(alpha=0.25, linewidth=0.6)
            axis.set_axisbelow(True)
        try:
            yield figure, flat[:panels]
        finally:
            plt.close(figure)


def save(figure: Any, path: Path) -> Path:
    """Write `path`.png and `path`.svg; returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_name(path.name + ".png"), dpi=160, metadata={"Software": None})
    figure.savefig(path.with_name(path.name + ".svg"), metadata={"Date": None})
    return path


def usd_axis(axis: Any) -> None:
    """A logarithmic axis of USD per 1,000 queries with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def percent_axis(axis: Any) -> None:
    """Fractions printed as percent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=None))
