"""Near-same texts: the definition by example, and the cost of the search."""

from __future__ import annotations

import time

import numpy as np
import pytest

from proteus_router.data.grouping import near_text_groups, normalise_text, text_fingerprints

LONG = "a train leaves the station at noon and travels north for three hours without any stop"  # 16 words


def same(left: str, right: str) -> bool:
    groups = near_text_groups([left, right])
    return bool(groups[0] == groups[1])


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("What is LIFE?", " what\tis\n life? "),
        ("ﬁnd the １２th term", "find the 12th term"),
        (LONG, LONG.replace("noon", "dusk").replace("north", "south")),
        (LONG, LONG + " at all"),
        (LONG, LONG.replace("without any ", "")),
        (LONG, "Then " + LONG.replace("noon ", "")),
        (f"{LONG} at 12 mph", f"{LONG} at 12 knots"),
    ],
)
def test_near_texts_share_a_group(left: str, right: str) -> None:
    assert same(left, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("what is two plus two?", "what is two plus three?"),  # short: equal or not
        (LONG, LONG.replace("noon", "dusk").replace("north", "south").replace("three", "four")),
        (f"{LONG} at 12 mph", f"{LONG} at 13 mph"),
        (f"{LONG} from 12 to 3", f"{LONG} from 3 to 12"),
        (f"{LONG} at 12 mph", f"{LONG} at 1 2 mph"),
        (" ".join(LONG.split()[:11]), " ".join([*LONG.split()[:10], "dawn"])),
        (" ".join(LONG.split()[:12]), " ".join(LONG.split()[:11])),  # one of them below 12 words
    ],
)
def test_texts_that_differ_in_more_do_not(left: str, right: str) -> None:
    assert not same(left, right)


def test_groups_are_transitive_and_numbered_by_first_appearance() -> None:
    words = LONG.split()
    chain = [" ".join([f"new{word}" for word in words[:k]] + words[k:]) for k in (4, 0, 2)]
    assert near_text_groups(["other", *chain, "OTHER"]).tolist() == [0, 1, 1, 1, 0]
    assert near_text_groups(chain[:2]).tolist() == [0, 1]  # 4 edits apart without the middle one
    assert near_text_groups([]).tolist() == []


def test_normalising_twice_changes_nothing() -> None:
    for text in ("ＡＢＣ  Straße\u00a0ﬁ", "İstanbul", "  ", "漢字 Ⅷ"):
        assert normalise_text(normalise_text(text)) == normalise_text(text)


def test_fingerprints_are_equal_exactly_for_texts_equal_after_normalising() -> None:
    prints = text_fingerprints(["What is it?", "WHAT  is it?", "What is it", "Ünïcode", "ünïcode"])
    assert prints.dtype == np.uint64
    assert prints[0] == prints[1]
    assert prints[3] == prints[4]
    assert len(set(prints.tolist())) == 3


def test_long_shared_boilerplate_costs_no_pairwise_search() -> None:
    """3,000 texts, 42 words of each the same: all pairs would be 4.5 million comparisons."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    boilerplate = " ".join(f"{letter}{letter}" for letter in letters) + " " + LONG
    texts = [
        boilerplate + " " + " ".join("".join(rng.choice(letters, 3)) for _ in range(10)) for _ in range(3_000)
    ]
    texts[77] = texts[5] + " indeed"
    started = time.process_time()
    groups = near_text_groups(texts)
    assert time.process_time() - started < 3
    assert groups[77] == groups[5]
    assert groups.max() + 1 == 2_999
