"""The audit coin: known chance, the same everywhere, unpredictable without the seed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from proteus_router.control import audit_coin, is_audited, rate_with_minimum

IDS = [f"dec_{index:032x}" for index in range(20_000)]


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.5])
def test_the_share_drawn_is_the_rate(rate: float) -> None:
    drawn = np.mean([is_audited(name, rate, seed="s") for name in IDS])
    assert abs(drawn - rate) < 4 * np.sqrt(rate * (1 - rate) / len(IDS))


def test_the_ends() -> None:
    assert all(is_audited(name, 1.0, seed="s") for name in IDS[:100])
    assert not any(is_audited(name, 0.0, seed="s") for name in IDS[:100])
    assert all(0.0 <= audit_coin(name, seed="s") < 1.0 for name in IDS[:1000])


def test_raising_the_rate_only_adds_requests() -> None:
    low = {name for name in IDS if is_audited(name, 0.05, seed="s")}
    high = {name for name in IDS if is_audited(name, 0.2, seed="s")}
    assert low < high


def test_another_process_draws_the_same_and_another_seed_another_sample() -> None:
    script = (
        "from proteus_router.control import audit_coin\n"
        "print(*[audit_coin(f'dec_{index:032x}', seed='s') for index in range(50)])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    here = [audit_coin(name, seed="s") for name in IDS[:50]]
    assert [float(value) for value in run.stdout.split()] == here
    other = np.array([audit_coin(name, seed="t") for name in IDS])
    mine = np.array([audit_coin(name, seed="s") for name in IDS])
    assert abs(np.corrcoef(mine, other)[0, 1]) < 0.03
    assert abs(np.corrcoef(mine[:-1], mine[1:])[0, 1]) < 0.03  # nor do ids that follow each other


def test_rare_tiers_get_their_minimum() -> None:
    assert rate_with_minimum(0.05, recent_requests=10_000, minimum=50) == 0.05
    assert rate_with_minimum(0.05, recent_requests=100, minimum=50) == 0.5
    assert rate_with_minimum(0.05, recent_requests=20, minimum=50) == 1.0
    assert rate_with_minimum(0.05, recent_requests=0, minimum=50, ceiling=0.3) == 0.3
    assert rate_with_minimum(0.05, recent_requests=0, minimum=0) == 0.05
    with pytest.raises(ValueError, match="rate"):
        rate_with_minimum(0.0, recent_requests=1, minimum=1)
