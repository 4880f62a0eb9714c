"""What a simulated world makes of a question: the right answer, each model's answer, and the score of any answer.

Nothing is stored between requests. The right answer to a text, and whether a model finds it, are drawn from a hash of
seed, model and text, with the world's expected score as the probability: the same question gets the same answer from
the same model, in this process and in every other, and the mean score over many questions is the world's.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from proteus_router.data.synthetic import World
from proteus_router.errors import ConfigError
from proteus_router.types import FloatArray

__all__ = ["Known", "Outcome", "Truth"]

_N_RUBRIC = 5
_COHESION = 0.5  # as in the world's own graded scores: half of the answers stand or fall as a whole
_OPTION = re.compile(r"^([A-H])\) ", re.MULTILINE)
_GIVEN = re.compile(r"Answer:[ \t]*([^\r\n]+)")
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Known:
    """A question whose expected scores the world knows."""

    query_id: str
    text: str
    task: str
    reference: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One model's answer to one question: its line "Answer: ...", the score it deserves, the tokens it takes."""

    answer: str
    score: float
    expected_score: float
    input_tokens: int
    output_tokens: int


class Truth:
    """Answers and grades for one world.

    Parameters
    ----------
    world
        Its models are those served.
    samples
        (number of queries, seed) of `World.sample`: the texts whose expected scores are known. Of any other text a
        model knows the answer with its mean score as the probability.
    seed
        Which draw of right and wrong.
    """

    def __init__(
        self, world: World, samples: Sequence[tuple[int, int]] = ((5000, 2),), *, seed: int = 0
    ) -> None:
        self.world = world
        self.seed = seed
        self.models = world.model_names
        self._column = {name: column for column, name in enumerate(world.model_names)}
        self._row: dict[str, int] = {}
        self._ids: list[tuple[str, str]] = []  # query_id, task
        scores: list[FloatArray] = [np.empty((0, len(self.models)))]
        inputs, outputs = list(scores), list(scores)
        for n, sample_seed in samples:
            drawn = world.sample(n, sample_seed)
            kept = [row for row, text in enumerate(drawn.table.queries) if self._is_new(text)]
            assert drawn.table.tasks is not None
            self._ids += [(drawn.table.query_ids[row], drawn.table.tasks[row]) for row in kept]
            scores.append(drawn.expected_scores[kept])
            inputs.append(drawn.table.extras["input_tokens"][kept])
            outputs.append(drawn.table.extras["output_tokens"][kept])
        self._scores = np.concatenate(scores)  # (n_known, n_models)
        self._tokens = np.stack([np.concatenate(inputs), np.concatenate(outputs)], axis=-1).astype(np.int64)

    def _is_new(self, text: str) -> bool:
        """Remember a text at its first occurrence; later ones have another hidden part, which no request shows."""
        key = text.strip()
        if key in self._row:
            return False
        self._row[key] = len(self._row)
        return True

    @property
    def n_known(self) -> int:
        return len(self._row)

    def knows(self, text: str) -> bool:
        return text.strip() in self._row

    def known(self) -> Iterator[Known]:
        """The questions the world knows, in the order of the samples."""
        for text, (query_id, task) in zip(self._row, self._ids, strict=True):
            yield Known(query_id, text, task, self.reference(text))

    def expected_score(self, model: str, text: str) -> float:
        """The probability (graded worlds: the mean score) with which `model` answers `text` rightly."""
        column, row = self._column_of(model), self._row.get(text.strip())
        return self.world.models[column].mean_score if row is None else float(self._scores[row, column])

    def reference(self, text: str) -> str:
        """The right answer: a letter where the text offers options, a number otherwise, five in a graded world."""
        text = text.strip()
        draws = self._draws("reference", text)
        if self.world.graded:
            return " ".join(str(100 + draw % 900) for draw in draws[:_N_RUBRIC])
        letters = _OPTION.findall(text)
        return letters[draws[0] % len(letters)] if letters else str(1000 + draws[0] % 9000)

    def outcome(self, model: str, text: str) -> Outcome:
        """What `model` answers, always the same."""
        text = text.strip()
        expected = self.expected_score(model, text)
        reference = self.reference(text).split()
        draws = self._draws(model, text)
        passed = self._passed(expected, draws)
        given = [
            right if ok else _wrong(right, draw)
            for right, ok, draw in zip(reference, passed, draws, strict=False)
        ]
        inputs, outputs = self._tokens_of(model, text)
        return Outcome(" ".join(given), sum(passed) / len(passed), expected, inputs, outputs)

    def grade(self, text: str, answer: str) -> float:
        """The score of an answer text, whoever wrote it: the share of the reference it has right."""
        reference = self.reference(text).split()
        given = _answer_in(answer).split()
        return sum(a == b for a, b in zip(reference, given, strict=False)) / len(reference)

    def _passed(self, expected: float, draws: Sequence[int]) -> list[bool]:
        """Right or wrong, for each item of the reference; their mean has mean `expected`."""
        uniforms = [draw / 2**32 for draw in draws]
        if not self.world.graded:
            return [uniforms[0] < expected]
        items = [uniform < expected for uniform in uniforms[:_N_RUBRIC]]
        return [items[0]] * _N_RUBRIC if uniforms[_N_RUBRIC] < _COHESION else items

    def _tokens_of(self, model: str, text: str) -> tuple[int, int]:
        column, row = self._column_of(model), self._row.get(text)
        if row is not None:
            inputs, outputs = self._tokens[row, column].tolist()
            return inputs, max(1, outputs)
        card = self.world.models[column]
        length = 20 + self._draws("length", text)[0] % 80
        return int((6 + len(text) // _CHARACTERS_PER_TOKEN) * card.tokenizer), int(length * card.verbosity)

    def _column_of(self, model: str) -> int:
        if model not in self._column:
            raise ConfigError(
                f"no model named {model!r} in this world.", hint=f"It has {', '.join(self.models)}."
            )
        return self._column[model]

    def _draws(self, purpose: str, text: str) -> list[int]:
        """Sixteen 32-bit numbers that belong to this purpose and text."""
        key = f"{self.world.seed}.{self.seed}.{purpose}\n{text}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(key).digest()
        return [int.from_bytes(digest[start : start + 4], "little") for start in range(0, 64, 4)]


def _wrong(right: str, draw: int) -> str:
    """A wrong answer of the same kind; `draw` also decided that it is wrong, so only its low bits are used."""
    if right.isdigit():
        low = 10 ** (len(right) - 1)
        return str(low + (int(right) - low + 1 + draw % 89) % (9 * low))
    return "ABCDEFGH"[("ABCDEFGH".index(right) + 1 + draw % 3) % 4]


def _answer_in(text: str) -> str:
    """The answer that a text gives: after "Answer:", in a JSON object ("answer" or its first value), or as a whole."""
    match = _GIVEN.search(text)
    if match:
        return match[1]
    try:
        content: Any = json.loads(text)
    except ValueError:
        return text
    if not isinstance(content, dict) or not content:
        return text
    return str(content.get("answer", next(iter(content.values()))))
