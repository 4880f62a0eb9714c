"""The experiments, on small worlds in which what must come out is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from proteus_router.baselines.context import Context
from proteus_router.baselines.fixed import StaticMix
from proteus_router.config import HeadsConfig, TrainConfig
from proteus_router.data.synthetic import make_world
from proteus_router.evaluation.experiments.budget import label_budget
from proteus_router.evaluation.experiments.dynamic import (
    SCENARIOS,
    STEPS,
    best_effort,
    dynamic,
    stream_of,
    targets_of,
)
from proteus_router.evaluation.experiments.latency import BATCH_SIZES, router_latency
from proteus_router.evaluation.experiments.leak import leak
from proteus_router.evaluation.experiments.pool import pool_change
from proteus_router.evaluation.experiments.shift import task_shift
from proteus_router.evaluation.harness.cells import Cell, make_cell
from proteus_router.evaluation.harness.datasets import BenchData
from proteus_router.evaluation.harness.fitting import fit_record
from proteus_router.evaluation.harness.records import Fitted
from proteus_router.evaluation.harness.results import Row

LIGHT = TrainConfig(heads=HeadsConfig(estimators=("kernel",), n_folds=3, lexical_dim=16))


@pytest.fixture(scope="module")
def cell() -> Cell:
    world = make_world(0, n_models=4)
    sample = world.sample(700, 1)
    data = BenchData("w", sample.table, 0.4, sample.expected_scores, world.query_only(700, 1, n_hidden=16))
    return make_cell(data, seed=0)


@pytest.fixture(scope="module")
def context(cell: Cell) -> Context:
    return Context.of(cell.train, seed=0, groups=cell.train_groups, config=LIGHT)


@pytest.fixture(scope="module")
def mix(cell: Cell, context: Context) -> Fitted:
    record = fit_record(StaticMix(), cell, context, confidence=0.95)
    assert record.fitted is not None
    return record.fitted


@pytest.fixture(scope="module")
def leaked(cell: Cell, context: Context) -> list[Row]:
    return leak(cell, context)


@pytest.fixture(scope="module")
def changed(cell: Cell, context: Context) -> list[Row]:
    return pool_change(cell, context)


def _values(rows: list[Row], metric: str, **columns: str) -> dict[str, float]:
    """Router -> value of the rows that match."""
    return {
        row.router: row.value
        for row in rows
        if row.metric == metric
        and row.value is not None
        and all(getattr(row, name) == value for name, value in columns.items())
    }


def test_leaked_answers_take_the_plugin_to_the_oracle_and_honest_ones_do_not(leaked: list[Row]) -> None:
    shares = _values(leaked, "best_share")
    assert shares["realised scores"] == pytest.approx(1.0)
    assert shares["realised scores"] >= shares["memorised"] > shares["held out"] + 0.5
    assert shares["trained on test"] < shares["memorised"]  # the stack shrinks what does not hold out
    assert shares["best query-only"] < 0.6


def test_more_of_the_realised_score_in_p_comes_closer_to_the_oracle(leaked: list[Row]) -> None:
    rows = [row for row in leaked if row.router == "blend" and row.value is not None]
    shares = [row.value for row in rows if row.value is not None]
    assert (rows[0].variant, rows[-1].variant) == ("0", "1")
    assert shares[-1] == pytest.approx(1.0)
    assert all(later >= earlier - 0.02 for earlier, later in pairwise(shares))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_targets_keep_to_the_range_of_the_data(scenario: str) -> None:
    targets = targets_of(scenario, 0.6, 0.9)
    assert targets.shape == (STEPS,)
    assert 0.6 - 1e-9 <= targets.min() < targets.max() <= 0.9 + 1e-9
    assert np.ptp(targets) > 0.15


def test_a_stream_serves_what_the_router_gives_at_each_target(cell: Cell, mix: Fitted) -> None:
    stream = stream_of(cell, "drift", mix.expected)
    assert np.abs(stream.target - targets_of("drift", *cell.grids.stream[[0, -1]])).max() < 0.01
    # Early requests ask for little and are served cheaply; late ones for much.
    assert stream.cost_usd[-200:].mean() > 2 * stream.cost_usd[:200].mean()
    assert stream.score[-200:].mean() > stream.score[:200].mean()
    assert stream.score.mean() == pytest.approx(stream.target.mean(), abs=0.05)


def test_certified_streams_hold_the_floor_more_often(cell: Cell, mix: Fitted) -> None:
    rows = dynamic(cell, "static-mix", mix)
    for metric in ("window_satisfaction", "running_satisfaction", "overshoot"):
        certified, expected = (
            np.mean(
                [
                    row.value
                    for row in rows
                    if row.metric == metric and row.guarantee == way and row.value is not None
                ]
            )
            for way in ("certified", "expected")
        )
        assert certified > expected
    assert {row.variant for row in rows} == set(SCENARIOS)


def test_an_uncertifiable_target_is_served_by_the_best(cell: Cell, mix: Fitted) -> None:
    served = best_effort(mix)(0.9999)
    assert served.weight_upper == 1.0
    assert (served.upper == mix.test_choices[0]).all()


def test_streams_need_complete_rows(cell: Cell, mix: Fitted) -> None:
    scores, costs = cell.test.scores.copy(), cell.test.costs_usd.copy()
    scores[:, 0] = costs[:, 0] = np.nan
    assert dynamic(replace(cell, test=replace(cell.test, scores=scores, costs_usd=costs)), "x", mix) == []


def test_a_worse_model_breaks_floors_as_deployed_and_not_after_re_inversion(changed: list[Row]) -> None:
    rows = changed

    def gap(change: str, answer: str) -> float:
        return _values(rows, "mean_margin", variant=f"{change}|{answer}")["our heads"]

    lost = "best model 10 points worse"
    assert gap(lost, "as deployed") < gap("unchanged", "as deployed") - 0.01
    assert gap(lost, "re-inverted") > gap(lost, "as deployed")
    answers = {row.variant for row in rows}
    assert "cheapest model removed|re-inverted" in answers
    assert "two dearest at half price|as deployed" in answers


def test_removing_a_model_leaves_choices_among_the_others(
    cell: Cell, context: Context, changed: list[Row]
) -> None:
    two = replace(
        cell,
        train=cell.train.with_models(cell.train.models[:2]),
        test=cell.test.with_models(cell.test.models[:2]),
    )
    assert pool_change(two, context) == []
    assert all(row.value is not None for row in changed if row.metric == "gap")


def test_the_label_budget_fits_on_so_many_queries(cell: Cell, context: Context) -> None:
    rows = label_budget(cell, context, confidence=0.95, quick=True)
    assert {row.variant for row in rows} == {"100", "300"}
    limits = [_values(rows, "max_certified", variant=size)["plugin-ridge"] for size in ("100", "300")]
    assert limits[1] > limits[0]  # more labels certify more


def test_shift_serves_the_task_that_was_left_out(cell: Cell, context: Context) -> None:
    assert cell.test.tasks is not None
    rows = task_shift(cell, context, confidence=0.95, quick=True)
    if not rows:  # no task has a hundred test rows: make one of two
        tasks = tuple("a" if i % 2 else "b" for i in range(cell.test.n_queries))
        train_tasks = tuple("a" if i % 2 else "b" for i in range(cell.train.n_queries))
        halves = replace(
            cell, test=replace(cell.test, tasks=tasks), train=replace(cell.train, tasks=train_tasks)
        )
        rows = task_shift(halves, context, confidence=0.95, quick=True)
    seen = {row.variant.rpartition("|")[2]: row.n for row in rows}
    assert seen.keys() == {"seen", "unseen"}
    assert all(100 <= n < cell.test.n_queries for n in seen.values())
    no_tasks = replace(cell, train=replace(cell.train, tasks=None))
    assert task_shift(no_tasks, context, confidence=0.95) == []


def test_latency_is_measured_for_every_batch_size(cell: Cell, context: Context) -> None:
    rows = router_latency(cell, context, quick=True)
    assert {row.variant for row in rows} == set(map(str, BATCH_SIZES))
    for size in map(str, BATCH_SIZES):
        figures = [_values(rows, metric, variant=size)["router"] for metric in ("p50_ms", "p95_ms", "p99_ms")]
        assert 0 < figures[0] <= figures[1] <= figures[2]
