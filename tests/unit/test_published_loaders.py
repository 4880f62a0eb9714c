"""Files of the layouts that are published, made here, become tables; other layouts are refused by name and place."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from proteus_router.cli import cli
from proteus_router.data.llmrouterbench import read_llmrouterbench
from proteus_router.data.prices import Price, read_prices
from proteus_router.data.routellm import read_routellm
from proteus_router.data.sources import read_outcomes
from proteus_router.data.sprout import SPROUT_PRICES, read_sprout
from proteus_router.errors import ConfigError, SchemaError

SONNET, MINI = "aws-claude-3-5-sonnet-v1", "openai-gpt-4o-mini"
STRONG, WEAK = "gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1"
CALLS = {STRONG: Price(usd_per_request=0.01), WEAK: Price(usd_per_request=0.0003)}


# SPROUT


def sprout_rows(first: int, count: int) -> list[dict[str, Any]]:
    def answer(score: float, tokens: int) -> dict[str, Any]:
        return {
            "num_input_tokens": 100,
            "num_output_tokens": tokens,
            "response": "words",
            "score": score,
            "judge_response": "more words",
        }

    return [
        {
            "key": i,
            "dataset": "MATH" if i % 2 else "MMLU-Pro",
            "dataset_level": "5",
            "dataset_idx": i,
            "prompt": f"What is {i} plus {i}?",
            "golden_answer": str(2 * i),
            SONNET: answer(1.0, 200),
            MINI: answer(0.0 if i % 3 else 1.0, 50),
        }
        for i in range(first, first + count)
    ]


def write_sprout(folder: Path) -> Path:
    data = folder / "data"
    data.mkdir()
    for name, rows in (
        ("train-00000-of-00002", sprout_rows(0, 40)),
        ("train-00001-of-00002", sprout_rows(40, 20)),
        ("test-00000-of-00001", sprout_rows(60, 10)),
    ):
        pq.write_table(pa.Table.from_pylist(rows), data / f"{name}.parquet")
    return data


def test_sprout_costs_are_tokens_times_prices(tmp_path: Path) -> None:
    data = write_sprout(tmp_path)
    table = read_sprout(data)
    assert (table.n_queries, table.models) == (70, (SONNET, MINI))
    assert table.tasks is not None
    row = table.query_ids.index("41")
    assert table.queries[row] == "What is 41 plus 41?"
    assert table.tasks[row] == "MATH"
    assert table.scores[row].tolist() == [1.0, 0.0]
    assert table.costs_usd[row].tolist() == pytest.approx(
        [(100 * 3.0 + 200 * 15.0) / 1e6, (100 * 0.15 + 50 * 0.6) / 1e6]
    )
    assert table.extras["output_tokens"][row].tolist() == [200, 50]
    assert read_sprout(data / "train").n_queries == 60
    assert read_sprout(data / "test-00000-of-00001.parquet").n_queries == 10
    other = read_sprout(data, prices={SONNET: Price(usd_per_request=1.0), MINI: Price(0.0, 1.0)})
    assert other.costs_usd[row].tolist() == pytest.approx([1.0, 50 / 1e6])


def test_sprout_outcomes_without_a_score_are_missing(tmp_path: Path) -> None:
    rows = sprout_rows(0, 5)
    rows[2][MINI] = {**rows[2][MINI], "score": None}
    rows[3][MINI] = None
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    table = read_sprout(tmp_path / "x.parquet")
    assert table.observed[:, 1].tolist() == [True, True, False, False, True]
    assert table.observed[:, 0].all()


def test_the_fourteen_models_of_sprout_have_prices() -> None:
    assert len(SPROUT_PRICES) == 14
    assert all(price.needs_tokens for price in SPROUT_PRICES.values())


# LLMRouterBench


def bench_run(dataset: str, model: str, scores: list[float | None], **extra: Any) -> dict[str, Any]:
    return {
        "performance": 0.5,
        "time_taken": 1.0,
        "prompt_tokens": 15,
        "completion_tokens": 5,
        "cost": 0.15,
        "counts": len(scores),
        "model_name": model,
        "dataset_name": dataset,
        "split": "test",
        "demo": False,
        "records": [
            {
                "index": index,
                "origin_query": f"{dataset}: what is {index} plus {index}?",
                "prompt": f"Question {index}\nAnswer:",
                "prediction": "4",
                "ground_truth": "4",
                "score": score,
                "prompt_tokens": 15,
                "completion_tokens": 5,
                "cost": 0.0001 * (index + 1),
                "raw_output": "four",
            }
            for index, score in enumerate(scores, 1)
        ],
        **extra,
    }


def write_bench(folder: Path) -> Path:
    root = folder / "bench"
    runs: list[tuple[str, str, list[float | None]]] = [
        ("aime", "gpt-5", [1.0, 1.0, None]),
        ("aime", "qwen3-8b", [0.0, 1.0, 1.0]),
        ("gpqa", "gpt-5", [1.0]),
    ]
    for dataset, model, scores in runs:
        save(
            bench_run(dataset, model, scores),
            root / dataset / "test" / model / f"{dataset}-20251019_101500.json",
        )
    # An earlier run of the same, and a demonstration: neither counts.
    save(bench_run("aime", "gpt-5", [0.0, 0.0, 0.0]), root / "aime/test/gpt-5/aime-20251018_101500.json")
    save(bench_run("aime", "toy", [1.0], demo=True), root / "aime/test/toy/aime-20251019_101500.json")
    return root


def save(value: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_llmrouterbench_takes_the_latest_run_of_each_model(tmp_path: Path) -> None:
    table = read_llmrouterbench(write_bench(tmp_path))
    assert table.models == ("gpt-5", "qwen3-8b")
    assert sorted(table.query_ids) == ["aime/test/1", "aime/test/2", "aime/test/3", "gpqa/test/1"]
    row = table.query_ids.index("aime/test/1")
    assert table.queries[row] == "aime: what is 1 plus 1?"
    assert table.scores[row].tolist() == [1.0, 0.0]
    assert table.costs_usd[row].tolist() == pytest.approx([0.0002, 0.0002])
    assert table.tasks is not None
    assert table.tasks[row] == "aime"
    third = table.query_ids.index("aime/test/3")
    assert table.observed[third].tolist() == [False, True]
    assert table.extras["input_tokens"][row].tolist() == [15, 15]


def test_llmrouterbench_names_come_from_the_folders_where_the_file_has_none(tmp_path: Path) -> None:
    run = bench_run("ignored", "ignored", [1.0])
    for name in ("model_name", "dataset_name", "split"):
        del run[name]
    save(run, tmp_path / "bench/hle/full/kimi-k2/hle-20251019_101500.json")
    table = read_llmrouterbench(tmp_path / "bench")
    assert table.models == ("kimi-k2",)
    assert table.query_ids == ("hle/full/1",)


def test_llmrouterbench_with_prices(tmp_path: Path) -> None:
    prices = {"gpt-5": Price(1.25, 10.0), "qwen3-8b": Price(usd_per_request=0.5)}
    table = read_llmrouterbench(write_bench(tmp_path), prices=prices)
    row = table.query_ids.index("aime/test/1")
    assert table.costs_usd[row].tolist() == pytest.approx([(15 * 1.25 + 5 * 10) / 1e6, 0.5])


# RouteLLM


def write_routellm(folder: Path) -> Path:
    responses = folder / "mmlu" / "responses"
    responses.mkdir(parents=True)
    for subject, shift in (("anatomy", 0), ("virology", 1)):
        with (responses / f"mmlu_{subject}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["prompt", WEAK, STRONG])
            for i in range(4):
                writer.writerow([f'{subject} "{i}",\nA. yes\nB. no\nAnswer:', (i + shift) % 2 == 0, True])
    (folder / "mmlu" / "contaminated_prompts.jsonl").write_text(
        json.dumps({"eval_prompt": 'virology "3",\nA. yes\nB. no\nAnswer:', "train_prompt": "near it"})
        + "\n",
        encoding="utf-8",
    )
    return responses


def test_routellm_reads_truth_values_and_leaves_out_contaminated_prompts(tmp_path: Path) -> None:
    table = read_routellm(write_routellm(tmp_path), prices=CALLS)
    assert table.models == (WEAK, STRONG)
    assert table.query_ids[:2] == ("mmlu_anatomy-1", "mmlu_anatomy-2")
    assert table.n_queries == 7
    assert "mmlu_virology-4" not in table.query_ids
    assert table.queries[0] == 'anatomy "0",\nA. yes\nB. no\nAnswer:'
    assert table.scores[:2].tolist() == [[1.0, 1.0], [0.0, 1.0]]
    assert table.costs_usd[0].tolist() == [0.0003, 0.01]
    assert table.tasks is not None
    assert set(table.tasks) == {"mmlu_anatomy", "mmlu_virology"}


def test_routellm_answers_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "gsm8k_responses.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", WEAK, STRONG, f"{WEAK}_response", f"{STRONG}_response"])
        writer.writerow(["How many eggs?", "False", "True", "x" * 200_000, "18"])
    table = read_routellm(path, prices=CALLS)
    assert (table.models, table.name, table.query_ids) == ((WEAK, STRONG), "gsm8k", ("gsm8k-1",))


# Refusals


def _sprout(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    def make(folder: Path) -> Any:
        rows = sprout_rows(0, 3)
        for row in rows:
            change(row)
        pq.write_table(pa.Table.from_pylist(rows), folder / "x.parquet")
        return read_sprout(folder / "x.parquet")

    return make


def _bench(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    def make(folder: Path) -> Any:
        run = bench_run("aime", "gpt-5", [1.0, 0.0])
        change(run)
        save(run, folder / "bench/aime/test/gpt-5/x.json")
        save(bench_run("aime", "small", [1.0, 0.0]), folder / "bench/aime/test/small/x.json")
        return read_llmrouterbench(folder / "bench")

    return make


def _routellm(text: str, prices: dict[str, Price] | None = None) -> Callable[[Path], Any]:
    def make(folder: Path) -> Any:
        (folder / "x.csv").write_text(text, encoding="utf-8")
        return read_routellm(folder / "x.csv", prices=CALLS if prices is None else prices)

    return make


HEADER = f"prompt,{WEAK},{STRONG}\n"


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda folder: read_sprout(folder), "no Parquet files"),
        (lambda folder: read_sprout(_damaged(folder / "x.parquet")), "not a readable Parquet file"),
        (_sprout(lambda row: row.pop("prompt")), "'prompt' is missing"),
        (_sprout(lambda row: [row.pop(SONNET), row.pop(MINI)]), "no column is a struct"),
        (_sprout(lambda row: row.update({"new-model": row[MINI]})), "no price for model 'new-model'"),
        (_sprout(lambda row: row.update(key="same")), "'same' already stands"),
        (_sprout(lambda row: row[MINI].update(score=7.0)), f"'{MINI}|score' is 7"),
        (lambda folder: read_llmrouterbench(folder), "no result files"),
        (lambda folder: read_llmrouterbench(_damaged(folder / "x.json")), "not a readable JSON file"),
        (_bench(lambda run: run.pop("records")), "no list of `records`"),
        (_bench(lambda run: run["records"][0].pop("index")), "record 1: no `index`"),
        (_bench(lambda run: run["records"][1].pop("cost")), "record 2: no `cost`"),
        (_bench(lambda run: run["records"][1].update(score="right")), "'score' is 'right'"),
        (_bench(lambda run: run["records"][1].update(index=1)), "another text"),
        (_bench(lambda run: run["records"].append(run["records"][0])), "stands twice"),
        (_bench(lambda run: run["records"][0].update(score=2.0)), "'gpt-5|score' is 2"),
        (lambda folder: read_routellm(folder, prices=CALLS), "no CSV files"),
        (_routellm("question,a\nwhat?,True\n"), "needs a column 'prompt'"),
        (_routellm("prompt\nwhat?\n"), "one a model"),
        (_routellm(HEADER + "what?,yes,True\n"), "row 1: 'mixtral-8x7b-instruct-v0.1' is 'yes'"),
        (_routellm(HEADER + "what?,True\n"), "row 1: another number of cells"),
        (_routellm(HEADER + "what?,True,True\n", {WEAK: CALLS[WEAK]}), f"no price for model '{STRONG}'"),
        (_routellm(HEADER + "what?,True,True\n", dict.fromkeys(CALLS, Price(1.0, 1.0))), "count no tokens"),
    ],
    ids=range(23),
)
def test_other_layouts_are_refused(tmp_path: Path, make: Callable[[Path], Any], part: str) -> None:
    with pytest.raises(SchemaError) as caught:
        make(tmp_path)
    assert part in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def _damaged(path: Path) -> Path:
    path.write_bytes(b"{ not this")
    return path


# Prices


def test_prices_are_read_and_wrong_ones_refused(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("a: {input_usd_per_mtok: 2.5, output_usd_per_mtok: 10}\nb: {usd_per_request: 0.5}\n")
    assert read_prices(path) == {"a": Price(2.5, 10.0), "b": Price(usd_per_request=0.5)}
    assert Price(2.5, 10.0, 0.5).cost_usd(1e6, 2e5) == 2.5 + 2.0 + 0.5
    for text, part in (
        ("a: {input_usd: 1}", "Did you mean 'input_usd_per_mtok'"),
        ("a: {usd_per_request: -1}", "a number >= 0, not -1"),
        ("a: {usd_per_request: yes}", "not True"),
        ("a: {usd_per_request: .inf}", "not inf"),
        ("a: 3", "must be a mapping"),
        ("- a", "must map model names"),
        ("a: [", "not a YAML file"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            read_prices(path)
        assert part in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_prices(tmp_path / "nowhere.yaml")


# The command


@pytest.mark.parametrize(
    ("source", "write", "n"), [("sprout", write_sprout, 70), ("llmrouterbench", write_bench, 4)]
)
def test_import_writes_the_canonical_folder(
    tmp_path: Path, source: str, write: Callable[[Path], Path], n: int
) -> None:
    path = write(tmp_path)
    run = CliRunner().invoke(
        cli, ["data", "import", "--from", source, str(path), "-o", str(tmp_path / "out")]
    )
    assert run.exit_code == 0, run.output
    assert read_outcomes(tmp_path / "out", for_training=False).n_queries == n


def test_import_of_routellm_needs_prices(tmp_path: Path) -> None:
    path = write_routellm(tmp_path)
    command = ["data", "import", "--from", "routellm", str(path), "-o", str(tmp_path / "out")]
    without = CliRunner().invoke(cli, command)
    assert without.exit_code == 2
    assert "--prices is needed" in without.output
    prices = tmp_path / "prices.yaml"
    prices.write_text(f"{STRONG}: {{usd_per_request: 0.01}}\n{WEAK}: {{usd_per_request: 0.0003}}\n")
    run = CliRunner().invoke(cli, [*command, "--prices", str(prices)])
    assert run.exit_code == 0, run.output
    assert read_outcomes(tmp_path / "out", for_training=False).costs_usd[0].tolist() == [0.0003, 0.01]


def test_prices_make_no_sense_where_costs_are_known(tmp_path: Path) -> None:
    run = CliRunner().invoke(cli, ["data", "import", "x", "--prices", "p.yaml", "-o", str(tmp_path / "out")])
    assert run.exit_code == 2
    assert "say what each answer cost" in run.output
