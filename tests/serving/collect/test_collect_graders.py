from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proteus_router.errors import ConfigError, DataError, SchemaError
from proteus_router.serving.collect import Grading, Prompt, Wording, read_prompts
from proteus_router.serving.collect.exchange import Said, said_in
from proteus_router.serving.collect.graders import JUDGE_PROMPT, ExactGrader, Grader, JudgeGrader, RegexGrader


def _score(grader: Grader, prompt: Prompt, answer: str) -> float | None:
    return asyncio.run(grader.grade(prompt, answer)).score


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("Paris", 1.0),
        ("  paris.\n", 1.0),
        ("ＰＡＲＩＳ", 1.0),
        ("Paris, France", 0.0),
        ("", 0.0),
        ("Pa ris", 0.0),
    ],
)
def test_exact(answer: str, score: float) -> None:
    assert _score(ExactGrader(), Prompt("q", "Capital?", reference="Paris"), answer) == score


@pytest.mark.parametrize(
    ("pattern", "reference", "answer", "score"),
    [
        (r"Answer: (\w+)", "29", "I think.\nAnswer: 29", 1.0),
        (r"Answer: (\w+)", "29", "Answer: 27\nno:\nAnswer: 29", 1.0),  # the last counts
        (r"Answer: (\w+)", "29", "Answer: 29\nno:\nAnswer: 27", 0.0),
        (r"Answer: (\w+)", "29", "29", 0.0),
        (r"^29$", None, "So:\n29\n", 1.0),
        (r"^29$", None, "129", 0.0),
        (r"(a)|b", "x", "b", 0.0),  # the group took no part in the match
    ],
)
def test_regex(pattern: str, reference: str | None, answer: str, score: float) -> None:
    prompt = Prompt("q", "Which?", reference=reference)
    assert _score(RegexGrader(pattern, [prompt]), prompt, answer) == score


def test_a_prompts_own_pattern_goes_first() -> None:
    own, other = Prompt("a", "x", pattern="yes"), Prompt("b", "y")
    grader = RegexGrader("no", [own, other])
    assert [_score(grader, prompt, "yes") for prompt in (own, other)] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("pattern", "prompt"),
    [
        ("(", Prompt("q", "x")),
        ("(a)", Prompt("q", "x")),
        (None, Prompt("q", "x")),
        (None, Prompt("q", "x", pattern="[")),
    ],
)
def test_a_pattern_that_can_not_grade_is_refused(pattern: str | None, prompt: Prompt) -> None:
    with pytest.raises(SchemaError):
        RegexGrader(pattern, [prompt])


class Judge:
    """Says what it is told to, and remembers what it was asked."""

    def __init__(self, *verdicts: str) -> None:
        self.verdicts, self.asked = list(verdicts), list[str]()

    async def __call__(self, text: str) -> tuple[str, float]:
        self.asked.append(text)
        return self.verdicts.pop(0), 0.25


@pytest.mark.parametrize(
    ("verdict", "score"),
    [
        ('{"score": 1}', 1.0),
        ('{"score": 0.5, "why": "half"}', 0.5),
        ("0", 0.0),
        ('Sure! ```json\n{"score": 0.25}\n```', 0.25),
        ('"score": 0 ... no: {"score": 1.0}', 1.0),
    ],
)
def test_a_verdict_is_read(verdict: str, score: float) -> None:
    assert _score(JudgeGrader(Judge(verdict), JUDGE_PROMPT), Prompt("q", "x"), "a") == score


@pytest.mark.parametrize(
    "verdict", ["", "good", '{"score": 7}', '{"score": -1}', '{"score": "high"}', "[]", '"score": ..']
)
def test_a_verdict_that_is_none_is_asked_for_again(verdict: str) -> None:
    judge = Judge(verdict, '{"score": 1}')
    grade = asyncio.run(JudgeGrader(judge, JUDGE_PROMPT).grade(Prompt("q", "x"), "a"))
    assert (grade.score, grade.cost_usd) == (1.0, 0.5)
    stubborn = Judge(*[verdict] * 3)
    grade = asyncio.run(JudgeGrader(stubborn, JUDGE_PROMPT).grade(Prompt("q", "x"), "a"))
    assert (grade.score, grade.cost_usd) == (None, 0.75)


def test_the_judge_sees_everything_once_and_texts_fill_no_slots() -> None:
    judge = Judge('{"score": 0}')
    prompt = Prompt("q", "What is {reference}?", reference="R-{answer}")
    asyncio.run(JudgeGrader(judge, "Q={query} R={reference} A={answer} {other}").grade(prompt, "{query}"))
    assert judge.asked == ["Q=What is {reference}? R=R-{answer} A={query} {other}"]


def test_what_a_grading_needs_of_the_prompts() -> None:
    assert Grading("exact").needs == ("reference",)
    assert Grading("regex").needs == ("pattern",)
    assert Grading("regex", "a").needs == ()
    assert Grading("regex", "(a)").needs == ("reference",)
    with pytest.raises(ConfigError):
        Grading("judge")


def test_a_judges_prompt_without_the_answer_is_refused(make_model: object) -> None:
    with pytest.raises(DataError, match="does not show"):
        Grading("judge", judge=make_model(), template="{query}")  # type: ignore[operator]


def _choice(content: object, finish: str) -> dict[str, object]:
    return {"choices": [{"message": {"content": content}, "finish_reason": finish}]}


TEXT = {"type": "text", "text": "a"}
OUTPUT = [
    {"type": "reasoning", "content": [{"text": "hm"}]},
    {"type": "message", "content": [{"type": "output_text", "text": "a"}, {"type": "refusal"}]},
]


@pytest.mark.parametrize(
    ("api", "body", "said"),
    [
        ("chat", _choice("a", "stop"), Said("a", False)),
        ("chat", _choice(None, "tool_calls"), Said("", False)),
        ("chat", _choice([TEXT], "length"), Said("a", True)),
        ("chat", {"choices": []}, Said("", False)),
        ("responses", {"status": "incomplete", "output": OUTPUT}, Said("a", True)),
        ("messages", {"content": [TEXT, {"type": "tool_use"}], "stop_reason": "max_tokens"}, Said("a", True)),
    ],
)
def test_the_text_of_an_answer(api: str, body: dict[str, object], said: Said) -> None:
    assert said_in(api, body) == said  # type: ignore[arg-type]


def test_a_prompt_in_each_shape() -> None:
    wording = Wording("Be brief.", {"temperature": 0, "max_tokens": 9})
    assert wording.request("chat", "x") == {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "x"}],
        "temperature": 0,
        "max_tokens": 9,
    }
    assert wording.request("responses", "x")["instructions"] == "Be brief."
    assert wording.request("messages", "x")["max_tokens"] == 9
    assert Wording().request("messages", "x") == {
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "x"}],
    }
    assert "system" not in Wording().request("messages", "x")


def test_prompts_of_every_format(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(
        "query_id,query,reference,note\n1,What?,7,x\n2,Who?,Eve,\n", encoding="utf-8"
    )
    (tmp_path / "p.jsonl").write_text(
        '{"query_id": 1, "query": "What?", "reference": "7"}\n{"query_id": 2, "query": "Who?", "reference": "Eve"}\n',
        encoding="utf-8",
    )
    expected = [Prompt("1", "What?", reference="7"), Prompt("2", "Who?", reference="Eve")]
    for name in ("p.csv", "p.jsonl"):
        assert read_prompts(tmp_path / name, needs=("reference",)) == expected
    with pytest.raises(SchemaError, match="pattern"):
        read_prompts(tmp_path / "p.csv", needs=("pattern",))
