"""RouterArena's queries in, its predictions out, as its own check reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from proteus_router.cli import cli
from proteus_router.config import HeadsConfig, PolicyConfig, TrainConfig
from proteus_router.data.routerarena import ArenaQuery, arena_predictions, read_arena_queries
from proteus_router.data.synthetic import make_world
from proteus_router.errors import SchemaError
from proteus_router.routing.artifact import write_artifact
from proteus_router.training.pipeline import train_router
from proteus_router.training.stages import MemoryStages
from proteus_router.training.train_log import TrainLog


def arena_file(path: Path, count: int) -> Path:
    entries = [
        {
            "global index": f"MMLU_{i}",
            "prompt": f"What is {i} plus {i}?",
            "prompt_formatted": f"Please answer.\n\nWhat is {i} plus {i}?",
            "answer": "",
        }
        for i in range(count)
    ]
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def check(config: Any, predictions: Any, dataset: list[dict[str, Any]]) -> None:
    """What RouterArena's own check asks of the two files."""
    models = set(config["pipeline_params"]["models"])
    regular = [entry for entry in predictions if not entry["for_optimality"]]
    assert len(regular) == len(dataset)
    prompts = {entry["global index"]: entry["prompt_formatted"] for entry in dataset}
    for entry in predictions:
        assert entry["prompt"] == prompts[entry["global index"]]
        assert entry["prediction"] in models
        assert entry["generated_result"] is None


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arena") / "router"
    config = TrainConfig(
        heads=HeadsConfig(estimators=("kernel",), lexical_dim=8),
        policy=PolicyConfig(steps=0, n_settings=20, bootstrap=50),
    )
    artifact = train_router(
        make_world(0, n_models=3).sample(120, 1).table,
        config=config,
        encoder=None,
        stages=MemoryStages(),
        log=TrainLog(None),
        progress=lambda *_: None,
    )
    folder.mkdir()
    write_artifact(folder, artifact)
    return folder


def test_the_files_pass_the_arenas_check(tmp_path: Path, router: Path) -> None:
    queries, small = arena_file(tmp_path / "router_data.json", 12), arena_file(tmp_path / "small.json", 2)
    names = [entry["name"] for entry in json.loads((router / "manifest.json").read_text())["models"]]
    command = ["arena", str(router), str(queries), "--accuracy-target", "0.3", "--guarantee", "expected"]
    command += ["--optimality", str(small), "--rename", f"{names[0]}=gpt-4o-mini", "--name", "ours"]
    run = CliRunner().invoke(cli, [*command, "-o", str(tmp_path / "router_inference")])
    assert run.exit_code == 0, run.output
    config, predictions = (
        json.loads((tmp_path / "router_inference" / part / "ours.json").read_text(encoding="utf-8"))
        for part in ("config", "predictions")
    )
    assert config["pipeline_params"] == {"router_name": "ours", "models": ["gpt-4o-mini", *names[1:]]}
    check(config, predictions, json.loads(queries.read_text()))
    extra = [entry for entry in predictions if entry["for_optimality"]]
    assert len(extra) == 2 * (len(names) - 1)
    for index in ("MMLU_0", "MMLU_1"):
        asked = [entry["prediction"] for entry in predictions if entry["global index"] == index]
        assert sorted(asked) == sorted(config["pipeline_params"]["models"])
    again = CliRunner().invoke(cli, [*command, "-o", str(tmp_path / "again")])
    assert again.exit_code == 0
    assert (tmp_path / "again/predictions/ours.json").read_bytes() == (
        tmp_path / "router_inference/predictions/ours.json"
    ).read_bytes()


def test_an_unknown_model_cannot_be_renamed(tmp_path: Path, router: Path) -> None:
    queries = arena_file(tmp_path / "router_data.json", 1)
    for rename in ("nobody=x", "x"):
        command = ["arena", str(router), str(queries), "--accuracy-target", "0.3", "--rename", rename]
        run = CliRunner().invoke(cli, [*command, "-o", str(tmp_path / "out")])
        assert run.exit_code == 2
        assert "OURS=THEIRS" in run.output
        assert not (tmp_path / "out").exists()


def test_without_a_formatted_prompt_the_plain_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"global index": "a", "prompt": "hello"}]))
    assert read_arena_queries(path) == [ArenaQuery("a", "hello")]
    assert arena_predictions(read_arena_queries(path), ["m"], ["m", "n"], for_optimality=["elsewhere"]) == [
        {
            "global index": "a",
            "prompt": "hello",
            "prediction": "m",
            "generated_result": None,
            "cost": None,
            "accuracy": None,
            "for_optimality": False,
        }
    ]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "not a readable JSON file"),
        ("{}", "not a list of queries"),
        ("[]", "not a list of queries"),
        ('["a"]', "entry 1: needs 'global index'"),
        ('[{"global index": "a", "prompt": " "}]', "entry 1: needs 'global index'"),
        ('[{"global index": "a", "prompt": "x"}, {"global index": "a", "prompt": "y"}]', "stands twice"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, part: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SchemaError, match=part):
        read_arena_queries(path)
