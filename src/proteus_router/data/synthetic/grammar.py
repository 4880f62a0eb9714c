r"""A small grammar language: rules with alternatives, some of them marked hard, expanded into readable text.

A file is a list of rules; indented lines continue the rule above, and `` | `` separates alternatives::

    fruit = apples | pears               # two easy alternatives
    fruit! = quinces | medlars           # two hard ones
    shop.root = {A=person} buys {#2-9!20-900} {fruit} and {*1-2 more}
    shop.more = {A} pays ${#1-9}. | Nobody sees {A}.

======================  =====================================================================================
``{name}``              one alternative of ``name``; ``topic.name`` wins over ``name`` while writing ``topic``
``{^name}``             the same, first letter a capital
``{A=name}``, ``{A}``   draw and remember under one capital letter (never a value already remembered); recall
``{#2-9}``              an integer; ``{#2-9!20-900}`` has a hard range as well
``{*1-3 name}``         one to three different alternatives, as sentences in a row
``{?4 name}``           four different alternatives as options A) to D), one a line
======================  =====================================================================================

``topics`` lists the topics; ``foreign`` those of them not written in English, where "a" before a vowel stays "a".

A prompt is written at a `level` in [0, 1]: the chance that a slot which has hard alternatives takes one. The share
of such slots that came out hard is what a reader, or a router, can see of a question's difficulty in its text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from proteus_router.data.synthetic.draws import Draws

__all__ = ["Grammar", "Written", "parse_rules"]

_SLOT = re.compile(r"\{([^{}]+)\}")
_NUMBER = re.compile(r"#(\d+)-(\d+)(?:!(\d+)-(\d+))?")
_REPEAT = re.compile(r"\*(\d+)-(\d+) (.+)")
_OPTIONS = re.compile(r"\?(\d) (.+)")
_VOWELS = frozenset("aeiou")
_SOUND_LIKE_CONSONANTS = ("uni", "use", "eu", "one")
_FULL_STOPS = ("。", "？", "！")

Node = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """The easy and the hard alternatives of one name, each a compiled sequence of nodes."""

    easy: tuple[tuple[Node, ...], ...] = ()
    hard: tuple[tuple[Node, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """A text, and how many of the slots that could be hard were."""

    text: str
    hard_share: float


def parse_rules(source: str) -> dict[str, Rule]:
    """Compile the rules of one file.

    Raises
    ------
    ValueError
        A line before the first rule, or a rule defined twice.
    """
    easy: dict[str, list[str]] = {}
    hard: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in source.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        body = line
        if not line[0].isspace():
            name, _, body = line.partition(" = ")
            book = hard if name.endswith("!") else easy
            if name.rstrip("!") in book:
                raise ValueError(f"rule {name!r} is defined twice")
            current = book.setdefault(name.rstrip("!"), [])
        if current is None:
            raise ValueError(f"no rule to continue: {line!r}")
        current.extend(part.strip().replace("\\n", "\n") for part in body.split(" | "))
    return {
        name: Rule(
            tuple(_compile(text) for text in easy.get(name, ())),
            tuple(_compile(text) for text in hard.get(name, ())),
        )
        for name in {**easy, **hard}
    }


def _compile(text: str) -> tuple[Node, ...]:
    nodes: list[Node] = []
    for position, part in enumerate(_SLOT.split(text)):
        if position % 2 == 0:
            if part:
                nodes.append(("text", part))
        elif match := _NUMBER.fullmatch(part):
            nodes.append(("number", *(group or "" for group in match.groups())))
        elif match := _REPEAT.fullmatch(part):
            nodes.append(("repeat", *match.groups()))
        elif match := _OPTIONS.fullmatch(part):
            nodes.append(("options", *match.groups()))
        elif part[0] == "^":
            nodes.append(("capital", part[1:]))
        elif len(part) == 1 and part.isupper():
            nodes.append(("recall", part))
        elif part[1:2] == "=":
            nodes.append(("bind", part[2:], part[0]))
        else:
            nodes.append(("slot", part))
    return tuple(nodes)


@dataclass(frozen=True)
class Grammar:
    """Rules of one task family on top of the words shared by all.

    Attributes
    ----------
    topics
        Names that `write` accepts.
    foreign
        Of each topic, whether it is written in another language than English.
    """

    rules: Mapping[str, Rule]
    topics: tuple[str, ...] = field(init=False)
    foreign: tuple[bool, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = {
            name: [nodes[0][1] for nodes in self.rules.get(name, Rule()).easy]
            for name in ("topics", "foreign")
        }
        object.__setattr__(self, "topics", tuple(names["topics"]))
        object.__setattr__(self, "foreign", tuple(topic in names["foreign"] for topic in names["topics"]))

    def write(self, topic: str, level: float, draws: Draws) -> Written:
        """One text on ``topic``, each slot that has hard alternatives being hard with probability ``level``."""
        english = not self.foreign[self.topics.index(topic)]
        writer = _Writer(self.rules, topic, level, draws, articles=english)
        text = writer.slot("root").replace(" \n", "\n")  # a repeat of length zero leaves its space behind
        return Written(text, writer.hard / writer.tiered if writer.tiered else 0.5)


def _wants_an(text: str, piece: str) -> bool:
    """Whether the English article that ends ``text`` must become "an" before ``piece``."""
    if not (text.endswith(("\na ", " a ", "\nA ", " A ")) or text in ("a ", "A ")):
        return False
    if piece.startswith("8") or piece in ("11", "18"):
        return True
    return piece[:1].lower() in _VOWELS and not piece.lower().startswith(_SOUND_LIKE_CONSONANTS)


class _Writer:
    """The state of one expansion: remembered words and the count of hard slots."""

    def __init__(
        self, rules: Mapping[str, Rule], topic: str, level: float, draws: Draws, *, articles: bool
    ) -> None:
        self.rules, self.prefix, self.level, self.draws = rules, topic + ".", level, draws
        self.articles = articles
        self.memory: dict[str, str] = {}
        self.hard = self.tiered = 0

    def slot(self, name: str) -> str:
        return self.expand(self.draws.pick(self.alternatives(name)))

    def rule(self, name: str) -> Rule:
        found = self.rules.get(self.prefix + name)
        return self.rules[name] if found is None else found

    def alternatives(self, name: str) -> tuple[tuple[Node, ...], ...]:
        rule = self.rule(name)
        return rule.hard if rule.hard and (not rule.easy or self.is_hard()) else rule.easy

    def is_hard(self) -> bool:
        self.tiered += 1
        hard = self.draws.uniform() < self.level
        self.hard += hard
        return hard

    def expand(self, nodes: tuple[Node, ...]) -> str:
        text = ""
        for node in nodes:
            piece = node[1] if node[0] == "text" else self.piece(node)
            if self.articles and _wants_an(text, piece):
                text = text[:-1] + "n "
            text += piece
        return text.strip(" ")

    def piece(self, node: Node) -> str:
        kind = node[0]
        if kind == "slot":
            return self.slot(node[1])
        if kind == "number":
            low, high = (node[3], node[4]) if node[3] and self.is_hard() else (node[1], node[2])
            return str(self.draws.integer(int(low), int(high)))
        if kind == "recall":
            return self.memory.get(node[1]) or self.bind("person", node[1])
        if kind == "bind":
            return self.bind(node[1], node[2])
        if kind == "capital":
            text = self.slot(node[1])
            return text[:1].upper() + text[1:]
        if kind == "repeat":
            return self.repeat(node[3], self.draws.integer(int(node[1]), int(node[2])))
        return self.options(node[2], int(node[1]))

    def bind(self, name: str, letter: str) -> str:
        value = self.slot(name)
        for _ in range(8):
            if value not in self.memory.values():
                break
            value = self.slot(name)
        self.memory[letter] = value
        return value

    def repeat(self, name: str, count: int) -> str:
        rule, text = self.rule(name), ""
        order = self.draws.distinct(len(rule.easy), count) if rule.easy else [0] * count
        for position in order:
            hard = rule.hard and (not rule.easy or self.is_hard())
            piece = self.expand(self.draws.pick(rule.hard) if hard else rule.easy[position])
            text += piece if not text or text.endswith(_FULL_STOPS) else " " + piece
        return text

    def options(self, name: str, count: int) -> str:
        chosen: list[str] = []
        for _ in range(40):
            text = self.slot(name)
            if text not in chosen:
                chosen.append(text)
            if len(chosen) == count:
                break
        return "\n".join(f"{letter}) {text}" for letter, text in zip("ABCDEFGH", chosen, strict=False))
