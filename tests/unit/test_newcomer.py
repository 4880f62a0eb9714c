"""A model that the router does not know: tried by the gateway, graded, and taken into the pool from that alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from proteus_router.cli import cli
from proteus_router.data.synthetic import make_world
from proteus_router.errors import SchemaError
from proteus_router.learning.newcomer import outcomes_of
from proteus_router.learning.replay import replay
from proteus_router.learning.traffic import Traffic
from proteus_router.routing.artifact import Artifact, write_artifact
from proteus_router.routing.router import Router
from proteus_router.serving.store.graded import Graded
from proteus_router.simulation.traffic import Serving, serve_traffic
from proteus_router.simulation.world import SimulatedWorld, remembering
from proteus_router.training.pool.changes import add_model
from tests.unit.small_training import quiet, train

FLOOR = 0.65
WORLD = make_world(3, n_models=5)
NEW = WORLD.model_names[2]


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    table = WORLD.sample(600, 5).table
    known = table.with_models([name for name in table.models if name != NEW])
    return train(known)


@pytest.fixture(scope="module")
def universe(artifact: Artifact) -> SimulatedWorld:
    models = (*Router.from_artifact(artifact).models, NEW)
    return SimulatedWorld(WORLD, models, queries=3_000, seed=8)


@pytest.fixture(scope="module")
def graded(artifact: Artifact, universe: SimulatedWorld) -> list[Graded]:
    router = Router.from_artifact(artifact)
    serving = Serving(FLOOR, requests=4_000, exploration=0.05, audit_share=0.2, newcomers=(NEW,))
    return serve_traffic(remembering(router, universe.bank), universe, serving)


def test_every_try_is_graded_and_its_propensity_is_how_often_it_is_tried(graded: list[Graded]) -> None:
    tried = [one for one in graded if one.model == NEW]
    assert {one.audit_probability for one in tried} == {1.0}
    assert {one.audit_probability for one in graded if one.model != NEW} == {0.2}
    chance = tried[0].propensity
    assert 0.005 < chance <= 0.05
    assert len(tried) == pytest.approx(4_000 * chance, abs=4 * (4_000 * chance) ** 0.5)


def test_the_outcomes_are_the_newcomers_own(graded: list[Graded], universe: SimulatedWorld) -> None:
    table = outcomes_of(graded, NEW)
    tried = [one for one in graded if one.model == NEW]
    assert table.models == (NEW,)
    assert set(table.queries) == {one.text for one in tried}
    text = tried[0].text
    mine = [one for one in tried if one.text == text]
    row = table.queries.index(text)
    assert table.scores[row, 0] == pytest.approx(np.mean([one.score for one in mine]))
    assert table.costs_usd[row, 0] == pytest.approx(np.mean([one.cost_usd for one in mine]))
    column = universe.bank.expected[:, -1]
    assert table.scores.mean() == pytest.approx(column.mean(), abs=4 * 0.5 / table.n_queries**0.5)


def test_a_pool_name_stands_for_its_model(graded: list[Graded]) -> None:
    named = outcomes_of(graded, "the-model", {NEW: "the-model"})
    assert named.n_queries == outcomes_of(graded, NEW).n_queries


def test_nothing_tried_is_said(graded: list[Graded]) -> None:
    with pytest.raises(SchemaError, match="was answered by elsewhere"):
        outcomes_of(graded, "elsewhere")


def test_the_others_are_judged_as_if_it_had_not_been_there(artifact: Artifact, graded: list[Graded]) -> None:
    router = Router.from_artifact(artifact)
    traffic = Traffic.of(graded, router.models)
    assert NEW not in traffic.models
    np.testing.assert_allclose(traffic.logged.sum(axis=1), 1.0)
    again = replay(router, traffic, FLOOR)  # the same router: what it would have done is what was served
    assert again.score_snips.value == pytest.approx(again.served_score.value, abs=0.01)


def test_it_joins_the_pool_from_its_tries_alone(
    artifact: Artifact, graded: list[Graded], universe: SimulatedWorld
) -> None:
    table = outcomes_of(graded, NEW)
    joined = Router.from_artifact(add_model(artifact, table, NEW, progress=quiet))
    assert set(joined.models) == {*Router.from_artifact(artifact).models, NEW}
    queries = list(universe.bank.queries[:1_000])
    predicted = joined.predict(queries).scores[:, joined.models.index(NEW)]
    assert predicted.mean() == pytest.approx(universe.bank.expected[:1_000, -1].mean(), abs=0.1)
    assert np.corrcoef(predicted, universe.bank.expected[:1_000, -1])[0, 1] > 0.3


def test_the_command_takes_what_the_store_has(
    artifact: Artifact, tmp_path: Path, graded: list[Graded], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stored(self: object, **options: object) -> list[Graded]:
        return graded

    monkeypatch.setattr("proteus_router.serving.store.Store.graded", stored)
    write_artifact(tmp_path / "router", artifact)
    url = f"sqlite:///{tmp_path / 'gateway.db'}"
    ran = CliRunner().invoke(cli, ["pool", "add", str(tmp_path / "router"), NEW, "--store", url])
    assert ran.exit_code == 0, ran.output
    assert f"graded answers of {NEW} in the traffic" in ran.output
    assert NEW in Router.load(tmp_path / "router").models


def test_the_command_wants_one_source(tmp_path: Path) -> None:
    for options in ([], ["--outcomes", "x", "--store", "sqlite:///y"]):
        ran = CliRunner().invoke(cli, ["pool", "add", str(tmp_path), "m", *options])
        assert ran.exit_code == 2
        assert "Give --outcomes" in ran.output
