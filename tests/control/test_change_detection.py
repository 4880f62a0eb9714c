"""Outcome drift: false alarms no more often than stated, delays, what is named, what is corrected."""

from __future__ import annotations

import json

import numpy as np
import pytest

from proteus_router.control import CollapseWatch, Recalibration
from proteus_router.control.change_detector import ChangeDetector, Direction
from proteus_router.control.recalibration import ModelLevel
from proteus_router.types import FloatArray


def audits_until_alarm(detector: ChangeDetector, scores: FloatArray, references: FloatArray) -> int | None:
    for number, (score, reference) in enumerate(zip(scores.tolist(), references.tolist(), strict=True), 1):
        if detector.add(score, reference, number=number, predicted=reference) is not None:
            return number
    return None


@pytest.mark.parametrize("direction", ["fall", "both"])
@pytest.mark.parametrize("graded", [False, True])
def test_false_alarms_are_as_rare_as_stated(direction: Direction, graded: bool) -> None:
    """Mean number of audits to a false alarm is at least A; streams cut at 12 A count as 12 A."""
    stated, runs = 60.0, 150
    rng, lengths = np.random.default_rng(7), []
    for _ in range(runs):
        references = rng.choice([0.95, 0.7, 0.4], int(12 * stated))
        scores = (rng.random(references.size) < references).astype(float)
        if graded:
            scores = np.where(rng.random(references.size) < 0.5, scores, references)
        found = audits_until_alarm(
            ChangeDetector(false_alarm_every=stated, direction=direction), scores, references
        )
        lengths.append(found or 12 * stated)
    error = np.std(lengths) / np.sqrt(runs)
    assert np.mean(lengths) >= stated - 3 * error
    assert min(lengths) < 12 * stated  # it does alarm now and then


def test_a_reference_outside_the_unit_interval_never_alarms_by_itself() -> None:
    detector = ChangeDetector(false_alarm_every=50.0, direction="fall")
    zeros, references = np.zeros(2000), np.full(2000, -0.1)
    assert audits_until_alarm(detector, zeros, references) is None


def level_delays(drop: float, mean: float, runs: int = 60) -> tuple[list[int], list[tuple[float, int]]]:
    """Audits from a drop at audit 400 to its alarm, and (level found, error of `since`)."""
    rng, delays, found = np.random.default_rng(11), [], []
    for _ in range(runs):
        level = ModelLevel(false_alarm_every=20_000.0)
        predicted = rng.beta(12 * mean, 12 * (1 - mean), 1400)
        truth = np.clip(predicted - np.where(np.arange(1400) >= 400, drop, 0.0), 0, 1)
        for number in range(1400):
            change = level.add(float(rng.random() < truth[number]), float(predicted[number]), number=number)
            if change is not None and number >= 400:
                delays.append(number - 400)
                found.append((change[1], change[2] - 400))
                break
    return delays, found


def test_fifteen_points_less_are_noticed_within_150_audits_and_placed() -> None:
    delays, found = level_delays(0.15, 0.9)
    assert len(delays) == 60
    assert np.median(delays) <= 100
    assert np.mean(np.array(delays) <= 150) >= 0.8
    assert abs(np.median([since for _, since in found])) <= 25
    assert -0.30 < np.median([after for after, _ in found]) < -0.12


def test_a_model_as_predicted_is_left_alone_and_its_scores_uncorrected() -> None:
    rng, alarms = np.random.default_rng(12), 0
    for _ in range(20):
        book, changed = Recalibration(["a"], false_alarm_every=20_000.0), False
        for number in range(1000):
            predicted = float(rng.beta(10, 2))
            found = book.add("a", float(rng.random() < predicted - 0.02), predicted, number=number)
            alarms, changed = alarms + len(found), changed or bool(found)
            assert changed or book.offset_of("a") == 0.0
    assert alarms <= 3  # 20,000 audits: one expected at most, were the level known


def test_a_short_streak_is_no_change() -> None:
    level, book = ModelLevel(false_alarm_every=1000.0), Recalibration(["a"], false_alarm_every=1000.0)
    for number in range(60):
        level.add(1.0, 0.97, number=number)
        book.add("a", 1.0, 0.97, number=number)
    for number in range(60, 75):
        assert level.add(0.0, 0.97, number=number) is None
        assert not book.add("a", 0.0, 0.97, number=number)
    assert level.detector.level > 1.0  # far beyond the odds that would do for thirty
    assert book.offset_of("a") == 0.0


def test_the_correction_goes_on_learning_after_a_change() -> None:
    rng, book = np.random.default_rng(13), Recalibration(["a"])
    for number in range(3000):
        book.add("a", float(rng.random() < (0.9 if number < 500 else 0.7)), 0.9, number=number)
    assert book.offset_of("a") == pytest.approx(-0.2, abs=0.04)
    for number in range(3000, 6000):  # and takes itself back
        book.add("a", float(rng.random() < 0.9), 0.9, number=number)
    assert book.offset_of("a") == pytest.approx(0.0, abs=0.04)


def audited(book: Recalibration, means: dict[str, float], start: int, stop: int) -> None:
    """Audits of all models in turn, predicted at 0.9 each; 0/1 scores as even as their mean allows."""
    names = list(means)
    for number in range(start, stop):
        turn, at = divmod(number, len(names))
        mean = means[names[at]]
        book.add(names[at], float(int((turn + 1) * mean) > int(turn * mean)), 0.9, number=number)


def test_scores_stay_uncorrected_until_a_change_was_shown() -> None:
    book = Recalibration(["a", "b"])
    audited(book, {"a": 0.87, "b": 0.87}, 0, 2000)
    assert book.common == pytest.approx(-0.03 * 2000 / 2200, abs=0.002)
    assert book.offsets.tolist() == [0.0, 0.0]


def test_a_correction_leaves_out_what_the_other_models_are_off_by_too() -> None:
    """Three models, four points weaker than predicted from the start; then one falls by fifteen."""
    usual = {"a": 0.86, "b": 0.86, "c": 0.86}
    book = Recalibration(["a", "b", "c"])
    audited(book, usual, 0, 3000)
    audited(book, {**usual, "a": 0.71}, 3000, 6000)
    assert book.offset_of("a") == pytest.approx(-0.15, abs=0.01)  # and not -0.19
    assert book.offsets[1:].tolist() == [0.0, 0.0]


def test_with_no_unchanged_model_left_a_correction_is_the_whole_level() -> None:
    book = Recalibration(["a", "b"])
    audited(book, {"a": 0.9, "b": 0.9}, 0, 1000)
    audited(book, {"a": 0.7, "b": 0.7}, 1000, 5000)
    assert book.offsets == pytest.approx([-0.2, -0.2], abs=0.01)


def test_changes_name_the_model_and_the_task() -> None:
    rng, book = np.random.default_rng(14), Recalibration(["small", "large"])
    changes = []
    for number in range(3000):
        model, task = ("small", "large")[number % 2], ("law", "code")[number // 2 % 2]
        worse = number >= 1000 and model == "large" and task == "law"
        score = float(rng.random() < (0.5 if worse else 0.9))
        changes += book.add(model, score, 0.9, number=number, task=task)
    named = {(change.model, change.task) for change in changes}
    assert ("large", "law") in named
    assert named <= {("large", "law"), ("large", None)}
    law = next(change for change in changes if change.task == "law")
    assert 980 <= law.since <= 1060
    assert law.since < law.number
    assert law.after < -0.25 < law.before
    small, large = book.offsets
    assert small == 0.0
    assert large < -0.1
    book.forget(["large"])
    assert book.offsets.tolist() == [0.0, 0.0]


def test_quarantine_waits_for_a_collapse() -> None:
    rng, watch = np.random.default_rng(15), CollapseWatch(["a", "b"], drop=0.25)
    verdicts = []
    for number in range(3000):  # fifteen points worse: bad, not collapsed
        found = watch.add("a", float(rng.random() < 0.70), 0.85, number=number)
        assert found is None
    for number in range(3000, 3200):
        verdict = watch.add("b", float(rng.random() < 0.2), 0.85, number=number)
        if verdict is not None:
            verdicts.append(verdict)
    assert verdicts
    first = verdicts[0]
    assert (first.model, first.since) == ("b", 3000)
    assert first.number - 3000 < 60
    assert first.difference < -0.5
    assert "b: " in first.reason


def test_states_go_through_json_and_on() -> None:
    rng, book, watch = np.random.default_rng(16), Recalibration(["a", "b"]), CollapseWatch(["a", "b"])
    rows = [
        ("ab"[number % 2], float(rng.random() < (0.9 if number < 400 else 0.4)), 0.9, number, "t")
        for number in range(900)
    ]

    def fold(book: Recalibration, watch: CollapseWatch, start: int, stop: int) -> list[object]:
        seen: list[object] = []
        for model, score, predicted, number, task in rows[start:stop]:
            seen += book.add(model, score, predicted, number=number, task=task)
            seen.append(watch.add(model, score, predicted, number=number))
        return seen

    fold(book, watch, 0, 430)
    book_again = Recalibration.from_state(json.loads(json.dumps(book.to_state())))
    watch_again = CollapseWatch.from_state(json.loads(json.dumps(watch.to_state())))
    assert fold(book_again, watch_again, 430, 900) == fold(book, watch, 430, 900)
    assert book_again.to_state() == book.to_state()
    assert watch_again.to_state() == watch.to_state()
    assert book.offsets.min() < -0.3
