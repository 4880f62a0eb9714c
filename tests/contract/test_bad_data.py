"""Every way a data set can be wrong gets an error that names the place and the remedy."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from proteus_router.data.sources import read_outcomes
from proteus_router.errors import DataError, InsufficientDataError, SchemaError

N = 60
MODELS = ("large", "small")
Row = dict[str, Any]
Rows = list[Row]


def good_queries() -> Rows:
    return [{"query_id": f"q{i}", "query": f"What is {i} plus {i}?", "task": "sums"} for i in range(N)]


def good_outcomes() -> Rows:
    return [
        {"query_id": f"q{i}", "model": model, "score": i % 2, "cost_usd": 0.001 * (i + 1)}
        for model in MODELS
        for i in range(N)
    ]


def good_wide() -> Rows:
    return [
        {"query_id": f"q{i}", "query": f"What is {i} plus {i}?"}
        | {
            f"{model}|{field}": value
            for model in MODELS
            for field, value in (("score", i % 2), ("cost_usd", 0.001))
        }
        for i in range(N)
    ]


def write(rows: Rows, path: Path) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".parquet":
        pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), path)
    elif path.suffix == ".csv":
        cells = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
        path.write_text("\n".join(",".join(line) for line in cells) + "\n", encoding="utf-8")
    else:
        lines = ({name: value for name, value in row.items() if value is not None} for row in rows)
        path.write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def write_long(folder: Path, suffix: str, queries: Rows, outcomes: Rows) -> Path:
    write(queries, folder / f"queries{suffix}")
    write(outcomes, folder / f"outcomes{suffix}")
    return folder


def refused(path: Path, *parts: str, kind: type[DataError] = SchemaError, **options: Any) -> DataError:
    """Reading fails, and the message holds every part."""
    with pytest.raises(kind) as caught:
        read_outcomes(path, **options)
    for part in parts:
        assert part in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code == 3
    return caught.value


def change(rows: Rows, index: int, **values: Any) -> None:
    rows[index] |= values


def rename(rows: Rows, old: str, new: str) -> None:
    for row in rows:
        row[new] = row.pop(old)


suffixes = pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])


@suffixes
def test_the_data_the_cases_start_from_is_good(tmp_path: Path, suffix: str) -> None:
    assert read_outcomes(write_long(tmp_path, suffix, good_queries(), good_outcomes())).n_queries == N
    write(good_wide(), tmp_path / f"wide{suffix}")
    assert read_outcomes(tmp_path / f"wide{suffix}").models == MODELS


# name: (change of queries and outcomes, parts of the message)
LONG_CASES: dict[str, tuple[Callable[[Rows, Rows], object], tuple[str, ...]]] = {
    "query column missing": (lambda q, o: [r.pop("query") for r in q], ("queries.", "'query' is missing")),
    "query column misspelt": (
        lambda q, o: rename(q, "query", "qurey"),
        ("Rename column 'qurey' to 'query'",),
    ),
    "id column misspelt": (
        lambda q, o: rename(o, "query_id", "Query-ID"),
        ("outcomes.", "'Query-ID' to 'query_id'"),
    ),
    "task column misspelt": (lambda q, o: rename(q, "task", "tasks"), ("'tasks'", "Rename it to 'task'")),
    "score column misspelt": (lambda q, o: rename(o, "score", "scores"), ("'scores' to 'score'",)),
    "cost column misspelt": (lambda q, o: rename(o, "cost_usd", "cost"), ("'cost' to 'cost_usd'",)),
    "optional column misspelt": (
        lambda q, o: [r.update(latency=1.0) for r in o],
        ("'latency'", "Rename it to 'latency_s'"),
    ),
    "model column missing": (lambda q, o: [r.pop("model") for r in o], ("outcomes.", "'model' is missing")),
    "score is text": (lambda q, o: [r.update(score="good") for r in o], ("outcomes.", "'score'", "number")),
    "duplicate outcome": (
        lambda q, o: o.insert(70, dict(o[3])),
        ("outcomes.", "71", "'q3'", "'large'", "already stand", "4"),
    ),
    "duplicate query_id": (lambda q, o: change(q, 9, query_id="q2"), ("queries.", "10", "'q2'", "3")),
    "outcome of an unknown query": (
        lambda q, o: change(o, 5, query_id="q77"),
        ("outcomes.", "6", "'q77'", "not in queries."),
    ),
    "query without outcome": (
        lambda q, o: q.append({"query_id": "lonely", "query": "Why?", "task": "sums"}),
        ("outcomes.", "'lonely'", "1 such query"),
    ),
    "score missing": (
        lambda q, o: change(o, 7, score=None),
        ("outcomes.", "8", "'score' is missing", "long form"),
    ),
    "cost missing": (lambda q, o: change(o, 7, cost_usd=None), ("outcomes.", "8", "'cost_usd' is missing")),
    "score above 1": (
        lambda q, o: change(o, 7, score=1.5),
        ("outcomes.", "8", "'score' is 1.5", "between 0 and 1"),
    ),
    "score in percent": (lambda q, o: change(o, 7, score=87), ("'score' is 87", "Divide percentages by 100")),
    "score below 0": (lambda q, o: change(o, 7, score=-0.1), ("outcomes.", "8", "-0.1")),
    "cost negative": (lambda q, o: change(o, 7, cost_usd=-1e-9), ("outcomes.", "8", "'cost_usd' is -1e-09")),
    "confidence above 1": (lambda q, o: change(o, 7, confidence=2.0), ("8", "'confidence' is 2")),
    "tokens negative": (lambda q, o: change(o, 7, output_tokens=-3), ("8", "'output_tokens' is -3")),
    "model name empty": (lambda q, o: change(o, 7, model=" "), ("outcomes.", "8", "'model' is empty")),
    "model name with blanks": (lambda q, o: change(o, 7, model="large "), ("8", "'large '", "blanks")),
    "query empty": (lambda q, o: change(q, 4, query="  "), ("queries.", "5", "'query' is empty")),
    "query_id empty": (lambda q, o: change(q, 4, query_id=""), ("queries.", "5", "'query_id' is empty")),
    "task empty": (lambda q, o: change(q, 4, task=""), ("queries.", "5", "'task' is empty")),
    "single model": (lambda q, o: o.__delitem__(slice(N, None)), ("1 model (large)", "2 or more")),
    "no rows": (lambda q, o: q.clear(), ("queries.",)),
}


@suffixes
@pytest.mark.parametrize("case", LONG_CASES)
def test_long_form(tmp_path: Path, suffix: str, case: str) -> None:
    damage, parts = LONG_CASES[case]
    queries, outcomes = good_queries(), good_outcomes()
    damage(queries, outcomes)
    refused(write_long(tmp_path, suffix, queries, outcomes), *parts)


@pytest.mark.parametrize("field", ["score", "cost_usd", "latency_s"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@suffixes
def test_not_a_finite_number(tmp_path: Path, suffix: str, field: str, value: float) -> None:
    outcomes = good_outcomes()
    change(outcomes, 7, **{field: value})
    refused(write_long(tmp_path, suffix, good_queries(), outcomes), "outcomes.", "8")


WIDE_CASES: dict[str, tuple[Callable[[Rows], object], tuple[str, ...]]] = {
    "cost column missing": (lambda w: [r.pop("small|cost_usd") for r in w], ("'small|cost_usd' is missing",)),
    "score column misspelt": (
        lambda w: rename(w, "small|score", "small|scor"),
        ("Rename column 'small|scor' to 'small|score'",),
    ),
    "optional column misspelt": (
        lambda w: [r.update({"small|confidance": 1}) for r in w],
        ("small|confidance",),
    ),
    "query column missing": (lambda w: [r.pop("query") for r in w], ("'query' is missing",)),
    "no model columns": (
        lambda w: [r.pop(name) for r in w for name in list(r) if "|" in name],
        ("<model>|score", "'small|score'"),
    ),
    "model without a name": (lambda w: [r.update({"|score": 1, "|cost_usd": 1}) for r in w], ("''", "empty")),
    "score without cost": (
        lambda w: change(w, 7, **{"small|cost_usd": None}),
        ("8", "'small|score' is given but 'small|cost_usd' is empty", "empty both"),
    ),
    "cost without score": (lambda w: change(w, 7, **{"small|score": None}), ("8", "'small|score' is empty")),
    "no outcome of any model": (
        lambda w: change(w, 7, **{f"{m}|{f}": None for m in MODELS for f in ("score", "cost_usd")}),
        ("8", "'q7'", "no outcome"),
    ),
    "score above 1": (lambda w: change(w, 7, **{"small|score": 2}), ("8", "'small|score' is 2")),
    "cost negative": (lambda w: change(w, 7, **{"small|cost_usd": -2}), ("8", "'small|cost_usd' is -2")),
    "score NaN": (
        lambda w: change(w, 7, **{"small|score": math.nan, "small|cost_usd": math.nan}),
        ("8", "NaN", "eave out what is missing"),
    ),
    "cost infinite": (lambda w: change(w, 7, **{"small|cost_usd": math.inf}), ("8",)),
    "duplicate query_id": (lambda w: change(w, 9, query_id="q2"), ("10", "'q2'", "3")),
    "query empty": (lambda w: change(w, 9, query=""), ("10", "'query' is empty")),
    "single model": (
        lambda w: [r.pop(f"small|{field}") for r in w for field in ("score", "cost_usd")],
        ("1 model (large)",),
    ),
    "the long form given as a file": (
        lambda w: w.__setitem__(slice(None), good_outcomes()),
        ("long form", "give the folder"),
    ),
}


@suffixes
@pytest.mark.parametrize("case", WIDE_CASES)
def test_wide_form(tmp_path: Path, suffix: str, case: str) -> None:
    damage, parts = WIDE_CASES[case]
    rows = good_wide()
    damage(rows)
    path = tmp_path / f"wide{suffix}"
    write(rows, path)
    refused(path, f"wide{suffix}" if case != "single model" else "wide", *parts)


@suffixes
def test_too_few_queries_or_outcomes(tmp_path: Path, suffix: str) -> None:
    few = write_long(
        tmp_path, suffix, good_queries()[:49], [r for r in good_outcomes() if int(r["query_id"][1:]) < 49]
    )
    error = refused(few, "49 queries", kind=InsufficientDataError)
    assert isinstance(error, InsufficientDataError)
    assert (error.needed, error.available) == (50, 49)
    assert read_outcomes(few, for_training=False).n_queries == 49

    rare = write_long(tmp_path, suffix, good_queries(), good_outcomes()[: N + 19])
    error = refused(rare, "'small' has 19 outcomes", kind=InsufficientDataError)
    assert isinstance(error, InsufficientDataError)
    assert (error.needed, error.available) == (20, 19)


@suffixes
def test_a_query_too_long(tmp_path: Path, suffix: str) -> None:
    queries = good_queries()
    change(queries, 11, query="é" * 200_001)
    folder = write_long(tmp_path, suffix, queries, good_outcomes())
    refused(folder, "queries.", "12", "'q11'", "200,001 characters", "max_query_chars 200,000")
    assert read_outcomes(folder, max_query_chars=200_001).n_queries == N


@pytest.mark.parametrize("name", ["queries", "outcomes"])
@suffixes
def test_missing_empty_or_truncated_file(tmp_path: Path, suffix: str, name: str) -> None:
    path = write_long(tmp_path, suffix, good_queries(), good_outcomes()) / f"{name}{suffix}"
    whole = path.read_bytes()
    path.write_bytes(b"")
    refused(tmp_path, path.name, "the file is empty")
    path.write_bytes(whole[: len(whole) // 2] + (b"" if suffix == ".parquet" else b',"'))
    refused(tmp_path, path.name)
    path.unlink()
    refused(tmp_path, f"no {name}{{", "Add")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_bytes_that_are_not_utf8(tmp_path: Path, suffix: str) -> None:
    path = write_long(tmp_path, suffix, good_queries(), good_outcomes()) / f"queries{suffix}"
    path.write_bytes(path.read_bytes().replace(b"What is 3 plus", "Wie groß".encode("latin-1")))
    refused(tmp_path, path.name, f"line {5 if suffix == '.csv' else 4}", "0xdf", "not valid UTF-8")


def test_text_that_is_not_utf8_in_parquet(tmp_path: Path) -> None:
    write_long(tmp_path, ".parquet", good_queries(), good_outcomes())
    texts = pa.array([b"fine"] * 4 + ["groß".encode("latin-1")] + [b"fine"] * (N - 5)).view(pa.string())
    table = pa.table({"query_id": [f"q{i}" for i in range(N)], "query": texts})
    pq.write_table(table, tmp_path / "queries.parquet")
    refused(tmp_path, "queries.parquet, row 5", "'query' is not valid UTF-8")


@pytest.mark.parametrize(
    ("column", "values", "part"),
    [
        ("query", pa.array([b"raw"] * N), "binary"),
        ("query", pa.array(range(N)), "holds numbers"),
        ("query", pa.array([["a", "b"]] * N), "nested values"),
        ("query", pa.nulls(N), "row 1: 'query' is missing"),
        ("query_id", pa.array([float(i) for i in range(N)]), "text or whole numbers"),
        ("query_id", pa.array([*range(N - 1), None]), f"row {N}: 'query_id' is missing"),
    ],
)
def test_parquet_columns_of_the_wrong_type(tmp_path: Path, column: str, values: pa.Array, part: str) -> None:
    write_long(tmp_path, ".parquet", good_queries(), good_outcomes())
    columns = {
        "query_id": pa.array([f"q{i}" for i in range(N)]),
        "query": pa.array([f"text {i}" for i in range(N)]),
    }
    pq.write_table(pa.table(columns | {column: values}), tmp_path / "queries.parquet")
    refused(tmp_path, "queries.parquet", f"'{column}'", part)


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ('{"query_id": "q4", "model": "large", "score": NaN, "cost_usd": 1}', ("NaN is not a JSON value",)),
        ('{"query_id": "q4", "model": "large", "score": [1], "cost_usd": 1}', ("'score' holds a list",)),
        ('{"query_id": "q4", "model": "large", "score": true, "cost_usd": 1}', ("true/false", "1 and 0")),
        (
            '{"query_id": "q4", "model": "large", "score": "1", "cost_usd": 1}',
            ("'score' holds text", "a number before"),
        ),
        (
            '{"query_id": "q4", "model": "large", "score": 1, "score": 0, "cost_usd": 1}',
            ("'score' stands twice",),
        ),
        (
            '{"query_id": 4, "model": "large", "score": 1, "cost_usd": 1}',
            ("'query_id' holds a number", "text before"),
        ),
        ('{"query_id": "q4", "model": {"id": 1}, "score": 1, "cost_usd": 1}', ("'model' holds an object",)),
        ('{"query_id": "q4", "model": "\\ud800", "score": 1, "cost_usd": 1}', ("surrogate",)),
        ('{"query_id": "q4", "model": "large", "score": 1, "cost_usd": 1e999}', ("'cost_usd' is inf",)),
        (
            '{"query_id": "q4", "model": "large", "score": 1, "cost_usd": 1' + "0" * 400 + "}",
            ("'cost_usd' is inf",),
        ),
        ('{"query_id": "q4", "model": "large", "score": 1, "cost_usd": 1', ("not JSON",)),
        ('["q4", "large", 1, 1]', ("a list, not an object",)),
        ("[" * 100_000, ("not JSON",)),
    ],
)
def test_jsonl_lines(tmp_path: Path, line: str, parts: tuple[str, ...]) -> None:
    path = write_long(tmp_path, ".jsonl", good_queries(), good_outcomes()) / "outcomes.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[4] = line
    path.write_text("\n".join(lines), encoding="utf-8")
    refused(tmp_path, "outcomes.jsonl, line 5", *parts)


@pytest.mark.parametrize("cell", ["abc", "0,5x", "NA", "null", "True", "1e", "$0.1", "0x1"])
def test_csv_cells_that_are_no_numbers(tmp_path: Path, cell: str) -> None:
    outcomes = good_outcomes()
    change(outcomes, 7, cost_usd=f'"{cell}"')
    refused(
        write_long(tmp_path, ".csv", good_queries(), outcomes),
        "outcomes.csv, row 8",
        repr(cell),
        "not a number",
    )


def test_csv_layout(tmp_path: Path) -> None:
    folder = write_long(tmp_path, ".csv", good_queries(), good_outcomes())
    path = folder / "outcomes.csv"
    good = path.read_text(encoding="utf-8")
    path.write_text(good.replace(",", ";"), encoding="utf-8")
    refused(folder, "outcomes.csv", "commas, not by ';'")
    path.write_text(good.replace("q7,large,", "q7,large,1,", 1), encoding="utf-8")
    refused(folder, "outcomes.csv", "row 8 has 5 cells, the header 4")
    path.write_text(good.replace("model,score", "score,score", 1), encoding="utf-8")
    refused(folder, "outcomes.csv", "'score' stands there 2 times")
    path.write_text(good.splitlines()[0] + "\n", encoding="utf-8")
    refused(folder, "outcomes.csv", "no rows")


def test_what_the_path_means(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "nowhere: no such file or folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no queries{.parquet,.csv,.jsonl}", "no files")
    folder = write_long(tmp_path, ".csv", good_queries(), good_outcomes())
    write(good_queries(), folder / "queries.parquet")
    refused(folder, "both queries.csv and queries.parquet", "Keep one")
    (folder / "queries.parquet").unlink()
    (folder / "queries.csv").rename(folder / "querys.csv")
    refused(folder, "Is 'querys.csv' meant?")
    for name, part in (
        ("a.pkl", "data import --from routerbench"),
        ("a.json", ".jsonl"),
        ("a.xlsx", "Convert it"),
    ):
        (tmp_path / name).write_bytes(b"x")
        refused(tmp_path / name, name, part)


@pytest.mark.parametrize("text", ["{", "[]", '{"simulated": "yes"}', '{"name": 3}', "\x80"])
def test_dataset_json(tmp_path: Path, text: str) -> None:
    write_long(tmp_path, ".csv", good_queries(), good_outcomes())
    (tmp_path / "dataset.json").write_bytes(text.encode("latin-1"))
    refused(tmp_path, "dataset.json")
