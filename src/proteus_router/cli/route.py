"""`proteus route`: one decision explained, or JSON lines in, JSON lines out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import click
import numpy as np

from proteus_router.errors import InvalidTargetError, ProteusError, SchemaError
from proteus_router.routing.router import Router
from proteus_router.routing.target_map import parse_target
from proteus_router.types import Decision, Guarantee, OnInfeasible

__all__ = ["guarantee_options", "route"]


def guarantee_options(command: Any) -> Any:
    """--guarantee and --on-infeasible, shared by `route` and `evaluate`."""
    for option in (
        click.option(
            "--on-infeasible",
            type=click.Choice(["reject", "best_effort"]),
            default="reject",
            show_default=True,
            help="What to do where the target can't be kept: refuse, or serve the best there is, uncertified.",
        ),
        click.option(
            "--guarantee",
            type=click.Choice(["certified", "expected"]),
            default="certified",
            show_default=True,
            help="certified: keep the floor with confidence; expected: meet it on average, no margin.",
        ),
    ):
        command = option(command)
    return command


@click.command(
    epilog='Example: proteus route router/ --accuracy-target 0.80 "Prove that 7 is prime"\n\n'
    "Example: proteus route router/ --input queries.jsonl --accuracy-target 0.80 > decisions.jsonl\n\n"
    'Lines in: {"query_id": "q1", "query": "...", "accuracy_target": 0.8}, the target optional where given above.'
)
@click.argument("router", type=click.Path(path_type=Path))
@click.argument("text", required=False)
@click.option("--accuracy-target", help="Required mean score as a fraction, such as 0.80.")
@click.option("--input", "source", help="JSON lines to route; - reads standard input.")
@guarantee_options
@click.option("--seed", type=int, help="Fixes every random choice.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout (with TEXT).")
def route(
    router: Path,
    text: str | None,
    accuracy_target: str | None,
    source: str | None,
    guarantee: str,
    on_infeasible: str,
    seed: int | None,
    as_json: bool,
) -> None:
    """Choose the model for TEXT, or for every line of --input."""
    if (text is None) == (source is None):
        raise click.UsageError("Give either TEXT or --input FILE.jsonl (or --input -).")
    target = None if accuracy_target is None else parse_target(accuracy_target)
    if source is None and target is None:
        raise click.UsageError("--accuracy-target is needed, for example --accuracy-target 0.80.")
    loaded = Router.load(router)
    rng = np.random.default_rng(seed)
    promise = {"guarantee": cast(Guarantee, guarantee), "on_infeasible": cast(OnInfeasible, on_infeasible)}
    if text is not None and target is not None:
        decision = loaded.route(text, accuracy_target=target, rng=rng, **promise)  # type: ignore[arg-type]
        click.echo(json.dumps(_document(decision), ensure_ascii=False) if as_json else _explain(decision))
        return
    assert source is not None
    with _lines(source) as lines:
        records = [
            _record(line, number, source, target) for number, line in enumerate(lines, 1) if line.strip()
        ]
    _check_each(loaded, records, source, **promise)
    decisions = loaded.route_batch(
        [record["query"] for record in records],
        accuracy_target=[record["accuracy_target"] for record in records],
        rng=rng,
        **promise,  # type: ignore[arg-type]
    )
    for record, decision in zip(records, decisions, strict=True):
        line = {
            "query_id": record["query_id"],
            "model": decision.model,
            "accuracy_target": decision.accuracy_target,
            "predicted_score": decision.predicted_score,
            "predicted_cost_usd": decision.predicted_cost_usd,
            "certified": decision.certified,
            "propensity": decision.propensity,
        }
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")


@contextmanager
def _lines(source: str) -> Iterator[IO[bytes]]:
    if source == "-":
        yield sys.stdin.buffer
        return
    with Path(source).open("rb") as file:
        yield file


def _record(line: bytes, number: int, source: str, default_target: float | None) -> dict[str, Any]:
    where = f"{source}: line {number}"
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise SchemaError(f"{where}: not UTF-8 ({error.reason}).", hint="Save the file as UTF-8.") from error
    except ValueError as error:
        raise SchemaError(f"{where}: not a JSON object ({error}).") from error
    if not isinstance(record, dict) or "query" not in record or "query_id" not in record:
        raise SchemaError(f'{where}: needs {{"query_id": ..., "query": ...}}.')
    target = record.get("accuracy_target", default_target)
    if target is None:
        raise SchemaError(f"{where}: no accuracy_target, neither in the line nor as --accuracy-target.")
    try:
        return {
            "query_id": record["query_id"],
            "query": record["query"],
            "accuracy_target": parse_target(target),
        }
    except InvalidTargetError as error:
        raise InvalidTargetError(f"{where}: {error.message}", hint=error.hint) from error


def _check_each(router: Router, records: list[dict[str, Any]], source: str, **promise: Any) -> None:
    """Every query and target is checked before the first decision, so that stdout stays empty on an error."""
    for number, record in enumerate(records, 1):
        try:
            router.check_query(record["query"])
            router.plan(record["accuracy_target"], **promise)
        except ProteusError as error:
            error.args = (f"{source}: record {number} (query_id {record['query_id']!r}): {error.message}",)
            error.message = error.args[0]
            raise


def _document(decision: Decision) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(decision)


def _explain(decision: Decision) -> str:
    lines = [
        f"{decision.model}   predicted score {decision.predicted_score:.3f}, {decision.predicted_cost_usd:.3g} USD"
    ]
    lines += [f"  {reason}" for reason in decision.reasons]
    lines += ["", f"  {'candidate':34s} {'score':>7s} {'USD':>11s} {'probability':>12s}"]
    lines += [
        f"  {c.model[:34]:34s} {c.predicted_score:7.3f} {c.predicted_cost_usd:11.3g} {c.propensity:12.3f}"
        for c in sorted(decision.candidates, key=lambda c: -c.predicted_score)
    ]
    return "\n".join(lines)
