"""Every router of the benchmark by name, with what it is and where it comes from."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from proteus_router.baselines.base import BenchRouter
from proteus_router.baselines.fixed import AlwaysBest, AlwaysCheapest, StaticMix, UniformRandom
from proteus_router.errors import ConfigError

__all__ = ["REGISTRY", "Entry", "Kind", "select"]

Kind = Literal["baseline", "ours", "ablation", "paper"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One router of the registry.

    Attributes
    ----------
    name
        What `--routers` takes.
    title
        What tables and figures print.
    kind
        baseline: of others, or needing no learning; ours; ablation: ours with one part changed; paper: the
        configuration of arXiv 2601.19402 and its ablations.
    factory
        Makes the unfitted router; heavy imports happen in its `fit`.
    source
        Where the method comes from, and how it was set up where its paper leaves that open.
    knob
        What the sweep turns, or "" where there is a single point.
    quick
        Part of `make bench-quick`.
    batch
        Decides about all texts of a call together, so one text's model may depend on the others.
    """

    name: str
    title: str
    kind: Kind
    factory: Callable[[], BenchRouter]
    source: str
    knob: str = ""
    quick: bool = True
    batch: bool = False


_ENTRIES = (
    Entry("always-cheapest", "always cheapest", "baseline", AlwaysCheapest, "paper, section 6"),
    Entry("always-best", "always best", "baseline", AlwaysBest, "paper, section 6"),
    Entry("random", "uniform random", "baseline", UniformRandom, "paper, section 6"),
    Entry(
        "static-mix",
        "static mix",
        "baseline",
        StaticMix,
        "cheapest random mix of fixed models, by linear programming",
        knob="mix of models",
    ),
)

REGISTRY: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}
"""name -> entry, in the order of tables."""


def select(names: Iterable[str] | None = None, *, quick: bool = False) -> list[Entry]:
    """Entries of the given names in the registry's order; all, or the quick ones, without names.

    Raises
    ------
    ConfigError
        An unknown name; the nearest known one is named.
    """
    if names is None:
        return [entry for entry in REGISTRY.values() if entry.quick or not quick]
    wanted = set(names)
    for name in sorted(wanted - REGISTRY.keys()):
        near = difflib.get_close_matches(name, REGISTRY, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(REGISTRY)}."
        raise ConfigError(f"no router named {name!r}.", hint=hint)
    return [entry for entry in REGISTRY.values() if entry.name in wanted]
