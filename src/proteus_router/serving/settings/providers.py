"""LiteLLM's provider prefixes: where each provider is, which shapes it speaks, where its key is kept."""

from __future__ import annotations

from dataclasses import dataclass

from proteus_router.serving.records import ApiShape

__all__ = ["NOT_SPOKEN", "PROVIDERS", "Provider", "provider_of"]


@dataclass(frozen=True, slots=True)
class Provider:
    """One prefix of ``litellm_params.model``.

    Attributes
    ----------
    api_base
        Its public address; "" where every installation has its own.
    apis
        Shapes spoken at `api_base`. Elsewhere only the first is assumed.
    key_variable
        Where LiteLLM looks for the key when the entry names none.
    path
        What LiteLLM leaves out of ``api_base`` and the shape's path needs.
    """

    api_base: str = ""
    apis: tuple[ApiShape, ...] = ("chat",)
    key_variable: str = ""
    path: str = ""


PROVIDERS: dict[str, Provider] = {
    "openai": Provider("https://api.openai.com/v1", ("chat", "responses"), "OPENAI_API_KEY"),
    "anthropic": Provider("https://api.anthropic.com/v1", ("messages",), "ANTHROPIC_API_KEY"),
    "cerebras": Provider("https://api.cerebras.ai/v1", key_variable="CEREBRAS_API_KEY"),
    "deepinfra": Provider("https://api.deepinfra.com/v1/openai", key_variable="DEEPINFRA_API_KEY"),
    "deepseek": Provider("https://api.deepseek.com/v1", key_variable="DEEPSEEK_API_KEY"),
    "fireworks_ai": Provider("https://api.fireworks.ai/inference/v1", key_variable="FIREWORKS_AI_API_KEY"),
    "gemini": Provider(
        "https://generativelanguage.googleapis.com/v1beta/openai", key_variable="GEMINI_API_KEY"
    ),
    "groq": Provider("https://api.groq.com/openai/v1", key_variable="GROQ_API_KEY"),
    "mistral": Provider("https://api.mistral.ai/v1", key_variable="MISTRAL_API_KEY"),
    "nvidia_nim": Provider("https://integrate.api.nvidia.com/v1", key_variable="NVIDIA_NIM_API_KEY"),
    "openrouter": Provider("https://openrouter.ai/api/v1", key_variable="OPENROUTER_API_KEY"),
    "perplexity": Provider("https://api.perplexity.ai", key_variable="PERPLEXITYAI_API_KEY"),
    "sambanova": Provider("https://api.sambanova.ai/v1", key_variable="SAMBANOVA_API_KEY"),
    "together_ai": Provider("https://api.together.xyz/v1", key_variable="TOGETHERAI_API_KEY"),
    "xai": Provider("https://api.x.ai/v1", key_variable="XAI_API_KEY"),
    "hosted_vllm": Provider(),
    "litellm_proxy": Provider(),
    "llamafile": Provider(),
    "lm_studio": Provider("http://127.0.0.1:1234/v1"),
    "ollama": Provider("http://127.0.0.1:11434/v1", path="/v1"),
    "ollama_chat": Provider("http://127.0.0.1:11434/v1", path="/v1"),
    "openai_like": Provider(),
    "vllm": Provider(),
    "xinference": Provider(),
}

NOT_SPOKEN: dict[str, str] = {
    "azure": "use openai/DEPLOYMENT with api_base https://RESOURCE.openai.azure.com/openai/v1",
    "azure_ai": "use openai/MODEL with the OpenAI-compatible api_base of the endpoint",
    "bedrock": "use openai/MODEL with the region's OpenAI-compatible api_base",
    "cohere": "use openai/MODEL with api_base https://api.cohere.ai/compatibility/v1",
    "cohere_chat": "use openai/MODEL with api_base https://api.cohere.ai/compatibility/v1",
    "databricks": "use openai/MODEL with api_base https://WORKSPACE/serving-endpoints",
    "huggingface": "use openai/MODEL with the endpoint's OpenAI-compatible api_base",
    "replicate": "put an OpenAI-compatible server before it",
    "sagemaker": "put an OpenAI-compatible server before it",
    "text-completion-openai": "completions are not spoken, chat is: use openai/MODEL",
    "vertex_ai": "use openai/MODEL with the project's OpenAI-compatible api_base, or gemini/MODEL",
    "watsonx": "put an OpenAI-compatible server before it",
}
"""Providers with a protocol of their own, and what to write instead."""


def provider_of(model: str) -> str | None:
    """Provider of a model written without a prefix, by LiteLLM's well-known names."""
    name = model.lower()
    if name.startswith("claude"):
        return "anthropic"
    if name.startswith(("gpt-", "chatgpt-", "o1", "o3", "o4")):
        return "openai"
    return None
