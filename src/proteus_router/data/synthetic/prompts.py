"""The task families: which grammar writes them, how often they come, how long their answers are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from proteus_router.data.synthetic.draws import Draws, snap
from proteus_router.data.synthetic.grammar import Grammar, parse_rules
from proteus_router.types import FloatArray, IntArray

__all__ = ["FAMILIES", "Family", "Prompts", "grammar_digest", "grammar_of", "topic_offsets", "write_prompts"]


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of task.

    Attributes
    ----------
    share
        Relative frequency.
    guess
        Expected score of an answer that knows nothing (multiple choice).
    answer_tokens
        Output tokens of a model of verbosity 1 on a prompt of typical length.
    echo
        Output tokens per input token on top (a translation is as long as its source).
    typical_words
        Median length; longer prompts are a little harder.
    """

    name: str
    share: float
    guess: float
    answer_tokens: float
    echo: float
    typical_words: float


FAMILIES = (
    Family("arithmetic", 0.14, 0.0, 65.0, 0.5, 45),
    Family("code", 0.12, 0.0, 90.0, 0.6, 42),
    Family("medicine", 0.12, 0.2, 30.0, 0.0, 75),
    Family("law", 0.08, 0.2, 30.0, 0.0, 105),
    Family("science", 0.12, 0.2, 26.0, 0.0, 50),
    Family("trivia", 0.12, 0.02, 20.0, 0.0, 17),
    Family("summary", 0.08, 0.0, 40.0, 0.2, 95),
    Family("reading", 0.07, 0.02, 28.0, 0.0, 85),
    Family("translation", 0.08, 0.0, 8.0, 1.0, 33),
    Family("commonsense", 0.07, 0.4, 16.0, 0.0, 30),
    Family("writing", 0.05, 0.0, 110.0, 0.5, 35),
)


@dataclass(frozen=True)
class Prompts:
    """Texts with what is visible in them.

    Attributes
    ----------
    texts
        (n,).
    family, topic
        (n,) index into `FAMILIES`; index of the topic over all families (see `topic_offsets`).
    difficulty
        (n,) visible difficulty: about mean 0, spread 1, from hard words, number sizes and length.
    input_tokens, answer_tokens
        (n,) of an average tokenizer; of a model of verbosity 1.
    """

    texts: tuple[str, ...]
    family: IntArray
    topic: IntArray
    difficulty: FloatArray
    input_tokens: FloatArray
    answer_tokens: FloatArray


@cache
def grammar_of(family: str) -> Grammar:
    """The grammar of a family, read once from the package's files."""
    return Grammar({**parse_rules(_source("common")), **parse_rules(_source(family))})


@cache
def grammar_digest() -> str:
    """sha256 of all grammar files: other words are another world."""
    sources = [_source(name) for name in ("common", *(family.name for family in FAMILIES))]
    return hashlib.sha256("\f".join(sources).encode()).hexdigest()


def _source(name: str) -> str:
    folder = resources.files("proteus_router.data.synthetic") / "grammars"
    return (folder / f"{name}.txt").read_text(encoding="utf-8").replace("\r\n", "\n")


@cache
def topic_offsets() -> tuple[int, ...]:
    """Start of each family's topics in the common numbering, and the total at the end."""
    counts = [len(grammar_of(family.name).topics) for family in FAMILIES]
    return (0, *np.cumsum(counts).tolist())


def write_prompts(n: int, rng: np.random.Generator) -> Prompts:
    """Write ``n`` prompts; the first of a longer list equal a shorter list from the same generator state."""
    draws, offsets = Draws(rng), topic_offsets()
    edges = np.cumsum([family.share for family in FAMILIES]).tolist()
    texts: list[str] = []
    rows: list[tuple[int, int, float]] = []
    for _ in range(n):
        mark = draws.uniform() * edges[-1]
        index = next(
            position for position, edge in enumerate(edges) if mark < edge or position == len(edges) - 1
        )
        grammar = grammar_of(FAMILIES[index].name)
        topic = draws.integer(0, len(grammar.topics) - 1)
        written = grammar.write(grammar.topics[topic], draws.uniform(), draws)
        texts.append(written.text)
        rows.append((index, offsets[index] + topic, written.hard_share))
    family = np.array([row[0] for row in rows], dtype=np.int64)
    tokens = np.array([_tokens(text) for text in texts])
    words = np.array([max(len(text.split()), 1 + len(text) // 12) for text in texts], dtype=np.float64)
    typical = np.array([item.typical_words for item in FAMILIES])[family]
    hard = np.array([row[2] for row in rows])
    answer = np.array([item.answer_tokens for item in FAMILIES])[family]
    echo = np.array([item.echo for item in FAMILIES])[family]
    return Prompts(
        texts=tuple(texts),
        family=family,
        topic=np.array([row[1] for row in rows], dtype=np.int64),
        difficulty=snap(2.2 * (hard - 0.5) + 0.6 * np.log(words / typical)),
        input_tokens=tokens,
        answer_tokens=answer + echo * tokens,
    )


def _tokens(text: str) -> float:
    """Tokens of an average byte-pair vocabulary: four ASCII characters each, less for other scripts."""
    ascii_characters = sum(character < "\x80" for character in text)
    return float(6 + ascii_characters // 4 + (len(text) - ascii_characters) * 3 // 5)
