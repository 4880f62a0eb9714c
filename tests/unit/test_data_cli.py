"""`proteus data`: what it prints, writes and refuses."""

from __future__ import annotations

import json
import pickle  # noqa: TID251  to make a RouterBench file
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from proteus_router.cli.data import data_group
from proteus_router.data.grouping import near_text_groups
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.sources import read_outcomes, write_outcomes
from proteus_router.errors import DataError, InsufficientDataError

LONG = "a train leaves the station at noon and travels north for three hours without any stop to town"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(data_group, [str(argument) for argument in arguments])


def done(*arguments: str | Path) -> Result:
    result = run(*arguments)
    assert result.exception is None, result.output
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    n = 80
    rng = np.random.default_rng(1)
    scores, costs = rng.integers(0, 2, (n, 3)).astype(float), rng.random((n, 3))
    scores[:8, 2] = costs[:8, 2] = np.nan
    queries = [f"query {i}" for i in range(n - 4)]
    queries += [LONG.replace("noon", word) for word in ("noon", "dawn", "dusk", "night")]
    table = OutcomeTable(
        query_ids=tuple(f"q{i}" for i in range(n)),
        queries=tuple(queries),
        models=("a", "b", "c"),
        scores=scores,
        costs_usd=costs,
        tasks=tuple("sums" if i < 60 else "trains" for i in range(n)),
        name="fixture",
    )
    write_outcomes(table, tmp_path / "set")
    return tmp_path / "set"


def test_validate_prints_one_json_document(folder: Path) -> None:
    summary = json.loads(done("validate", folder, "--json").stdout)
    table = read_outcomes(folder)
    assert (summary["name"], summary["simulated"], summary["scores"]) == ("fixture", False, "binary")
    assert (summary["n_queries"], summary["n_outcomes"]) == (80, 232)
    assert summary["missing_share"] == pytest.approx(8 / 240)
    assert (summary["n_text_groups"], summary["n_queries_in_shared_groups"]) == (77, 4)
    assert summary["tasks"] == {"sums": 60, "trains": 20}
    assert summary["fingerprint"] == table.fingerprint()
    last = summary["models"][2]
    assert (last["model"], last["n_outcomes"]) == ("c", 72)
    assert last["mean_score"] == pytest.approx(table.scores[8:, 2].mean())
    assert last["mean_cost_usd"] == pytest.approx(table.costs_usd[8:, 2].mean())


def test_validate_in_words(folder: Path) -> None:
    text = done("validate", folder).stdout
    assert "fixture: 80 queries, 3 models, binary scores, 3.3% missing" in text
    assert "4 queries share a group (77 groups in all)" in text
    assert "tasks: sums 60, trains 20" in text


def test_validate_refuses_what_cannot_be_trained_on(folder: Path, tmp_path: Path) -> None:
    write_outcomes(read_outcomes(folder).take(range(30)), tmp_path / "few")
    assert isinstance(run("validate", tmp_path / "few").exception, InsufficientDataError)
    error = run("validate", folder, "--max-query-chars", "20").exception
    assert isinstance(error, DataError)
    assert "max_query_chars 20" in str(error)


@pytest.mark.parametrize("fmt", ["parquet", "csv", "jsonl"])
def test_import_converts_any_layout(folder: Path, tmp_path: Path, fmt: str) -> None:
    out = tmp_path / "made" / "here"
    result = done("import", folder, "-o", out, "--format", fmt)
    assert result.stdout == ""
    assert "80 queries" in result.stderr
    assert {path.name for path in out.iterdir()} == {f"queries.{fmt}", f"outcomes.{fmt}", "dataset.json"}
    assert read_outcomes(out).fingerprint() == read_outcomes(folder).fingerprint()
    assert "already exists" in str(run("import", folder, "-o", out).exception)
    done("import", folder, "-o", out, "--force")
    assert {path.name for path in out.iterdir()} == {"queries.parquet", "outcomes.parquet", "dataset.json"}


def test_import_reads_routerbench(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"sample_id": ["x", "y"], "prompt": ["['p']", "['q']"], "eval_name": ["t", "t"]})
    for model in "mn":
        frame[model] = [0.0, 1.0]
        frame[f"{model}|total_cost"] = [0.1, 0.2]
    (tmp_path / "rb.pkl").write_bytes(pickle.dumps(frame))
    done("import", "--from", "routerbench", tmp_path / "rb.pkl", "-o", tmp_path / "rb")
    assert read_outcomes(tmp_path / "rb", for_training=False).queries == ("p", "q")
    assert "--from routerbench" in str(run("import", tmp_path / "rb.pkl", "-o", tmp_path / "x").exception)
    assert not (tmp_path / "x").exists()


def test_split_keeps_near_texts_on_one_side(folder: Path, tmp_path: Path) -> None:
    whole = read_outcomes(folder)
    groups = dict(zip(whole.query_ids, near_text_groups(whole.queries).tolist(), strict=True))
    out = tmp_path / "split"
    done("split", folder, "-o", out, "--test-share", "0.25", "--calibration-share", "0.25", "--seed", "4")
    parts = {name: read_outcomes(out / name, for_training=False) for name in ("train", "calibration", "test")}
    assert [part.n_queries for part in parts.values()] == [40, 20, 20]
    seen = [{groups[query_id] for query_id in part.query_ids} for part in parts.values()]
    assert sum(map(len, seen)) == len(set().union(*seen))
    again = tmp_path / "again"
    done("split", folder, "-o", again, "--test-share", "0.25", "--calibration-share", "0.25", "--seed", "4")
    assert read_outcomes(again / "test", for_training=False).query_ids == parts["test"].query_ids
    done("split", folder, "-o", out, "--force")
    assert sorted(path.name for path in out.iterdir()) == ["test", "train"]


def test_a_failed_split_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    shares = ("--test-share", "0.9", "--calibration-share", "0.9")
    assert "below 1" in str(run("split", folder, "-o", tmp_path / "split", *shares).exception)
    assert run("split", folder, "-o", tmp_path / "split", "--test-share", "1").exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_simulate_says_simulated_and_repeats(tmp_path: Path) -> None:
    options = ("--queries", "120", "--models", "8", "--graded", "--missing", "0.1", "--format", "csv")
    done("simulate", "-o", tmp_path / "one", "--seed", "3", *options)
    done("simulate", "-o", tmp_path / "two", "--seed", "3", *options)
    done("simulate", "-o", tmp_path / "other", "--seed", "4", *options)
    one, two, other = (read_outcomes(tmp_path / name) for name in ("one", "two", "other"))
    assert one.simulated
    assert (one.n_queries, one.n_models, one.binary) == (120, 8, False)
    assert 0 < (~one.observed).mean() < 0.3
    assert one.fingerprint() == two.fingerprint() != other.fingerprint()
    summary = json.loads(done("validate", tmp_path / "one", "--json").stdout)
    assert summary["simulated"] is True
    assert "(simulated)" in done("validate", tmp_path / "one").stdout
    done("split", tmp_path / "one", "-o", tmp_path / "split")
    assert read_outcomes(tmp_path / "split" / "test", for_training=False).simulated


@pytest.mark.parametrize("command", ["validate", "import", "split", "simulate"])
def test_help_has_an_example(command: str) -> None:
    assert f"Example: proteus data {command}" in done(command, "--help").stdout
