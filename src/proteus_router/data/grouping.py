"""Groups of near-same texts, so that no text stands on two sides of a split.

Two texts are near when they are equal after `normalise_text`, or when both have 12 words or more, hold the
same sequence of digit strings, and lie within a word-level edit distance of 2. Groups are the transitive
closure.

The search is exact. Comparing all pairs is quadratic, and texts cut from one template share long stretches,
so segments in common say little. Instead each text is represented by its rarest words: two texts within 2
word edits share all but 2 of their words, hence at least `_SHARED` of the `_SHARED + 2` rarest of each
(rarest first in one global order; proof in `_candidate_buckets`). Texts meet only in buckets keyed by such
a set of rare words, and boilerplate, being common, is never part of a key.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from hashlib import blake2b
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from proteus_router.types import IntArray

__all__ = ["MAX_EDITS", "MIN_WORDS", "near_text_groups", "normalise_text", "text_fingerprints"]

MIN_WORDS = 12
"""Texts below this length are near only when equal: two edits would change what they ask."""
MAX_EDITS = 2
"""Word-level insertions, deletions and substitutions allowed between near texts."""

_SHARED = 4  # Rare words two near texts must share; 15 keys a text, specific enough to keep buckets small.
_DIGITS = re.compile(r"\d+")
_MAX_ALPHABET = 0x110000 - 0x800  # code points of Unicode without surrogates


def normalise_text(text: str) -> str:
    """NFKC, lower case, white space collapsed to single blanks."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.lower().split())


def text_fingerprints(texts: Sequence[str]) -> NDArray[np.uint64]:
    """64-bit hash of each normalised text, (n,): equal for texts that are equal but for case, form and
    spaces.

    Stored with a router so that it can tell later that an evaluation row was trained on, without keeping
    the text.
    """
    digests = b"".join(
        blake2b(normalise_text(text).encode("utf-8"), digest_size=8, person=b"proteus-text").digest()
        for text in texts
    )
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def near_text_groups(texts: Sequence[str]) -> IntArray:
    """Group id of each text, (n,): 0, 1, ... in order of first appearance.

    Examples
    --------
    >>> near_text_groups(["What is 2 + 2?", "what is  2 + 2?", "What is 2 + 3?"]).tolist()
    [0, 0, 1]
    """
    unique: dict[str, int] = {}
    row_text = [unique.setdefault(normalise_text(text), len(unique)) for text in texts]
    parent = _join_near(list(unique))
    first: dict[int, int] = {}
    return np.array([first.setdefault(parent[index], len(first)) for index in row_text], dtype=np.int64)


def _join_near(texts: list[str]) -> list[int]:
    """Representative of each of the distinct, normalised texts."""
    forest = _Forest(len(texts))
    words = {index: split for index, text in enumerate(texts) if len(split := text.split()) >= MIN_WORDS}
    if len(words) < 2:
        return forest.roots()
    owners = list(words)
    flat, starts = _flat_word_ids([words[index] for index in owners])
    digits = _digit_codes([texts[index] for index in owners])
    buckets = _candidate_buckets(flat, starts, digits)
    encoded = _encode(flat, starts, sorted({member for bucket in buckets for member in bucket}))
    for bucket in buckets:
        for left, right in _near_links(bucket, encoded, forest, owners):
            forest.join(owners[left], owners[right])
    return forest.roots()


def _flat_word_ids(split_texts: list[list[str]]) -> tuple[IntArray, IntArray]:
    """All words as ids, one text after the other, (n_words,), and where each text starts, (n_texts + 1,)."""
    vocabulary: dict[str, int] = {}
    flat = [vocabulary.setdefault(word, len(vocabulary)) for words in split_texts for word in words]
    lengths = [len(words) for words in split_texts]
    return np.array(flat, dtype=np.int64), np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)


def _digit_codes(texts: list[str]) -> IntArray:
    """One code per sequence of digit strings, (n_texts,)."""
    codes: dict[tuple[str, ...], int] = {}
    return np.array(
        [codes.setdefault(tuple(_DIGITS.findall(text)), len(codes)) for text in texts], dtype=np.int64
    )


def _candidate_buckets(flat: IntArray, starts: IntArray, digits: IntArray) -> list[list[int]]:
    """Sets of texts such that every near pair stands together in at least one of them.

    A text of n words is a multiset A, and one edit changes at most one word on each side, so near texts A, B of
    n and m words have |A & B| >= t = max(n, m) - 2. Order words by rarity. The first s words of A & B are
    preceded in A by at most n - t <= 2 words outside B, so they are among the first s + 2 of A, and likewise
    of B: the first s + 2 words of both have s in common.
    """
    frequency = np.bincount(flat)
    text_of = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    rarest_first = np.lexsort((flat, frequency[flat], text_of))  # ties by id: one order for all texts
    rare = flat[rarest_first][starts[:-1, None] + np.arange(_SHARED + MAX_EDITS)]  # (n_texts, _SHARED + 2)

    # A word that occurs once in all texts is in no shared key; with more than 2 a text is near nothing.
    candidates = np.flatnonzero((frequency[rare] == 1).sum(axis=1) <= MAX_EDITS)
    choices = list(combinations(range(_SHARED + MAX_EDITS), _SHARED))
    keys = np.concatenate(
        [np.column_stack((digits[candidates], rare[candidates][:, choice])) for choice in choices]
    )
    members = np.tile(candidates, len(choices))
    order = np.lexsort((members, *keys.T))
    changes = np.flatnonzero(np.any(np.diff(keys[order], axis=0) != 0, axis=1)) + 1
    begins = np.concatenate(([0], changes))
    ends = np.concatenate((changes, [len(order)]))
    buckets = {
        tuple(sorted(set(members[order[begin:end]].tolist())))  # a repeated word gives a text one key twice
        for begin, end in zip(begins, ends, strict=True)
        if end - begin > 1
    }
    return [list(bucket) for bucket in sorted(buckets) if len(bucket) > 1]


def _encode(flat: IntArray, starts: IntArray, members: list[int]) -> dict[int, Any]:
    """Each member text as a string of one character a word: the form rapidfuzz compares fastest."""
    letters: dict[int, int] = {}
    coded = {
        member: [
            letters.setdefault(word, len(letters))
            for word in flat[starts[member] : starts[member + 1]].tolist()
        ]
        for member in members
    }
    if len(letters) > _MAX_ALPHABET:
        return dict(coded)  # more words than characters: id lists, slower and as exact
    return {member: "".join(map(_character, ids)) for member, ids in coded.items()}


def _character(index: int) -> str:
    return chr(index if index < 0xD800 else index + 0x800)


def _near_links(
    bucket: list[int], encoded: dict[int, Any], forest: _Forest, owners: list[int]
) -> list[tuple[int, int]]:
    """Pairs within the edit distance that connect the bucket, by a search that reaches each text once."""
    pending: dict[int, list[int]] = {}
    for member in bucket:
        pending.setdefault(forest.find(owners[member]), []).append(member)
    if len(pending) == 1:  # an earlier bucket joined them all
        return []
    waiting = list(bucket)
    links: list[tuple[int, int]] = []
    while waiting:
        frontier = [waiting.pop()]
        while frontier and waiting:
            seed = frontier.pop()
            distance = cdist(
                [encoded[seed]],
                [encoded[member] for member in waiting],
                scorer=Levenshtein.distance,
                score_cutoff=MAX_EDITS,
                dtype=np.uint8,
            )[0]
            near = distance <= MAX_EDITS
            reached = [member for member, hit in zip(waiting, near, strict=True) if hit]
            waiting = [member for member, hit in zip(waiting, near, strict=True) if not hit]
            links += [(seed, member) for member in reached]
            frontier += reached
    return links


class _Forest:
    """Union-find over 0 .. n - 1; the root of a set is its smallest member."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def find(self, node: int) -> int:
        while (parent := self._parent[node]) != node:
            self._parent[node] = node = self._parent[parent]
        return node

    def join(self, left: int, right: int) -> None:
        low, high = sorted((self.find(left), self.find(right)))
        self._parent[high] = low

    def roots(self) -> list[int]:
        return [self.find(node) for node in range(len(self._parent))]
