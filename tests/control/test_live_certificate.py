"""States of the live certificate: what each one claims, which comes first, and what never lingers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from proteus_router.control import (
    CertificateState,
    ConfidenceSequence,
    SourceAgreement,
    live_certificate,
)
from proteus_router.control.confidence_sequence import Bounds


def bounds(share: float, audits: int, *, centre: float = 0.8) -> Bounds:
    sequence = ConfidenceSequence(centre)
    good = round(share * audits)
    for index in range(audits):
        sequence.add(float((index * good) // audits != ((index + 1) * good) // audits))
    return sequence.bounds(audits)


@pytest.mark.parametrize(
    ("share", "audits", "state"),
    [
        (0.8, 0, "insufficient_evidence"),
        (0.8, 500, "insufficient_evidence"),
        (0.9, 60, "insufficient_evidence"),
        (0.9, 500, "holding"),
        (0.77, 1000, "at_risk"),
        (0.7, 1000, "violated"),
    ],
)
def test_states_follow_the_evidence(share: float, audits: int, state: CertificateState) -> None:
    found = live_certificate(bounds(share, audits), accuracy_target=0.8)
    assert found.state == state
    assert (found.state == "holding") == (found.bounds.lower >= 0.8)
    assert (found.state == "violated") == (found.bounds.upper < 0.8)
    assert f"{audits} audits" in found.reason
    assert json.loads(json.dumps(found.to_dict()))["bounds"]["audits"] == audits


def test_what_the_evidence_speaks_of_comes_before_what_it_says() -> None:
    agreement = SourceAgreement("judge", "people")
    for index in range(400):
        agreement.add(1.0, float(index % 4 > 0))  # the judge passes everything
    evidence = bounds(0.95, 1000)
    conflict = live_certificate(evidence, accuracy_target=0.8, agreements=[agreement.report()])
    assert conflict.state == "conflict"
    assert conflict.conflicts[0].source == "judge"
    assert "judge scores +0.250 against people on 400 answers" in conflict.reason
    stale = live_certificate(
        evidence,
        accuracy_target=0.8,
        agreements=[agreement.report()],
        stale_reason="Prices changed on 2026-11-01",
    )
    assert stale.state == "stale"
    assert stale.reason.startswith("Prices changed on 2026-11-01. Before that, 1000 audits")
    assert stale.bounds == evidence  # the numbers stay


def test_a_warning_lingers_a_claim_does_not() -> None:
    warned, calm = bounds(0.770, 1000), bounds(0.776, 1000)
    assert warned.odds_below > 3.0
    assert 1.5 < calm.odds_below < 3.0
    assert live_certificate(warned, accuracy_target=0.8).state == "at_risk"
    assert live_certificate(calm, accuracy_target=0.8).state == "insufficient_evidence"
    assert live_certificate(calm, accuracy_target=0.8, previous="at_risk").state == "at_risk"
    undecided = bounds(0.8, 1000)
    for previous in ("holding", "violated", "at_risk", "stale", "conflict"):
        found = live_certificate(undecided, accuracy_target=0.8, previous=previous)
        assert found.state == "insufficient_evidence"


def test_it_says_how_many_audits_would_decide() -> None:
    found = live_certificate(bounds(0.85, 200), accuracy_target=0.8)
    assert found.state == "insufficient_evidence"
    assert found.audits_needed is not None
    assert 400 < found.audits_needed < 800
    assert f"About {found.audits_needed - 200} more" in found.reason
    enough = live_certificate(bounds(0.85, round(1.2 * found.audits_needed)), accuracy_target=0.8)
    assert enough.state == "holding"
    assert enough.audits_needed is None


def test_wrong_claims_are_as_rare_as_promised() -> None:
    """A tier exactly at its floor, looked at after each of 400 audits: neither claim is true more than delta."""
    rng, wrong, runs = np.random.default_rng(0), 0, 100
    for _ in range(runs):
        sequence = ConfidenceSequence(0.8, confidence=0.9)
        claimed = False
        for count in range(1, 401):
            sequence.add(float(rng.random() < 0.8))
            if count % 40 == 0:
                state = live_certificate(sequence.bounds(count), accuracy_target=0.8).state
                claimed |= state in ("holding", "violated")
        wrong += claimed
    assert wrong / runs <= 0.1 + 3 * np.sqrt(0.09 / runs)


def test_sources_that_differ_on_answers_but_not_on_the_mean_agree() -> None:
    rng, agreement = np.random.default_rng(1), SourceAgreement("judge", "people", tolerance=0.05)
    for _ in range(3000):
        agreement.add(float(rng.random() < 0.8), float(rng.random() < 0.8))  # 32% contradict each other
    found = agreement.report()
    assert not found.conflict
    assert found.lower <= 0.0 <= found.upper
    assert found.pairs == 3000
    again = SourceAgreement.from_state(json.loads(json.dumps(agreement.to_state())))
    assert again.report() == found


def test_a_lenient_judge_is_found_out_only_by_evidence() -> None:
    agreement = SourceAgreement("judge", "people")
    for index in range(600):
        if index == 10:
            assert not agreement.report().conflict
        agreement.add(float(index % 20 > 0), float(index % 20 > 3))  # 15 points kinder
    found = agreement.report()
    assert found.conflict
    assert found.difference == pytest.approx(0.15, abs=1e-6)
