"""The models of a world: made-up names with a price list, mean scores and styles that look like a real market."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proteus_router.data.synthetic.draws import snap

__all__ = ["MAX_MODELS", "MIN_MODELS", "ModelCard", "draw_pool"]

MIN_MODELS = 2

_VENDORS = ("aldera", "borealis", "corvid", "dunlin", "ember", "fathom", "gannet", "harrier")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model as its vendor lists it, and what it scores on average.

    Attributes
    ----------
    vendor
        Index of the vendor; models of one vendor share part of their blind spots.
    input_price_usd_per_mtok, output_price_usd_per_mtok
        USD per million tokens.
    mean_score
        Expected score over the world's queries.
    verbosity
        Output tokens relative to the average model.
    tokenizer
        Input tokens relative to the average tokenizer.
    reasoning, knowledge, language, multilingual
        Lean of the model towards kinds of tasks, in logits, before `mean_score` is restored.
    """

    name: str
    vendor: int
    input_price_usd_per_mtok: float
    output_price_usd_per_mtok: float
    mean_score: float
    verbosity: float
    tokenizer: float
    reasoning: float = 0.0
    knowledge: float = 0.0
    language: float = 0.0
    multilingual: float = 0.0


@dataclass(frozen=True, slots=True)
class _Tier:
    """One place in the market: name suffix, input price, output/input price ratio, mean score, lean."""

    suffix: str
    price: float
    ratio: float
    score: float
    verbosity: float = 1.0
    lean: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


# In the order in which they join the pool: the dearest first, then what makes a frontier, then the dominated.
_TIERS = (
    _Tier("ultra", 8.0, 3.0, 0.878, 1.1),
    _Tier("mini-8b", 0.40, 3.0, 0.665, 1.1, (0.0, -0.2, 0.2, -0.3)),
    _Tier("large-70b", 1.2, 2.5, 0.785),
    _Tier("flash", 0.60, 4.0, 0.745, 0.9, (0.2, -0.3, 0.1, 0.2)),
    _Tier("nano-1b", 0.04, 3.0, 0.42, 1.2, (-0.2, -0.3, 0.3, -0.6)),
    _Tier("pro", 3.2, 4.0, 0.85, 1.0, (0.1, 0.0, 0.1, 0.2)),
    _Tier("lite-3b", 0.20, 3.0, 0.555, 1.1, (-0.1, -0.2, 0.2, -0.4)),
    _Tier("coder-32b", 0.90, 2.5, 0.665, 1.0, (0.9, -0.3, -0.4, -0.3)),
    _Tier("polyglot-40b", 1.0, 3.0, 0.735, 1.0, (-0.3, 0.0, 0.4, 0.9)),
    _Tier("classic", 3.2, 3.0, 0.70, 1.3, (-0.2, 0.1, 0.3, 0.0)),
    _Tier("scholar", 2.0, 4.0, 0.815, 1.3, (0.1, 0.7, -0.3, 0.0)),
    _Tier("medium-24b", 0.40, 3.0, 0.70, 0.9),
)
MAX_MODELS = len(_TIERS)


def draw_pool(n_models: int, rng: np.random.Generator) -> tuple[ModelCard, ...]:
    """Models in ascending order of price; prices and mean scores differ a little from world to world."""
    vendors = np.argsort(rng.random(len(_VENDORS))).tolist()
    jitter = rng.random(
        (MAX_MODELS, 5)
    )  # a row a tier, drawn for all so that a smaller pool is a part of a larger
    cards = []
    for place, tier in enumerate(_TIERS[:n_models]):
        u = jitter[place].tolist()
        vendor = vendors[place % 6]  # six vendors, some with several models
        price = _list_price(tier.price * (0.85 + 0.3 * u[0]))
        cards.append(
            ModelCard(
                name=f"{_VENDORS[vendor]}-{tier.suffix}",
                vendor=vendor,
                input_price_usd_per_mtok=price,
                output_price_usd_per_mtok=_list_price(price * tier.ratio),
                mean_score=float(
                    snap(np.array(tier.score + 0.006 * (2 * u[1] - 1) * (1 + 3 * (place > 0))), 3)
                ),
                verbosity=float(snap(np.array(tier.verbosity * (0.85 + 0.3 * u[2])), 3)),
                tokenizer=float(snap(np.array(0.92 + 0.16 * u[3]), 3)),
                reasoning=tier.lean[0],
                knowledge=tier.lean[1],
                language=tier.lean[2],
                multilingual=tier.lean[3],
            )
        )
    return tuple(sorted(cards, key=lambda card: (card.input_price_usd_per_mtok, card.name)))


def _list_price(value: float) -> float:
    """Two significant digits, as price lists are written."""
    return float(f"{value:.1e}")
