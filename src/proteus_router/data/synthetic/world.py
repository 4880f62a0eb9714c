"""A simulated world: every expected score and cost known, so that a certificate can be held against the truth."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np

from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.synthetic.draws import generator, snap
from proteus_router.data.synthetic.pool import MAX_MODELS, MIN_MODELS, ModelCard, draw_pool
from proteus_router.data.synthetic.prompts import FAMILIES, Prompts, grammar_digest, write_prompts
from proteus_router.data.synthetic.skills import Hidden, Realism, Skills, draw_hidden, draw_skills
from proteus_router.errors import ConfigError
from proteus_router.types import BoolArray, FloatArray, Predictions

__all__ = ["Sample", "World", "make_world"]

# Streams of random numbers: one a purpose, so that asking for less of one thing changes nothing else.
_POOL, _SKILLS, _TEXT, _HIDDEN, _SCORE, _OUTPUT, _MISSING, _REFERENCE, _VISIBLE = range(9)
_N_REFERENCE = 4000  # texts on which mean scores are set, each with four hidden parts: right to half a point
_N_RUBRIC = 5
_COHESION = 0.5  # share of graded answers whose rubric items all stand or fall together
_MIN_ANSWER_TOKENS = 8.0


@dataclass(frozen=True)
class Sample:
    """Queries drawn from a world.

    Attributes
    ----------
    table
        What a data set would hold; NaN where the outcome is missing.
    expected_scores
        (n, k) E[score] given the query AND its hidden part; known also where the outcome is missing.
    expected_costs_usd
        (n, k) E[cost] likewise.

    Notes
    -----
    The true score of a routing policy is the mean of its expected score over all queries of the world. For a policy
    fixed beforehand, the mean of ``expected_scores`` at the models it chooses on a fresh sample estimates that
    without bias, and with less noise than the mean of ``table.scores``.
    """

    table: OutcomeTable
    expected_scores: FloatArray
    expected_costs_usd: FloatArray


@dataclass(frozen=True)
class World:
    """A distribution of queries and the models that answer them.

    Attributes
    ----------
    seed
        Which world.
    models
        The price list, cheapest first.
    skills
        The response model.
    graded
        Scores are means of rubric items rather than 0/1.
    """

    seed: int
    models: tuple[ModelCard, ...]
    skills: Skills
    graded: bool = False

    @property
    def model_names(self) -> tuple[str, ...]:
        return tuple(card.name for card in self.models)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of everything that decides what `sample` returns."""
        digest = hashlib.sha256()
        record = {
            "seed": self.seed,
            "graded": self.graded,
            "models": [dataclasses.asdict(card) for card in self.models],
            "realism": dataclasses.asdict(self.skills.realism),
            "families": [dataclasses.asdict(family) for family in FAMILIES],
            "grammars": grammar_digest(),
        }
        digest.update(json.dumps(record, sort_keys=True).encode())
        for array in (self.skills.ability, self.skills.topic, self.skills.slope):
            digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return digest.hexdigest()

    def sample(self, n: int, seed: int, *, missing: float = 0.0) -> Sample:
        """Draw ``n`` queries with their outcomes; the same seed gives the same bytes.

        Parameters
        ----------
        n
            Number of queries. The first rows of a longer sample are those of a shorter one.
        seed
            Which sample; different seeds are independent.
        missing
            Mean share of missing outcomes. Each model has a rate of its own; within a model they are missing
            completely at random. A query that would be left without any outcome keeps one.

        Raises
        ------
        ConfigError
            ``n`` below 1, a negative seed, or ``missing`` outside [0, 1).
        """
        if n < 1 or seed < 0 or not 0.0 <= missing < 1.0:
            raise ConfigError(
                f"cannot sample n={n}, seed={seed}, missing={missing}.",
                hint="n must be at least 1, seed not negative, missing in [0, 1).",
            )
        k = len(self.models)
        prompts = write_prompts(n, generator(_TEXT, self.seed, seed))
        hidden = draw_hidden(n, k, tuple(generator(_HIDDEN, self.seed, seed, part) for part in range(4)))
        expected = self.skills.expected_scores(prompts, hidden)
        input_tokens, answer_tokens = self._tokens(prompts, hidden)
        output_tokens = _realised_tokens(answer_tokens, generator(_OUTPUT, self.seed, seed))
        scores = _realised_scores(expected, self.graded, generator(_SCORE, self.seed, seed))
        gone = _missing(n, k, missing, self.seed, seed)
        table = OutcomeTable(
            query_ids=tuple(f"sim{self.seed}.{seed}.{row:06d}" for row in range(n)),
            queries=prompts.texts,
            models=self.model_names,
            scores=np.where(gone, np.nan, scores),
            costs_usd=np.where(gone, np.nan, self._cost(input_tokens, output_tokens)),
            tasks=tuple(FAMILIES[family].name for family in prompts.family.tolist()),
            extras={
                "input_tokens": np.where(gone, np.nan, input_tokens),
                "output_tokens": np.where(gone, np.nan, output_tokens),
            },
            name=f"simulated-world-{self.seed}" + ("-graded" if self.graded else ""),
            simulated=True,
        )
        return Sample(table, expected, self._cost(input_tokens, answer_tokens))

    def query_only(self, n: int, seed: int, *, n_hidden: int = 64) -> Predictions:
        """What the best router that sees the query alone could know of the queries of `sample(n, seed)`.

        Expected score and cost of every model given the visible part: means over `n_hidden` draws of the hidden part.
        """
        prompts = write_prompts(n, generator(_TEXT, self.seed, seed))
        k = len(self.models)
        scores, costs = np.zeros((n, k)), np.zeros((n, k))
        for draw in range(n_hidden):
            rngs = tuple(generator(_VISIBLE, self.seed, seed, draw, part) for part in range(4))
            hidden = draw_hidden(n, k, rngs)
            scores += self.skills.expected_scores(prompts, hidden) / n_hidden
            costs += self._cost(*self._tokens(prompts, hidden)) / n_hidden
        return Predictions(scores, costs)

    def with_prices(self, factors: Mapping[str, float]) -> World:
        """The same world after some models' prices are multiplied by a factor."""
        for name, factor in factors.items():
            self._position(name)
            if not 0.0 < factor < float("inf"):
                raise ConfigError(
                    f"price factor of {name} is {factor}.", hint="It must be positive and finite."
                )
        cards = (
            replace(
                card,
                input_price_usd_per_mtok=card.input_price_usd_per_mtok * factors.get(card.name, 1.0),
                output_price_usd_per_mtok=card.output_price_usd_per_mtok * factors.get(card.name, 1.0),
            )
            for card in self.models
        )
        return replace(self, models=tuple(cards))

    def with_skill_shift(self, model: str, points: float) -> World:
        """The same world after one model's mean score moved by ``points`` (-0.10: ten points worse)."""
        position = self._position(model)
        target = self.models[position].mean_score + points
        if not 0.15 <= target <= 0.99:  # below 0.15 even guessing does better
            raise ConfigError(
                f"{model} would have a mean score of {target:.3f}.",
                hint="It must stay between 0.15 and 0.99.",
            )
        cards = list(self.models)
        cards[position] = replace(cards[position], mean_score=target)
        moved = replace(self, models=tuple(cards))
        ability = self.skills.ability.copy()
        ability[position] = _solved(self.seed, moved.models, self.skills).ability[position]
        return replace(moved, skills=replace(self.skills, ability=ability))

    def _position(self, model: str) -> int:
        if model not in self.model_names:
            raise ConfigError(
                f"no model named {model!r} in this world.", hint=f"It has {', '.join(self.model_names)}."
            )
        return self.model_names.index(model)

    def _tokens(self, prompts: Prompts, hidden: Hidden) -> tuple[FloatArray, FloatArray]:
        """(n, k) input tokens and expected output tokens: a hidden part moves the length for all models alike."""
        tokenizer = np.array([card.tokenizer for card in self.models])
        verbosity = np.array([card.verbosity for card in self.models])
        length = prompts.answer_tokens * np.exp(
            0.15 * np.clip(prompts.difficulty, -2, 2) + 0.3 * hidden.length
        )
        expected = np.maximum(length[:, None] * verbosity, _MIN_ANSWER_TOKENS)
        return np.round(prompts.input_tokens[:, None] * tokenizer), snap(expected, 2)

    def _cost(self, input_tokens: FloatArray, output_tokens: FloatArray) -> FloatArray:
        inputs = np.array([card.input_price_usd_per_mtok for card in self.models])
        outputs = np.array([card.output_price_usd_per_mtok for card in self.models])
        cost: FloatArray = (input_tokens * inputs + output_tokens * outputs) / 1e6
        return cost


def make_world(
    seed: int, *, n_models: int = 10, graded: bool = False, realism: Realism | None = None
) -> World:
    """A simulated world; the same seed gives the same world everywhere.

    Parameters
    ----------
    seed
        Which world: names, prices, skills and queries.
    n_models
        2 to 12; a smaller pool is a part of a larger one. The dearest and best model is always in it.
    graded
        Scores in {0, 0.2, ..., 1} with the same means, instead of 0/1.
    realism
        Strength of visible and hidden effects; leave it for a world that looks like real data.

    Raises
    ------
    ConfigError
        A number out of range.

    Examples
    --------
    >>> world = make_world(0)
    >>> sample = world.sample(100, seed=1)
    >>> sample.table.simulated, sample.table.n_models
    (True, 10)
    """
    if seed < 0 or not MIN_MODELS <= n_models <= MAX_MODELS:
        raise ConfigError(
            f"cannot make a world of seed {seed} with {n_models} models.",
            hint=f"The seed must not be negative; n_models goes from {MIN_MODELS} to {MAX_MODELS}.",
        )
    cards = draw_pool(n_models, generator(_POOL, seed))
    skills = draw_skills(cards, realism or Realism(), generator(_SKILLS, seed))
    return World(seed, cards, _solved(seed, cards, skills), graded)


def _solved(seed: int, cards: tuple[ModelCard, ...], skills: Skills) -> Skills:
    """Skills whose mean expected scores are the cards' `mean_score` on reference queries."""
    rngs = tuple(generator(_REFERENCE, seed, part) for part in range(4))
    half = draw_hidden(2 * _N_REFERENCE, len(cards), rngs)
    hidden = Hidden(  # each draw with its mirror image, so that no sample mean shifts all models alike
        *(np.concatenate([part, -part]) for part in (half.shared, half.vendor, half.own, half.length))
    )
    return skills.solve(np.array([card.mean_score for card in cards]), _reference_prompts(), hidden)


@cache
def _reference_prompts() -> Prompts:
    once = write_prompts(_N_REFERENCE, generator(_REFERENCE))
    return Prompts(
        texts=once.texts * 4,
        family=np.tile(once.family, 4),
        topic=np.tile(once.topic, 4),
        difficulty=np.tile(once.difficulty, 4),
        input_tokens=np.tile(once.input_tokens, 4),
        answer_tokens=np.tile(once.answer_tokens, 4),
    )


def _realised_scores(expected: FloatArray, graded: bool, rng: np.random.Generator) -> FloatArray:
    """(n, k) scores with mean ``expected`` exactly."""
    if not graded:
        return (rng.random(expected.shape) < expected).astype(np.float64)
    uniforms = rng.random((*expected.shape, _N_RUBRIC + 1))
    passed = uniforms[..., 1:] < expected[..., None]  # (n, k, items), independent
    together = uniforms[..., 0] < _COHESION
    items = np.where(together, _N_RUBRIC * passed[..., 0], passed.sum(axis=-1))
    return items / _N_RUBRIC


def _realised_tokens(expected: FloatArray, rng: np.random.Generator) -> FloatArray:
    """(n, k) whole tokens with mean ``expected`` exactly: a skewed factor of mean one, rounded at random."""
    uniforms = rng.random((*expected.shape, 4))
    factor = (0.5 + uniforms[..., 0]) * (0.5 + uniforms[..., 1]) * (0.5 + uniforms[..., 2])
    return np.floor(expected * factor + uniforms[..., 3])


def _missing(n: int, k: int, share: float, world_seed: int, seed: int) -> BoolArray:
    """(n, k) True where the outcome is missing."""
    rng = generator(_MISSING, world_seed)
    lean = rng.random(k)
    lean = (lean - lean.mean()) / (2 * np.abs(lean - lean.mean()).max() + 1e-12)  # mean 0, within [-0.5, 0.5]
    rates = share + share * (1.0 - share) * lean
    uniforms = generator(_MISSING, world_seed, seed).random((n, k + 1))
    gone: BoolArray = uniforms[:, :k] < rates
    kept = np.minimum((uniforms[:, k] * k).astype(np.int64), k - 1)
    empty = gone.all(axis=1)
    gone[empty, kept[empty]] = False
    return gone
