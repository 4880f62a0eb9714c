"""LiteLLM's model_list, as its own documentation writes it, becomes a pool."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml

from proteus_router.errors import ConfigError
from proteus_router.serving.records import Timeouts
from proteus_router.serving.settings.litellm import ParsedPool, parse_model_list

FILE = """
- model_name: gpt-4o
  litellm_params:
    model: gpt-4o
    api_key: os.environ/OPENAI_API_KEY
    rpm: 480
    timeout: 300
    stream_timeout: 60
- model_name: claude
  litellm_params: {model: anthropic/claude-sonnet-4-5, api_key: sk-ant-a1}
  model_info: {max_input_tokens: 200000, supports_vision: true, my_own_note: team red, base_model: x}
- model_name: llama
  litellm_params:
    model: hosted_vllm/meta-llama/Llama-3.1-8B
    api_base: http://vllm:8000/v1
    api_key: none
    extra_headers: {X-Team: red}
    organization: org-1
  model_info:
    input_cost_per_token: 0.0000001
    output_cost_per_token: 2e-7
    supports_function_calling: false
    proteus_model: llama-8b
- model_name: local
  litellm_params: {model: ollama/qwen3, api_base: "http://localhost:11434"}
- model_name: embed
  litellm_params: {model: openai/text-embedding-3-small}
  model_info: {mode: embedding}
- model_name: o-responses
  litellm_params: {model: openai/o3, input_cost_per_token: 2e-6, output_cost_per_token: 8e-6}
  model_info: {mode: responses}
"""
TIMEOUTS = Timeouts()


def _parse(entries: list[dict[str, Any]], **environ: str) -> ParsedPool:
    return parse_model_list(entries, default_timeouts=TIMEOUTS, environ=environ, source="c.yaml")


def _one(**changes: Any) -> list[dict[str, Any]]:
    params = {
        "model": "openai/m",
        "api_base": "http://127.0.0.1:9/v1",
        "api_key": "k-1",
        **changes.pop("params", {}),
    }
    return [{"model_name": "m", "litellm_params": params, **changes}]


def test_a_file_as_people_have_it() -> None:
    parsed = _parse(yaml.safe_load(FILE), OPENAI_API_KEY="sk-env")
    by_name = {(model.name, model.api): model for model in parsed.models}
    assert list(by_name) == [
        ("gpt-4o", "chat"),
        ("gpt-4o", "responses"),
        ("claude", "messages"),
        ("llama", "chat"),
        ("local", "chat"),
        ("o-responses", "responses"),
    ]
    gpt = by_name["gpt-4o", "chat"]
    assert (gpt.api_base, gpt.upstream_model) == ("https://api.openai.com/v1", "gpt-4o")
    assert gpt.timeouts == Timeouts(connect_s=5.0, first_byte_s=60.0, total_s=300.0)
    assert math.isnan(gpt.input_usd_per_token)
    claude = by_name["claude", "messages"]
    assert (claude.api_base, claude.upstream_model) == ("https://api.anthropic.com/v1", "claude-sonnet-4-5")
    assert (claude.context_tokens, claude.images, claude.api_key) == (200_000, True, "sk-ant-a1")
    llama = by_name["llama", "chat"]
    assert (llama.upstream_model, llama.proteus_model) == ("meta-llama/Llama-3.1-8B", "llama-8b")
    assert (llama.api_key, llama.tools, llama.json_mode) == ("", False, True)
    assert llama.headers == {"x-team": "red", "openai-organization": "org-1"}
    assert (llama.input_usd_per_token, llama.output_usd_per_token) == (1e-7, 2e-7)
    assert by_name["local", "chat"].api_base == "http://localhost:11434/v1"
    assert by_name["o-responses", "responses"].output_usd_per_token == 8e-6


def test_nothing_is_dropped_without_a_word() -> None:
    said = "\n".join(_parse(yaml.safe_load(FILE), OPENAI_API_KEY="sk-env").warnings)
    assert "litellm_params.rpm" in said
    assert "embed" in said
    assert "its costs are estimates" in said
    assert "os.environ" not in said  # references are expanded before


def test_keys_are_found_where_litellm_finds_them() -> None:
    entry = [{"model_name": "m", "litellm_params": {"model": "groq/llama"}}]
    found = _parse(entry, GROQ_API_KEY="gsk-1")
    assert (found.models[0].api_key, found.models[0].api_base) == ("gsk-1", "https://api.groq.com/openai/v1")
    assert "GROQ_API_KEY is not set" in "".join(_parse(entry).warnings)
    # ... but a provider's key never goes to another address.
    elsewhere = [
        {"model_name": "m", "litellm_params": {"model": "groq/llama", "api_base": "http://10.0.0.1/v1"}}
    ]
    assert _parse(elsewhere, GROQ_API_KEY="gsk-1").models[0].api_key == ""


@pytest.mark.parametrize(
    ("base", "model", "expected"),
    [
        ("http://h:1/v1/", "openai/m", "http://h:1/v1"),
        ("http://h:1", "openai/m", "http://h:1"),
        ("http://h:1", "anthropic/m", "http://h:1/v1"),
        ("http://h:1/anthropic", "anthropic/m", "http://h:1/anthropic"),
        ("http://h:1", "ollama_chat/m", "http://h:1/v1"),
    ],
)
def test_addresses(base: str, model: str, expected: str) -> None:
    assert _parse(_one(params={"api_base": base, "model": model})).models[0].api_base == expected


@pytest.mark.parametrize(
    ("declared", "shapes"),
    [("messages", ["messages"]), (["chat", "messages", "chat"], ["chat", "messages"]), (None, ["chat"])],
)
def test_an_entry_may_say_which_shapes_it_speaks(declared: Any, shapes: list[str]) -> None:
    info = {} if declared is None else {"proteus_api": declared}
    assert [model.api for model in _parse(_one(model_info=info)).models] == shapes


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (_one(params={"model": "azure/gpt-4o"}), "openai/DEPLOYMENT"),
        (_one(params={"model": "bedrock/x"}), "protocol of its own"),
        (_one(params={"model": "opnai/x"}), "Did you mean 'openai'?"),
        (_one(params={"model": "openai/"}), "names no model"),
        (_one(params={"model": "openai/*"}), "wildcards"),
        (_one(params={"model": ""}), "litellm_params.model"),
        (_one(params={"custom_llm_provider": "grok"}), "unknown provider"),
        (_one(params={"api_base": "ftp://h/v1"}), "http(s) address"),
        (_one(params={"api_base": "http://user:pw@h/v1"}), "without user"),
        (_one(params={"api_base": None, "model": "hosted_vllm/x"}), "api_base is missing"),
        (_one(params={"timeout": 0}), "litellm_params.timeout"),
        (_one(params={"timeout": "soon"}), "litellm_params.timeout"),
        (_one(params={"headers": {"a\n": "b"}}), "can't be an HTTP header"),
        (_one(model_info={"input_cost_per_token": 1e-6}), "belong together"),
        (_one(model_info={"input_cost_per_token": -1, "output_cost_per_token": 1}), "at least 0"),
        (_one(model_info={"max_input_tokens": "long"}), "max_input_tokens"),
        (_one(model_info={"supports_vision": "maybe"}), "true or false"),
        (_one(model_info={"mode": "embeding"}), "Did you mean 'embedding'?"),
        (_one(model_info={"proteus_api": "smoke"}), "proteus_api"),
        (_one(model_info={"proteus_api": []}), "proteus_api"),
        ([{"model_name": "proteus", "litellm_params": {"model": "gpt-4o"}}], "may not be 'proteus'"),
        ([{"model_name": "proteus/x", "litellm_params": {"model": "gpt-4o"}}], "may not be 'proteus'"),
        ([{"model_name": "a b", "litellm_params": {"model": "gpt-4o"}}], "printable ASCII"),
        ([{"model_name": "m"}], "litellm_params must be a mapping"),
        ([{"litellm_params": {"model": "gpt-4o"}}], "model_name must be text"),
        (_one(model_info={"mode": "embedding"}), "holds no chat model"),
    ],
)
def test_what_cannot_be_served_says_what_to_do(entry: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _parse(entry)
    assert said in str(caught.value)
    assert "c.yaml" in str(caught.value)


def test_an_entry_is_named_in_its_error() -> None:
    with pytest.raises(ConfigError, match=r"model_list\.1 \(second\)"):
        _parse([*_one(), {"model_name": "second", "litellm_params": {"model": "azure/x"}}])
