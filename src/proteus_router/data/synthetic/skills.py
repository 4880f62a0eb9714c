"""How well each model does on each query: an item-response model with a visible and a hidden part.

The chance of success is ``guess + (1 - guess) sigmoid(ability_i + lean_i(family, topic) - slope_i difficulty + own)``.
Family, topic and a part of the difficulty can be read off the text. The rest cannot: a shared hidden difficulty, a
part shared by models of one vendor, and a part of each model's own. These are known to the world, and what it calls
the expected score is conditional on them; what a router can at best know is the mean over them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from proteus_router.data.synthetic.draws import normals, snap
from proteus_router.data.synthetic.pool import ModelCard
from proteus_router.data.synthetic.prompts import FAMILIES, Prompts, grammar_of, topic_offsets
from proteus_router.types import FloatArray

__all__ = ["Hidden", "Realism", "Skills", "draw_hidden", "draw_skills"]

_KIND = {  # what each family asks of a model: reasoning, knowledge, language
    "arithmetic": (1.0, 0.0, 0.0),
    "code": (1.0, 0.2, 0.0),
    "medicine": (0.1, 1.0, 0.0),
    "law": (0.3, 0.8, 0.1),
    "science": (0.4, 0.7, 0.0),
    "trivia": (-0.2, 1.0, 0.0),
    "summary": (0.0, 0.0, 1.0),
    "reading": (0.3, 0.0, 0.8),
    "translation": (0.0, 0.0, 0.8),
    "commonsense": (0.4, 0.0, 0.6),
    "writing": (0.0, 0.0, 1.0),
}
_BASE_DIFFICULTY = (0.3, 0.3, 0.2, 0.3, -0.2, 0.3, -0.7, -0.4, -0.5, 0.0, -0.5)


@dataclass(frozen=True, slots=True)
class Realism:
    """Standard deviations in logits, tuned so that text explains as little as it does on real data."""

    lean: float = 1.4
    family: float = 0.55
    topic: float = 0.5
    visible: float = 1.5
    hidden_shared: float = 2.0
    hidden_vendor: float = 0.4
    hidden_own: float = 0.5
    slope: float = 0.15
    evenness: float = 0.25
    base: float = 3.0


@dataclass(frozen=True)
class Hidden:
    """What the text does not show: shared (n,), vendor (n, n_vendors), own (n, k), length (n,); unit normals."""

    shared: FloatArray
    vendor: FloatArray
    own: FloatArray
    length: FloatArray


@dataclass(frozen=True)
class Skills:
    """Parameters of the response model.

    Attributes
    ----------
    ability
        (k,), solved so that the mean expected score over the world's queries is the model's `mean_score`.
    topic
        (k, n_topics) lean towards the topic, family included.
    slope
        (k,) sensitivity to difficulty.
    vendor
        (k,) index of the vendor.
    """

    ability: FloatArray
    topic: FloatArray
    slope: FloatArray
    vendor: tuple[int, ...]
    realism: Realism

    def expected_scores(self, prompts: Prompts, hidden: Hidden) -> FloatArray:
        """(n, k) expected score given the query and its hidden part, on a grid of 1e-6."""
        return self._link(self._lean(prompts, hidden) + self.ability, prompts)

    def solve(self, mean_scores: FloatArray, prompts: Prompts, hidden: Hidden) -> Skills:
        """The same skills with abilities moved so that the mean expected scores are (k,) ``mean_scores``."""
        lean = self._lean(prompts, hidden)
        low, high = np.full(len(self.slope), -15.0), np.full(len(self.slope), 15.0)
        for _ in range(40):
            middle = (low + high) / 2
            below = self._link(lean + middle, prompts).mean(axis=0) < mean_scores
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return replace(self, ability=snap((low + high) / 2, 4))

    def _lean(self, prompts: Prompts, hidden: Hidden) -> FloatArray:
        scale = self.realism
        base = scale.base * np.array(_BASE_DIFFICULTY)[prompts.family]
        difficulty = base + scale.visible * prompts.difficulty + scale.hidden_shared * hidden.shared
        logits = self.topic[:, prompts.topic].T - difficulty[:, None] * self.slope
        logits += scale.hidden_vendor * hidden.vendor[:, list(self.vendor)]
        return logits + scale.hidden_own * hidden.own

    @staticmethod
    def _link(logits: FloatArray, prompts: Prompts) -> FloatArray:
        guess = np.array([family.guess for family in FAMILIES])[prompts.family][:, None]
        return snap(guess + (1.0 - guess) / (1.0 + np.exp(-logits)))


def draw_hidden(n: int, n_models: int, rngs: tuple[np.random.Generator, ...]) -> Hidden:
    """Hidden parts of ``n`` queries from four independent generators."""
    return Hidden(
        shared=normals(rngs[0], (n,)),
        vendor=normals(rngs[1], (n, 8)),
        own=normals(rngs[2], (n, n_models)),
        length=normals(rngs[3], (n,)),
    )


def draw_skills(cards: tuple[ModelCard, ...], realism: Realism, rng: np.random.Generator) -> Skills:
    """Leans towards families and topics; abilities are zero until `Skills.solve`."""
    k, offsets = len(cards), topic_offsets()
    family = realism.family * normals(rng, (k, len(FAMILIES)))
    weakness = np.array([0.9 - card.mean_score for card in cards])
    uneven = (
        realism.evenness + (1.0 - realism.evenness) * weakness / 0.25
    )  # (k,) strong models have few weak spots
    slope = 1.0 + realism.slope * normals(rng, (k,))
    topic = realism.topic * uneven[:, None] * normals(rng, (k, offsets[-1]))
    for i, card in enumerate(cards):
        for f, item in enumerate(FAMILIES):
            kind = _KIND[item.name]
            lean = kind[0] * card.reasoning + kind[1] * card.knowledge + kind[2] * card.language
            topic[i, offsets[f] : offsets[f + 1]] += realism.lean * lean + uneven[i] * family[i, f]
            for t, foreign in enumerate(grammar_of(item.name).foreign):
                if foreign or item.name == "translation":
                    topic[i, offsets[f] + t] += realism.lean * card.multilingual
    return Skills(
        ability=np.zeros(k),
        topic=snap(topic),
        slope=snap(np.maximum(slope, 0.4)),
        vendor=tuple(card.vendor for card in cards),
        realism=realism,
    )
