"""The whole loop as a fold: same outcomes, same state, in every process; twice is once; nothing half done."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from proteus_router.control import AuditedOutcome, ControlLoop, TierLoop

MODELS = ("small", "large")


def fresh() -> ControlLoop:
    return ControlLoop(
        MODELS,
        {
            "standard": TierLoop(0.8, rate=0.5, start=0.82, window=400),
            "premium": TierLoop(0.9, rate=0.5, rate_floor=0.25, window=400),
        },
    )


def outcomes(n: int = 1500) -> list[AuditedOutcome]:
    """Two tiers; `large` gets much worse half way."""
    rng, found, position = np.random.default_rng(0), [], {"standard": 0, "premium": 0}
    for sequence in range(0, 2 * n, 2):  # gaps in the numbers are no matter
        tier = ("standard", "premium")[int(rng.random() < 0.4)]
        position[tier] += 2
        model = MODELS[int(rng.random() < 0.5)]
        chance = 0.35 if model == "large" and sequence > n else 0.9
        score = float(rng.random() < chance)
        found.append(
            AuditedOutcome(
                sequence, tier, position[tier], model, score, 0.9, 0.5, task=("law", None)[sequence % 3 % 2]
            )
        )
    return found


def test_two_processes_and_a_snapshot_agree_to_the_last_bit() -> None:
    rows, one, other = outcomes(), fresh(), fresh()
    seen = one.observe_all(rows)
    other.observe_all(rows[:700])
    other = ControlLoop.from_state(json.loads(json.dumps(other.to_state())))  # killed and restarted
    seen_again = other.observe_all(rows[600:])  # and reads a part for the second time
    assert other.to_state() == one.to_state()
    assert seen_again == [
        found for found in seen if _number(found.changes, found.collapse) > rows[699].sequence
    ]
    for tier in one.tiers:
        assert one.tiers[tier].certificate(4000) == other.tiers[tier].certificate(4000)
        recent = one.tiers[tier].certificate(4000, recent=True)
        assert recent == other.tiers[tier].certificate(4000, recent=True)


def _number(changes: tuple[object, ...], collapse: object) -> int:
    return int(getattr(changes[0] if changes else collapse, "number"))  # noqa: B009


def test_what_comes_to_light() -> None:
    loop = fresh()
    seen = loop.observe_all(outcomes())
    changed = {change.model for found in seen for change in found.changes}
    assert changed == {"large"}
    collapsed = {found.collapse.model for found in seen if found.collapse}
    assert collapsed == {"large"}
    small, large = loop.offsets
    assert small == 0.0
    assert large < -0.4
    certificate = loop.tiers["premium"].certificate(4000)
    assert certificate.state == "violated"
    assert loop.tiers["standard"].tracking(4000) is not None
    assert loop.tiers["premium"].tracking(4000) is None


def test_a_thousand_times_the_same_is_once() -> None:
    rows, loop = outcomes(50), fresh()
    loop.observe_all(rows)
    before = json.dumps(loop.to_state())
    for _ in range(1000):
        assert loop.observe(rows[-1]) == loop.observe(rows[3])
    assert json.dumps(loop.to_state()) == before


@pytest.mark.parametrize(
    "change",
    [
        {"score": math.nan},
        {"score": 1.5},
        {"predicted_score": -0.1},
        {"rate": 1.2},
        {"position": 0},
    ],
)
def test_a_malformed_outcome_can_not_be_made(change: dict[str, float]) -> None:
    values = {"sequence": 1, "tier": "standard", "position": 1, "model": "small"}
    good = {"score": 1.0, "predicted_score": 0.9, "rate": 0.5}
    with pytest.raises(ValueError, match="outcome 1"):
        AuditedOutcome(**{**values, **good, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "row",
    [
        AuditedOutcome(900, "gold", 1, "small", 1.0, 0.9, 0.5),
        AuditedOutcome(900, "standard", 1, "huge", 1.0, 0.9, 0.5),
        AuditedOutcome(900, "standard", 1, "small", 1.0, 0.9, 0.1),  # below the tier's rate floor
    ],
)
def test_a_refused_outcome_changes_nothing(row: AuditedOutcome) -> None:
    loop = fresh()
    loop.observe_all(outcomes(50))
    before = loop.to_state()
    with pytest.raises(ValueError, match=r"900|rate"):
        loop.observe(row)
    assert loop.to_state() == before


def test_scores_that_are_not_trusted_move_their_own_tier_only() -> None:
    loop, untouched = fresh(), fresh()
    rows = outcomes()
    for row in rows:
        poisoned = replace(row, score=0.0, trusted=False) if row.tier == "premium" else row
        loop.observe(poisoned)
        if row.tier == "standard":
            untouched.observe(row)
    assert loop.to_state()["recalibration"] == untouched.to_state()["recalibration"]
    assert loop.to_state()["collapse"] == untouched.to_state()["collapse"]
    assert loop.tiers["standard"].to_state() == untouched.tiers["standard"].to_state()
    premium = loop.tiers["premium"]
    assert premium.bounds(premium.last_position).upper < 0.2


def test_the_score_of_a_model_that_nothing_predicts_moves_its_own_tier_only() -> None:
    loop, models = fresh(), fresh()
    for found in outcomes(400):
        loop.observe(replace(found, predicted_score=None))
        models.observe(found)
    assert not loop.offsets.any()
    assert models.offsets.any()
    for name, tier in loop.tiers.items():
        assert tier.bounds(1_000) == models.tiers[name].bounds(1_000)


def test_a_reset_begins_one_tier_anew_and_keeps_the_models() -> None:
    loop = fresh()
    loop.observe_all(outcomes())
    offsets = loop.offsets.tolist()
    loop.reset("premium", TierLoop(0.85))
    assert loop.tiers["premium"].bounds(0).audits == 0
    assert loop.offsets.tolist() == offsets


def test_it_keeps_up_with_ten_thousand_outcomes() -> None:
    import time

    rows, loop = outcomes(1500), fresh()
    started = time.process_time()
    loop.observe_all(rows)
    seconds = time.process_time() - started
    assert seconds / len(rows) < 0.0005  # ten times what it takes
