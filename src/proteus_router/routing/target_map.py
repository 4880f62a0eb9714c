"""From an accuracy target to the operating point that serves it, with or without a promise.

Calibration writes a `TargetMap`; the router reads it. It holds a fixed sequence of operating points, the
most accurate first: the vertices of the frontier's lower hull and random mixtures of neighbours. A target
is certified by walking down that sequence while the lower confidence bound stays at or above it
(fixed-sequence testing); the walk stops at the first bound below, however good a later one looks. The first
point that is truly below the target must be passed for the promise to fail, and passing it has probability
<= delta: the number of points costs nothing.

A pool that was added to has two such sequences, two chains of points: the frontier, and the frontier without the models
of which little is known. Each is walked by itself with half of the allowed error, and the cheaper end serves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from proteus_router.errors import ArtifactIntegrityError, TargetError
from proteus_router.routing.certificate import Certificate, Infeasible, OperatingMix, Scheme
from proteus_router.routing.sample_size import needed_n
from proteus_router.routing.targets import parse_target, round_down
from proteus_router.types import Arrays, BoolArray, FloatArray, IntArray, Meta

__all__ = ["MOST_ACCURATE", "Certificate", "Infeasible", "OperatingMix", "TargetMap", "parse_target"]

MOST_ACCURATE = 0
"""Index of the most accurate operating point: vertices are kept in that order."""


@dataclass(frozen=True)
class TargetMap:
    """Operating points in testing order with their lower confidence bounds. Built by `calibration.calibrate`.

    Attributes
    ----------
    vertex_accuracy, vertex_cost_usd
        (V,) estimated mean score and USD per request of the policy's points; in each chain accuracy strictly falls and
        cost does not rise.
    upper
        (P,) the more accurate vertex of each point of the sequence.
    weight_upper
        (P,) probability of that vertex, in (0, 1]; the rest goes to the next vertex.
    evidence_accuracy, evidence_cost_usd
        (P,) mean score and USD per request on the evidence rows; NaN where there were none.
    n
        (P,) evidence rows behind each bound.
    lower_bounds
        (L, P) lower confidence bound of each point by itself at confidence 1 - delta / covered[l] / number of chains.
    covered
        (L,) numbers of simultaneous targets, rising from 1 (Bonferroni).
    frontier_size
        Vertices of the first chain, the frontier; None: there is no other.
    variance
        Variance of the most accurate point's scores where they are graded; None where all scores are 0 or 1.
    """

    vertex_accuracy: FloatArray
    vertex_cost_usd: FloatArray
    upper: IntArray
    weight_upper: FloatArray
    evidence_accuracy: FloatArray
    evidence_cost_usd: FloatArray
    n: IntArray
    lower_bounds: FloatArray
    covered: IntArray
    variance: float | None
    confidence: float
    scheme: Scheme
    data_fingerprint: str
    policy_fingerprint: str
    assumption: str
    frontier_size: int | None = None

    @cached_property
    def internal_targets(self) -> FloatArray:
        """(P,) estimated mean score of each point; strictly falling where there is one chain."""
        return self.between(self.vertex_accuracy)

    @cached_property
    def expected_costs_usd(self) -> FloatArray:
        """(P,) estimated USD per request of each point; not rising where there is one chain."""
        return self.between(self.vertex_cost_usd)

    @property
    def n_chains(self) -> int:
        """Sequences that are walked, each with its share of the error."""
        return len(self._walks)

    @property
    def on_frontier(self) -> BoolArray:
        """(P,) whether a point belongs to the first chain."""
        found: BoolArray = self.upper < self._frontier.stop
        return found

    @cached_property
    def floors(self) -> FloatArray:
        """(L, P) running minimum of the bounds: the largest target whose walk gets as far as each point."""
        return np.concatenate(
            [np.minimum.accumulate(self.lower_bounds[:, chain], axis=1) for chain in self._walks], axis=1
        )

    def certify(self, target: Any, *, n_simultaneous: int = 1) -> Certificate | Infeasible:
        """The cheapest point whose walk down its chain holds `target`, or why there is none.

        Parameters
        ----------
        target
            Required mean score, a fraction in (0, 1), chosen without looking at the evidence.
        n_simultaneous
            How many targets are to hold together at the map's confidence; 1 promises each by itself.

        Raises
        ------
        InvalidTargetError
            `target` is not a fraction in (0, 1).
        TargetError
            More simultaneous targets than the map was made for.
        """
        wanted = parse_target(target)
        level = self._level(n_simultaneous)
        ends = [
            end for chain in self._walks if (end := self._last_at_least(level, wanted, chain)) >= chain.start
        ]
        if not ends:
            return self._cannot_certify(wanted, level)
        point = min(ends, key=lambda end: self.expected_costs_usd[end])
        return Certificate(
            accuracy_target=wanted,
            internal_target=float(self.internal_targets[point]),
            n=int(self.n[point]),
            confidence=self.confidence,
            lower_bound=float(self.floors[level, point]),
            expected_cost_usd=float(self.expected_costs_usd[point]),
            scheme=self.scheme,
            simultaneous=int(self.covered[level]),
            data_fingerprint=self.data_fingerprint,
            policy_fingerprint=self.policy_fingerprint,
            assumption=self.assumption,
        )

    def mix(self, certificate: Certificate) -> OperatingMix:
        """The operating point that `certificate` speaks of.

        Raises
        ------
        TargetError
            The certificate was made for another policy or from other evidence.
        """
        made_for = (certificate.policy_fingerprint, certificate.data_fingerprint)
        served = self.internal_targets == certificate.internal_target
        served &= self.expected_costs_usd == certificate.expected_cost_usd
        if made_for != (self.policy_fingerprint, self.data_fingerprint) or not served.any():
            raise TargetError(
                "this certificate was made for another policy or from other data and does not hold here.",
                hint="Ask the router at hand for one.",
            )
        point = int(served.argmax())
        upper, weight = int(self.upper[point]), float(self.weight_upper[point])
        return OperatingMix(
            upper=upper,
            lower=upper if weight == 1.0 else upper + 1,
            weight_upper=weight,
            internal_target=float(self.internal_targets[point]),
            expected_cost_usd=float(self.expected_costs_usd[point]),
        )

    def expected(self, target: Any, *, clamp: bool = False) -> OperatingMix | Infeasible:
        """The mix whose estimated mean score equals `target`: no margin, no promise.

        Below the cheapest point's estimate the cheapest point serves. Above the most accurate point's
        estimate the answer is `Infeasible`, or with `clamp` the most accurate point.

        Raises
        ------
        InvalidTargetError
            `target` is not a fraction in (0, 1).
        """
        wanted = parse_target(target)
        accuracy, cost = self.vertex_accuracy[self._frontier], self.vertex_cost_usd[self._frontier]
        last = accuracy.size - 1
        if wanted > accuracy[0] and not clamp:
            return self._out_of_reach(wanted)
        lower = int(np.searchsorted(-accuracy, -wanted))  # first vertex whose estimate is <= the target
        if lower == 0 or lower > last:
            vertex = min(lower, last)
            return OperatingMix(vertex, vertex, 1.0, float(accuracy[vertex]), float(cost[vertex]))
        if accuracy[lower] == wanted:
            return OperatingMix(lower, lower, 1.0, wanted, float(cost[lower]))
        weight = float((wanted - accuracy[lower]) / (accuracy[lower - 1] - accuracy[lower]))
        mixed_cost = float(weight * cost[lower - 1] + (1.0 - weight) * cost[lower])
        return OperatingMix(lower - 1, lower, weight, wanted, mixed_cost)

    @property
    def certified_range(self) -> dict[str, float | None]:
        """Targets that certify one at a time: ``max_target`` is the largest, and at or below ``min_target``
        every target is served by the cheapest certified point. Rounded down to 4 decimals; None where there
        are none.
        """
        floors = self.floors[0]
        positive = floors[floors > 0.0]
        if not positive.size:
            return {"min_target": None, "max_target": None}
        return {"min_target": _target_or_none(positive.min()), "max_target": _target_or_none(positive.max())}

    @property
    def shortage(self) -> str | None:
        """A sentence when the evidence is too small for any target this router could be asked to hold, else
        None.

        Every target at or below the cheapest point's estimate is in effect no floor; so nothing useful can be
        certified when even the most accurate point's bound lies below it.
        """
        frontier = self.vertex_accuracy[self._frontier]
        top = self._top(0)
        best, cheapest = float(self.floors[0, top]), float(frontier[-1])
        if best > 0.0 and (best >= cheapest or frontier.size == 1):
            return None
        rows = self._needed(cheapest, 0)
        advice = f"about {rows} would be needed" if rows else "no number of such rows would do"
        return (
            f"Nothing can be certified: with n = {int(self.n[top])} evidence rows the most accurate operating "
            f"point's bound is {best:.4f}, below the cheapest point's estimate {cheapest:.4f}; {advice}."
        )

    def points(self) -> list[dict[str, float | int | None]]:
        """Each chain for reading, most accurate first: estimate, evidence (None without rows), bound after the
        walk, cost, and whether it is the frontier.
        """
        columns = zip(
            self.internal_targets,
            self.evidence_accuracy,
            self.floors[0],
            self.expected_costs_usd,
            self.evidence_cost_usd,
            self.n,
            self.on_frontier,
            strict=True,
        )
        return [
            {
                "internal_target": float(internal),
                "accuracy": float(accuracy) if rows else None,
                "accuracy_lower": float(floor),
                "cost_usd": float(cost),
                "evidence_cost_usd": float(seen_cost) if rows else None,
                "n": int(rows),
                "on_frontier": bool(first),
            }
            for internal, accuracy, floor, cost, seen_cost, rows, first in columns
        ]

    def to_state(self) -> tuple[Arrays, Meta]:
        """Arrays for safetensors and values for JSON."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}
        return arrays, {
            item.name: getattr(self, item.name) for item in fields(self) if item.name not in _ARRAYS
        }

    @classmethod
    def from_state(cls, arrays: Arrays, meta: Meta) -> TargetMap:
        """Inverse of `to_state`.

        Raises
        ------
        ArtifactIntegrityError
            An entry is missing, or shapes do not belong together.
        """
        try:
            values: dict[str, Any] = {name: np.asarray(arrays[name]) for name in _ARRAYS}
            values |= {item.name: meta[item.name] for item in fields(cls) if item.name not in _NOT_IN_META}
            values["frontier_size"] = meta.get("frontier_size")  # older artifacts have one chain
        except KeyError as error:
            raise ArtifactIntegrityError(f"the target map lacks {error}.") from error
        return cls(**values)

    def __post_init__(self) -> None:
        n_points = self.upper.size
        per_point = (self.weight_upper, self.evidence_accuracy, self.evidence_cost_usd, self.n)
        if (
            not n_points
            or any(array.shape != (n_points,) for array in per_point)
            or self.vertex_cost_usd.shape != self.vertex_accuracy.shape
            or self.lower_bounds.shape != (self.covered.size, n_points)
            or not 0 < self._frontier.stop <= self.vertex_accuracy.size
            or any(np.any(np.diff(self.vertex_accuracy[chain]) >= 0.0) for chain in self._chains)
            or any(np.any(np.diff(self.vertex_cost_usd[chain]) > 0.0) for chain in self._chains)
            or np.any(
                (self.upper < 0) | (self.upper + (self.weight_upper < 1.0) >= self.vertex_accuracy.size)
            )
            or np.any(np.diff(self.on_frontier.astype(int)) > 0)  # the first chain's points come first
        ):
            raise ArtifactIntegrityError("the target map's arrays do not belong together.")

    @property
    def _frontier(self) -> slice:
        """Vertices of the first chain."""
        return slice(0, self.vertex_accuracy.size if self.frontier_size is None else self.frontier_size)

    @property
    def _chains(self) -> tuple[slice, slice]:
        return self._frontier, slice(self._frontier.stop, None)

    @cached_property
    def _walks(self) -> tuple[slice, ...]:
        """The points of each chain."""
        first = int(self.on_frontier.sum())
        return (slice(0, first), slice(first, self.upper.size))[: 1 + (first < self.upper.size)]

    def _top(self, level: int) -> int:
        """The most accurate point of the chain that promises most."""
        starts = [int(chain.start) for chain in self._walks]
        return max(starts, key=lambda start: float(self.lower_bounds[level, start]))

    def between(self, values: FloatArray) -> FloatArray:
        """(P,) the vertex values (V,) interpolated at every point."""
        lower = np.minimum(self.upper + 1, values.size - 1)
        mixed = self.weight_upper * values[self.upper] + (1.0 - self.weight_upper) * values[lower]
        return np.where(self.weight_upper == 1.0, values[self.upper], mixed)

    def _level(self, n_simultaneous: int) -> int:
        if n_simultaneous < 1 or n_simultaneous > self.covered[-1]:
            raise TargetError(
                f"{n_simultaneous} simultaneous targets; certificates cover 1 to {self.covered[-1]}.",
                hint="Ask for fewer targets at a time.",
            )
        return int(np.searchsorted(self.covered, n_simultaneous))

    def _last_at_least(self, level: int, target: float, chain: slice) -> int:
        """Index of the last point of a chain whose floor is >= `target`; before its start when there is none."""
        return int(chain.start + np.searchsorted(-self.floors[level, chain], -target, side="right")) - 1

    def _needed(self, target: float, level: int) -> int | None:
        accuracy = float(self.evidence_accuracy[self._top(level)])
        if math.isnan(accuracy):  # no evidence at all: go by the estimate
            accuracy = float(self.vertex_accuracy[0])
        delta = (1.0 - self.confidence) / float(self.covered[level])
        return needed_n(target, accuracy, delta, variance=self.variance)

    def _cannot_certify(self, target: float, level: int) -> Infeasible:
        top = self._top(level)
        floor = float(self.floors[level, top])
        rows, n, accuracy = self._needed(target, level), int(self.n[top]), float(self.evidence_accuracy[top])
        best = _target_or_none(floor)
        reason = f"The most accurate operating point scored {accuracy:.4f} on n = {n} evidence rows"
        if not n:
            reason = "There is no evidence row for the most accurate operating point"
        reason += f"; its lower bound at confidence {self.confidence:g} is {floor:.4f}"
        reason += f" for {int(self.covered[level])} targets together. " if level else ". "
        reason += (
            f"Certifying {target:g} would need about {rows} such rows."
            if rows
            else f"Its own estimate is not above {target:g}, so more rows would not help."
        )
        return Infeasible(target, best, self._best_expected, rows, n, self.confidence, reason)

    def _out_of_reach(self, target: float) -> Infeasible:
        reason = f"The most accurate operating point is estimated at {float(self.vertex_accuracy[0]):.4f}."
        top = self._top(0)
        best, rows = _target_or_none(float(self.floors[0, top])), self._needed(target, 0)
        return Infeasible(target, best, self._best_expected, rows, int(self.n[top]), self.confidence, reason)

    @property
    def _best_expected(self) -> float:
        return round_down(float(self.vertex_accuracy[0]))


_ARRAYS = (
    "vertex_accuracy",
    "vertex_cost_usd",
    "upper",
    "weight_upper",
    "evidence_accuracy",
    "evidence_cost_usd",
    "n",
    "lower_bounds",
    "covered",
)


_NOT_IN_META = (*_ARRAYS, "frontier_size")


def _target_or_none(floor: float) -> float | None:
    """A floor as a target somebody may ask for: 4 decimals, or None where that is 0."""
    return round_down(float(floor)) or None
