"""The grammar language, and that every grammar file is whole."""

from __future__ import annotations

import numpy as np
import pytest

from proteus_router.data.synthetic.draws import Draws, generator, normals
from proteus_router.data.synthetic.grammar import Grammar, parse_rules
from proteus_router.data.synthetic.prompts import FAMILIES, grammar_of, topic_offsets, write_prompts


def grammar(rules: str) -> Grammar:
    return Grammar(parse_rules("topics = shop | deli\nforeign = deli\n" + rules))


def write(rules: str, level: float = 0.0, seed: int = 0, topic: str = "shop") -> str:
    return grammar(rules).write(topic, level, Draws(generator(seed))).text


def test_words_are_remembered_and_recalled() -> None:
    text = write("root = {A=name} meets {B=name}; {B} likes {A}.\nname = Ada | Ben")
    assert text in ("Ada meets Ben; Ben likes Ada.", "Ben meets Ada; Ada likes Ben.")


def test_a_topic_rule_wins_over_the_shared_one() -> None:
    rules = "root = {thing}\nthing = air\ndeli.thing = ham"
    assert write(rules) == "air"
    assert write(rules, topic="deli") == "ham"


def test_level_decides_the_hard_share() -> None:
    rules = grammar("root = {w} {w} {w} {w} {#1-2!500-600}\nw = easy\nw! = hard")
    none, half, all_hard = (rules.write("shop", level, Draws(generator(1))) for level in (0.0, 0.5, 1.0))
    assert none.text.startswith("easy easy easy easy ")
    assert none.hard_share == 0.0
    assert all_hard.text.startswith("hard hard hard hard ")
    assert all_hard.hard_share == 1.0
    shares = [rules.write("shop", 0.5, Draws(generator(2, seed))).hard_share for seed in range(400)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)
    assert half.text.split().count("hard") + (int(half.text.split()[-1]) >= 500) == 5 * half.hard_share


def test_a_text_without_hard_alternatives_is_in_the_middle() -> None:
    assert grammar("root = plain").write("shop", 1.0, Draws(generator(0))).hard_share == 0.5


def test_numbers_cover_their_range() -> None:
    seen = {int(write("root = {#3-6}", seed=seed)) for seed in range(60)}
    assert seen == {3, 4, 5, 6}


def test_repeats_differ_until_all_are_used() -> None:
    for seed in range(20):
        pieces = write("root = {*3-5 s}\ns = one. | two. | three. | four.", seed=seed).split()
        assert 3 <= len(pieces) <= 5
        assert len(set(pieces)) == min(len(pieces), 4)


def test_an_empty_repeat_leaves_no_trace() -> None:
    assert write("root = start {*0-0 s}\\nend\ns = x") == "start\nend"


def test_options_are_lettered_and_different() -> None:
    lines = write("root = {?3 w}\nw = x | y | z").split("\n")
    assert [line[:3] for line in lines] == ["A) ", "B) ", "C) "]
    assert len({line[3:] for line in lines}) == 3


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ("root = a {w} b\nw = owl", "an owl b"),
        ("root = A {w}\nw = owl", "An owl"),
        ("root = a {w}\nw = cat", "a cat"),
        ("root = a {w}\nw = unit", "a unit"),
        ("root = is a {#8-8}-fold", "is an 8-fold"),
        ("root = vitamin_a {w}\nw = owl", "vitamin_a owl"),
        ("root = {^w}\nw = owl", "Owl"),
    ],
)
def test_english_articles_and_capitals(rules: str, text: str) -> None:
    assert write(rules) == text


def test_no_english_article_in_a_foreign_topic() -> None:
    assert write("root = va a {w}\nw = Oslo", topic="deli") == "va a Oslo"


@pytest.mark.parametrize("rules", ["  floating = x", "a = x\na = y"])
def test_broken_files_are_refused(rules: str) -> None:
    with pytest.raises(ValueError):
        parse_rules(rules)


@pytest.mark.parametrize("family", [family.name for family in FAMILIES])
def test_every_slot_of_every_topic_has_a_rule(family: str) -> None:
    rules = grammar_of(family).rules
    references = {"slot": 1, "capital": 1, "bind": 1, "repeat": 3, "options": 2}
    for topic in grammar_of(family).topics:
        queue, seen = ["root"], set()
        while queue:
            name = queue.pop()
            if name in seen:
                continue
            seen.add(name)
            rule = rules.get(f"{topic}.{name}") or rules.get(name)
            assert rule is not None, f"{family}: {topic} needs {name}"
            for nodes in (*rule.easy, *rule.hard):
                queue.extend(node[references[node[0]]] for node in nodes if node[0] in references)


def test_prompts_are_clean_and_of_every_family_and_topic() -> None:
    prompts = write_prompts(4000, generator(5))
    assert set(prompts.family.tolist()) == set(range(len(FAMILIES)))
    assert set(prompts.topic.tolist()) == set(range(topic_offsets()[-1]))
    for text in prompts.texts:
        assert text == text.strip()
        assert not set("|{}^") & set(text), text
        assert " \n" not in text
        assert "\\n" not in text
    words = [len(text.split()) for text in prompts.texts if text.isascii()]
    assert min(words) >= 7
    assert 150 < max(words) < 300
    foreign = np.mean([not text.isascii() for text in prompts.texts])
    assert 0.08 < foreign < 0.4  # accents, Chinese, Arabic, Russian, ...
    assert abs(prompts.difficulty.mean()) < 0.4
    assert 0.6 < prompts.difficulty.std() < 1.4


def test_a_shorter_list_of_prompts_is_the_start_of_a_longer_one() -> None:
    assert write_prompts(60, generator(8)).texts[:40] == write_prompts(40, generator(8)).texts


def test_normals_have_unit_variance_and_share_prefixes() -> None:
    draws = normals(generator(1), (20_000, 2))
    assert draws.mean() == pytest.approx(0.0, abs=0.02)
    assert draws.std() == pytest.approx(1.0, abs=0.02)
    assert np.array_equal(normals(generator(1), (50, 2)), draws[:50])


def test_draws_are_even() -> None:
    draws = Draws(generator(4))
    counts = np.bincount([draws.integer(0, 9) for _ in range(20_000)])
    assert counts.min() > 1800
    assert counts.max() < 2200
    assert sorted(draws.distinct(5, 5)) == [0, 1, 2, 3, 4]
    assert {draws.pick("ab") for _ in range(50)} == {"a", "b"}
