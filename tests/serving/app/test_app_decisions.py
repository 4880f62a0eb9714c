"""Which model answers: tiers, targets, what may serve, who stands in, and what is said about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proteus_router.errors import UpstreamConnectError, UpstreamRejectedError, UpstreamTimeoutError
from proteus_router.types import Predictions
from tests.serving.app.helpers import (
    EASY,
    HARD,
    MODELS,
    POOL,
    ROUTER,
    Harness,
    LengthPredictor,
    make_settings,
    model_entry,
)

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
IMAGE = [{"type": "image_url", "image_url": {"url": "data:,"}}, {"type": "text", "text": EASY}]
JSON_MODE = {"type": "json_object"}


def test_a_tier_gets_the_cheapest_model_that_keeps_its_floor(gateway: Harness) -> None:
    assert gateway.chat(EASY, model="proteus/economy").headers["x-proteus-model"] == "small"
    assert gateway.chat(HARD, model="proteus/standard").headers["x-proteus-model"] == "large"


def test_an_answer_says_how_it_came_about(gateway: Harness) -> None:
    answer = gateway.chat(EASY, model="proteus/economy")
    record = gateway.store.last
    assert answer.headers["x-proteus-model"] == record.model == "small"
    assert answer.headers["x-proteus-certified"] == "true"
    assert answer.headers["x-proteus-accuracy-target"] == "0.7"
    assert answer.headers["x-proteus-attempts"] == "1"
    assert answer.headers["x-proteus-decision-id"] == record.id
    assert float(answer.headers["x-proteus-cost-usd"]) == pytest.approx(30 * 1e-7)  # 10 in, 20 out
    assert "x-proteus-predicted-cost-usd" not in answer.headers
    assert record.cost_usd == pytest.approx(30 * 1e-7)
    assert (record.tier, record.accuracy_target, record.requested_model) == (
        "economy",
        0.7,
        "proteus/economy",
    )
    assert record.certificate is not None
    assert record.certificate["lower_bound"] >= 0.7
    assert [candidate["model"] for candidate in record.candidates] == list(POOL)
    assert (record.input_tokens, record.output_tokens, record.status) == (10, 20, "ok")
    assert record.first_byte_s == 0.25
    assert record.latency_s >= 0.25 > record.overhead_s
    assert (record.prompt, record.answer) == (None, None)


def test_the_tier_of_the_key_stands_between_named_tier_and_server_default(gateway: Harness) -> None:
    headers = gateway.add_key(tier="economy")
    assert gateway.chat(EASY, headers=headers).headers["x-proteus-accuracy-target"] == "0.7"
    assert (
        gateway.chat(EASY, model="proteus/standard", headers=headers).headers["x-proteus-accuracy-target"]
        == "0.8"
    )
    assert gateway.chat(EASY).headers["x-proteus-accuracy-target"] == "0.8"


@pytest.mark.parametrize(
    ("model", "header", "body", "expected"),
    [
        ("proteus", None, None, "0.8"),
        ("proteus/economy", None, None, "0.7"),
        ("proteus/economy", "0.75", None, "0.75"),
        ("proteus/economy", "0.75", 0.85, "0.85"),
        ("proteus", None, "0.85", "0.85"),
    ],
)
def test_body_goes_over_header_over_tier(
    gateway: Harness, model: str, header: str | None, body: Any, expected: str
) -> None:
    headers = {} if header is None else {"x-proteus-accuracy-target": header}
    options = {} if body is None else {"proteus": {"accuracy_target": body}}
    answer = gateway.chat(EASY, model=model, headers=headers, **options)
    assert answer.headers["x-proteus-accuracy-target"] == expected
    assert gateway.store.last.accuracy_target == float(expected)


@pytest.mark.parametrize("target", [0, 1, 95, -0.1, "high", "80%", True, [0.8], {}, 1e400])
def test_a_target_that_is_no_fraction_is_400(gateway: Harness, target: Any) -> None:
    answer = gateway.chat(EASY, proteus={"accuracy_target": target})
    assert answer.status == 400
    assert answer.json()["error"]["code"] in ("invalid_target", "invalid_request")
    assert not gateway.upstream.calls


def test_a_percentage_is_asked_back(gateway: Harness) -> None:
    answer = gateway.chat(EASY, headers={"x-proteus-accuracy-target": "95"})
    assert answer.status == 400
    assert "Did you mean 0.95?" in answer.json()["error"]["message"]


def test_a_target_that_cannot_be_certified_names_the_best_one_that_can(gateway: Harness) -> None:
    answer = gateway.chat(EASY, proteus={"accuracy_target": 0.99})
    error = answer.json()["error"]
    best = ROUTER.target_map.certified_range["max_target"]
    assert answer.status == 422
    assert error["best_certified"] == best
    assert f"{best:g}" in error["message"]
    assert gateway.chat(EASY, proteus={"accuracy_target": best}).status == 200
    assert gateway.store.records[0].status == "rejected"
    assert gateway.store.records[0].error_code == "infeasible_target"


def test_best_effort_serves_the_same_target_and_says_so(gateway: Harness) -> None:
    answer = gateway.chat(EASY, model="proteus/relaxed", proteus={"accuracy_target": 0.99})
    assert (answer.status, answer.headers["x-proteus-certified"]) == (200, "false")
    assert answer.headers["x-proteus-model"] == "large"
    assert gateway.store.last.certificate is None


@pytest.mark.parametrize("name", ["prteus", "proteus/premuim", "gpt-4", "proteus/", "Proteus", ""])
def test_an_unknown_name_is_404_and_names_a_near_one(gateway: Harness, name: str) -> None:
    answer = gateway.chat(EASY, model=name)
    assert answer.status == (404 if name else 400)
    assert answer.json()["error"]["code"] == ("model_not_found" if name else "invalid_request")


def test_nearest_names() -> None:
    gateway = Harness()
    assert "'proteus'" in gateway.chat(EASY, model="prteus").json()["error"]["message"]
    assert "proteus/economy" in gateway.chat(EASY, model="proteus/economie").json()["error"]["message"]
    assert (
        "'accuracy_target'" in gateway.chat(EASY, proteus={"acuracy_target": 0.8}).json()["error"]["message"]
    )


def test_a_pool_name_goes_straight_there(gateway: Harness) -> None:
    answer = gateway.chat(HARD, model="small")
    assert (answer.headers["x-proteus-model"], answer.headers["x-proteus-certified"]) == ("small", "false")
    assert "x-proteus-accuracy-target" not in answer.headers
    assert gateway.upstream.calls[0].model.name == "small"
    record = gateway.store.last
    assert (record.tier, record.accuracy_target, record.propensity, record.certified) == (
        None,
        None,
        None,
        False,
    )
    assert gateway.chat(EASY, model="small", proteus={"accuracy_target": 0.8}).status == 400


def test_the_own_field_and_the_alias_never_travel(gateway: Harness) -> None:
    from proteus_router.serving.upstream import upstream_body

    gateway.chat(EASY, proteus={"accuracy_target": 0.75}, seed=3, unknown_field={"kept": [1]})
    call = gateway.upstream.calls[0]
    sent, _ = upstream_body(call.model, call.body, stream=False)
    assert b"proteus" not in sent
    assert b'"unknown_field":{"kept":[1]}' in sent
    assert b'"seed":3' in sent


@pytest.mark.parametrize(
    ("declared", "request_fields", "reason"),
    [
        ({"supports_vision": False}, {"text": IMAGE}, "takes no images"),
        ({"supports_function_calling": False}, {"tools": TOOLS}, "takes no tools"),
        ({"supports_response_schema": False}, {"response_format": JSON_MODE}, "has no JSON mode"),
        ({"max_input_tokens": 100}, {"text": EASY + " xx" * 200}, "its context holds 100"),
        ({"max_input_tokens": 100}, {"max_tokens": 200}, "its context holds 100"),
        ({"proteus_api": "messages"}, {}, "speaks messages, not chat"),
    ],
)
def test_only_models_that_can_serve_are_eligible(
    declared: dict[str, Any], request_fields: dict[str, Any], reason: str
) -> None:
    pool = [model_entry("small", **declared), model_entry("middle", **declared), model_entry("large")]
    gateway = Harness(make_settings(model_list=pool))
    fields = dict(request_fields)
    answer = gateway.chat(fields.pop("text", EASY), model="proteus/economy", **fields)
    assert (answer.status, answer.headers["x-proteus-model"]) == (200, "large")
    assert (
        answer.headers["x-proteus-certified"] == "false"
    )  # the certificate speaks of the router's own choice
    gateway.upstream.broken.add("large")
    refused = gateway.chat(request_fields.get("text", EASY), model="proteus/economy", **fields)
    assert refused.status == 503
    reasons = refused.json()["error"]["reasons"]
    assert set(reasons) == set(MODELS)
    assert reason in reasons["small"]
    assert "breaker" in reasons["large"]
    assert reason in refused.json()["error"]["message"]


def test_a_stand_in_is_the_cheapest_that_is_predicted_to_do_as_well(gateway: Harness) -> None:
    gateway.upstream.broken.add("small")
    answer = gateway.chat(EASY, model="proteus/economy")
    assert (answer.headers["x-proteus-model"], answer.headers["x-proteus-certified"]) == ("middle", "false")
    record = gateway.store.last
    assert record.propensity == 0.0
    assert any("middle is the cheapest model predicted to do as well" in reason for reason in record.reasons)


def test_nobody_below_the_choice_stands_in_unless_the_tier_says_best_effort(gateway: Harness) -> None:
    gateway.upstream.broken.add("large")
    refused = gateway.chat(HARD, model="proteus/standard")
    assert refused.status == 503
    assert "predicted to do worse" in refused.json()["error"]["reasons"]["middle"]
    served = gateway.chat(HARD, model="proteus/relaxed")
    assert (served.status, served.headers["x-proteus-model"]) == (200, "middle")
    assert served.headers["x-proteus-certified"] == "false"
    assert any("best effort" in reason for reason in gateway.store.last.reasons)


def test_the_callers_list_and_price_limit_are_kept(gateway: Harness) -> None:
    only = gateway.chat(EASY, model="proteus/economy", proteus={"models": ["large"]})
    assert only.headers["x-proteus-model"] == "large"
    cheap = gateway.chat(HARD, model="proteus/relaxed", proteus={"max_cost_usd": 5e-4})
    assert cheap.headers["x-proteus-model"] == "middle"
    # The caller's own limit is no fault of the server's, and trying again would not help.
    refused = gateway.chat(HARD, proteus={"max_cost_usd": 5e-4})
    error = refused.json()["error"]
    assert (refused.status, error["code"]) == (422, "infeasible_cost")
    assert error["least_cost_usd"] == pytest.approx(1e-3)
    assert gateway.chat(HARD, proteus={"max_cost_usd": 1.01e-3}).status == 200
    gateway.upstream.broken.add("large")  # now a higher limit would not help either
    assert gateway.chat(HARD, proteus={"max_cost_usd": 5e-4}).status == 503


@pytest.mark.parametrize(
    "options",
    [
        {"max_cost_usd": 0},
        {"max_cost_usd": "1"},
        {"max_cost_usd": True},
        {"max_cost_usd": 10**400},
        {"models": []},
        {"models": "small"},
        {"models": [3]},
        [],
        "premium",
        3,
    ],
)
def test_options_of_the_wrong_kind_are_400(gateway: Harness, options: Any) -> None:
    assert gateway.chat(EASY, proteus=options).status == 400


def test_a_list_that_names_no_model_is_404(gateway: Harness) -> None:
    answer = gateway.chat(EASY, proteus={"models": ["smal"]})
    assert answer.status == 404
    assert "'small'" in answer.json()["error"]["message"]


@pytest.mark.parametrize("text", ["", "   ", IMAGE[:1], "hello there friend", "\N{GRINNING FACE}"])
def test_no_signal_goes_up_never_down(gateway: Harness, text: Any) -> None:
    answer = gateway.chat(text, model="proteus/economy")
    assert (answer.headers["x-proteus-model"], answer.headers["x-proteus-certified"]) == ("large", "false")
    assert "most accurate operating point" in gateway.store.last.reasons[0]


def test_a_request_without_text_goes_up_where_the_router_cannot_tell_known_words() -> None:
    class Unknowing(LengthPredictor):
        def predict(self, texts: list[str]) -> Predictions:
            return replace(super().predict(texts), known_shares=None)

    gateway = Harness(router=replace(ROUTER, predictor=Unknowing()))
    assert gateway.chat("", model="proteus/economy").headers["x-proteus-model"] == "large"
    assert gateway.chat("hello", model="proteus/economy").headers["x-proteus-model"] == "small"


def test_the_share_of_unknown_words_that_is_too_much_is_configurable() -> None:
    text = "x x y y"  # half of it is known
    for least, model in ((0.5, "small"), (0.51, "large")):
        gateway = Harness(make_settings(routing={"min_known_words": least}))
        assert gateway.chat(text, model="proteus/economy").headers["x-proteus-model"] == model


def test_a_failing_model_is_replaced_by_one_that_keeps_the_floor(gateway: Harness) -> None:
    gateway.upstream.script["small"] = UpstreamConnectError(
        "small: no connection.", model="small", attempts=3
    )
    answer = gateway.chat(EASY, model="proteus/economy")
    assert (answer.headers["x-proteus-model"], answer.headers["x-proteus-certified"]) == ("middle", "false")
    assert answer.headers["x-proteus-attempts"] == "4"
    assert [call.model.name for call in gateway.upstream.calls] == ["small", "middle"]
    record = gateway.store.last
    assert (record.model, record.attempts, record.status) == ("middle", 4, "ok")
    assert record.latency_s == pytest.approx(0.5)
    assert record.overhead_s == pytest.approx(0.0)


def test_no_weaker_model_answers_for_one_that_failed(gateway: Harness) -> None:
    gateway.upstream.script["large"] = UpstreamTimeoutError("large: silent.", model="large")
    answer = gateway.chat(HARD)
    assert answer.status == 504
    assert answer.json()["error"]["code"] == "upstream_timeout"
    assert [call.model.name for call in gateway.upstream.calls] == ["large"]
    record = gateway.store.last
    assert (record.status, record.error_code, record.http_status) == ("failed", "upstream_timeout", 504)
    assert record.cost_usd is None
    relaxed = gateway.chat(HARD, model="proteus/relaxed")
    assert (relaxed.status, relaxed.headers["x-proteus-certified"]) == (200, "false")


def test_what_an_upstream_says_of_the_request_passes_through(gateway: Harness) -> None:
    body = b'{"error":{"message":"max_tokens is too large"}}'
    gateway.upstream.script["small"] = UpstreamRejectedError(
        "small refused.", model="small", status=400, body=body, content_type="application/json; x=1"
    )
    answer = gateway.chat(EASY, model="proteus/economy")
    assert (answer.status, answer.body) == (400, body)
    assert answer.headers["content-type"] == "application/json; x=1"
    assert answer.headers["x-proteus-model"] == "small"
    assert len(gateway.upstream.calls) == 1


def test_a_deadline_reaches_the_upstream_and_ends_the_search() -> None:
    gateway = Harness(make_settings(server={"limits": {"deadline_s": 30}}))
    gateway.chat(EASY)
    assert gateway.upstream.calls[0].deadline == 1_030.0
    gateway.upstream.script = {name: UpstreamTimeoutError("late.", model=name) for name in MODELS}
    gateway.upstream.took_s = 31.0
    gateway.upstream.calls.clear()
    assert gateway.chat(EASY, model="proteus/economy").status == 504
    assert len(gateway.upstream.calls) == 1


def test_entries_of_one_name_share_the_load_and_stand_in_for_each_other() -> None:
    def deployment(base: str) -> dict[str, Any]:
        entry = model_entry("small")
        entry["litellm_params"]["api_base"] = base
        return entry

    pool = [deployment("http://127.0.0.1:1/v1"), deployment("http://127.0.0.1:2/v1")]
    gateway = Harness(make_settings(model_list=[*pool, model_entry("middle"), model_entry("large")]))
    for _ in range(30):
        assert gateway.chat(EASY, model="proteus/economy").headers["x-proteus-certified"] == "true"
    assert {call.model.api_base[-4] for call in gateway.upstream.calls} == {"1", "2"}
    gateway.upstream.calls.clear()
    gateway.upstream.script["small"] = UpstreamConnectError("small: no connection.", model="small")
    assert gateway.chat(EASY, model="proteus/economy").headers["x-proteus-model"] == "middle"
    assert [call.model.name for call in gateway.upstream.calls] == ["small", "small", "middle"]


def test_two_names_may_run_one_model_and_the_cheaper_serves() -> None:
    pool = [
        {**model_entry("dear", proteus_model="small", input_cost_per_token=9e-7)},
        {**model_entry("cheap", proteus_model="small", input_cost_per_token=1e-8)},
        model_entry("middle"),
        model_entry("large"),
    ]
    gateway = Harness(make_settings(model_list=pool))
    answer = gateway.chat(EASY, model="proteus/economy")
    assert (answer.headers["x-proteus-model"], answer.headers["x-proteus-certified"]) == ("cheap", "true")
    gateway.upstream.script["cheap"] = UpstreamConnectError("cheap: no connection.", model="cheap")
    answer = gateway.chat(EASY, model="proteus/economy")
    # Another name of the router's own choice: the certificate still speaks of it.
    assert (answer.headers["x-proteus-model"], answer.headers["x-proteus-certified"]) == ("dear", "true")


def test_costs_are_estimates_where_usage_or_prices_are_unknown() -> None:
    free = model_entry("small")
    for price in ("input_cost_per_token", "output_cost_per_token"):
        del free["model_info"][price]
    gateway = Harness(make_settings(model_list=[free, model_entry("middle"), model_entry("large")]))
    assert float(gateway.chat(EASY, model="proteus/economy").headers["x-proteus-cost-usd"]) == pytest.approx(
        1e-5
    )
    gateway.upstream.usage = None
    assert float(gateway.chat(HARD).headers["x-proteus-cost-usd"]) == pytest.approx(1e-3)


def test_the_coin_is_tossed_as_often_as_the_certificate_assumes(gateway: Harness) -> None:
    text = "x" * 80  # the two operating points of 0.80 disagree on it
    share = ROUTER.plan(0.8).mix.weight_upper
    assert 0.2 < share < 0.3
    drawn = [gateway.chat(text, model="proteus/standard").headers["x-proteus-model"] for _ in range(600)]
    assert set(drawn) == {"large", "middle"}
    assert drawn.count("large") / 600 == pytest.approx(share, abs=0.06)
    for record in gateway.store.records:
        assert record.certified
        assert record.propensity == pytest.approx(share if record.model == "large" else 1 - share)
        by_name = {candidate["model"]: candidate["propensity"] for candidate in record.candidates}
        assert by_name == pytest.approx({"small": 0.0, "middle": 1 - share, "large": share})
