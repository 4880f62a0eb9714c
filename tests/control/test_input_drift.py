"""Input drift: false alarms per window as stated, shifts seen, the same windows however the queries arrive."""

from __future__ import annotations

import json

import numpy as np
import pytest

from proteus_router.control import InputDrift, InputReference
from proteus_router.errors import InsufficientDataError
from proteus_router.types import FloatArray


def clusters(rng: np.random.Generator, n: int, shares: tuple[float, ...]) -> FloatArray:
    """Embeddings of a few tasks, each a cluster in 16 dimensions."""
    centres = np.random.default_rng(99).normal(size=(len(shares), 16))
    return centres[rng.choice(len(shares), n, p=shares)] + rng.normal(scale=0.7, size=(n, 16))


USUAL, HARDER = (0.4, 0.3, 0.2, 0.1), (0.2, 0.2, 0.3, 0.3)


def test_false_alarms_per_window_are_as_stated() -> None:
    rng, alarms, windows = np.random.default_rng(0), 0, 0
    for seed in range(8):  # another reference each time: its own luck counts too
        reference = InputReference.fit(clusters(rng, 1500, USUAL), window=100, false_alarm=0.02, seed=seed)
        alarms += len(InputDrift(reference).add(clusters(rng, 20_000, USUAL)))
        windows += 200
    assert alarms / windows <= 0.02 + 3 * np.sqrt(0.02 * 0.98 / windows)
    assert alarms > 0


def test_a_shift_of_traffic_is_seen_and_placed() -> None:
    rng = np.random.default_rng(1)
    reference = InputReference.fit(clusters(rng, 2000, USUAL))
    drift = InputDrift(reference)
    assert drift.add(clusters(rng, 2000, USUAL)) == []
    shifts = drift.add(clusters(rng, 1000, HARDER))
    assert len(shifts) >= 4  # of five windows
    first = shifts[0]
    assert first.first in (2001, 2201)
    assert first.last == first.first + 199
    assert first.distance > first.threshold
    assert "Queries 2" in first.reason


def test_the_windows_do_not_depend_on_how_queries_arrive() -> None:
    rng = np.random.default_rng(2)
    arrays, meta = InputReference.fit(clusters(rng, 900, USUAL), window=100).to_state()
    reference = InputReference.from_state(arrays, json.loads(json.dumps(meta)))
    traffic = clusters(rng, 1030, HARDER)
    at_once = InputDrift(reference).add(traffic)
    one, found = InputDrift(reference), []
    for index, row in enumerate(traffic):
        if index == 517:
            one = InputDrift.from_state(reference, json.loads(json.dumps(one.to_state())))
        found += one.add(row[None, :])
    assert [(shift.first, shift.last) for shift in found] == [(s.first, s.last) for s in at_once]
    np.testing.assert_allclose([s.distance for s in found], [s.distance for s in at_once], rtol=1e-9)
    assert at_once


def test_too_few_calibration_queries() -> None:
    with pytest.raises(InsufficientDataError) as caught:
        InputReference.fit(np.zeros((100, 4)), window=200)
    assert caught.value.needed == 800
