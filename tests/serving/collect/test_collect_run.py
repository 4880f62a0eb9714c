"""Collecting from the simulated pool over real HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from proteus_router.errors import ConfigError
from proteus_router.serving.collect import Grading, Job, Journal, Prompt, Wording, outcome_table, pool_models
from proteus_router.serving.provider import Order, Provider
from proteus_router.serving.records import ApiShape
from tests.serving.collect.helpers import PATTERN, MakeModel, known_prompts, run_job

REGEX = Grading("regex", PATTERN)


def _job(provider: Provider, make_model: MakeModel, n: int = 20, **changes: object) -> Job:
    models = {model.proteus_model: model for model in (make_model(place) for place in range(3))}
    values: dict[str, object] = {"prompts": known_prompts(provider, n), "models": models, "grading": REGEX}
    return Job(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
def test_the_outcomes_are_the_worlds(
    api: ApiShape, provider: Provider, make_model: MakeModel, tmp_path: Path
) -> None:
    models = {model.proteus_model: model for model in (make_model(place, api=api) for place in range(3))}
    job = _job(provider, make_model, models=models)
    tally = run_job(job, tmp_path)
    assert (tally.done, tally.total, tally.complete) == (60, 60, True)
    with Journal(tmp_path, job.settings()) as journal:
        table = outcome_table(job.prompts, journal, name="x")
        assert table is not None
        assert tally.spent_usd == pytest.approx(float(table.costs_usd.sum()))
    for row, prompt in enumerate(job.prompts):
        for column, name in enumerate(table.models):
            outcome = provider.truth.outcome(name, prompt.query)
            assert table.scores[row, column] == outcome.score
            assert table.extras["output_tokens"][row, column] == outcome.output_tokens
            card = provider.truth.world.models[provider.truth.models.index(name)]
            usd = outcome.input_tokens * card.input_price_usd_per_mtok
            usd += outcome.output_tokens * card.output_price_usd_per_mtok
            assert table.costs_usd[row, column] == pytest.approx(usd / 1e6)
            assert 0 < table.extras["latency_s"][row, column] < 5


def test_a_second_run_asks_only_for_what_is_missing(
    provider: Provider, make_model: MakeModel, tmp_path: Path
) -> None:
    run_job(_job(provider, make_model, 5), tmp_path)
    assert provider.seen.requests.total() == 15
    run_job(_job(provider, make_model, 5), tmp_path)
    assert provider.seen.requests.total() == 15
    assert run_job(_job(provider, make_model, 8), tmp_path).done == 24  # more prompts in the same folder
    assert provider.seen.requests.total() == 24


@pytest.mark.parametrize("concurrency", [1, 16])
def test_a_run_stays_within_its_money(
    concurrency: int, provider: Provider, make_model: MakeModel, tmp_path: Path
) -> None:
    job = _job(provider, make_model, 80, assumed_tokens=1.0)  # an estimate that is far too low
    tally = run_job(job, tmp_path, max_usd=0.02, concurrency=concurrency)
    assert tally.limit_reached
    assert not tally.complete
    assert 0.01 < tally.spent_usd < (0.02 if concurrency == 1 else 0.035)
    after = run_job(_job(provider, make_model, 80), tmp_path, max_usd=0.02, concurrency=concurrency)
    assert after.done > tally.done
    assert after.spent_usd < 0.02


def test_a_limit_counts_each_call_as_the_dearest_so_far(
    provider: Provider, make_model: MakeModel, tmp_path: Path
) -> None:
    job = _job(provider, make_model, 80, assumed_tokens=1.0)
    limits = [0.02 + 0.0017 * step for step in range(8)]
    spent = [run_job(job, tmp_path / str(limit), max_usd=limit, concurrency=1).spent_usd for limit in limits]
    beyond = [usd > limit for usd, limit in zip(spent, limits, strict=True)]
    assert sum(beyond) <= 1  # only a call dearer than all before it can pass the limit


def test_a_run_cut_short_has_asked_all_models_much_the_same(
    provider: Provider, make_model: MakeModel, tmp_path: Path
) -> None:
    job = _job(provider, make_model, 80)
    run_job(job, tmp_path, max_usd=0.03, concurrency=4)
    with Journal(tmp_path, job.settings()) as journal:
        counts = [sum(outcome.model == name for outcome in journal) for name in job.models]
    assert max(counts) - min(counts) <= 4


def test_faults_that_pass_cost_no_outcome(provider: Provider, make_model: MakeModel, tmp_path: Path) -> None:
    provider.orders.set("*", Order(fault="status", status=503, share=0.3))
    tally = run_job(_job(provider, make_model), tmp_path, patience_s=(0.01,) * 12)
    assert tally.complete
    assert not tally.failures


def test_retry_after_is_kept(provider: Provider, make_model: MakeModel, tmp_path: Path) -> None:
    provider.orders.set("*", Order(fault="status", status=429, retry_after_s=0.02, count=3))
    started = time.monotonic()
    tally = run_job(_job(provider, make_model, 2), tmp_path, patience_s=(30.0,) * 4)
    assert tally.complete
    assert time.monotonic() - started < 15


def test_single_failures_are_no_reason_to_give_up(
    provider: Provider, make_model: MakeModel, tmp_path: Path
) -> None:
    provider.orders.set("*", Order(fault="status", status=400, share=0.3))
    tally = run_job(_job(provider, make_model, 80), tmp_path)
    failed = sum(tally.failures.values())
    assert tally.done + failed == 240
    assert failed > 40


def test_a_model_that_is_down_is_given_up_and_the_others_are_not(
    provider: Provider, make_model: MakeModel, tmp_path: Path
) -> None:
    down = provider.truth.models[1]
    provider.orders.set(down, Order(fault="status", status=500))
    job = _job(provider, make_model, 40)
    tally = run_job(job, tmp_path, concurrency=2)
    assert tally.done == 80
    failed = sum(tally.failures.values())
    assert 10 <= failed <= 12  # not forty: it was hopeless before
    assert {model for model, _ in tally.failures} == {down}
    provider.orders.clear()
    assert run_job(job, tmp_path).complete


def test_a_request_that_is_refused_is_not_repeated(
    provider: Provider, make_model: MakeModel, tmp_path: Path
) -> None:
    provider.orders.set("*", Order(fault="status", status=400))
    tally = run_job(_job(provider, make_model, 2), tmp_path)
    assert tally.done == 0
    assert provider.seen.requests.total() == 6
    assert all("HTTP 400" in what for _, what in tally.failures)


def test_an_answer_without_usage_is_no_outcome(make_model: MakeModel, tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps({"model": "m", "choices": [{"message": {"content": "Answer: 1"}}]}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        model = make_model(api_base=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        job = Job([Prompt("q", "x", reference="1")], {"m": model}, REGEX)
        with Journal(tmp_path, job.settings()) as journal:
            async with server:
                tally = await job.run(journal, concurrency=1, patience_s=())
        assert tally.done == 0
        assert list(tally.failures) == [("m", f"{model.name} does not say what it used.")]

    asyncio.run(run())


def test_a_cancelled_run_keeps_what_it_has(provider: Provider, make_model: MakeModel, tmp_path: Path) -> None:
    provider.orders.set("*", Order(latency_s=0.02))
    job = _job(provider, make_model, 40)

    async def run() -> int:
        enough = asyncio.Event()
        with Journal(tmp_path, job.settings()) as journal:
            task = asyncio.ensure_future(
                job.run(
                    journal, concurrency=4, watch=lambda tally: enough.set() if tally.done >= 12 else None
                )
            )
            await enough.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return len(journal)

    kept = asyncio.run(run())
    assert 12 <= kept < 120
    with Journal(tmp_path, job.settings()) as journal:
        assert len(journal) == kept
    before = provider.seen.requests.total()
    assert run_job(job, tmp_path).complete
    assert provider.seen.requests.total() - before == 120 - kept


def test_no_more_calls_at_a_time_than_allowed(
    provider: Provider, make_model: MakeModel, tmp_path: Path
) -> None:
    provider.orders.set("*", Order(latency_s=0.02))
    # those that were asked and not done, and the one just done; the provider's count of open calls lags behind its client
    seen: list[int] = []
    run_job(
        _job(provider, make_model),
        tmp_path,
        concurrency=5,
        watch=lambda tally: seen.append(provider.seen.requests.total() - tally.done + 1),
    )
    assert len(seen) == 60
    assert 3 <= max(seen) <= 5


def test_a_judge_grades_and_its_cost_is_no_outcomes(
    provider: Provider, make_model: MakeModel, tmp_path: Path
) -> None:
    judge = make_model(2, name="judge", proteus_model="judge", upstream_model="sim-judge")
    job = _job(provider, make_model, 10, grading=Grading("judge", judge=judge))
    with Journal(tmp_path / "empty", job.settings()) as journal:
        assert [item.is_judge for item in job.estimates(journal)] == [False, False, False, True]
    tally = run_job(job, tmp_path / "out")
    with Journal(tmp_path / "out", job.settings()) as journal:
        for outcome in journal:
            query = next(prompt.query for prompt in job.prompts if prompt.query_id == outcome.query_id)
            assert outcome.score == provider.truth.outcome(outcome.model, query).score
            assert outcome.grading_usd > 0
        costs = sum(outcome.cost_usd for outcome in journal)
        grading = sum(outcome.grading_usd for outcome in journal)
    assert tally.spent_usd == pytest.approx(costs + grading)
    assert provider.seen.requests["sim-judge"] == 30


def test_answers_are_kept_only_on_demand(provider: Provider, make_model: MakeModel, tmp_path: Path) -> None:
    for keep in (False, True):
        folder = tmp_path / str(keep)
        run_job(_job(provider, make_model, 2), folder, keep_answers=keep)
        text = (folder / "collect.journal").read_text(encoding="utf-8")
        assert ("simulated answer" in text) is keep
        assert "sk-pool-secret" not in text


def test_what_every_request_carries(provider: Provider, make_model: MakeModel, tmp_path: Path) -> None:
    wording = Wording("Be brief.", {"temperature": 0, "max_tokens": 3})
    tally = run_job(_job(provider, make_model, 2, wording=wording), tmp_path)
    body = json.loads(provider.seen.last[-1]["body"])
    assert (body["temperature"], body["messages"][0]["content"]) == (0, "Be brief.")
    assert tally.cut == 6


def test_the_estimate_learns_from_what_was_seen(
    provider: Provider, make_model: MakeModel, tmp_path: Path
) -> None:
    few, many = _job(provider, make_model, 40), _job(provider, make_model, 80)
    with Journal(tmp_path / "empty", few.settings()) as journal:
        naive = sum(item.usd for item in many.estimates(journal))
    run_job(few, tmp_path / "out")
    with Journal(tmp_path / "out", few.settings()) as journal:
        informed = sum(item.usd for item in many.estimates(journal))
    actual = run_job(many, tmp_path / "out").spent_usd
    assert abs(informed - actual) < 0.35 * actual
    assert abs(naive / 2 - actual) > abs(informed - actual)


def test_models_are_chosen_by_either_name_and_judges_are_not_asked(make_model: MakeModel) -> None:
    pool = [make_model(0, api="messages"), make_model(0), make_model(1), make_model(2)]
    names = [model.proteus_model for model in pool[1:]]
    chosen, judge = pool_models(pool)
    assert list(chosen) == names
    assert judge is None
    assert chosen[names[0]].api == "chat"
    assert list(pool_models(pool, only=[pool[3].name, names[0]])[0]) == [names[0], names[2]]
    chosen, judge = pool_models(pool, judge=pool[2].name)
    assert list(chosen) == [names[0], names[2]]
    assert judge is pool[2]
    assert list(pool_models(pool, only=names, judge=names[1])[0]) == names
    for wrong in ({"only": ["gpt"]}, {"judge": "gpt"}, {"only": [names[0]], "judge": "gpt"}):
        with pytest.raises(ConfigError, match="gpt"):
            pool_models(pool, **wrong)
    with pytest.raises(ConfigError, match="no model is left"):
        pool_models(pool[1:2], judge=names[0])


def test_a_model_without_prices_is_refused(provider: Provider, make_model: MakeModel) -> None:
    with pytest.raises(ConfigError, match="prices are not known"):
        _job(provider, make_model, models={"m": make_model(0, input_usd_per_token=float("nan"))})
