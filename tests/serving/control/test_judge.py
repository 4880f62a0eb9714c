"""A judge grades what waits, never an arm of the pool, and is held against people."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from aiohttp import web
from click.testing import CliRunner, Result

from proteus_router.cli.judge import judge
from proteus_router.errors import ConfigError, DataError, InsufficientDataError
from proteus_router.serving.judge import JUDGE_RUBRIC, JudgeRun, agreement_of, answer_text, refuse_arms
from proteus_router.serving.records import DecisionRecord
from proteus_router.serving.store import Store
from tests.serving.app.helpers import POOL, model_entry
from tests.serving.control.helpers import tier
from tests.serving.store.helpers import MakeDecision, opened, rows, until

CHAT = {"choices": [{"message": {"content": "It is 42."}}]}


@pytest.mark.parametrize(
    ("api", "stream", "stored", "text"),
    [
        ("chat", False, json.dumps(CHAT), "It is 42."),
        ("chat", False, json.dumps({"choices": [{"message": {"content": None, "tool_calls": []}}]}), ""),
        (
            "chat",
            True,
            'data: {"choices":[{"delta":{"content":"It is"}}]}\n\ndata: {"choices":[{"delta":{"content":" 42."}}]}\n\n'
            'data: {"choices":[],"usage":{}}\n\ndata: [DONE]\n\n',
            "It is 42.",
        ),
        (
            "responses",
            True,
            'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"It is"}\n\n'
            'data: {"type":"response.output_text.delta","delta":" 42."}\n\ndata: {"type":"response.completed"}\n\n',
            "It is 42.",
        ),
        (
            "messages",
            True,
            'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"It is 42."}}\n\n'
            'data: {"type":"message_stop"}\n\n',
            "It is 42.",
        ),
        ("chat", False, "not json", ""),
        ("chat", True, "data: 3\n\ndata: {", ""),
        ("chat", False, '{"choices": [3]}', ""),
    ],
)
def test_the_text_of_an_answer_is_found_in_every_shape(
    api: Any, stream: bool, stored: str, text: str
) -> None:
    assert answer_text(api, stored, stream=stream) == text


@pytest.mark.parametrize("name", ["large", "up-large", "OpenAI/UP-Large", "azure/up-large"])
def test_an_arm_of_the_pool_is_refused_under_any_prefix(name: str, tmp_path: Path) -> None:
    done = _call(tmp_path, "http://127.0.0.1:9/v1", model=name)
    assert isinstance(done.exception, ConfigError)
    assert "one of the arms" in str(done.exception)


def test_an_arm_that_left_the_pool_is_refused_for_what_it_answered() -> None:
    with pytest.raises(ConfigError, match="old-model"):
        refuse_arms("vendor/old-model", (), {"old-model"})
    refuse_arms("vendor/judge", (), {"old-model"})


def test_agreement_is_that_of_the_same_answers() -> None:
    found = agreement_of("judge", "people", [(1.0, 1.0)] * 40 + [(1.0, 0.0)] * 10 + [(0.0, 0.0)] * 50)
    assert found is not None
    assert found.mean.pairs == 100
    assert found.mean.difference == pytest.approx(0.1)
    assert found.same_verdict == 0.9
    # by hand: chance agreement 0.5 * 0.4 + 0.5 * 0.6 = 0.5
    assert found.kappa == pytest.approx((0.9 - 0.5) / 0.5)
    always = agreement_of("judge", "people", [(1.0, 1.0)] * 3)
    assert always is not None
    assert always.kappa is None
    assert agreement_of("judge", "people", []) is None


def test_a_round_grades_what_waits_and_a_second_one_finds_nothing(
    sqlite_url: str, make_decision: MakeDecision, tmp_path: Path
) -> None:
    asyncio.run(_draw(sqlite_url, make_decision, 30))
    with _judge_server() as (address, seen):
        done = _call(tmp_path, address, sqlite_url)
        assert done.exit_code == 0, done.output
        assert "30 audits graded, mean score 0.667" in done.output
        assert "not known" in done.output
        assert len(seen) == 30
        asked = seen[0]["messages"][0]["content"]
        assert "<question>\nWhat is 0?\n</question>" in asked
        assert "<answer>\nIt is 42.\n</answer>" in asked
        assert seen[0]["temperature"] == 0
        again = _call(tmp_path, address, sqlite_url)
        assert "0 audits graded" in again.output
        assert len(seen) == 30
    assert rows(sqlite_url, "SELECT count(*) FROM audits WHERE source = 'judge:grader-1'")[0][0] == 30
    assert rows(sqlite_url, "SELECT count(*) FROM loop_events WHERE kind = 'outcome'")[0][0] == 30


def test_what_people_have_graded_is_graded_too_and_compared(
    sqlite_url: str, make_decision: MakeDecision, tmp_path: Path
) -> None:
    asyncio.run(_draw(sqlite_url, make_decision, 30, people=1.0))
    with _judge_server() as (address, _):
        done = _call(tmp_path, address, sqlite_url)
    assert "against people: 30 answers, mean difference -0.333" in done.output
    assert "same verdict on 67%" in done.output
    assert rows(sqlite_url, "SELECT count(*) FROM loop_events WHERE kind = 'pair'")[0][0] == 30


def test_audits_without_text_are_said_and_not_graded(
    sqlite_url: str, make_decision: MakeDecision, tmp_path: Path
) -> None:
    asyncio.run(_draw(sqlite_url, make_decision, 3, text=False))
    with _judge_server() as (address, seen):
        done = _call(tmp_path, address, sqlite_url)
        assert isinstance(done.exception, InsufficientDataError)
        assert "keep_text" in str(done.exception)
        assert not seen


def test_a_judge_that_fails_leaves_the_audits_waiting(
    sqlite_url: str, make_decision: MakeDecision, tmp_path: Path
) -> None:
    asyncio.run(_draw(sqlite_url, make_decision, 4))
    with _judge_server(verdict="I would rather not say.") as (address, _):
        done = _call(tmp_path, address, sqlite_url)
    assert "0 audits graded" in done.output
    assert "4 x it gave no score that can be read" in done.output
    assert rows(sqlite_url, "SELECT count(*) FROM audits WHERE source IS NULL")[0][0] == 4


def test_a_rubric_must_show_the_answer(sqlite_url: str) -> None:
    async def never(text: str) -> str:
        raise AssertionError(text)

    with pytest.raises(DataError, match="answer"):
        JudgeRun(never, None, "judge", lambda: 0.0, template="Grade {query}")  # type: ignore[arg-type]
    assert "{reference}" not in JUDGE_RUBRIC
    assert "{answer}" in JUDGE_RUBRIC


async def _draw(
    url: str, make_decision: MakeDecision, count: int, *, text: bool = True, people: float | None = None
) -> None:
    """Audited decisions, in an epoch of their own."""
    async with opened(url, flush_interval_s=0.01) as store:
        await store.loop.begin(
            "standard", 1, accuracy_target=0.8, rate_floor=1.0, admins_only=False, data={"spec": {}}, at=0.0
        )
        for n in range(count):
            record: DecisionRecord = make_decision(id=f"dec_{n:032x}", created_at=float(n))
            kept: dict[str, Any] = {"prompt": f"What is {n}?", "answer": json.dumps(CHAT)} if text else {}
            store.record(replace(record, audit_probability=1.0, audited=True, **kept))
        await until(lambda: not store.pending)
        if people is not None:
            await _people(store, count, people)


async def _people(store: Store, count: int, score: float) -> None:
    from proteus_router.serving.records import Feedback

    await store.add_feedback([Feedback(f"dec_{n:032x}", "people", score, 1.0) for n in range(count)])


def _call(folder: Path, address: str, url: str = "sqlite:////nowhere", *, model: str = "grader-1") -> Result:
    config = folder / "proteus.yaml"
    values = {
        "model_list": [model_entry(name) for name in POOL],
        "tiers": {"standard": tier(0.8, audits_keep_text=True)},
        "store": {"url": url},
    }
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    return CliRunner().invoke(judge, ["--config", str(config), "--model", model, "--base-url", address])


@contextmanager
def _judge_server(verdict: str | None = None) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A judge on a socket, in a thread of its own; finds every third answer wrong."""
    seen: list[dict[str, Any]] = []
    loop = asyncio.new_event_loop()

    async def answer(request: web.Request) -> web.Response:
        seen.append(await request.json())
        said = verdict or json.dumps({"score": 0 if len(seen) % 3 == 0 else 1})
        return web.json_response({"choices": [{"message": {"content": said}}]})  # it does not report usage

    async def start() -> tuple[web.AppRunner, int]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner, runner.addresses[0][1]

    runner, port = loop.run_until_complete(start())
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/v1", seen
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
