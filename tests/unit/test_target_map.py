"""The map from target to operating point: the walk, its edges, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from proteus_router.errors import ArtifactIntegrityError, InvalidTargetError, TargetError
from proteus_router.routing.target_map import (
    Certificate,
    Infeasible,
    OperatingMix,
    TargetMap,
    parse_target,
)
from proteus_router.routing.targets import round_down

# Two vertices and one mixture between them; the third bound is higher than the second, as luck will have it.
BOUNDS = (0.78, 0.74, 0.76, 0.60, 0.55)


def make_map(bounds: tuple[float, ...] = BOUNDS, **changes: Any) -> TargetMap:
    values: dict[str, Any] = {
        "vertex_accuracy": np.array([0.80, 0.70, 0.60]),
        "vertex_cost_usd": np.array([10.0, 3.0, 1.0]),
        "upper": np.array([0, 0, 1, 1, 2]),
        "weight_upper": np.array([1.0, 0.5, 1.0, 0.5, 1.0]),
        "evidence_accuracy": np.array([0.80, 0.76, 0.78, 0.64, 0.60]),
        "evidence_cost_usd": np.array([10.0, 6.5, 3.0, 2.0, 1.0]),
        "n": np.full(5, 1000),
        "lower_bounds": np.array([bounds, [bound - 0.02 for bound in bounds]]),
        "covered": np.array([1, 8]),
        "variance": None,
        "confidence": 0.95,
        "scheme": "split",
        "data_fingerprint": "data",
        "policy_fingerprint": "policy",
        "assumption": "Independent rows.",
    }
    return TargetMap(**(values | changes))


def certified(outcome: Certificate | Infeasible) -> Certificate:
    assert isinstance(outcome, Certificate)
    return outcome


def refused(outcome: Certificate | OperatingMix | Infeasible) -> Infeasible:
    assert isinstance(outcome, Infeasible)
    return outcome


@pytest.mark.parametrize("value", [0.8, "0.8", " 0.8 ", np.float32(0.5), np.float64(0.25), 1e-9, 1 - 1e-12])
def test_fractions_are_read(value: Any) -> None:
    assert parse_target(value) == float(value)


@pytest.mark.parametrize(
    "value",
    [
        0,
        1,
        0.0,
        1.0,
        -0.1,
        1.5,
        95,
        "95",
        "95%",
        "0.8%",
        math.nan,
        math.inf,
        -math.inf,
        "nan",
        "inf",
        "high",
        "",
        None,
        True,
        False,
        [0.8],
        {},
        b"0.8x",
        10**400,
        object(),
    ],
)
def test_everything_else_is_refused(value: Any) -> None:
    with pytest.raises(InvalidTargetError):
        parse_target(value)


@pytest.mark.parametrize("value", [95, "95", "95%", 95.0])
def test_a_percentage_is_answered_with_the_fraction_it_means(value: Any) -> None:
    with pytest.raises(InvalidTargetError, match=r"Did you mean 0\.95\?"):
        parse_target(value)


def test_the_walk_stops_at_the_first_bound_below_the_target() -> None:
    # 0.75 is below the third point's own bound; but the second point's bound of 0.74 bars the way.
    certificate = certified(make_map().certify(0.75))
    assert certificate.internal_target == 0.80
    assert certificate.lower_bound == 0.78
    assert certificate.expected_cost_usd == 10.0
    # At 0.74 the walk passes both, and may use the third point.
    certificate = certified(make_map().certify(0.74))
    assert certificate.internal_target == 0.70
    assert certificate.lower_bound == 0.74
    assert certificate.n == 1000


def two_chains(**changes: Any) -> TargetMap:
    """The map above, and after it two points that are dearer and better known."""
    return make_map(
        vertex_accuracy=np.array([0.80, 0.70, 0.60, 0.79, 0.72]),
        vertex_cost_usd=np.array([10.0, 3.0, 1.0, 9.0, 4.0]),
        upper=np.array([0, 0, 1, 1, 2, 3, 4]),
        weight_upper=np.array([1.0, 0.5, 1.0, 0.5, 1.0, 1.0, 1.0]),
        evidence_accuracy=np.array([0.80, 0.76, 0.78, 0.64, 0.60, 0.79, 0.72]),
        evidence_cost_usd=np.array([10.0, 6.5, 3.0, 2.0, 1.0, 9.0, 4.0]),
        n=np.array([100, 100, 100, 100, 100, 900, 900]),
        lower_bounds=np.array([[*BOUNDS, 0.77, 0.71], [bound - 0.02 for bound in (*BOUNDS, 0.77, 0.71)]]),
        **{"frontier_size": 3, **changes},
    )


@pytest.mark.parametrize(
    ("target", "internal", "cost"),
    [
        (0.775, 0.80, 10.0),  # the first chain alone proves it
        (0.75, 0.79, 9.0),  # both do, the second for less
        (0.71, 0.70, 3.0),  # likewise, the first
        (0.58, 0.65, 2.0),  # a bound of 0.71 behind it is no help to the first chain's walk
    ],
)
def test_of_two_chains_the_cheaper_end_serves(target: float, internal: float, cost: float) -> None:
    found = certified(two_chains().certify(target))
    assert found.internal_target == pytest.approx(internal)
    assert found.expected_cost_usd == pytest.approx(cost)
    mix = two_chains().mix(found)
    assert mix.internal_target == found.internal_target
    assert mix.lower < 3 or mix.upper >= 3  # no coin between the chains


def test_each_chain_is_walked_by_itself_and_the_estimate_reads_the_first_alone() -> None:
    target_map = two_chains()
    assert target_map.n_chains == 2
    np.testing.assert_allclose(target_map.floors[0], [0.78, 0.74, 0.74, 0.60, 0.55, 0.77, 0.71])
    assert target_map.on_frontier.tolist() == [True] * 5 + [False] * 2
    assert target_map.certified_range == {"min_target": 0.55, "max_target": 0.78}
    for target in (0.62, 0.71, 0.795):
        assert target_map.expected(target) == make_map().expected(target)
    assert [point["on_frontier"] for point in target_map.points()] == target_map.on_frontier.tolist()
    again = TargetMap.from_state(*target_map.to_state())
    assert again.certify(0.75) == target_map.certify(0.75)


@pytest.mark.parametrize("size", [0, 6])
def test_a_frontier_that_is_none_of_the_vertices_is_refused(size: int) -> None:
    with pytest.raises(ArtifactIntegrityError):
        two_chains(frontier_size=size)


def test_the_certificate_says_what_it_is() -> None:
    certificate = certified(make_map().certify(0.55))
    assert dataclasses.asdict(certificate) == certificate.to_dict()
    assert Certificate.from_dict(json.loads(json.dumps(certificate.to_dict()))) == certificate
    assert (certificate.scheme, certificate.confidence, certificate.simultaneous) == ("split", 0.95, 1)
    assert (certificate.data_fingerprint, certificate.policy_fingerprint) == ("data", "policy")
    with pytest.raises(ArtifactIntegrityError, match="lower_bound"):
        Certificate.from_dict({k: v for k, v in certificate.to_dict().items() if k != "lower_bound"})


@pytest.mark.parametrize("best", [0.78, 0.7321, 0.73219999999, 0.1 + 0.2, 2 / 3, 0.9999999])
def test_the_best_target_as_printed_certifies(best: float) -> None:
    target_map = make_map((best, 0.05, 0.05, 0.05, 0.05))
    certified(target_map.certify(best))
    printed = target_map.certified_range["max_target"]
    assert printed is not None
    assert best - 1e-4 < printed <= best
    certified(target_map.certify(f"{printed:.4f}"))
    beyond = refused(target_map.certify(math.nextafter(best, 1.0)))
    assert beyond.best_certified == printed
    assert Infeasible.from_dict(json.loads(json.dumps(beyond.to_dict()))) == beyond


def test_rounding_down_never_rounds_up() -> None:
    for steps in range(1, 10_000):
        just_below = math.nextafter(steps / 10_000, 0.0)
        assert round_down(just_below) == (steps - 1) / 10_000
        assert round_down(steps / 10_000) == steps / 10_000


def test_infeasible_targets_say_what_would_help() -> None:
    outcome = refused(make_map().certify(0.79))
    assert outcome.best_certified == 0.78
    assert outcome.needed_n is not None
    assert 2_000 < outcome.needed_n < 6_000
    assert str(outcome.needed_n) in outcome.reason
    hopeless = refused(make_map().certify(0.81))
    assert hopeless.needed_n is None
    assert "more rows would not help" in hopeless.reason


def test_simultaneous_targets_use_the_next_larger_count() -> None:
    target_map = make_map()
    for together, covered in ((1, 1), (2, 8), (8, 8)):
        assert certified(target_map.certify(0.5, n_simultaneous=together)).simultaneous == covered
    assert certified(target_map.certify(0.74, n_simultaneous=2)).internal_target == 0.80
    assert refused(target_map.certify(0.77, n_simultaneous=2)).best_certified == 0.76
    for together in (0, 9):
        with pytest.raises(TargetError, match="1 to 8"):
            target_map.certify(0.5, n_simultaneous=together)


def test_mix_is_the_point_of_the_certificate() -> None:
    target_map = make_map()
    mix = target_map.mix(certified(target_map.certify(0.60)))
    assert (mix.upper, mix.lower, mix.weight_upper, mix.expected_cost_usd) == (1, 2, 0.5, 2.0)
    assert mix.internal_target == pytest.approx(0.65)
    assert target_map.mix(certified(target_map.certify(0.55))) == OperatingMix(2, 2, 1.0, 0.60, 1.0)


@pytest.mark.parametrize("changes", [{"policy_fingerprint": "other"}, {"data_fingerprint": "other"}])
def test_a_certificate_holds_for_its_own_map_only(changes: dict[str, Any]) -> None:
    certificate = certified(make_map().certify(0.6))
    with pytest.raises(TargetError, match="another policy"):
        make_map(**changes).mix(certificate)
    with pytest.raises(TargetError, match="another policy"):
        make_map().mix(dataclasses.replace(certificate, internal_target=0.651))


def test_expected_mixes_to_the_target_exactly() -> None:
    target_map = make_map()
    mix = target_map.expected(0.775)
    assert isinstance(mix, OperatingMix)
    assert (mix.upper, mix.lower, mix.internal_target) == (0, 1, 0.775)
    assert mix.weight_upper == pytest.approx(0.75)
    assert mix.expected_cost_usd == pytest.approx(8.25)
    assert target_map.expected(0.70) == OperatingMix(1, 1, 1.0, 0.70, 3.0)
    assert target_map.expected(0.80) == OperatingMix(0, 0, 1.0, 0.80, 10.0)
    assert target_map.expected(0.1) == OperatingMix(2, 2, 1.0, 0.60, 1.0)


def test_expected_above_the_most_accurate_point() -> None:
    outcome = refused(make_map().expected(0.81))
    assert outcome.best_expected == 0.80
    assert "0.8000" in outcome.reason
    assert make_map().expected(0.81, clamp=True) == OperatingMix(0, 0, 1.0, 0.80, 10.0)


@pytest.mark.parametrize("target", [95, "high", None, math.nan])
def test_both_entrances_check_the_target(target: Any) -> None:
    with pytest.raises(InvalidTargetError):
        make_map().certify(target)
    with pytest.raises(InvalidTargetError):
        make_map().expected(target)


def test_the_certified_range_certifies_at_both_ends() -> None:
    limits = make_map().certified_range
    assert limits == {"min_target": 0.55, "max_target": 0.78}
    assert certified(make_map().certify(limits["min_target"])).internal_target == 0.60


def test_no_evidence_certifies_nothing() -> None:
    nothing = make_map(
        (0.0,) * 5, lower_bounds=np.zeros((2, 5)), n=np.zeros(5, int), evidence_accuracy=np.full(5, np.nan)
    )
    assert nothing.certified_range == {"min_target": None, "max_target": None}
    outcome = refused(nothing.certify(0.5))
    assert outcome.best_certified is None
    assert "no evidence row" in outcome.reason
    assert nothing.shortage is not None
    assert nothing.points()[0]["accuracy"] is None
    json.dumps(nothing.points(), allow_nan=False)


def test_too_little_evidence_names_the_rows_needed() -> None:
    assert make_map().shortage is None
    few = make_map((0.58, 0.5, 0.4, 0.3, 0.2), n=np.full(5, 12)).shortage
    assert few is not None
    assert "n = 12" in few
    assert "about 20 would be needed" in few
    worthless = make_map((0.3,) * 5, evidence_accuracy=np.full(5, 0.4)).shortage
    assert worthless is not None
    assert "no number of such rows" in worthless


def test_points_read_like_the_sequence() -> None:
    points = make_map().points()
    assert [point["internal_target"] for point in points] == pytest.approx([0.80, 0.75, 0.70, 0.65, 0.60])
    assert [point["accuracy_lower"] for point in points] == [0.78, 0.74, 0.74, 0.60, 0.55]
    assert [point["cost_usd"] for point in points] == [10.0, 6.5, 3.0, 2.0, 1.0]
    assert points[2]["accuracy"] == 0.78


def test_a_single_point_is_a_map_too() -> None:
    single = make_map(
        vertex_accuracy=np.array([0.8]),
        vertex_cost_usd=np.array([2.0]),
        upper=np.array([0]),
        weight_upper=np.array([1.0]),
        evidence_accuracy=np.array([0.8]),
        evidence_cost_usd=np.array([2.0]),
        n=np.array([1000]),
        lower_bounds=np.array([[0.78]]),
        covered=np.array([1]),
    )
    assert single.mix(certified(single.certify(0.7))) == OperatingMix(0, 0, 1.0, 0.8, 2.0)
    assert single.expected(0.3) == OperatingMix(0, 0, 1.0, 0.8, 2.0)
    assert single.shortage is None


def test_saving_and_reading_gives_the_same_answers() -> None:
    before = make_map()
    arrays, meta = before.to_state()
    after = TargetMap.from_state(arrays, json.loads(json.dumps(meta, allow_nan=False)))
    assert after.points() == before.points()
    for target in np.linspace(0.01, 0.99, 50):
        assert after.certify(target) == before.certify(target)
        assert after.expected(target, clamp=True) == before.expected(target, clamp=True)


@pytest.mark.parametrize("name", ["vertex_accuracy", "lower_bounds", "covered", "n"])
def test_a_missing_array_is_named(name: str) -> None:
    arrays, meta = make_map().to_state()
    del arrays[name]
    with pytest.raises(ArtifactIntegrityError, match=name):
        TargetMap.from_state(arrays, meta)


@pytest.mark.parametrize(
    "changes",
    [
        {"n": np.full(4, 1000)},
        {"upper": np.array([0, 0, 1, 1, 3])},
        {"upper": np.array([0, 0, 1, 2, 2])},  # a mixture below the last vertex
        {"vertex_accuracy": np.array([0.7, 0.8, 0.6])},
        {"vertex_cost_usd": np.array([1.0, 3.0, 10.0])},
        {"vertex_cost_usd": np.array([10.0, 3.0])},
        {"covered": np.array([1])},
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ArtifactIntegrityError):
        make_map(**changes)
