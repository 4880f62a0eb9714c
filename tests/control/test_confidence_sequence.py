"""The interval: its slow twin, exact sums whatever the order, edges, width."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proteus_router.control import ConfidenceSequence, RollingSequence


def excluded(
    mean: float,
    sign: int,
    scores: list[float],
    rates: list[float],
    requests: int,
    *,
    floor: float,
    goal: float,
) -> bool:
    """By the definition: the mixture of bettors on one side has turned 1 into `goal` against this mean."""
    total, sizes = 0.0, [2.0**-j for j in range(-1, 7)]
    for size in sizes:
        stake = sign * min(size, 0.95 / (0.8 if sign > 0 else 0.2))
        log = -requests * math.log(1 + stake * floor * (mean - 0.8))
        for score, rate in zip(scores, rates, strict=True):
            log += math.log(1 + stake * floor / rate * (score - 0.8))
        total += math.exp(log) / len(sizes)
    return total >= goal


@pytest.mark.parametrize(
    ("n", "skip", "rates"), [(40, 0, (1.0,)), (200, 0, (1.0,)), (120, 300, (0.3,)), (90, 200, (0.2, 0.6))]
)
def test_the_bounds_are_those_of_the_definition(n: int, skip: int, rates: tuple[float, ...]) -> None:
    rng, floor = np.random.default_rng(n), min(rates)
    scores = rng.beta(4.0, 1.0, n).tolist()
    used = [rates[i % len(rates)] for i in range(n)]
    sequence = ConfidenceSequence(0.8, rate_floor=floor, confidence=0.9)
    for score, rate in zip(scores, used, strict=True):
        sequence.add(score, rate=rate)
    found = sequence.bounds(n + skip)
    for bound, sign in ((found.lower, 1), (found.upper, -1)):
        assert 0.0 < bound < 1.0
        assert excluded(bound - sign * 1e-6, sign, scores, used, n + skip, floor=floor, goal=20.0)
        assert not excluded(bound + sign * 1e-6, sign, scores, used, n + skip, floor=floor, goal=20.0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60), st.integers(0, 60), st.randoms())
def test_order_and_partition_change_nothing_to_the_last_bit(
    scores: list[float], cut: int, random: object
) -> None:
    def folded(values: list[float]) -> ConfidenceSequence:
        sequence = ConfidenceSequence(0.75, rate_floor=0.25)
        for value in values:
            sequence.add(value, rate=0.5)
        return sequence

    whole = folded(scores)
    shuffled = list(scores)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = folded(shuffled[:cut]), folded(shuffled[cut:])
    first.merge(second)
    assert first.to_state() == whole.to_state()
    assert first.bounds(200) == whole.bounds(200)


def test_the_state_goes_through_json() -> None:
    sequence = ConfidenceSequence(0.8, rate_floor=0.05)
    for score in np.random.default_rng(0).random(50):
        sequence.add(float(score), rate=0.05)
    restored = ConfidenceSequence.from_state(json.loads(json.dumps(sequence.to_state())))
    sequence.add(1.0, rate=0.2)
    restored.add(1.0, rate=0.2)
    assert restored.to_state() == sequence.to_state()
    assert restored.bounds(1000) == sequence.bounds(1000)


def test_nothing_is_known_at_first() -> None:
    bounds = ConfidenceSequence(0.8).bounds(0)
    assert (bounds.lower, bounds.upper) == (0.0, 1.0)
    assert (bounds.odds_above, bounds.odds_below) == (1.0, 1.0)
    assert bounds.estimate == 0.8
    unaudited = ConfidenceSequence(0.8, rate_floor=0.1).bounds(5000, open_audits=500)
    assert (unaudited.lower, unaudited.upper) == (0.0, 1.0)


def test_open_audits_count_as_not_drawn() -> None:
    half, all_closed = ConfidenceSequence(0.8, rate_floor=0.2), ConfidenceSequence(0.8, rate_floor=0.1)
    for index in range(300):
        half.add(float(index % 10 > 0), rate=0.2)
        all_closed.add(float(index % 10 > 0), rate=0.1)
    found, expected = half.bounds(3000, open_audits=300), all_closed.bounds(3000)
    assert found.estimate == pytest.approx(0.9, abs=1e-6)
    assert found.lower == pytest.approx(expected.lower, abs=2e-3)
    # Forgetting them would shrink everything towards the floor.
    assert half.bounds(3000).estimate == pytest.approx(0.85, abs=1e-6)


def test_the_ends_are_reached_only_by_evidence() -> None:
    good, bad = ConfidenceSequence(0.8), ConfidenceSequence(0.8)
    for _ in range(400):
        good.add(1.0)
        bad.add(0.0)
    assert good.bounds(400).lower > 0.97
    assert good.bounds(400).upper == 1.0
    assert bad.bounds(400).upper < 0.03
    assert bad.bounds(400).lower == 0.0
    assert bad.bounds(400).odds_below > 1e100


@pytest.mark.parametrize("rate", [1.0, 0.2])
@pytest.mark.parametrize("audits", [100, 1000, 10_000])
def test_the_half_width_is_about_three_and_a_half_standard_errors(rate: float, audits: int) -> None:
    sequence = ConfidenceSequence(0.8, rate_floor=rate)
    for index in range(audits):
        sequence.add(float(index % 5 > 0), rate=rate)
    found = sequence.bounds(round(audits / rate))
    half = 0.5 * (found.upper - found.lower) / math.sqrt(0.16 / audits)
    assert 2.8 < half < 3.7
    assert found.estimate == pytest.approx(0.8, abs=1e-6)


def test_graded_scores_of_small_spread_give_a_narrow_interval() -> None:
    sequence = ConfidenceSequence(0.8)
    for index in range(1000):
        sequence.add(0.75 if index % 2 else 0.85)
    found = sequence.bounds(1000)
    assert found.upper - found.lower < 0.03  # coins: 0.086


@pytest.mark.parametrize("score", [-0.01, 1.01, math.nan, math.inf])
def test_what_is_no_score_is_refused_and_leaves_no_trace(score: float) -> None:
    sequence = ConfidenceSequence(0.8)
    before = sequence.to_state()
    with pytest.raises(ValueError, match="score"):
        sequence.add(score)
    with pytest.raises(ValueError, match="rate"):
        sequence.add(0.5, rate=0.5)  # below this sequence's floor of 1
    assert sequence.to_state() == before


def test_more_audits_than_requests_is_a_mistake() -> None:
    sequence = ConfidenceSequence(0.8)
    sequence.add(1.0)
    with pytest.raises(ValueError, match="1 audits can't come from 0 requests"):
        sequence.bounds(0)


def test_sequences_of_other_tiers_do_not_merge() -> None:
    with pytest.raises(ValueError, match="don't add up"):
        ConfidenceSequence(0.8).merge(ConfidenceSequence(0.7))


def test_a_rolling_sequence_equals_a_fresh_one_on_its_window() -> None:
    rng = np.random.default_rng(4)
    rolling = RollingSequence(400, 0.8, rate_floor=0.5)
    audited = [(position, float(rng.random() < 0.8)) for position in range(1, 1501) if rng.random() < 0.5]
    for position, score in audited:
        rolling.add(score, position=position, rate=0.5)
    for requests in (1500, 1400, 1399):
        start = rolling.start(requests)
        assert start % 100 == 0
        assert 300 <= requests - start <= 400
        fresh = ConfidenceSequence(0.8, rate_floor=0.5)
        for position, score in audited:
            if start < position <= 1500:
                fresh.add(score, rate=0.5)
        if requests == 1500:
            assert rolling.bounds(requests) == fresh.bounds(requests - start)
    assert len(rolling.to_state()["starts"]) <= 9  # what lies behind is dropped
    restored = RollingSequence.from_state(json.loads(json.dumps(rolling.to_state())))
    assert restored.bounds(1500) == rolling.bounds(1500)


def test_a_rolling_sequence_forgets_the_good_old_days() -> None:
    rolling, whole = RollingSequence(1000, 0.8), ConfidenceSequence(0.8)
    for position in range(1, 5001):
        score = float(position % 20 > 0) if position <= 4000 else float(position % 10 > 4)
        rolling.add(score, position=position)
        whole.add(score)
    assert rolling.bounds(5000).upper < 0.6
    assert whole.bounds(5000).lower > 0.8
