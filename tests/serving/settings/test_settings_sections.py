"""The configuration file: typed, every unknown key an error that names the nearest, secrets never printed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from proteus_router.errors import ConfigError
from proteus_router.serving.settings import Configuration, load_configuration, make_configuration

BASE: dict[str, Any] = {
    "model_list": [
        {
            "model_name": "small",
            "litellm_params": {
                "model": "openai/small",
                "api_base": "http://127.0.0.1:9/v1",
                "api_key": "sk-a-real-looking-one",
            },
            "model_info": {"input_cost_per_token": 1e-7, "output_cost_per_token": 2e-7},
        }
    ],
    "tiers": {"standard": {"accuracy_target": 0.8}},
}


def _make(change: Callable[[dict[str, Any]], Any] | None = None, **environ: str) -> Configuration:
    values = copy.deepcopy(BASE)
    if change is not None:
        change(values)
    return make_configuration(values, source="proteus.yaml", environ=environ)


def _refused(change: Callable[[dict[str, Any]], Any], **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        _make(change, **environ)
    return str(caught.value)


def test_the_least_that_works_and_its_defaults() -> None:
    configuration = _make()
    settings = configuration.settings
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8080)
    assert settings.server_tier == "standard"
    assert settings.tiers["standard"].on_infeasible == "reject"
    assert not settings.store.keep_text
    assert configuration.warnings == ()


@pytest.mark.parametrize(
    ("section", "key", "nearest"),
    [
        ((), "teirs", "tiers"),
        (("server",), "prot", "port"),
        (("server", "limits"), "max_body_byte", "max_body_bytes"),
        (("tiers", "standard"), "acuracy_target", "accuracy_target"),
        (("routing", "sessions"), "tll_s", "ttl_s"),
        (("upstreams", "retries"), "atempts", "attempts"),
        (("store",), "retention_day", "retention_days"),
        (("observability", "otel"), "endpiont", "endpoint"),
        (("model_list", 0), "model_nam", "model_name"),
        (("model_list", 0, "litellm_params"), "api_bse", "api_base"),
        (("model_list", 0, "model_info"), "proteus_modl", "proteus_model"),
        (("model_list", 0, "model_info"), "input_cost_per_tokn", "input_cost_per_token"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(
    section: tuple[str | int, ...], key: str, nearest: str
) -> None:
    def change(values: dict[str, Any]) -> None:
        place: Any = values
        for part in section:
            place = place.setdefault(part, {}) if isinstance(part, str) else place[part]
        place[key] = 1

    message = _refused(change)
    assert "proteus.yaml" in message
    assert key in message
    assert f"Did you mean '{nearest}'?" in message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v["tiers"]["standard"].update(accuracy_target=95), "Did you mean 0.95?"),
        (lambda v: v["tiers"]["standard"].update(accuracy_target=1.0), "not between 0 and 1"),
        (lambda v: v["tiers"].update({"a b": {"accuracy_target": 0.8}}), "tier 'a b'"),
        (lambda v: v["tiers"].update(b={"accuracy_target": 0.7}), "default_tier is missing"),
        (lambda v: v.update(default_tier="gold"), "'gold' is not a tier"),
        (lambda v: v.update(tiers={}), "tiers"),
        (lambda v: v.pop("tiers"), "tiers is missing"),
        (lambda v: v.update(model_list=[]), "model_list"),
        (lambda v: v.update(server={"port": 70_000}), "server.port"),
        (lambda v: v.update(server={"port": "eight"}), "server.port"),
        (lambda v: v.update(server=[]), "server"),
        (lambda v: v.update(routing={"text": "all"}), "routing.text"),
        (lambda v: v.update(store={"retention_days": 0}), "store.retention_days"),
        (lambda v: v.update(litellm_settings={}), "section of LiteLLM's proxy"),
        (lambda v: v.update(upstreams={"timeouts": {"total_s": float("nan")}}), "total_s"),
    ],
)
def test_a_value_out_of_range_names_its_key(change: Callable[[dict[str, Any]], Any], said: str) -> None:
    assert said in _refused(change)


def test_variables_are_expanded_in_both_notations() -> None:
    def change(values: dict[str, Any]) -> None:
        values["model_list"][0]["litellm_params"]["api_key"] = "os.environ/KEY_A"
        values["store"] = {"url": "postgresql://u:${DB_PASS}@h/${DB:-proteus}"}
        values["server"] = {"port": "${PORT:-9000}", "host": "$${literal}"}

    configuration = _make(change, KEY_A="sk-from-env-1", DB_PASS="p-w-d", PORT="9100")
    assert configuration.pool[0].api_key == "sk-from-env-1"
    assert configuration.settings.store.url == "postgresql://u:p-w-d@h/proteus"
    assert (configuration.settings.server.port, configuration.settings.server.host) == (9100, "${literal}")


@pytest.mark.parametrize("reference", ["${MISSING_ONE}", "os.environ/MISSING_ONE", "x-${MISSING_ONE}-y"])
@pytest.mark.parametrize("environ", [{}, {"MISSING_ONE": ""}])
def test_a_variable_that_is_not_set_is_named(reference: str, environ: dict[str, str]) -> None:
    def change(values: dict[str, Any]) -> None:
        values["model_list"][0]["litellm_params"]["api_key"] = reference

    message = _refused(change, **environ)
    assert "model_list.0.litellm_params.api_key" in message
    assert "MISSING_ONE is not set" in message


def test_process_variables_win_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTEUS__SERVER__PORT", "9999")
    monkeypatch.setenv("PROTEUS__SERVER__LIMITS__DEADLINE_S", "5")
    settings = _make(lambda v: v.update(server={"port": 1, "host": "::1"})).settings
    assert (settings.server.port, settings.server.host) == (9999, "::1")
    assert settings.server.limits.deadline_s == 5


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PROTEUS__SERVR__PORT", "1", "Did you mean PROTEUS__SERVER?"),
        ("PROTEUS__SERVER__PROT", "1", "Did you mean 'port'?"),
        ("PROTEUS__SERVER__PORT", "many", "environment variable PROTEUS__SERVER__PORT"),
        ("PROTEUS__TIERS", "{not json", "environment"),
    ],
)
def test_process_variables_are_checked_like_keys(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert said in _refused(lambda v: None)


@pytest.mark.parametrize(
    "key",
    ["changeme", "CHANGE-ME", "sk-your-key-here", "<your key>", "sk-xxxx", "my_api_key", "replace-me-please"],
)
def test_placeholders_are_refused_and_not_repeated(key: str) -> None:
    def change(values: dict[str, Any]) -> None:
        values["model_list"][0]["litellm_params"]["api_key"] = key

    message = _refused(change)
    assert "placeholder" in message
    assert key not in message


@pytest.mark.parametrize(
    ("base", "allowed"),
    [
        ("http://127.0.0.1:9/v1", True),
        ("http://vllm:8000/v1", True),
        ("http://10.0.0.7/v1", True),
        ("https://api.example.com/v1", False),
        ("http://93.184.216.34/v1", False),
    ],
)
def test_dummy_keys_are_for_ones_own_network(base: str, allowed: bool) -> None:
    def change(values: dict[str, Any]) -> None:
        values["model_list"][0]["litellm_params"].update(api_base=base, api_key="sk-1234")

    if allowed:
        assert _make(change).pool[0].api_key == "sk-1234"
    else:
        assert "placeholder" in _refused(change)


def test_a_placeholder_in_the_database_url_is_refused() -> None:
    message = _refused(lambda v: v.update(store={"url": "postgresql://proteus:changeme@db/proteus"}))
    assert "store.url" in message
    assert "changeme" not in message


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v["model_list"][0]["litellm_params"].update(api_key=["sk-PLANTED"]),
        lambda v: v["model_list"][0]["litellm_params"].update(api_key="sk-PLANTED\x00"),
        lambda v: v["model_list"][0]["litellm_params"].update(headers={"a": "PLANTED\n"}),
        lambda v: v["model_list"][0]["litellm_params"].update(api_base="http://u:PLANTED@h/"),
        lambda v: v.update(store={"url": ["postgresql://u:PLANTED@h/d"]}),
        lambda v: v.update(model_list="PLANTED"),
    ],
)
def test_errors_do_not_print_secrets(change: Callable[[dict[str, Any]], Any]) -> None:
    assert "PLANTED" not in _refused(change)


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    path = tmp_path / "proteus.yaml"
    with pytest.raises(ConfigError, match="cannot be read"):
        load_configuration(path)
    path.write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_configuration(path)
    path.write_text("api_key: sk-PLANTED\n  bad: [", encoding="utf-8")
    with pytest.raises(ConfigError, match="line 2") as caught:
        load_configuration(path)
    assert "PLANTED" not in str(caught.value)
    path.write_text("- a list", encoding="utf-8")
    with pytest.raises(ConfigError, match="mapping"):
        load_configuration(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="model_list is missing"):
        load_configuration(path)
    path.write_text(yaml.safe_dump(BASE), encoding="utf-8")
    assert load_configuration(path).settings == _make().settings
