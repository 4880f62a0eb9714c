"""How much of a text training had seen: what tells a query unlike anything known from an ordinary one."""

from __future__ import annotations

import numpy as np
import pytest

from proteus_router.config import HeadsConfig
from proteus_router.data.synthetic import make_world
from proteus_router.encoders.lexical import LexicalEncoder
from proteus_router.encoders.lexical_tokens import words
from proteus_router.routing.points import PointPolicy
from proteus_router.routing.router import Router
from proteus_router.training.heads import fit_heads
from proteus_router.training.stages import MemoryStages
from proteus_router.types import Predictions

TEXTS = ["the cat sat on the mat", "the dog sat on the log", "a cat and a dog", "on a mat and a log"]


def test_the_share_counts_words_as_often_as_they_occur() -> None:
    encoder = LexicalEncoder.fit(TEXTS, dim=2)
    assert encoder.row("the cat sat").known_share == 1.0
    assert encoder.row("the the zebra sat").known_share == 0.75
    for nothing in ("", "?! ...", "zebra giraffe", "\N{GRINNING FACE}"):
        assert encoder.row(nothing).known_share == 0.0


def test_rows_are_what_a_plain_count_gives() -> None:
    encoder = LexicalEncoder.fit(TEXTS, dim=2)
    for text in (*TEXTS, "the zebra sat on the the cat"):
        row = encoder.row(text)
        known = [word for word in dict.fromkeys(words(text)) if word in encoder.vocabulary]
        assert [encoder.vocabulary[index] for index in row.indices] == known
        slow = np.array(
            [
                (1 + np.log(words(text).count(word))) * encoder.idf[encoder.vocabulary.index(word)]
                for word in known
            ]
        )
        assert row.values == pytest.approx(slow / np.linalg.norm(slow))


def test_the_heads_pass_it_on_for_every_text() -> None:
    table = make_world(3, n_models=4).sample(120, 5).table
    predictor = fit_heads(
        table,
        np.arange(120),
        encoder=None,
        config=HeadsConfig(n_folds=3, forest_trees=5),
        seed=0,
        stages=MemoryStages(),
        progress=lambda *_: None,
    ).predictor
    shares = predictor.predict([table.queries[0], "zzq wxyv", table.queries[1]]).known_shares
    assert shares is not None
    assert shares[0] > 0.5
    assert shares[1] == 0.0
    assert shares[2] > 0.5


class _Constant:
    def predict(self, texts: list[str]) -> Predictions:
        n = len(texts)
        return Predictions(np.full((n, 2), 0.5), np.ones((n, 2)), known_shares=np.full(n, 0.25))


def test_changed_prices_keep_it() -> None:
    policy = PointPolicy.from_models(np.array([1]), 2)
    router = Router(("small", "large"), _Constant(), policy, target_map=None, manifest={})  # type: ignore[arg-type]
    dearer = router.with_pool(cost_factors={"small": 2.0}).predict(["x"])
    assert dearer.known_shares == pytest.approx([0.25])
    assert dearer.costs_usd.tolist() == [[2.0, 1.0]]
