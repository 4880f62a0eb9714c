"""A pool changed in place: the others' heads untouched, certificates remade, the same as training where it can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from proteus_router.cli import cli
from proteus_router.data.outcomes import OutcomeTable
from proteus_router.data.synthetic import make_world
from proteus_router.data.writers import write_outcomes
from proteus_router.errors import ConfigError, InsufficientDataError
from proteus_router.routing.artifact import Artifact, load_artifact, write_artifact
from proteus_router.routing.router import Router
from proteus_router.routing.target_map import Certificate
from proteus_router.training.pool.changes import add_model, change_price, remove_model
from proteus_router.training.pool.evidence import Evidence
from proteus_router.training.pool.transfer import fit_transfer
from tests.unit.small_training import SMALL, quiet, train

WORLD = make_world(3, n_models=6)


@pytest.fixture(scope="module")
def table() -> OutcomeTable:
    return WORLD.sample(900, 5).table


@pytest.fixture(scope="module")
def late(table: OutcomeTable) -> str:
    """The model that comes later: neither the dearest nor the cheapest."""
    return sorted(table.models, key=lambda name: table.costs_usd[:, table.models.index(name)].mean())[2]


@pytest.fixture(scope="module")
def before(table: OutcomeTable, late: str) -> Artifact:
    return train(table.with_models([name for name in table.models if name != late]))


@pytest.fixture(scope="module")
def added(before: Artifact, table: OutcomeTable, late: str) -> Artifact:
    return add_model(before, table.take(np.arange(0, 900, 9)), late, progress=quiet)


def test_the_other_models_are_predicted_as_before(
    before: Artifact, added: Artifact, table: OutcomeTable, late: str
) -> None:
    old, new = Router.from_artifact(before), Router.from_artifact(added)
    kept = [new.models.index(name) for name in old.models]
    texts = WORLD.sample(200, 9).table.queries
    was, now = old.predict(texts), new.predict(texts)
    assert np.abs(now.scores[:, kept] - was.scores).max() < 0.02  # limits look at the whole row
    assert now.costs_usd[:, kept] == pytest.approx(was.costs_usd, rel=1e-9)
    assert set(new.models) == {*old.models, late}


def test_the_new_model_is_predicted_near_what_it_does(added: Artifact, late: str) -> None:
    router, fresh = Router.from_artifact(added), WORLD.sample(1_500, 9)
    column, truth = router.models.index(late), fresh.table.models.index(late)
    found = router.predict(fresh.table.queries)
    assert found.scores[:, column].mean() == pytest.approx(fresh.expected_scores[:, truth].mean(), abs=0.08)
    assert np.corrcoef(found.scores[:, column], fresh.expected_scores[:, truth])[0, 1] > 0.3
    assert found.costs_usd[:, column].mean() == pytest.approx(
        fresh.table.costs_usd[:, truth].mean(), rel=0.25
    )


def test_a_models_own_label_does_not_reach_its_evidence(
    before: Artifact, table: OutcomeTable, late: str
) -> None:
    evidence = Evidence.of(before)
    own = np.full(evidence.n_rows, np.nan)
    labelled = np.arange(0, evidence.n_rows, 9)
    scores = table.scores[:, table.models.index(late)]
    own[labelled] = scores[labelled]
    flipped = own.copy()
    flipped[labelled[0]] = 1.0 - own[labelled[0]]
    one, two = (
        fit_transfer(
            evidence.predicted_scores,
            evidence.predicted_costs_usd,
            evidence.scores,
            values,
            np.where(np.isnan(values), np.nan, 1e-3),
            evidence.groups,
        )
        for values in (own, flipped)
    )
    shift = np.abs(one.leave_out - two.leave_out)
    # The penalty is chosen by all labels, so a trace may come through; the label itself must not.
    assert shift[labelled[0]] < 0.01
    assert one.imputed[labelled[0]] != two.imputed[labelled[0]]


def test_certificates_count_observed_outcomes_only(added: Artifact, late: str) -> None:
    evidence, router = Evidence.of(added), Router.from_artifact(added)
    assert np.isnan(evidence.scores[:, router.models.index(late)]).sum() == 800
    assert router.void_reason == ""
    assert router.target_map.n.max() <= 900
    outcomes = router.target_map.n[router.target_map.n < 900]
    assert outcomes.size  # points that send much to the new model rest on its few outcomes


def test_beside_the_frontier_stands_a_chain_without_the_new_model(
    before: Artifact, added: Artifact, late: str
) -> None:
    old, new = Router.from_artifact(before), Router.from_artifact(added)
    assert (old.target_map.n_chains, new.target_map.n_chains) == (1, 2)
    choices = new.choose_all(new.predict(WORLD.sample(400, 9).table.queries))
    size = new.target_map.frontier_size
    assert size is not None
    newcomer = new.models.index(late)
    assert not (choices[size:] == newcomer).any()
    assert (choices[:size] == newcomer).any()
    # What could be certified before still can, but for what the halved error costs, and is no dearer than that.
    best = old.target_map.certified_range["max_target"]
    assert best is not None
    for target in np.linspace(best - 0.15, best - 0.03, 5):
        was = old.target_map.certify(float(target) + 0.02)
        now = new.target_map.certify(float(target))
        assert isinstance(now, Certificate)
        assert isinstance(was, Certificate)
        assert now.expected_cost_usd <= 1.02 * was.expected_cost_usd
        mix = new.target_map.mix(now)
        assert mix.expected_cost_usd == now.expected_cost_usd


def test_removing_what_was_added_gives_the_router_back(before: Artifact, added: Artifact, late: str) -> None:
    again, old = Router.from_artifact(remove_model(added, late, progress=quiet)), Router.from_artifact(before)
    assert again.models == old.models
    texts = WORLD.sample(50, 9).table.queries
    assert again.predict(texts).scores == pytest.approx(old.predict(texts).scores, abs=1e-4)
    assert again.target_map.vertex_cost_usd == pytest.approx(old.target_map.vertex_cost_usd, rel=0.02)


def test_half_the_price_is_half_the_cost_and_the_frontier_follows(before: Artifact) -> None:
    old = Router.from_artifact(before)
    dearest = old.models[-1]
    new = Router.from_artifact(change_price(before, dearest, 0.5, progress=quiet))
    texts = WORLD.sample(50, 9).table.queries
    ratio = new.predict(texts).costs_usd / old.predict(texts).costs_usd
    assert ratio[:, -1] == pytest.approx(np.full(50, 0.5))
    assert ratio[:, :-1] == pytest.approx(np.ones((50, len(old.models) - 1)))
    assert new.target_map.vertex_cost_usd[0] < old.target_map.vertex_cost_usd[0]
    assert new.manifest["data"]["fingerprint"] != old.manifest["data"]["fingerprint"]
    assert new.manifest["pool_changes"] == [{"price": dearest, "factor": 0.5}]


def test_outcomes_of_queries_it_has_never_seen_join_the_evidence(before: Artifact, late: str) -> None:
    fresh = WORLD.sample(120, 77).table
    new = add_model(before, fresh, late, progress=quiet)
    evidence = Evidence.of(new)
    assert evidence.n_rows == 1_020
    column = [entry["name"] for entry in new.manifest["models"]].index(late)
    assert (~np.isnan(evidence.scores[:, column])).sum() == 120
    trained = Router.from_artifact(new).trained_texts
    assert trained is not None
    assert trained.size == np.unique(evidence.texts).size


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_prices_are_refused(before: Artifact, factor: float) -> None:
    with pytest.raises(ConfigError, match="can't change by the factor"):
        change_price(before, before.manifest["models"][0]["name"], factor, progress=quiet)


def test_what_can_not_be_changed_is_said(before: Artifact, table: OutcomeTable, late: str) -> None:
    known = before.manifest["models"][0]["name"]
    with pytest.raises(ConfigError, match="in the pool already"):
        add_model(before, table, known, progress=quiet)
    with pytest.raises(ConfigError, match="no outcomes of nobody"):
        add_model(before, table, "nobody", progress=quiet)
    with pytest.raises(InsufficientDataError, match="20 outcomes"):
        add_model(before, table.take(np.arange(20)), late, progress=quiet)
    with pytest.raises(ConfigError, match="is not in the pool"):
        remove_model(before, late, progress=quiet)
    split = train(table, SMALL.model_copy(update={"scheme": "split"}))
    with pytest.raises(ConfigError, match="keeps no evidence"):
        remove_model(split, known, progress=quiet)


def test_the_command_changes_a_router_in_place(
    before: Artifact, table: OutcomeTable, late: str, tmp_path: Path
) -> None:
    router, outcomes = tmp_path / "router", tmp_path / "outcomes"
    write_artifact(router, before)
    write_outcomes(table.take(np.arange(0, 900, 9)), outcomes)
    ran = CliRunner().invoke(cli, ["pool", "add", str(router), late, "--outcomes", str(outcomes)])
    assert ran.exit_code == 0, ran.output
    assert late in [entry["name"] for entry in load_artifact(router).manifest["models"]]
    assert "now: 6 models" in ran.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outcomes", "router"]
    other = tmp_path / "other"
    ran = CliRunner().invoke(cli, ["pool", "remove", str(router), late, "-o", str(other)])
    assert ran.exit_code == 0, ran.output
    assert late not in [entry["name"] for entry in load_artifact(other).manifest["models"]]
    assert late in [entry["name"] for entry in load_artifact(router).manifest["models"]]
