"""From a request, whatever its shape, to what the model says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from proteus_router.serving.provider.examples import example_of
from proteus_router.serving.provider.truth import Truth

__all__ = ["JUDGE", "Answer", "Ask", "BadRequestError", "Tool", "compose", "pieces", "text_of"]

JUDGE = "sim-judge"
"""A model beside the world's: it compares an answer with a reference, both given in tags, and replies with a score."""

Finish = Literal["stop", "length", "tool"]

_FILLER = (
    "This is the simulated answer of {model}.",
    "The question was read once and a result was drawn.",
    "Nothing here was worked out by a language model.",
    "The first line is what a grader should look at.",
    "What follows only fills the length that the world expects.",
    "Longer questions and wordier models take more of it.",
    "A second reading would give the same words again.",
)
_WORDS = re.compile(r"\s*\S+\s*?(?=\s|$)|\s+$")
_TAGGED = re.compile(r"<reference>(.*?)</reference>.*<answer>(.*?)</answer>", re.DOTALL)
_INPUT_TOKENS_OF_JUDGE = 200


class BadRequestError(ValueError):
    """A request that the simulated API refuses with 400."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the caller offers."""

    name: str
    schema: Any


@dataclass(frozen=True, slots=True)
class Ask:
    """What matters of a request.

    Attributes
    ----------
    texts
        What the user said, oldest first, without images.
    tool
        The tool that must be called.
    schema
        The form the answer must have: a JSON schema, {} for any JSON object, None for text.
    include_usage
        Whether a chat stream ends with its usage.
    """

    model: str
    texts: Sequence[str]
    stream: bool
    max_tokens: int | None = None
    tool: Tool | None = None
    schema: Mapping[str, Any] | None = None
    include_usage: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says: a text, or the call of a tool with its arguments as JSON."""

    text: str
    tool: Tool | None
    arguments: str
    finish: Finish
    input_tokens: int
    output_tokens: int


def compose(truth: Truth, ask: Ask) -> Answer:
    """The answer to `ask`. The question is the last thing the user said that the world knows, or simply the last."""
    if ask.model == JUDGE:
        return Answer(_verdict(ask.texts[-1]), None, "", "stop", _INPUT_TOKENS_OF_JUDGE, 8)
    question = next((text for text in reversed(ask.texts) if truth.knows(text)), ask.texts[-1])
    outcome = truth.outcome(ask.model, question)
    if ask.tool is not None:
        arguments = json.dumps(example_of(ask.tool.schema, outcome.answer), ensure_ascii=False)
        return Answer("", ask.tool, arguments, "tool", outcome.input_tokens, max(1, len(arguments) // 4))
    if ask.schema is not None:
        value = example_of(ask.schema, outcome.answer) if ask.schema else {"answer": outcome.answer}
        text = json.dumps(value, ensure_ascii=False)
        return Answer(text, None, "", "stop", outcome.input_tokens, max(1, len(text) // 4))
    tokens = outcome.output_tokens
    limited = ask.max_tokens is not None and ask.max_tokens < tokens
    if limited:
        assert ask.max_tokens is not None
        tokens = ask.max_tokens
    text = _prose(f"Answer: {outcome.answer}", ask.model, tokens)
    return Answer(text, None, "", "length" if limited else "stop", outcome.input_tokens, tokens)


def pieces(text: str, words: int) -> list[str]:
    """`text` cut after every `words` words, white space kept."""
    found = _WORDS.findall(text)
    return ["".join(found[start : start + words]) for start in range(0, len(found), words)] or [""]


def text_of(content: Any, kinds: Sequence[str] = ("text", "input_text")) -> str | None:
    """The text of a message's content: itself, or its parts of text; None where there is none."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    parts = [part["text"] for part in content if isinstance(part, dict) and part.get("type") in kinds]
    return "\n".join(str(part) for part in parts) if parts else None


def _prose(first_line: str, model: str, tokens: int) -> str:
    """Text of about `tokens` tokens; the answer comes first, so that a limit on length does not change the score."""
    lines, size, place = [first_line], len(first_line), 0
    while size < 4 * tokens:
        sentence = _FILLER[place % len(_FILLER)].format(model=model)
        lines.append(sentence)
        size += len(sentence) + 1
        place += 1
    text = first_line + ("\n\n" + " ".join(lines[1:]) if len(lines) > 1 else "")
    return text[: max(len(first_line), 4 * tokens)].rstrip()


def _verdict(prompt: str) -> str:
    match = _TAGGED.search(prompt)
    if match is None:
        return "There is nothing to judge here."
    reference, answer = match[1].split(), match[2]
    found = re.search(r"Answer:[ \t]*([^\r\n]+)", answer)
    given = (found[1] if found else answer).split()
    right = sum(a == b for a, b in zip(reference, given, strict=False))
    return json.dumps({"score": right / max(len(reference), 1)})
