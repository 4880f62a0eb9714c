"""What must hold for every map and every target."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from proteus_router.calibration.certify import calibrate
from proteus_router.routing.target_map import Certificate, Infeasible, OperatingMix, TargetMap
from proteus_router.routing.targets import round_down

SEEDS = st.integers(0, 10_000)
TARGETS = st.lists(st.floats(0.001, 0.999), min_size=2, max_size=30)


def random_map(seed: int, *, cost_factor: float = 1.0) -> TargetMap:
    """A calibrated map over a random chain of vertices; estimates and evidence disagree at will."""
    rng = np.random.default_rng(seed)
    n, k, vertices = int(rng.integers(1, 400)), int(rng.integers(2, 6)), int(rng.integers(1, 6))
    accuracy = np.sort(rng.choice(np.arange(300, 950), vertices, replace=False))[::-1] / 1000
    cost = np.sort(rng.random(vertices))[::-1] + 0.01
    scores = (rng.random((n, k)) < rng.uniform(0.3, 0.95, k)).astype(float)
    if rng.random() < 0.3:
        scores = 0.9 * scores + 0.1 * rng.random((n, k))
    costs = rng.random((n, k))
    if rng.random() < 0.5:
        gaps = rng.random((n, k)) < 0.3
        scores, costs = np.where(gaps, np.nan, scores), np.where(gaps, np.nan, costs)
    return calibrate(
        accuracy=accuracy,
        cost_usd=cost * cost_factor,
        choices=rng.integers(0, k, (vertices, n)),
        scores=scores,
        costs_usd=costs * cost_factor,
        confidence=0.95,
        scheme="split",
        data_fingerprint="d",
        policy_fingerprint="p",
        seed=seed,
        max_step=0.05,
    )


@settings(max_examples=60, deadline=None)
@given(SEEDS, TARGETS, st.sampled_from([1, 5, 64]))
def test_a_higher_target_never_gets_a_cheaper_point(seed: int, targets: list[float], together: int) -> None:
    target_map = random_map(seed)
    outcomes = [target_map.certify(target, n_simultaneous=together) for target in sorted(targets)]
    certificates = [outcome for outcome in outcomes if isinstance(outcome, Certificate)]
    # Feasible targets come first.
    assert all(isinstance(outcome, Infeasible) for outcome in outcomes[len(certificates) :])
    for lower, higher in itertools.pairwise(certificates):
        assert lower.internal_target <= higher.internal_target
        assert lower.expected_cost_usd <= higher.expected_cost_usd
    for certificate in certificates:
        assert certificate.lower_bound >= certificate.accuracy_target


@settings(max_examples=60, deadline=None)
@given(SEEDS, TARGETS)
def test_expected_points_are_monotone_and_exact(seed: int, targets: list[float]) -> None:
    target_map = random_map(seed)
    accuracy = target_map.vertex_accuracy
    last: OperatingMix | None = None
    for target in sorted(targets):
        mix = target_map.expected(target, clamp=True)
        assert isinstance(mix, OperatingMix)
        served = mix.weight_upper * accuracy[mix.upper] + (1 - mix.weight_upper) * accuracy[mix.lower]
        assert np.isclose(served, np.clip(target, accuracy[-1], accuracy[0]), atol=1e-12)
        assert np.isclose(served, mix.internal_target, atol=1e-12)
        if last is not None:
            assert last.internal_target <= mix.internal_target
            assert last.expected_cost_usd <= mix.expected_cost_usd + 1e-12
        last = mix


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.floats(0.01, 0.99))
def test_more_promises_at_once_never_cost_less(seed: int, target: float) -> None:
    target_map = random_map(seed)
    internal = []
    for together in (1, 2, 4, 8, 16, 32, 64):
        outcome = target_map.certify(target, n_simultaneous=together)
        internal.append(outcome.internal_target if isinstance(outcome, Certificate) else np.inf)
    assert internal == sorted(internal)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_the_certified_range_is_where_certificates_are(seed: int) -> None:
    target_map = random_map(seed)
    limits = target_map.certified_range
    if limits["max_target"] is None or limits["min_target"] is None:
        assert isinstance(target_map.certify(0.001), Infeasible)
        return
    top = target_map.certify(limits["max_target"])
    assert isinstance(top, Certificate)
    assert isinstance(target_map.certify(min(limits["max_target"] + 1e-4, 0.9999)), Infeasible)
    bottom, below = target_map.certify(limits["min_target"]), target_map.certify(limits["min_target"] / 2)
    assert isinstance(bottom, Certificate)
    assert isinstance(below, Certificate)
    assert bottom.internal_target <= top.internal_target


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.floats(0.01, 0.99), st.sampled_from([1e-6, 0.5, 1000.0]))
def test_a_change_of_currency_changes_no_decision(seed: int, target: float, factor: float) -> None:
    before, after = random_map(seed), random_map(seed, cost_factor=factor)
    one, other = before.certify(target), after.certify(target)
    if isinstance(one, Certificate):
        assert isinstance(other, Certificate)
        a, b = before.mix(one), after.mix(other)
        assert (a.upper, a.lower, a.weight_upper) == (b.upper, b.lower, b.weight_upper)
        assert np.isclose(b.expected_cost_usd, factor * a.expected_cost_usd)
    else:
        assert one == other


@given(st.floats(0.0, 1.0))
def test_rounding_down_stays_below_and_close(value: float) -> None:
    assert value - 1e-4 < round_down(value) <= value
