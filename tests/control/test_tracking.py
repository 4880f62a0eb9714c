"""Integral control and the re-inverted frontier: the identity, the long-run bound, freezing, what is served."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proteus_router.control import (
    Gains,
    IntegralControl,
    audit_need,
    audits_to_decide,
    corrected,
    long_run_shortfall,
    reinvert,
    supported_width,
)
from proteus_router.routing.points import PointPolicy
from proteus_router.types import Predictions


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.05, 0.2, 1.0])), min_size=1, max_size=200),
    st.floats(0.6, 1.0),
)
def test_the_identity_needs_no_assumption(audits: list[tuple[float, float]], start: float) -> None:
    """Also where the clip cuts in: the weighted mean score is read off the correction."""
    control = IntegralControl(0.8, start=start, usual_rate=0.2, gains=Gains(gain=0.02, limit=0.05))
    for score, rate in audits:
        control.add(score, rate=rate)
    weights = [0.2 / rate for _, rate in audits]
    mean = np.average([score for score, _ in audits], weights=weights)
    assert control.mean_score == pytest.approx(mean, abs=1e-9)
    assert abs(control.correction) <= 0.05


def test_the_internal_target_moves_against_the_error() -> None:
    control = IntegralControl(0.8, start=0.82, gains=Gains(gain=0.01, slack=0.005))
    assert control.mean_score is None
    assert control.internal_target == pytest.approx(0.82)
    control.add(0.0)
    assert control.internal_target == pytest.approx(0.82 + 0.01 * 0.805)
    control.add(1.0)
    assert control.internal_target == pytest.approx(0.82 + 0.01 * (0.805 - 0.195))


def plant(reach: float, bias: float, gains: Gains, audits: int, seed: int) -> float:
    """Expected mean score of a tier whose points are `bias` better than thought, up to `reach`."""
    rng = np.random.default_rng(seed)
    control, total = IntegralControl(0.8, start=0.8, gains=gains), 0.0
    uniforms = rng.random(audits)
    for uniform in uniforms:
        mean = min(control.internal_target + bias, reach)
        total += mean
        control.add(float(uniform < mean))
    return total / audits


@pytest.mark.parametrize(("audits", "bias"), [(500, -0.04), (2000, -0.04), (8000, -0.04), (8000, 0.05)])
def test_the_long_run_bound_holds(audits: int, bias: float) -> None:
    """Reach 0.815: the strongest point beats floor + slack, so at a correction of 0.05 and more all is well."""
    gains = Gains(gain=0.003, slack=0.01)
    means = [plant(0.815, bias, gains, audits, seed) for seed in range(20)]
    room = 0.05  # at correction >= limit - room = 0.05 the internal target is 0.86, the mean 0.815
    shortfall = 0.8 - float(np.mean(means))
    assert shortfall <= long_run_shortfall(audits, gains, room=room)
    if audits == 8000:
        assert shortfall <= 0.002  # and far within it: no shortfall is left


def test_the_bound_vanishes_and_ends_below_the_floor_only_without_slack() -> None:
    gains = Gains()
    bounds = [long_run_shortfall(n, gains) for n in (1000, 10_000, 100_000, 10**7)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] < 0.0
    assert long_run_shortfall(10**9, Gains(slack=0.0)) > 0.0


def test_an_unreachable_floor_is_said_not_hidden() -> None:
    control = IntegralControl(0.8, start=0.8, gains=Gains(gain=0.01))
    for _ in range(40):
        control.add(0.3)
    status = control.status(requests_since_audit=0)
    assert status.state == "at_limit"
    assert "may not reach" in status.reason
    assert control.forgiven > 0.0
    for _ in range(150):  # the clip is symmetric: credit is limited as well as debt
        control.add(1.0)
    assert control.correction == -0.1


def test_without_audits_it_freezes_and_says_so() -> None:
    control = IntegralControl(0.8, start=0.82, usual_rate=0.05)
    control.add(0.0, rate=0.05)
    before = control.internal_target
    assert control.status(requests_since_audit=150).state == "tracking"
    assert control.status(requests_since_audit=179).state == "tracking"
    frozen = control.status(requests_since_audit=250)  # 0.95 ** 250 = 2.7e-6
    assert frozen.state == "frozen"
    assert "250 requests" in frozen.reason
    assert frozen.internal_target == before
    control.add(1.0, rate=0.05)
    assert control.status(requests_since_audit=0).state == "tracking"


def test_the_state_goes_through_json_and_on() -> None:
    control = IntegralControl(0.8, start=0.9, usual_rate=0.2)
    for score in (0.0, 1.0, 0.4):
        control.add(score, rate=0.2)
    again = IntegralControl.from_state(json.loads(json.dumps(control.to_state())))
    for score in (0.0, 1.0):
        control.add(score, rate=0.1)
        again.add(score, rate=0.1)
    assert again.to_state() == control.to_state()
    assert again.mean_score == control.mean_score


def test_gains_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="gain"):
        Gains(gain=0.0)


def test_what_audit_rate_a_floor_needs() -> None:
    full = audit_need(1.0, width=0.01, horizon=6667)
    assert full.sufficient
    fifth = audit_need(0.2, width=0.025, horizon=6667)
    assert fifth.sufficient
    few = audit_need(0.05, width=0.025, horizon=6667)
    assert not few.sufficient
    assert 0.1 < few.needed_rate < 0.2
    assert "can't hold this floor within 2.5 points" in few.reason
    hopeless = audit_need(1.0, width=0.005, horizon=1000)
    assert not hopeless.sufficient
    assert hopeless.needed_rate > 1.0
    assert "No audit rate" in hopeless.reason
    assert supported_width(400) == pytest.approx(2 * supported_width(1600))
    assert audits_to_decide(0.0, 0.8) is None
    assert audits_to_decide(0.02, 0.8) == audits_to_decide(-0.02, 0.8)


def test_the_supported_width_is_what_a_loop_of_that_gain_does() -> None:
    """With gain 3 / n the target's wandering exceeds the width in about one look of twenty."""
    n, gaps = 300, []
    gains = Gains(gain=3.0 / n, slack=0.0, limit=0.4)
    rng = np.random.default_rng(5)
    for _ in range(60):
        control = IntegralControl(0.8, start=0.8, gains=gains)
        for _ in range(2 * n):
            control.add(float(rng.random() < control.internal_target))
        gaps.append(0.8 - control.internal_target)
    width = supported_width(n, deviation=0.4)
    assert 0.0 < np.mean(np.array(gaps) > width) < 0.15
    assert np.std(gaps) == pytest.approx(width / 1.645, rel=0.35)


def frontier_world(n: int = 400) -> tuple[PointPolicy, Predictions]:
    rng = np.random.default_rng(6)
    scores = np.clip(np.array([0.6, 0.75, 0.9]) + rng.normal(scale=0.08, size=(n, 3)), 0, 1)
    costs = np.array([1e-4, 5e-4, 2e-3]) * rng.lognormal(sigma=0.2, size=(n, 1))
    policy = PointPolicy.from_prices(np.concatenate([[0.0], np.geomspace(20, 2000, 24)]), 3)
    return policy, Predictions(scores, costs)


def test_the_frontier_is_ordered_and_reaches_what_is_asked() -> None:
    policy, recent = frontier_world()
    frontier = reinvert(policy, recent, np.zeros(3))
    assert np.all(np.diff(frontier.accuracy) < 0)
    assert np.all(np.diff(frontier.cost_usd) < 0)
    coins = (np.arange(400) + 0.5) / 400
    rows = np.arange(400)
    for target in (0.65, 0.75, 0.85):
        mix = frontier.mix(target)
        assert mix.retreat == 0.0
        draws = [
            recent.scores[rows, mix.choose(policy, recent, rng_coins)].mean()
            for rng_coins in (np.roll(coins, shift) for shift in range(0, 400, 40))
        ]
        assert np.mean(draws) == pytest.approx(target, abs=0.004)
    assert frontier.mix(0.1).lower == frontier.points[-1]


def test_a_worse_model_is_routed_around() -> None:
    policy, recent = frontier_world()
    offsets = np.array([0.0, 0.0, -0.25])
    blind, seeing = reinvert(policy, recent, np.zeros(3)), reinvert(policy, recent, offsets)
    now = corrected(recent, offsets)
    coins = np.random.default_rng(7).random(400)
    before = (blind.mix(0.74).choose(policy, recent, coins) == 2).mean()
    after = (seeing.mix(0.74).choose(policy, now, coins) == 2).mean()
    assert after < 0.5 * before + 0.05
    assert seeing.best_model == 1
    assert blind.best_model == 2


def test_halved_prices_make_the_same_target_cheaper() -> None:
    policy, recent = frontier_world()
    cheaper = Predictions(recent.scores, recent.costs_usd * np.array([1.0, 1.0, 0.5]))
    dear, cheap = reinvert(policy, recent, np.zeros(3)), reinvert(policy, cheaper, np.zeros(3))
    assert cheap.mix(0.8).expected_cost_usd < 0.8 * dear.mix(0.8).expected_cost_usd


def test_above_its_top_the_frontier_retreats_to_the_best_single_model() -> None:
    policy, recent = frontier_world()
    offsets = np.array(
        [0.0, 0.0, -0.2]
    )  # two models close together: picking per query looks better than it is
    frontier = reinvert(policy, recent, offsets)
    now = corrected(recent, offsets)
    top = float(frontier.accuracy[0])
    coins = np.random.default_rng(8).random(400)
    half, whole = frontier.mix(top + 0.01), frontier.mix(top + 0.05)
    assert frontier.mix(top).retreat == 0.0
    assert half.retreat == pytest.approx(0.5)
    assert whole.retreat == 1.0
    assert set(whole.choose(policy, now, coins).tolist()) == {frontier.best_model}
    at_top = frontier.mix(top).choose(policy, now, coins)
    mixed = half.choose(policy, now, coins)
    np.testing.assert_array_equal(mixed, np.where(coins < half.retreat, frontier.best_model, at_top))


def test_a_model_in_quarantine_is_never_chosen() -> None:
    policy, recent = frontier_world()
    policy = policy.joined(PointPolicy.from_models(np.arange(3), 3))
    frontier = reinvert(policy, recent, np.zeros(3), available=np.array([True, True, False]))
    assert frontier.best_model == 1
    assert frontier.accuracy[0] < 0.8
    assert np.isfinite(frontier.accuracy).all()
