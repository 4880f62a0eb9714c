"""Streams through the gateway without HTTP: reproducible, true to the world, resumed, and drawn."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from proteus_router.cli.simulate import simulate
from proteus_router.data.synthetic import World, make_world
from proteus_router.errors import ConfigError
from proteus_router.routing.router import Router
from proteus_router.simulation.scenario import Happening, Scenario, load_scenario, shipped_scenarios
from proteus_router.simulation.stream import Setting, StreamResult, run_stream
from proteus_router.simulation.study import Study, tasks_of
from proteus_router.simulation.summary import record_of, table
from proteus_router.simulation.world import RecordedWorld, SimulatedWorld, remembering, without_prices
from tests.serving.app.helpers import ROUTER

MODELS = ROUTER.models
TIERS = {"economy": 0.45, "standard": 0.60}


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(0, n_models=3)


@pytest.fixture(scope="module")
def made(world: World) -> tuple[Router, SimulatedWorld]:
    """A router whose models are those of the world in all but name."""
    router = replace(ROUTER, models=world.model_names)
    universe = SimulatedWorld(world, router.models, queries=600, seed=1)
    return remembering(router, universe.bank), universe


def _scenario(*happenings: Happening, requests: int = 300) -> Scenario:
    return Scenario(
        name="test", description="A test.", requests=requests, tiers=TIERS, happenings=happenings, tail=100
    )


def _run(made: tuple[Router, SimulatedWorld], scenario: Scenario, **changes: Any) -> StreamResult:
    setting = {"audit_share": 0.5, "tracked": True, "seed": 1, **changes}
    return run_stream(*made, scenario, Setting(**setting))


def test_the_same_seed_gives_the_same_stream_to_the_last_bit(made: tuple[Router, SimulatedWorld]) -> None:
    first, second = (record_of(_run(made, _scenario()), made[1]) for _ in range(2))
    assert json.dumps(first) == json.dumps(second)
    other = record_of(_run(made, _scenario(), seed=2), made[1])
    assert json.dumps(other["traces"]) != json.dumps(first["traces"])


def test_what_is_reported_is_what_happened(made: tuple[Router, SimulatedWorld]) -> None:
    universe = made[1]
    result = _run(made, _scenario(), audit_share=1.0)
    bank = universe.bank
    rows = np.random.default_rng(1).permutation(len(bank.queries))[:300]
    np.testing.assert_array_equal(result.expected, bank.expected[rows, result.model])
    tokens = np.stack([bank.input_tokens, bank.output_tokens], axis=-1)[rows, result.model]
    billed = (tokens * universe.usd_per_token[result.model]).sum(axis=1)
    np.testing.assert_allclose(result.cost_usd, billed, atol=1e-9)
    assert result.audited.all()
    trace = result.traces["standard"]
    assert trace.requests == [300]
    assert trace.accuracy[0] == pytest.approx(result.expected[result.tier == 1].mean())
    assert trace.lower[0] < trace.estimate[0] < trace.upper[0]


def test_a_fallen_model_a_price_and_harder_traffic_arrive_when_they_should(
    made: tuple[Router, SimulatedWorld],
) -> None:
    scenario = _scenario(
        Happening(at=100, skill_points=-0.3),
        Happening(at=150, price_factor=0.5),
        Happening(at=200, hard_share=0.9),
    )
    result = _run(made, scenario, tracked=False)
    universe, best = made[1], result.best
    fallen = universe.shifted(best, -0.3)
    assert fallen.expected[:, best].mean() == pytest.approx(
        universe.bank.expected[:, best].mean() - 0.3, abs=0.02
    )
    after = np.flatnonzero((result.model == best) & (np.arange(300) >= 100))
    assert after.size
    assert np.isin(result.expected[after], fallen.expected[:, best]).all()
    before = np.flatnonzero((result.model == best) & (np.arange(300) < 100))
    assert np.isin(result.expected[before], universe.bank.expected[:, best]).all()
    assert set(result.traces["standard"].state[-1:]) == {"stale"}  # the price moved
    hard = universe.bank.hard()
    rng = np.random.default_rng(1)
    rows = rng.permutation(600)[:300]
    chance = np.where(hard, 0.9 / hard.sum(), 0.1 / (~hard).sum())
    rows[200:] = rng.choice(600, 100, p=chance)
    assert hard[rows[200:]].mean() > 0.8
    np.testing.assert_array_equal(result.expected[200:], fallen.expected[rows[200:], result.model[200:]])


def test_moving_targets_go_to_the_cheapest_tier_that_is_high_enough(
    made: tuple[Router, SimulatedWorld],
) -> None:
    scenario = Scenario(
        name="m",
        description="d",
        requests=500,
        targets={"shape": "drift", "low": 0.4, "high": 0.6, "tiers": 5},  # type: ignore[arg-type]
    )
    result = _run(made, scenario)
    floors = np.array(list(scenario.floors.values()))
    assert (floors[result.tier] >= result.target - 1e-9).all()
    assert (np.diff(result.tier) >= 0).all()
    record = record_of(result, made[1])
    assert len(record["moving"]["target"]) == 1
    shown = table([record])
    assert "windows at the floor" in shown
    assert "it says: No audit rate holds this floor" in shown  # 100 requests a tier are too few


def test_recorded_outcomes_are_replayed_at_their_costs(world: World) -> None:
    outcomes = world.sample(400, 5).table
    universe = RecordedWorld(outcomes, world.model_names)
    router = remembering(replace(ROUTER, models=world.model_names), universe.bank)
    result = _run((router, universe), _scenario(requests=200))  # type: ignore[arg-type]
    rows = np.random.default_rng(1).permutation(400)[:200]
    np.testing.assert_allclose(result.cost_usd, outcomes.costs_usd[rows, result.model], atol=2e-9)
    np.testing.assert_array_equal(result.expected, outcomes.scores[rows, result.model])


def test_a_replayed_router_knows_no_prices_so_none_are_stale() -> None:
    entry = {"name": "small", "mean_cost_usd": 1e-5, "mean_input_tokens": 10.0, "mean_output_tokens": 20.0}
    router = replace(ROUTER, manifest={"models": [entry]})
    assert without_prices(router).manifest["models"] == [{"name": "small", "mean_cost_usd": 1e-5}]
    assert router.manifest["models"] == [entry]


def test_a_study_that_was_cut_short_goes_on(
    made: tuple[Router, SimulatedWorld], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = tasks_of([_scenario(requests=100)], [1.0], [False, True], range(2))
    assert [task.name for task in tasks] == [
        "test-1-fixed-0",
        "test-1-tracked-0",
        "test-1-fixed-1",
        "test-1-tracked-1",
    ]
    first = list(Study(lambda: made, tmp_path).run(tasks[:2]))
    ran: list[int] = []

    def counted(*arguments: Any) -> StreamResult:
        ran.append(arguments[-1].seed)
        return run_stream(*arguments)

    monkeypatch.setattr("proteus_router.simulation.study.run_stream", counted)
    again = list(Study(lambda: made, tmp_path).run(tasks))
    assert ran == [1, 1]
    assert json.dumps(again[:2]) == json.dumps(first)
    list(Study(lambda: made, tmp_path).run(tasks_of([_scenario(requests=150)], [1.0], [False], [0])))
    assert ran == [1, 1, 0]  # another scenario of the same name


def test_a_study_leaves_the_logs_of_the_process_as_they_were(
    made: tuple[Router, SimulatedWorld], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    list(Study(lambda: made, tmp_path).run(tasks_of([_scenario(requests=100)], [1.0], [False], [0])))
    with caplog.at_level(logging.WARNING):
        logging.getLogger("proteus_router.anything").warning("after the study")
    assert "after the study" in caplog.text


def test_every_scenario_of_the_package_can_be_read() -> None:
    assert set(shipped_scenarios()) == {"steady", "drop", "price", "harder", "step", "drift", "cycle", "peak"}
    for name in shipped_scenarios():
        scenario = load_scenario(name)
        assert scenario.name == name
        assert scenario.requests == 20_000
    short = load_scenario("drop").shortened(2_000)
    assert (short.requests, short.moment, short.tail) == (2_000, 800, 400)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "mapping"),
        ("name: [", "YAML"),
        ("name: a\ndescription: b\n", "tiers or targets"),
        ("name: a\ndescription: b\ntiers: {a: 0.5}\nhappening: []\n", "happening"),
        ("name: a\ndescription: b\ntiers: {a: 0.5}\nhappenings: [{at: 3}]\n", "one of skill_points"),
    ],
)
def test_a_wrong_scenario_is_refused_with_the_reason(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        load_scenario(str(path))


def test_the_command_prints_a_table_and_draws(
    made: tuple[Router, SimulatedWorld], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proteus_router.cli.simulate._Make.__call__", lambda self: made)
    arguments = ["steady", "--requests", "500", "--audits", "1", "-o", str(tmp_path)]
    done = CliRunner().invoke(simulate, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "steady-1.png").stat().st_size > 10_000
    for wanted in ("economy", "standard", "premium", "tracked", "fixed"):
        assert wanted in done.stdout
    for wrong in (["--audits", "5"], ["--audits", "x"], ["--data", "d"]):
        assert CliRunner().invoke(simulate, [*arguments, *wrong]).exit_code == 2
    assert CliRunner().invoke(simulate, ["stedy", "-o", str(tmp_path)]).exit_code != 0


_TWO_WORKERS = """
import multiprocessing, sys, threading, time
from functools import partial
from pathlib import Path
from proteus_router.simulation.scenario import load_scenario
from proteus_router.simulation.study import Study, tasks_of

def tell():
    while len(multiprocessing.active_children()) < 2:
        time.sleep(0.05)
    time.sleep(3.0)  # until they are at work
    print("at work", flush=True)

if __name__ == "__main__":
    threading.Thread(target=tell).start()
    study = Study(partial(time.sleep, 120.0), Path(sys.argv[1]))
    list(study.run(tasks_of([load_scenario("steady")], [1.0], [True], range(2)), jobs=2))
"""


def test_workers_end_when_their_command_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "two_workers.py"
    script.write_text(_TWO_WORKERS)
    command = [sys.executable, str(script), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "at work\n"
        running.kill()
        running.communicate(timeout=20.0)  # the pipe's end: the workers hold it open as long as they run
