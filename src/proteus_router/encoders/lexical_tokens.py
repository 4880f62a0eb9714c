"""Words of a text in any script, and the cheap surface facts of a text; shared by training and inference.

Plain `\\w+` fails twice outside English: Python counts the vowel signs of Indic scripts as no letters, so words
fall apart, and scripts written without spaces (Han, Kana, Thai, Lao, Khmer, Burmese) become one huge word. So
Indic blocks count as letters whole, and a run of an unspaced script becomes its character bigrams.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from math import log1p

__all__ = ["SURFACE_FEATURES", "surface_features", "words"]

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_MARKS = "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u0900-\u0dff"
_ASCII_WORD = re.compile(r"\w+", re.ASCII)
_ANY_WORD = re.compile(rf"[{_UNSPACED}]+|(?:(?![{_UNSPACED}])[\w{_MARKS}])+")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")


def words(text: str) -> list[str]:
    """Lower-cased words of `text` after NFKC; character bigrams where a script has no spaces.

    May be empty (a text of punctuation or emoji alone).

    >>> words("What is 2+2?")
    ['what', 'is', '2', '2']
    >>> words("東京都")
    ['東京', '京都']
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    found: list[str] = []
    for run in _ANY_WORD.findall(unicodedata.normalize("NFKC", text).lower()):
        if _IS_UNSPACED.match(run) and len(run) > 1:
            found += [run[i : i + 2] for i in range(len(run) - 1)]
        else:
            found.append(run)
    return found


SURFACE_FEATURES = (
    "log_chars",
    "log_words",
    "log_lines",
    "mean_word_chars",
    "log_options",
    "log_digits",
    "digit_share",
    "upper_share",
    "log_math",
    "log_brackets",
    "log_latex",
    "log_question_marks",
    "log_quotes",
    "non_ascii_share",
    "distinct_share",
)
_OPTION = re.compile(r"^\s*\(?[A-Ja-j][.):]\s", re.MULTILINE)
_DIGITS = str.maketrans("", "", "0123456789")
_CAPITALS = str.maketrans("", "", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_MATH = "+=<>^*/%"
_BRACKETS = "()[]{};"
_QUOTES = "\"'`\u201c\u201d"


def surface_features(text: str, found: Sequence[str]) -> tuple[float, ...]:
    """(15,) counts and shares of `SURFACE_FEATURES`, unscaled; `found` is ``words(text)``."""
    chars, n_words = max(len(text), 1), max(len(found), 1)
    digits = len(text) - len(text.translate(_DIGITS))
    if text.isascii():
        non_ascii, capitals = 0, len(text) - len(text.translate(_CAPITALS))
    else:
        non_ascii = sum(not c.isascii() for c in text)
        capitals = sum(map(str.isupper, text))
    count = text.count
    return (
        log1p(chars),
        log1p(len(found)),
        log1p(count("\n")),
        sum(map(len, found)) / n_words,
        log1p(len(_OPTION.findall(text))),
        log1p(digits),
        digits / chars,
        capitals / chars,
        log1p(sum(map(count, _MATH))),
        log1p(sum(map(count, _BRACKETS))),
        log1p(count("\\") + count("$")),
        log1p(count("?")),
        log1p(sum(map(count, _QUOTES))),
        non_ascii / chars,
        len(set(found)) / n_words,
    )
