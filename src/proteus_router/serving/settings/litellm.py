"""LiteLLM's ``model_list`` -> the pool. Accepted as it is; what has no meaning here is warned of, never just dropped."""

from __future__ import annotations

import difflib
import ipaddress
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import urlsplit

from proteus_router.errors import ConfigError
from proteus_router.serving.records import ApiShape, PoolModel, Timeouts
from proteus_router.serving.settings.providers import NOT_SPOKEN, PROVIDERS, Provider, provider_of
from proteus_router.serving.settings.secrets import refuse_placeholder

__all__ = ["ParsedPool", "parse_model_list"]

_SHAPES: tuple[ApiShape, ...] = get_args(ApiShape)
_ENTRY = ("model_name", "litellm_params", "model_info")
_READ_PARAMS = (
    "model", "api_base", "base_url", "api_key", "timeout", "stream_timeout", "headers", "extra_headers",
    "organization", "custom_llm_provider", "input_cost_per_token", "output_cost_per_token",
)  # fmt: skip
_READ_INFO = (
    "mode", "max_tokens", "max_input_tokens", "input_cost_per_token", "output_cost_per_token",
    "supports_vision", "supports_function_calling", "supports_response_schema", "proteus_model", "proteus_api",
)  # fmt: skip
# LiteLLM's own parameters that have no counterpart here: rates, budgets and retries are set elsewhere, and
# request parameters are the caller's.
_UNREAD_PARAMS = (
    "additional_drop_params", "allowed_openai_params", "api_version", "budget_duration", "caching_groups",
    "cache_creation_input_token_cost", "cache_read_input_token_cost", "configurable_clientside_auth_params",
    "cooldown_time", "drop_params", "extra_body", "frequency_penalty", "input_cost_per_second",
    "litellm_credential_name", "logit_bias", "logprobs", "max_budget", "max_completion_tokens",
    "max_file_size_mb", "max_parallel_requests", "max_retries", "max_tokens", "merge_reasoning_content_in_choices",
    "mock_response", "model_info", "n", "num_retries", "order", "output_cost_per_second", "parallel_tool_calls",
    "presence_penalty", "reasoning_effort", "region_name", "response_format", "rpm", "seed", "ssl_verify", "stop",
    "stream", "tags", "temperature", "thinking", "tool_choice", "tools", "top_logprobs", "top_p", "tpm",
    "use_in_pass_through", "use_litellm_proxy", "user", "weight",
)  # fmt: skip
_NO_CHAT = (
    "audio_speech", "audio_transcription", "batch", "completion", "embedding", "image_edit", "image_generation",
    "moderation", "moderations", "ocr", "realtime", "rerank", "search", "vector_store", "video_generation",
)  # fmt: skip
_NO_KEY = {"", "none", "null", "empty", "no-key", "not-needed", "na", "n/a"}


@dataclass(frozen=True, slots=True)
class ParsedPool:
    """The pool's entries, one for each shape of each entry, and what was worth a warning."""

    models: tuple[PoolModel, ...]
    warnings: tuple[str, ...]


def parse_model_list(
    entries: Sequence[Mapping[str, Any]],
    *,
    default_timeouts: Timeouts,
    environ: Mapping[str, str],
    source: str,
) -> ParsedPool:
    """Read ``model_list``; references to the environment are expanded already.

    Raises
    ------
    ConfigError
        An unknown key (the nearest is named), a provider that is not spoken, a value out of range, a placeholder
        instead of a key, or nothing to route between.
    """
    models: list[PoolModel] = []
    warnings: list[str] = []
    for place, entry in enumerate(entries):
        found, said = _Entry(entry, f"{source}: model_list.{place}", default_timeouts, environ).parse()
        models += found
        warnings += said
    if not models:
        raise ConfigError(
            f"{source}: model_list holds no chat model.", hint="Add one with mode: chat, or without mode."
        )
    return ParsedPool(tuple(models), tuple(warnings))


class _Entry:
    """Reads one entry; ``where`` leads every message."""

    def __init__(
        self, entry: Mapping[str, Any], where: str, default_timeouts: Timeouts, environ: Mapping[str, str]
    ) -> None:
        self.where, self.timeouts, self.environ = where, default_timeouts, environ
        self.warnings: list[str] = []
        self._refuse_unknown(entry, _ENTRY, "")
        self.name = self._text(entry, "model_name", "")
        self.where = f"{where} ({self.name})"
        self.params = self._mapping(entry.get("litellm_params"), "litellm_params")
        self.info = self._mapping(entry.get("model_info", {}), "model_info")

    def parse(self) -> tuple[list[PoolModel], list[str]]:
        self._check_name()
        self._check_keys()
        mode = self.info.get("mode") or "chat"
        if mode in _NO_CHAT:
            return [], [f"{self.where}: mode {mode}: not a chat model, left out of the pool."]
        if mode not in ("chat", "responses"):
            raise ConfigError(
                f"{self.where}: model_info.mode {mode!r} is unknown.{_nearest(mode, ('chat', 'responses', *_NO_CHAT))}"
            )
        provider_name, upstream_model = self._provider()
        provider = PROVIDERS[provider_name]
        api_base, public = self._api_base(provider, provider_name)
        prices = self._prices()
        common: dict[str, Any] = {
            "name": self.name,
            "proteus_model": self._text(self.info, "proteus_model", "model_info.", default=self.name),
            "api_base": api_base,
            "api_key": self._api_key(provider if public else None, api_base),
            "upstream_model": upstream_model,
            "input_usd_per_token": prices[0],
            "output_usd_per_token": prices[1],
            "context_tokens": self._context(),
            "images": self._flag("supports_vision"),
            "tools": self._flag("supports_function_calling"),
            "json_mode": self._flag("supports_response_schema"),
            "timeouts": self._timeouts(),
            "headers": self._headers(),
        }
        apis = self._apis(provider if public else Provider(apis=provider.apis[:1]), mode)
        return [PoolModel(api=api, **common) for api in apis], self.warnings

    def _check_name(self) -> None:
        if "*" in self.name or "*" in str(self.params.get("model", "")):
            raise ConfigError(
                f"{self.where}: wildcards are not supported: a certificate speaks of a fixed pool.",
                hint="Name each model.",
            )
        if self.name == "proteus" or self.name.startswith("proteus/"):
            raise ConfigError(f"{self.where}: model_name may not be 'proteus' or begin with 'proteus/'.")
        if not self.name.isprintable() or not self.name.isascii() or " " in self.name:
            raise ConfigError(f"{self.where}: model_name must be printable ASCII without spaces.")

    def _check_keys(self) -> None:
        self._refuse_unknown(
            self.params, (*_READ_PARAMS, *_UNREAD_PARAMS), "litellm_params.", prefixes=_CLOUD
        )
        unread = [key for key in self.params if key not in _READ_PARAMS]
        if unread:
            keys = ", ".join(f"litellm_params.{key}" for key in unread)
            self.warnings.append(f"{self.where}: not used here: {keys}.")
        for (
            key
        ) in self.info:  # LiteLLM lets users keep notes of their own here, so only a near miss is an error
            near = difflib.get_close_matches(str(key), _READ_INFO, n=1, cutoff=0.85)
            if key not in _READ_INFO and near and not str(key).startswith("supports_"):
                raise ConfigError(f"{self.where}: unknown key 'model_info.{key}'. Did you mean {near[0]!r}?")

    def _provider(self) -> tuple[str, str]:
        model = self._text(self.params, "model", "litellm_params.")
        prefix, slash, rest = model.partition("/")
        named = self.params.get("custom_llm_provider")
        if named is not None:
            name, upstream_model = str(named), rest if slash and prefix == named else model
        elif slash and (prefix in PROVIDERS or prefix in NOT_SPOKEN):
            name, upstream_model = prefix, rest
        elif not slash and (provider_of(model) or self._given_base()):
            name, upstream_model = provider_of(model) or "openai", model
        else:
            near = _nearest(prefix, (*PROVIDERS, *NOT_SPOKEN))
            raise ConfigError(
                f"{self.where}: litellm_params.model {model!r} names no known provider.{near}",
                hint="Write PROVIDER/MODEL, for example openai/MODEL with an api_base for any "
                "OpenAI-compatible server.",
            )
        if name in NOT_SPOKEN:
            raise ConfigError(
                f"{self.where}: provider {name!r} has a protocol of its own, and nothing is translated.",
                hint=f"Instead: {NOT_SPOKEN[name]}.",
            )
        if name not in PROVIDERS:
            raise ConfigError(f"{self.where}: unknown provider {name!r}.{_nearest(name, tuple(PROVIDERS))}")
        if not upstream_model:
            raise ConfigError(
                f"{self.where}: litellm_params.model {model!r} names no model after the provider."
            )
        return name, upstream_model

    def _given_base(self) -> str | None:
        base = self.params.get("api_base") or self.params.get("base_url")
        return None if base is None else str(base)

    def _api_base(self, provider: Provider, name: str) -> tuple[str, bool]:
        """The address, and whether it is the provider's own."""
        given = self._given_base()
        if given is None:
            if not provider.api_base:
                raise ConfigError(
                    f"{self.where}: litellm_params.api_base is missing; provider {name} needs one."
                )
            return provider.api_base, True
        parts = urlsplit(given)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ConfigError(
                f"{self.where}: litellm_params.api_base must be an http(s) address without user or query."
            )
        base = given.rstrip("/")
        if not parts.path.strip("/"):
            # LiteLLM leaves /v1 to each provider; here a shape's path is appended to the base as it stands.
            base += provider.path or ("/v1" if name == "anthropic" else "")
        return base, bool(provider.api_base) and base == provider.api_base

    def _api_key(self, provider: Provider | None, api_base: str) -> str:
        given = self.params.get("api_key")
        if given is None and provider is not None and provider.key_variable:
            given = self.environ.get(provider.key_variable, "")
            if not given:
                self.warnings.append(
                    f"{self.where}: no api_key, and {provider.key_variable} is not set: called without a key."
                )
        if given is not None and not isinstance(given, str):
            raise ConfigError(f"{self.where}: litellm_params.api_key must be text.")
        key = (given or "").strip()
        if key.lower() in _NO_KEY:
            return ""
        if not key.isascii() or not key.isprintable():
            raise ConfigError(f"{self.where}: litellm_params.api_key holds characters no HTTP header may.")
        refuse_placeholder(key, where=f"{self.where}: litellm_params.api_key", allow_dummy=_is_near(api_base))
        return key

    def _apis(self, provider: Provider, mode: str) -> tuple[ApiShape, ...]:
        given = self.info.get("proteus_api")
        if given is None:
            return ("responses",) if mode == "responses" else provider.apis
        shapes = [given] if isinstance(given, str) else given
        if not isinstance(shapes, list) or not shapes or not all(shape in _SHAPES for shape in shapes):
            raise ConfigError(
                f"{self.where}: model_info.proteus_api must be one of {', '.join(_SHAPES)}, or a list of them."
            )
        return tuple(dict.fromkeys(shapes))

    def _prices(self) -> tuple[float, float]:
        prices = []
        for key in ("input_cost_per_token", "output_cost_per_token"):
            section, value = "model_info", self.info.get(key)
            if value is None:
                section, value = "litellm_params", self.params.get(key)
            prices.append(math.nan if value is None else self._number(value, f"{section}.{key}", low=0.0))
        if math.isnan(prices[0]) != math.isnan(prices[1]):
            raise ConfigError(
                f"{self.where}: input_cost_per_token and output_cost_per_token belong together; one is missing."
            )
        if math.isnan(prices[0]):
            self.warnings.append(
                f"{self.where}: no input_cost_per_token and output_cost_per_token: its costs are estimates."
            )
        return prices[0], prices[1]

    def _context(self) -> int | None:
        value = self.info.get("max_input_tokens")
        if value is None:
            value = self.info.get("max_tokens")
        return None if value is None else int(self._number(value, "model_info.max_input_tokens", low=1.0))

    def _flag(self, key: str) -> bool:
        value = self.info.get(key)
        if value is None:
            return True
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if not isinstance(value, bool):
            raise ConfigError(f"{self.where}: model_info.{key} must be true or false (given {value!r}).")
        return value

    def _timeouts(self) -> Timeouts:
        total, first = self.params.get("timeout"), self.params.get("stream_timeout")
        total_s = (
            self.timeouts.total_s
            if total is None
            else self._number(total, "litellm_params.timeout", low=0.001)
        )
        first_s = (
            self.timeouts.first_byte_s
            if first is None
            else self._number(first, "litellm_params.stream_timeout", low=0.001)
        )
        return Timeouts(self.timeouts.connect_s, min(first_s, total_s), total_s)

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for key in ("headers", "extra_headers"):
            section = self._mapping(self.params.get(key) or {}, f"litellm_params.{key}")
            for name, value in section.items():
                text = str(value)
                if not (str(name).isascii() and str(name).isprintable() and text.isprintable()):
                    raise ConfigError(f"{self.where}: litellm_params.{key}.{name!r} can't be an HTTP header.")
                headers[str(name).lower()] = text
        if self.params.get("organization"):
            headers["openai-organization"] = str(self.params["organization"])
        return headers

    def _refuse_unknown(
        self,
        given: Mapping[str, Any],
        known: tuple[str, ...],
        section: str,
        prefixes: tuple[str, ...] = (),
    ) -> None:
        for key in given:
            if key not in known and not str(key).startswith(prefixes or ("\0",)):
                raise ConfigError(
                    f"{self.where}: unknown key {section + str(key)!r}.{_nearest(str(key), known)}"
                )

    def _mapping(self, value: Any, key: str) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{self.where}: {key} must be a mapping of keys.")
        return value

    def _text(self, section: Mapping[str, Any], key: str, prefix: str, default: str | None = None) -> str:
        value = section.get(key, default)
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{self.where}: {prefix}{key} must be text, and is missing or empty.")
        return value

    def _number(self, value: Any, key: str, *, low: float) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number) or number < low:
            raise ConfigError(f"{self.where}: {key} must be a number of at least {low:g} (given {value!r}).")
        return number


_CLOUD = ("aws_", "azure_", "vertex_", "watsonx_", "gigachat_")


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _is_near(api_base: str) -> bool:
    """Whether the address is this machine, a private one, or a name without a dot (a container)."""
    host = urlsplit(api_base).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".localhost"))
    return address.is_private or address.is_loopback
