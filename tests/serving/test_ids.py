"""Names are of one form, never repeat, and share nothing but the prefix."""

from __future__ import annotations

import re

from proteus_router.serving.ids import RandomIds


def test_names_have_the_form_and_never_repeat() -> None:
    ids, others = RandomIds("dec_"), RandomIds("dec_")
    drawn = [source() for _ in range(1_000) for source in (ids, others)]
    assert all(re.fullmatch(r"dec_[0-9a-f]{32}", name) for name in drawn)
    assert len(set(drawn)) == len(drawn)
