"""kill -9 in the middle of writing: what was acknowledged is there, of the rest at most the window is missing."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.serving.store.helpers import MakeDecision, rows

FLUSH_INTERVAL_S = 0.3
WINDOW_S = 2 * FLUSH_INTERVAL_S

# Records some 500 decisions a second and gives feedback on an earlier one now and then; says on stdout what it has
# done, each line in one write. CLOCK_MONOTONIC is the same for both processes.
VICTIM = """
import asyncio, json, os, sys, time
from proteus_router.serving.records import DecisionRecord, Feedback
from proteus_router.serving.store import open_store

url, prefix, values = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
values |= {"reasons": tuple(values["reasons"]), "candidates": ()}

def say(*what):
    os.write(1, (json.dumps(what) + "\\n").encode())

async def main():
    store = open_store(url, flush_interval_s=float(sys.argv[4]))
    await store.start()
    n = 0
    while True:
        record = DecisionRecord(**values | {"id": f"dec_{prefix}_{n:06d}"})
        store.record(record)
        say("recorded", record.id, time.monotonic())
        if n % 50 == 0:  # of the newest, still queued, and of an old one
            for age in (0, 25):
                chosen = f"dec_{prefix}_{max(0, n - age):06d}"
                item = Feedback(decision_id=chosen, source=f"s{n}-{age}", score=0.5, created_at=0.0)
                (result,) = await store.add_feedback([item])
                say("acknowledged", chosen, item.source, result.status)
        n += 1
        await asyncio.sleep(0.002)

asyncio.run(main())
"""


def murder(url: str, prefix: str, values: str, after_s: float) -> tuple[list[list[object]], float]:
    """Lines of a victim that was killed `after_s` after its first record, and when."""
    command = [sys.executable, "-c", VICTIM, url, prefix, values, str(FLUSH_INTERVAL_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        first = victim.stdout.readline()
        time.sleep(after_s)
        victim.send_signal(signal.SIGKILL)
        killed_at = time.monotonic()
        rest = victim.stdout.read()
    lines = (first + rest).splitlines()
    assert victim.returncode == -signal.SIGKILL
    return [json.loads(line) for line in lines if line.endswith("]")], killed_at


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_kill_loses_at_most_the_window_and_nothing_acknowledged(
    url: str, make_decision: MakeDecision, kills: int
) -> None:
    record = make_decision()
    values = json.dumps({name: getattr(record, name) for name in record.__slots__})
    draw = random.Random(3)
    recorded: list[tuple[str, bool]] = []  # id, whether it must be there
    acknowledged: set[tuple[str, str]] = set()
    for kill in range(kills):
        lines, killed_at = murder(url, str(kill), values, after_s=draw.uniform(1.0, 1.7))
        for line in lines:
            if line[0] == "recorded":
                recorded.append((str(line[1]), float(str(line[2])) < killed_at - WINDOW_S))
            else:
                assert line[3] == "stored"
                acknowledged.add((str(line[1]), str(line[2])))
    due = {decision_id for decision_id, is_due in recorded if is_due}
    assert len(due) > 50 * kills
    stored = {row.id for row in rows(url, "SELECT id FROM decisions")}
    assert due <= stored, f"{len(due - stored)} decisions older than the window are gone"
    assert len(acknowledged) > 2 * kills
    given = {(row.decision_id, row.source) for row in rows(url, "SELECT decision_id, source FROM feedback")}
    assert acknowledged <= given, f"{len(acknowledged - given)} acknowledged items are gone"
    (total,) = rows(url, "SELECT sum(requests) AS requests, sum(cost_usd) AS usd FROM spend")
    assert total.requests == len(stored)  # the spend was committed with its decisions, or not at all
    assert total.usd == pytest.approx(0.001 * len(stored))
