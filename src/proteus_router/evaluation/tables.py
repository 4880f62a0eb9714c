"""An evaluation as text for a terminal."""

from __future__ import annotations

from proteus_router.evaluation.evaluate import Evaluation, TargetResult

__all__ = ["evaluation_table"]


def evaluation_table(report: Evaluation) -> str:
    """One line a target, then the figures over all of them; USD are per 1,000 queries."""
    origin = "simulated data" if report.simulated else "data"
    lines = [
        f"{report.n_queries} held-out queries of {report.data} ({origin}); guarantee: {report.guarantee}"
        + (f" at confidence {report.confidence:g}" if report.guarantee == "certified" else "")
        + (f", {len(report.targets)} targets together" if report.simultaneous else ""),
        "",
        f"{'target':>7s} {'certified':>10s} {'achieved':>9s} {'95% interval':>15s} {'USD/1K':>9s} "
        f"{'static mix':>11s} {'ratio':>6s}  floor",
    ]
    lines += [_line(result) for result in report.targets]
    lines.append("")
    if report.floor_compliance is not None:
        lines.append(
            f"floor compliance {report.floor_compliance:.0%} of {report.floor_cells} targets, "
            f"worst shortfall {(report.worst_shortfall or 0.0) * 100:.2f} points"
        )
    if report.target_accuracy_correlation is not None:
        lines.append(f"correlation of target with achieved accuracy {report.target_accuracy_correlation:.4f}")
    levels = len(report.ratio.levels)
    if levels:
        lines.append(
            f"cost ratio to the static mix {report.ratio.mean:.3f} over {levels} accuracy levels "
            f"(oracle {report.ratio.oracle_ratio:.3f}; {report.ratio.oracle_gap_closed:.0%} of the oracle gap closed)"
        )
    best = report.best_single
    lines.append(
        f"best single model {best['model']}: {best['accuracy']:.4f} at {best['cost_usd'] * 1000:.4f} USD/1K; "
        f"oracle {report.oracle_accuracy:.4f} at {report.oracle_cost_usd * 1000:.4f}"
    )
    return "\n".join(lines)


def _line(result: TargetResult) -> str:
    if result.accuracy is None or result.accuracy_interval is None or result.cost_usd is None:
        return f"{result.accuracy_target:7.4f} {'no':>10s}   {result.reason}"
    low, high = result.accuracy_interval
    return (
        f"{result.accuracy_target:7.4f} {'yes' if result.certified else 'no':>10s} {result.accuracy:9.4f} "
        f"{f'{low:.3f}-{high:.3f}':>15s} {result.cost_usd * 1000:9.4f} "
        f"{(result.static_mix_cost_usd or 0.0) * 1000:11.4f} {result.cost_ratio_to_static_mix or float('nan'):6.3f}  "
        f"{_verdict(result, high)}"
    )


def _verdict(result: TargetResult, upper: float) -> str:
    """A shortfall that the interval covers is what a sample of this size shows of a floor that holds."""
    if result.floor_held:
        return "held"
    return "below, within noise" if upper >= result.accuracy_target else "MISSED"
