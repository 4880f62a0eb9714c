"""Cells, grids, records, results and the plan of the benchmark."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from proteus_router.baselines.context import Context
from proteus_router.baselines.fixed import AlwaysBest, StaticMix
from proteus_router.baselines.static import static_mix_cost
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.errors import InfeasibleTargetError, InsufficientDataError, SchemaError
from proteus_router.evaluation.harness.cells import Cell, make_cell
from proteus_router.evaluation.harness.clock import Clock
from proteus_router.evaluation.harness.datasets import BenchData, load_data
from proteus_router.evaluation.harness.fitting import fit_record
from proteus_router.evaluation.harness.grids import grids_of
from proteus_router.evaluation.harness.measure import measure, measure_oracle
from proteus_router.evaluation.harness.plan import Plan, Step, cell_folder
from proteus_router.evaluation.harness.records import RouterRecord, load_record, save_record
from proteus_router.evaluation.harness.results import Results, Row, read_rows, write_results, write_rows


def _table(n: int = 300, seed: int = 0) -> OutcomeTable:
    rng = np.random.default_rng(seed)
    scores = (rng.random((n, 3)) < [0.5, 0.7, 0.85]).astype(float)
    words = rng.integers(0, 10**9, (n, 4)).tolist()
    return OutcomeTable(
        query_ids=tuple(f"q{i}" for i in range(n)),
        queries=tuple(" ".join(map(str, row)) for row in words),
        models=("small", "middle", "large"),
        scores=scores,
        costs_usd=rng.gamma(4.0, [1e-5, 1e-4, 1e-3], (n, 3)),
        name="made-up",
    )


@pytest.fixture(scope="module")
def cell() -> Cell:
    return make_cell(BenchData("t", _table(), 0.3), seed=1)


@pytest.fixture(scope="module")
def mix(cell: Cell) -> RouterRecord:
    context = Context.of(cell.train, seed=cell.seed, groups=cell.train_groups)
    return fit_record(StaticMix(), cell, context, confidence=0.95, many_confidences=True, timed=True)


def _value(rows: list[Row], metric: str, guarantee: str = "expected") -> float:
    wanted = ("main", metric, guarantee, None)
    (row,) = [r for r in rows if (r.experiment, r.metric, r.guarantee, r.target) == wanted]
    assert row.value is not None
    return row.value


def test_a_cell_parts_the_rows_and_orders_the_models_by_cost(cell: Cell) -> None:
    assert set(cell.train.query_ids).isdisjoint(cell.test.query_ids)
    assert cell.train.n_queries + cell.test.n_queries == 300
    assert set(cell.train_groups.tolist()).isdisjoint(cell.test_groups.tolist())
    assert cell.train.models == cell.test.models == ("small", "middle", "large")


def test_a_model_without_outcomes_in_a_part_is_named() -> None:
    table = _table(60)
    scores, costs = table.scores.copy(), table.costs_usd.copy()
    scores[1:, 1] = costs[1:, 1] = np.nan
    with pytest.raises(InsufficientDataError, match="'middle' has no outcome"):
        make_cell(BenchData("t", replace(table, scores=scores, costs_usd=costs), 0.3), seed=0)


def test_grids_stay_between_0_and_1_and_bind() -> None:
    table = _table()
    grids = grids_of(table.scores, table.costs_usd, table.scores)
    assert len(grids.levels) == 12
    assert len(grids.response) == 16
    means = table.scores.mean(axis=0)
    assert grids.response[0] >= means[table.costs_usd.mean(axis=0).argmin()]
    assert grids.response[-1] == pytest.approx(means.max() - 0.005)
    for same in (0.0, 1.0):
        equal = grids_of(np.full((50, 3), same), table.costs_usd[:50], np.full((50, 3), same))
        assert len(equal.levels) == 1
        assert 0 < equal.all_targets.min() <= equal.all_targets.max() < 1


def test_the_static_mix_costs_what_the_linear_program_says(cell: Cell, mix: RouterRecord) -> None:
    rows = measure(cell, mix)
    means, costs = cell.test.scores.mean(axis=0), cell.test.costs_usd.mean(axis=0)
    ratios = []
    for row in rows:
        if row.metric == "level_accuracy" and row.value is not None:
            paid = next(
                r.value for r in rows if r.metric == "level_cost_usd" and r.target == row.target and r.value
            )
            ratios.append(paid / static_mix_cost(means, costs, min(row.value, float(means.max()))))
    assert _value(rows, "req") == pytest.approx(np.mean(ratios))
    assert 0.97 < _value(rows, "hind") < 1.05  # the yardstick against itself


def test_promises_are_counted_target_by_target(cell: Cell, mix: RouterRecord) -> None:
    rows = measure(cell, mix)
    for guarantee in ("expected", "certified"):
        reached = {
            r.target: r.value
            for r in rows
            if r.metric == "accuracy" and r.guarantee == guarantee and r.target and r.value
        }
        margin = np.array([value - target for target, value in reached.items()])
        assert _value(rows, "floor_compliance", guarantee) == pytest.approx((margin >= 0).mean())
        assert _value(rows, "within_2", guarantee) == pytest.approx((np.abs(margin) <= 0.02).mean())
        assert _value(rows, "worst_shortfall", guarantee) == pytest.approx(max(0.0, -margin.min()))
        assert _value(rows, "served_share", guarantee) == pytest.approx(len(reached) / 16)


def test_more_confidence_means_more_margin(cell: Cell, mix: RouterRecord) -> None:
    rows = [
        r
        for r in measure(cell, mix)
        if r.experiment == "confidence" and r.metric == "mean_margin" and r.value
    ]
    values = [r.value for r in rows if r.value is not None]
    assert [r.variant for r in rows] == ["0.5", "0.8", "0.9", "0.95", "0.99"]
    assert values == sorted(values)
    assert values[-1] > values[0] + 0.01


def test_a_certified_target_is_the_largest_that_certifies(mix: RouterRecord) -> None:
    assert mix.fitted is not None
    limit = mix.fitted.target_map.certified_range["max_target"]
    assert limit is not None
    mix.fitted.certified(limit)
    with pytest.raises(InfeasibleTargetError):
        mix.fitted.certified(limit + 0.001)


def test_the_oracle_bounds_the_fixed_models(cell: Cell) -> None:
    rows = {(r.router, r.metric): r.value for r in measure_oracle(cell)}
    top, best = rows["oracle", "mean_accuracy"], rows["best model", "mean_accuracy"]
    ratio = rows["oracle", "req"]
    assert top is not None
    assert best is not None
    assert ratio is not None
    assert top > best
    assert 0 < ratio < 1


def test_a_free_pool_has_no_cost_ratio() -> None:
    table = replace(_table(), costs_usd=np.zeros((300, 3)))
    free = make_cell(BenchData("t", table, 0.3), seed=0)
    context = Context.of(free.train, seed=0, groups=free.train_groups)
    rows = measure(free, fit_record(StaticMix(), free, context, confidence=0.95)) + measure_oracle(free)
    undefined = {r.metric for r in rows if r.value is None}
    assert {"req", "hind"} <= undefined
    assert all(r.value is None or np.isfinite(r.value) for r in rows)


def test_a_record_comes_back_as_it_was(mix: RouterRecord, tmp_path: Path) -> None:
    save_record(mix, tmp_path / "mix.safetensors")
    again = load_record(tmp_path / "mix.safetensors")
    assert again is not None
    assert again.fitted is not None
    assert mix.fitted is not None
    assert (again.router, again.status, again.seconds) == (mix.router, mix.status, mix.seconds)
    np.testing.assert_array_equal(again.fitted.test_choices, mix.fitted.test_choices)
    np.testing.assert_array_equal(again.fitted.latency_ms, mix.fitted.latency_ms)
    assert again.fitted.target_map.certify(0.5) == mix.fitted.target_map.certify(0.5)
    skipped = RouterRecord("x", "skipped", "because")
    save_record(skipped, tmp_path / "x.safetensors")
    assert load_record(tmp_path / "x.safetensors") == skipped


def test_a_damaged_record_counts_as_none(mix: RouterRecord, tmp_path: Path) -> None:
    path = tmp_path / "mix.safetensors"
    assert load_record(path) is None
    save_record(mix, path)
    whole = path.read_bytes()
    for part in (whole[: len(whole) // 2], b"", b"not a record"):
        path.write_bytes(part)
        assert load_record(path) is None


def test_rows_come_back_and_nan_is_refused(tmp_path: Path) -> None:
    rows = [Row("leak", "d", 0, "held out", "share", 0.5), Row("leak", "d", 1, "held out", "share", None)]
    write_rows(rows, tmp_path / "leak.json", seconds=1.0)
    assert read_rows(tmp_path / "leak.json") == rows
    assert read_rows(tmp_path / "other.json") is None
    (tmp_path / "leak.json").write_text('{"rows": [', encoding="utf-8")
    assert read_rows(tmp_path / "leak.json") is None
    with pytest.raises(ValueError, match="JSON"):
        write_rows([Row("leak", "d", 0, "r", "share", float("nan"))], tmp_path / "x.json", seconds=1.0)


def test_results_are_a_tidy_parquet_table(tmp_path: Path) -> None:
    rows = [Row("main", "d", seed, "knn", "req", 0.8 + seed / 10, guarantee="expected") for seed in (0, 1)]
    results = Results([*rows, Row("main", "d", 0, "knn", "accuracy", 0.7, guarantee="expected", target=0.7)])
    write_results(results, tmp_path / "results.parquet")
    table = pq.read_table(tmp_path / "results.parquet")
    assert table.column_names == [
        "experiment",
        "data",
        "seed",
        "router",
        "metric",
        "value",
        "variant",
        "guarantee",
        "target",
        "n",
    ]
    assert table["value"].to_pylist() == [0.8, 0.9, 0.7]
    assert table["target"].to_pylist() == [None, None, 0.7]
    found = results.where(experiment="main", data="d", router="knn", metric="req")
    assert found.by_seed().tolist() == [0.8, 0.9]
    assert not len(results.where(router="knn", metric="no such"))


def test_other_data_or_settings_lie_in_another_folder(tmp_path: Path) -> None:
    plan = Plan(tmp_path, ("t",), (0, 1), ("static-mix",))
    data = BenchData("t", _table(), 0.3)
    folder = cell_folder(plan, data, 0)
    assert folder == cell_folder(replace(plan, seeds=(0,), routers=("knn",)), data, 0)
    assert folder != cell_folder(plan, data, 1)
    assert folder.parent != cell_folder(replace(plan, confidence=0.9), data, 0).parent
    assert folder.parent != cell_folder(plan, replace(data, table=_table(seed=1)), 0).parent


def test_a_plan_survives_its_file_and_lists_its_steps(tmp_path: Path) -> None:
    plan = Plan(tmp_path, ("a", "b"), (0, 1, 2, 3, 4), ("static-mix", "encoder-minilm"), limit=100)
    plan.save(tmp_path / "work" / "plan.json")
    assert Plan.load(tmp_path / "work" / "plan.json") == plan
    assert json.loads((tmp_path / "work" / "plan.json").read_text(encoding="utf-8"))["limit"] == 100
    first, last = plan.steps(0), plan.steps(4)
    assert Step("experiment", "leak") in first
    assert Step("experiment", "leak") not in last
    assert Step("router", "encoder-minilm") in first
    assert Step("router", "encoder-minilm") not in last
    assert [step.name for step in plan.steps(0, alone=True)] == ["latency"]
    assert len(plan.steps(0, alone=True)) + len(plan.steps(0, alone=False)) == len(first)


def test_the_clock_learns_and_scales() -> None:
    clock = Clock(jobs=2)
    assert clock.left([]) == 0
    clock.note("knn", 2_000, 10.0)
    assert clock.left([("knn", 2_000), ("knn", 2_000)]) == pytest.approx(10.0)
    assert clock.left([("knn", 8_000)]) > 4 * clock.left([("knn", 2_000)])
    assert clock.left([("never seen", 2_000)]) == pytest.approx(5.0)


def test_a_router_with_one_setting_is_measured_at_it(cell: Cell) -> None:
    context = Context.of(cell.train, seed=cell.seed, groups=cell.train_groups)
    record = fit_record(AlwaysBest(), cell, context, confidence=0.95)
    rows = measure(cell, record)
    assert _value(rows, "mean_accuracy") == pytest.approx(cell.test.scores[:, 2].mean())
    assert _value(rows, "req") == pytest.approx(1.0)


def test_data_sets_are_found_by_path_by_name_or_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from proteus_router.data.sources import write_outcomes

    write_outcomes(_table(), tmp_path / "mine")
    assert load_data(str(tmp_path / "mine")).table.n_queries == 300
    monkeypatch.setenv("PROTEUS_DATA", str(tmp_path))
    assert load_data("mine", limit=100).table.n_queries == 100
    with pytest.raises(SchemaError, match=r"no such file or folder.*PROTEUS_DATA"):
        load_data("yours")
    world = load_data("simulated:3", limit=200)
    assert (world.name, world.table.n_queries, world.table.simulated) == ("simulated-3", 200, True)
    assert world.expected_scores is not None
    assert world.query_only is not None
    # What the query shows explains some of what will happen, but not as much as the whole truth does.
    truth, visible = world.expected_scores, world.query_only.scores
    assert 0.2 < np.corrcoef(truth.ravel(), visible.ravel())[0, 1] < 0.95
