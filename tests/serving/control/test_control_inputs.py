"""Traffic that changes is noticed, traffic that does not is left alone; no text is kept."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from proteus_router.control import InputReference
from proteus_router.data.synthetic import make_world
from proteus_router.encoders.hashed import HASHED_DIM, hashed_features
from proteus_router.serving.control.inputs import InputWatch


@pytest.fixture(scope="module")
def reference() -> InputReference:
    return InputReference.fit(hashed_features(make_world(0).sample(2_000, 1).table.queries))


def test_a_row_depends_on_its_text_alone() -> None:
    texts = ["What is 7 * 8?", "", "\N{GRINNING FACE}", "x" * 10_000, "What is 7 * 8?"]
    rows = hashed_features(texts)
    assert rows.shape == (5, HASHED_DIM)
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(rows[0], rows[4])
    np.testing.assert_array_equal(rows[3:4], hashed_features(texts[3:4]))


def test_false_alarms_on_unchanged_traffic_are_as_rare_as_stated(reference: InputReference) -> None:
    watch = InputWatch(reference)
    for text in make_world(0).sample(20_000, 2).table.queries:
        watch.saw(text)
        if len(watch._waiting) == 1_000:
            asyncio.run(watch.look(0.0))
    assert watch.to_dict()["seen"] == 20_000
    # 100 windows at 0.2%: three or more by chance in 1 of 900 worlds
    assert len(watch.shifts) <= 2


def test_traffic_from_other_tasks_is_found_in_its_first_window(reference: InputReference) -> None:
    sample = make_world(0).sample(4_000, 3).table
    assert sample.tasks is not None
    tasks = sorted(set(sample.tasks))[:3]
    watch = InputWatch(reference)
    for text in sample.queries[:400]:
        watch.saw(text)
    some = [text for text, task in zip(sample.queries, sample.tasks, strict=True) if task in tasks][:200]
    for text in some:
        watch.saw(text)
    asyncio.run(watch.look(5.0))
    assert watch.shifted
    (shift,) = watch.to_dict()["shifts"]
    assert (shift["first"], shift["last"], shift["at"]) == (401, 600, 5.0)
    assert not any(text in str(watch.to_dict()) for text in some)
    assert not watch._waiting


def test_without_a_reference_nothing_is_watched() -> None:
    watch = InputWatch(None)
    watch.saw("text")
    asyncio.run(watch.look(0.0))
    assert watch.to_dict() == {"watched": False}
    assert not watch.shifted
