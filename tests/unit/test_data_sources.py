"""Reading and writing data sets: every form and format gives the same table."""

from __future__ import annotations

import csv
import json
import os
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.sources import Format, read_outcomes, write_outcomes
from proteus_router.errors import DataError

FORMATS: tuple[Format, ...] = ("parquet", "csv", "jsonl")


def make_table(n: int = 60, *, missing: bool = True) -> OutcomeTable:
    rng = np.random.default_rng(0)
    models = ("big|v2", "small, cheap", "mittelgroß")
    scores = np.round(rng.random((n, 3)), 6)
    costs = rng.lognormal(-9, 1, (n, 3))
    tokens = rng.integers(1, 500, (n, 3)).astype(float)
    if missing:
        gone = rng.random((n, 3)) < 0.2
        gone[:, 0] &= ~gone.all(axis=1)
        scores[gone] = costs[gone] = tokens[gone] = np.nan
        tokens[3] = np.nan  # answered, length unknown
    awkward = [
        'line\nbreak, "quoted"\r\nend',
        "  leading blank",
        "漢字 🚀 e\u0301",
        "NaN",
        "2020-01-01",
        "0012",
        "null",
    ]
    queries = tuple(awkward[i] if i < len(awkward) else f"query number {i}" for i in range(n))
    return OutcomeTable(
        query_ids=tuple(f"{i:03d}" for i in range(n)),
        queries=queries,
        models=models,
        scores=scores,
        costs_usd=costs,
        tasks=tuple("ab"[i % 2] for i in range(n)),
        extras={"output_tokens": tokens},
        name="made up",
        simulated=True,
    )


def assert_same(left: OutcomeTable, right: OutcomeTable) -> None:
    for field in ("query_ids", "queries", "models", "tasks", "simulated", "name"):
        assert getattr(left, field) == getattr(right, field), field
    np.testing.assert_array_equal(left.scores, right.scores)
    np.testing.assert_array_equal(left.costs_usd, right.costs_usd)
    assert left.extras.keys() == right.extras.keys()
    for name, values in left.extras.items():
        np.testing.assert_array_equal(values, right.extras[name])


@pytest.mark.parametrize("fmt", FORMATS)
def test_writing_then_reading_is_identity(tmp_path: Path, fmt: Format) -> None:
    table = make_table()
    write_outcomes(table, tmp_path / "set", fmt)
    back = read_outcomes(tmp_path / "set")
    assert_same(back, table)
    assert back.fingerprint() == table.fingerprint()
    assert not back.binary


def write_wide(table: OutcomeTable, path: Path) -> None:
    """The wide file of a table; a cell of a missing outcome is empty."""
    rows: list[dict[str, Any]] = []
    for i in range(table.n_queries):
        row: dict[str, Any] = {"query_id": table.query_ids[i], "query": table.queries[i]}
        if table.tasks is not None:
            row["task"] = table.tasks[i]
        for j, model in enumerate(table.models):
            cells = {"score": table.scores, "cost_usd": table.costs_usd, **table.extras}
            for field, values in cells.items():
                row[f"{model}|{field}"] = None if np.isnan(values[i, j]) else float(values[i, j])
        rows.append(row)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("in_folder", [False, True])
def test_the_wide_form_gives_the_same_table(tmp_path: Path, fmt: Format, in_folder: bool) -> None:
    table = make_table()
    (tmp_path / "set").mkdir()
    path = tmp_path / "set" / f"wide.{fmt}"
    write_wide(table, path)
    if in_folder:
        (tmp_path / "set" / "dataset.json").write_text('{"name": "made up", "simulated": true, "by": "hand"}')
    back = read_outcomes(tmp_path / "set" if in_folder else path)
    assert (back.name, back.simulated) == (("made up", True) if in_folder else ("wide", False))
    assert back.fingerprint() == table.fingerprint()
    assert back.tasks == table.tasks
    np.testing.assert_array_equal(back.extras["output_tokens"], table.extras["output_tokens"])


def test_a_detail_of_an_outcome_that_is_missing_is_dropped(tmp_path: Path) -> None:
    rows = [
        {"query_id": i, "query": f"q{i}", "a|score": 1, "a|cost_usd": 1, "b|score": 1, "b|cost_usd": 1}
        for i in range(60)
    ]
    rows[4] |= {"b|score": None, "b|cost_usd": None, "b|latency_s": 2.5}
    rows[5] |= {"b|latency_s": 1.5}
    path = tmp_path / "wide.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    latency = read_outcomes(path).extras["latency_s"]
    assert np.isnan(latency[4]).all()
    assert latency[5, 1] == 1.5


LONG_TYPES = {
    "dictionary": {"model": lambda a: a.dictionary_encode(), "query_id": lambda a: a.dictionary_encode()},
    "large_string": {
        "model": lambda a: a.cast(pa.large_string()),
        "query_id": lambda a: a.cast(pa.large_string()),
    },
    "string_view": {"model": lambda a: a.cast(pa.string_view())},
    "float32 scores": {"score": lambda a: a.cast(pa.float32())},
    "int scores and costs": {"score": lambda a: a.cast(pa.int8()), "cost_usd": lambda a: a.cast(pa.int64())},
    "unsigned": {"cost_usd": lambda a: a.cast(pa.uint16())},
    "half floats": {"score": lambda a: a.cast(pa.float16())},
    "decimal": {"cost_usd": lambda a: pa.array([Decimal(int(v)) for v in a.to_pylist()])},
}


@pytest.mark.parametrize("types", LONG_TYPES.values(), ids=LONG_TYPES.keys())
def test_any_parquet_type_that_means_the_same_is_read(tmp_path: Path, types: dict[str, Any]) -> None:
    n = 50
    queries = pa.table({"query_id": [f"q{i}" for i in range(n)], "query": [f"text {i}" for i in range(n)]})
    columns = {
        "query_id": pa.array([f"q{i}" for i in range(n)] * 2),
        "model": pa.array(["a"] * n + ["b"] * n),
        "score": pa.array([float(i % 2) for i in range(2 * n)]),
        "cost_usd": pa.array([float(i % 5) for i in range(2 * n)]),
        "answer": pa.array([["nested"]] * (2 * n)),
    }
    for name, change in types.items():
        columns[name] = change(columns[name])
    pq.write_table(queries, tmp_path / "queries.parquet")
    pq.write_table(pa.table(columns), tmp_path / "outcomes.parquet", row_group_size=13)
    table = read_outcomes(tmp_path)
    assert table.models == ("a", "b")
    assert table.scores[:, 0].tolist() == [float(i % 2) for i in range(n)]
    assert table.costs_usd[:, 1].tolist() == [float((i + n) % 5) for i in range(n)]
    assert table.scores.dtype == table.costs_usd.dtype == np.float64
    assert table.binary


def test_whole_number_ids_are_text_and_formats_may_differ(tmp_path: Path) -> None:
    pq.write_table(
        pa.table(
            {"query_id": list(range(50)), "query": [f"text {i}" for i in range(50)], "notes": [1.5] * 50}
        ),
        tmp_path / "queries.parquet",
    )
    lines = ["query_id,model,score,cost_usd,input_tokens"]
    lines += [f"{i},{model}, 1.0 ,2e-5,{'' if i else 7}" for model in "ab" for i in reversed(range(50))]
    (tmp_path / "outcomes.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    table = read_outcomes(tmp_path)
    assert table.query_ids == tuple(str(i) for i in range(50))
    assert table.tasks is None
    assert table.costs_usd[49, 1] == 2e-5
    assert table.extras["input_tokens"][0].tolist() == [7, 7]
    assert np.isnan(table.extras["input_tokens"][1:]).all()


def test_known_extra_columns_of_queries_are_left_alone(tmp_path: Path) -> None:
    write_outcomes(make_table(), tmp_path / "set", "csv")
    path = tmp_path / "set" / "queries.csv"
    header, rest = path.read_text(encoding="utf-8").split("\n", 1)
    path.write_text(header + ',"prompt"\n' + rest, encoding="utf-8")
    with pytest.raises(DataError, match="not a readable CSV file"):
        read_outcomes(tmp_path / "set")  # a header of four, rows of three
    write_outcomes(make_table(), tmp_path / "more", "jsonl")
    path = tmp_path / "more" / "queries.jsonl"
    rows = [
        json.loads(line) | {"prompt": ["a", 1], "upstream_split": None}
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    path.write_text("\n\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    assert_same(read_outcomes(tmp_path / "more"), make_table())


def test_small_sets_are_read_when_not_for_training(tmp_path: Path) -> None:
    table = make_table(missing=False).take(range(3)).with_models(["small, cheap"])
    write_outcomes(table, tmp_path / "set", "jsonl")
    assert_same(read_outcomes(tmp_path / "set", for_training=False), table)


def test_an_existing_folder_is_replaced_only_on_request_and_only_if_it_is_a_data_set(tmp_path: Path) -> None:
    table = make_table()
    write_outcomes(table, tmp_path / "set", "csv")
    with pytest.raises(DataError, match="already exists"):
        write_outcomes(table, tmp_path / "set", "parquet")
    write_outcomes(table.take(range(50)), tmp_path / "set", "parquet", force=True)
    assert read_outcomes(tmp_path / "set").n_queries == 50
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == [
        "dataset.json",
        "outcomes.parquet",
        "queries.parquet",
    ]
    (tmp_path / "set" / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"thesis\.tex"):
        write_outcomes(table, tmp_path / "set", force=True)
    with pytest.raises(DataError, match="is a file"):
        write_outcomes(table, tmp_path / "set" / "thesis.tex", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_table()
    write_outcomes(table, tmp_path / "set")
    before = read_outcomes(tmp_path / "set").fingerprint()

    def full_disk(path: Path, *_: Any, **__: Any) -> int:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_outcomes(table.take(range(55)), tmp_path / "set", force=True)
    with pytest.raises(OSError, match="No space"):
        write_outcomes(table, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert read_outcomes(tmp_path / "set").fingerprint() == before


@pytest.mark.skipif("PROTEUS_DATA" not in os.environ, reason="PROTEUS_DATA is not set")
def test_153_439_real_outcomes_are_read_in_under_two_seconds() -> None:
    folder = Path(os.environ["PROTEUS_DATA"]) / "mmlupro13"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    started = time.process_time()
    table = read_outcomes(folder)
    assert time.process_time() - started < 2
    assert (table.n_queries, table.n_models) == (11_803, 13)
    assert table.observed.all()
    assert table.scores.mean(axis=0).max() == pytest.approx(0.722, abs=5e-4)
