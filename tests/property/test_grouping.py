"""The fast search for near texts against every pair compared with a hand-written edit distance."""

from __future__ import annotations

import re
import string
from collections import Counter
from itertools import product
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proteus_router.data import grouping
from proteus_router.data.grouping import near_text_groups, normalise_text


def edit_distance(left: list[str], right: list[str]) -> int:
    """Levenshtein distance on words, row by row."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        previous, row[0] = row[0], i
        for j, b in enumerate(right, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def near(left: str, right: str) -> bool:
    left, right = normalise_text(left), normalise_text(right)
    if left == right:
        return True
    a, b = left.split(), right.split()
    same_digits = re.findall(r"\d+", left) == re.findall(r"\d+", right)
    return min(len(a), len(b)) >= 12 and same_digits and edit_distance(a, b) <= 2


def slow_groups(texts: list[str]) -> list[int]:
    """Transitive closure by flooding, ids in order of first appearance."""
    group = [-1] * len(texts)
    for start in range(len(texts)):
        if group[start] >= 0:
            continue
        group[start] = max(group) + 1
        reached = [start]
        while reached:
            here = reached.pop()
            for other in range(len(texts)):
                if group[other] < 0 and near(texts[here], texts[other]):
                    group[other] = group[start]
                    reached.append(other)
    return group


WORDS = ["the", "a", "cat", "dog", "7", "12", "x1", "ran", "far", "Far", "ﬁne", "fine", "čas", "ü"]


@st.composite
def edited_corpora(draw: st.DrawFn) -> list[str]:
    """A few base texts and copies with up to four word edits, so that distances lie around the limit."""
    vocabulary = draw(st.sampled_from([WORDS, WORDS[:4], list(string.ascii_lowercase)]))
    word = st.sampled_from(vocabulary)
    bases = draw(st.lists(st.lists(word, min_size=9, max_size=18), min_size=1, max_size=3))
    texts = []
    for _ in range(draw(st.integers(2, 12))):
        words = list(draw(st.sampled_from(bases)))
        for _ in range(draw(st.integers(0, 4))):
            at = draw(st.integers(0, max(len(words) - 1, 0)))
            match draw(st.sampled_from(["insert", "delete", "replace"])):
                case "insert":
                    words.insert(at, draw(word))
                case "delete":
                    del words[at : at + 1]
                case _:
                    words[at : at + 1] = [draw(word)]
        texts.append(draw(st.sampled_from([" ", "  ", "\n"])).join(words))
    return texts


@settings(max_examples=120, deadline=None)
@given(edited_corpora())
def test_fast_groups_equal_brute_force(texts: list[str]) -> None:
    assert near_text_groups(texts).tolist() == slow_groups(texts)


@settings(max_examples=40, deadline=None)
@given(edited_corpora(), st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_order(texts: list[str], random: Random) -> None:
    order = list(range(len(texts)))
    random.shuffle(order)
    groups = near_text_groups(texts)
    shuffled = near_text_groups([texts[index] for index in order])
    together = groups[:, None] == groups[None, :]
    np.testing.assert_array_equal(shuffled[:, None] == shuffled[None, :], together[np.ix_(order, order)])


@settings(max_examples=30, deadline=None)
@given(edited_corpora())
def test_word_lists_compare_as_strings_do(texts: list[str]) -> None:
    """The way taken when there are more words than characters gives the same groups."""
    expected = near_text_groups(texts).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping, "_MAX_ALPHABET", 0)
        assert near_text_groups(texts).tolist() == expected


@pytest.mark.parametrize(("n_words", "skew"), [(400, 1.1), (3_000, 0.3)], ids=["skewed", "many ties"])
def test_no_pair_within_two_edits_is_missed(n_words: int, skew: float) -> None:
    """Two edits of every kind, aimed at the rarest words, in texts whose words are rare to very common.

    A missed pair is what the filter could do wrong, and chance seldom hits the words it looks at.
    """
    rng = np.random.default_rng(2)
    vocabulary = ["".join(letters) for letters in product(string.ascii_lowercase, repeat=3)][:n_words]
    chances = 1 / np.arange(1, n_words + 1) ** skew
    chances /= chances.sum()
    bases = [
        [str(word) for word in rng.choice(vocabulary, rng.integers(14, 25), p=chances)] for _ in range(600)
    ]
    count = Counter(word for words in bases for word in words)
    partners = []
    for words in bases:
        words = list(words)
        if rng.random() < 0.2:  # a moved word is two edits and the same multiset
            words.append(words.pop(int(rng.integers(len(words)))))
        else:
            for _ in range(2):
                at = min(
                    rng.permutation(len(words))[: rng.integers(4, 30)], key=lambda index: count[words[index]]
                )
                match rng.integers(3):
                    case 0:
                        del words[at]
                    case 1:
                        words[at] = str(rng.choice(vocabulary))
                    case _:
                        words.insert(at, str(rng.choice(vocabulary)))
        partners.append(words)
    groups = near_text_groups([" ".join(words) for words in bases + partners])
    missed = np.flatnonzero(groups[:600] != groups[600:])
    assert missed.tolist() == []


def test_a_large_random_corpus_equals_brute_force() -> None:
    """Template texts: most words common, the few that differ rare, distances 0 to 5."""
    rng = np.random.default_rng(5)
    slots = [f"slot{letter}" for letter in string.ascii_lowercase]
    frame = normalise_text(
        "please read the following text with care and then answer as briefly as you can about"
    ).split(" ")
    texts = []
    for _ in range(120):
        words = list(frame)
        for at in rng.choice(len(frame), size=3, replace=False):
            words[at] = str(rng.choice(slots[: int(rng.integers(1, 6))]))
        texts.append(" ".join(words))
    assert near_text_groups(texts).tolist() == slow_groups(texts)
