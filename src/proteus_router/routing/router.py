"""The router: text and accuracy target in, one model out, with the reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proteus_router.errors import (
    ArtifactIntegrityError,
    InfeasibleTargetError,
    InvalidQueryError,
    SchemaError,
)
from proteus_router.routing.artifact import Artifact, load_artifact
from proteus_router.routing.policies import Policy, load_policy
from proteus_router.routing.predictors import load_predictor
from proteus_router.routing.target_map import Certificate, Infeasible, OperatingMix, TargetMap, parse_target
from proteus_router.types import (
    Arrays,
    Candidate,
    Decision,
    FloatArray,
    Guarantee,
    IntArray,
    Meta,
    OnInfeasible,
    Predictions,
    Predictor,
)

__all__ = ["Plan", "Router"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How requests at one accuracy target are served: two adjacent operating points and a coin."""

    mix: OperatingMix
    certificate: Certificate | None
    reason: str


@dataclass(frozen=True)
class Router:
    """Routes queries under an accuracy floor. Build one with `Router.load`.

    Attributes
    ----------
    models
        (n_models,) names, in the order of every array.
    manifest
        What training wrote down: encoder, prices, data and policy fingerprints, reports.
    void_reason
        Why the certificates do not hold (pool or prices changed since), or "".
    """

    models: tuple[str, ...]
    predictor: Predictor
    policy: Policy
    target_map: TargetMap
    manifest: Meta
    max_query_chars: int = 200_000
    void_reason: str = ""
    cost_factors: tuple[float, ...] | None = None
    available: tuple[bool, ...] | None = None
    trained_texts: NDArray[np.uint64] | None = field(default=None, repr=False, compare=False)
    input_reference: Arrays | None = field(default=None, repr=False, compare=False)
    _plans: dict[tuple[float, str, str], Plan] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, folder: str | Path) -> Router:
        """Load and verify an artifact folder.

        Raises
        ------
        ArtifactError
            Missing, truncated, edited or written by a newer release.
        EncoderError
            The encoder it was trained with is not installed, or is another one.
        """
        return cls.from_artifact(load_artifact(Path(folder)), source=str(folder))

    @classmethod
    def from_artifact(cls, artifact: Artifact, *, source: str = "artifact") -> Router:
        manifest, parts = artifact.manifest, artifact.parts
        try:
            router = cls(
                models=tuple(entry["name"] for entry in manifest["models"]),
                predictor=load_predictor(parts["predictor"], manifest["predictor"]),
                policy=load_policy(parts["policy"], manifest["policy"]["state"]),
                target_map=TargetMap.from_state(parts["target_map"], manifest["target_map"]),
                manifest=manifest,
                max_query_chars=int(manifest["max_query_chars"]),
                trained_texts=parts["training"]["text_fingerprints"],
                input_reference=parts.get("inputs"),
            )
        except KeyError as error:
            raise ArtifactIntegrityError(f"{source}: the manifest lacks {error}.") from error
        if router.target_map.policy_fingerprint != manifest["policy"]["fingerprint"]:
            return replace(router, void_reason="the certificates were made for another policy.")
        return router

    def route(
        self,
        text: str,
        *,
        accuracy_target: float,
        guarantee: Guarantee = "certified",
        on_infeasible: OnInfeasible = "reject",
        rng: np.random.Generator | None = None,
    ) -> Decision:
        """Choose a model for one query; see `route_batch`."""
        return self.route_batch(
            [text], accuracy_target=accuracy_target, guarantee=guarantee, on_infeasible=on_infeasible, rng=rng
        )[0]

    def route_batch(
        self,
        texts: Sequence[str],
        *,
        accuracy_target: float | Sequence[float],
        guarantee: Guarantee = "certified",
        on_infeasible: OnInfeasible = "reject",
        rng: np.random.Generator | None = None,
    ) -> list[Decision]:
        """Choose a model for each query.

        Parameters
        ----------
        texts
            (n,) queries.
        accuracy_target
            Required mean score as a fraction in (0, 1), one for all or one a query. It is a promise about the
            mean over the traffic served at that target, not about a single query.
        guarantee
            ``certified``: the operating point carries a certificate at the router's confidence. ``expected``:
            the point whose estimated mean score equals the target, without a margin.
        on_infeasible
            ``reject`` raises; ``best_effort`` takes the cheapest point estimated to reach the target, or the
            most accurate one when none does, and says ``certified=False``.
        rng
            Source of the coin between two operating points; one draw a query, in order, so that a batch and a
            loop over it decide alike.

        Raises
        ------
        InvalidQueryError, InvalidTargetError, InfeasibleTargetError
        """
        queries = [self.check_query(text) for text in texts]
        if not queries:
            return []
        several = isinstance(accuracy_target, Sequence | np.ndarray) and not isinstance(accuracy_target, str)
        targets: list[Any] = list(accuracy_target) if several else [accuracy_target] * len(queries)  # type: ignore[arg-type]
        if len(targets) != len(queries):
            raise SchemaError(f"{len(queries)} queries but {len(targets)} accuracy targets.")
        plans = [self.plan(target, guarantee=guarantee, on_infeasible=on_infeasible) for target in targets]
        coins = (rng or np.random.default_rng()).random(len(queries))
        predictions = self.predict(queries)
        chosen, other = self._choices(predictions, plans, coins)
        return [
            self._decision(float(target), plan, predictions, row, int(chosen[row]), int(other[row]), coin)
            for row, (target, plan, coin) in enumerate(zip(targets, plans, coins, strict=True))
        ]

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Predicted score and cost of every model, (n, n_models) each, after changes of pool and prices."""
        predictions = self.predictor.predict(list(texts))
        if self.cost_factors is not None:
            costs = predictions.costs_usd * np.asarray(self.cost_factors)
            predictions = replace(predictions, costs_usd=costs)
        return predictions

    def choose(self, predictions: Predictions, point: int) -> IntArray:
        """(n,) model index that operating point `point` picks, among the models available."""
        limited = self._limited(predictions)
        return self._present(self.policy.choose(limited, point), limited)

    def choose_all(self, predictions: Predictions) -> IntArray:
        """(n_points, n) the same for every operating point."""
        limited = self._limited(predictions)
        return self._present(self.policy.choose_all(limited), limited)

    def _limited(self, predictions: Predictions) -> Predictions:
        """Predictions by which no absent model is ever the best."""
        if self.available is None:
            return predictions
        scores = np.where(self.available, predictions.scores, -np.inf)
        return Predictions(scores, predictions.costs_usd, predictions.embedding)

    def _present(self, choice: IntArray, limited: Predictions) -> IntArray:
        """A point that always takes one model may name an absent one: the best predicted score stands in."""
        if self.available is None:
            return choice
        return np.where(np.asarray(self.available)[choice], choice, limited.scores.argmax(axis=1))

    def plan(
        self,
        accuracy_target: float,
        *,
        guarantee: Guarantee = "certified",
        on_infeasible: OnInfeasible = "reject",
    ) -> Plan:
        """The operating points that serve `accuracy_target`, worked out once a target and kept."""
        target = parse_target(accuracy_target)
        key = (target, guarantee, on_infeasible)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._make_plan(target, guarantee, on_infeasible)
            if len(self._plans) < 10_000:  # callers may send arbitrary floats
                self._plans[key] = plan
        return plan

    def with_pool(
        self, *, models: Sequence[str] | None = None, cost_factors: Mapping[str, float] | None = None
    ) -> Router:
        """A router over fewer models or changed prices. Its certificates are void, and it says so.

        Parameters
        ----------
        models
            The models still available; at least one, all known.
        cost_factors
            model -> new price / old price, > 0.
        """
        for name in (*(models or ()), *(cost_factors or ())):
            if name not in self.models:
                raise SchemaError(f"no model named {name!r} in the pool; it has {', '.join(self.models)}.")
        reasons, available, factors = (
            [],
            self.available,
            np.asarray(self.cost_factors or np.ones(len(self.models))),
        )
        if models is not None:
            if not models:
                raise SchemaError("a pool needs at least one model.")
            available = tuple(name in set(models) for name in self.models)
            reasons.append("the pool changed since certification")
        if cost_factors:
            if not all(np.isfinite(factor) and factor > 0 for factor in cost_factors.values()):
                raise SchemaError("cost factors must be positive and finite.")
            factors = factors * np.array([cost_factors.get(name, 1.0) for name in self.models])
            reasons.append("prices changed since certification")
        return replace(
            self,
            available=available,
            cost_factors=tuple(float(factor) for factor in factors),
            void_reason="; ".join(filter(None, [self.void_reason, *reasons])),
            _plans={},
        )

    def _make_plan(self, target: float, guarantee: str, on_infeasible: str) -> Plan:
        if guarantee not in ("certified", "expected"):
            raise SchemaError(f"guarantee must be 'certified' or 'expected', not {guarantee!r}.")
        if on_infeasible not in ("reject", "best_effort"):
            raise SchemaError(f"on_infeasible must be 'reject' or 'best_effort', not {on_infeasible!r}.")
        if guarantee == "certified":
            outcome = self.target_map.certify(target)
            if self.void_reason:
                refusal = f"No certificate holds: {self.void_reason}."
            elif isinstance(outcome, Certificate):
                return Plan(self.target_map.mix(outcome), outcome, _certified_reason(outcome))
            else:
                refusal = outcome.reason
            if on_infeasible == "reject":
                best = (
                    None if self.void_reason or isinstance(outcome, Certificate) else outcome.best_certified
                )
                raise InfeasibleTargetError(
                    f"Accuracy target {target:g} can't be certified. {refusal}",
                    best_certified=best,
                    hint=_OTHER_WAYS,
                )
        else:
            refusal = "No margin was asked for (guarantee=expected)."
        mix = self.target_map.expected(target, clamp=on_infeasible == "best_effort")
        if isinstance(mix, Infeasible):
            raise InfeasibleTargetError(
                f"Accuracy target {target:g} is out of reach. {mix.reason}", best_certified=mix.best_certified
            )
        return Plan(mix, None, f"Not certified: {refusal}")

    def check_query(self, text: Any) -> str:
        """`text`, or `InvalidQueryError` where it is empty, too long or not text."""
        if not isinstance(text, str):
            raise InvalidQueryError(f"a query must be text, not {type(text).__name__}.")
        if not text or text.isspace():
            raise InvalidQueryError("the query is empty.", hint="Send the text that the model will answer.")
        if len(text) > self.max_query_chars:
            raise InvalidQueryError(
                f"the query has {len(text)} characters, more than max_query_chars = {self.max_query_chars}.",
                hint="Shorten it, or train with a larger max_query_chars.",
            )
        return text

    def _choices(
        self, predictions: Predictions, plans: list[Plan], coins: FloatArray
    ) -> tuple[IntArray, IntArray]:
        """(n,) the model drawn and (n,) the model of the operating point that the coin did not pick."""
        n = len(plans)
        chosen, other = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
        rows_of: dict[int, list[int]] = {}
        for row, plan in enumerate(plans):
            rows_of.setdefault(id(plan), []).append(row)
        for rows in rows_of.values():
            mix, whole = plans[rows[0]].mix, len(rows) == n
            part = predictions if whole else _rows(predictions, rows)
            upper = self.choose(part, mix.upper)
            lower = upper if mix.lower == mix.upper else self.choose(part, mix.lower)
            takes_upper = coins[rows] < mix.weight_upper
            chosen[rows] = np.where(takes_upper, upper, lower)
            other[rows] = np.where(takes_upper, lower, upper)
        return chosen, other

    def _decision(
        self,
        target: float,
        plan: Plan,
        predictions: Predictions,
        row: int,
        chosen: int,
        other: int,
        coin: float,
    ) -> Decision:
        mix = plan.mix
        share = mix.weight_upper if coin < mix.weight_upper else 1.0 - mix.weight_upper
        propensity = 1.0 if chosen == other else share
        scores, costs = predictions.scores[row].tolist(), predictions.costs_usd[row].tolist()
        chances = {other: 1.0 - propensity, chosen: propensity}
        candidates = tuple(
            Candidate(name, score, cost, chances.get(index, 0.0))
            for index, (name, score, cost) in enumerate(zip(self.models, scores, costs, strict=True))
            if self.available is None or self.available[index]
        )
        name = self.models[chosen]
        reasons = [
            f"{name}: predicted score {scores[chosen]:.3f} at {costs[chosen]:.3g} USD is the best trade at the "
            f"price of cost that serves internal target {mix.internal_target:.4f}.",
            plan.reason,
        ]
        if propensity < 1.0:
            reasons.append(f"Drawn with probability {propensity:.3f}; otherwise {self.models[other]}.")
        return Decision(
            model=name,
            accuracy_target=target,
            internal_target=mix.internal_target,
            predicted_score=scores[chosen],
            predicted_cost_usd=costs[chosen],
            certified=plan.certificate is not None,
            propensity=propensity,
            reasons=tuple(reasons),
            candidates=candidates,
            certificate=None if plan.certificate is None else plan.certificate.to_dict(),
        )


_OTHER_WAYS = "Ask for less, add evaluation rows, or take best effort (on_infeasible=best_effort)."


def _certified_reason(certificate: Certificate) -> str:
    return (
        f"Certified: mean score >= {certificate.accuracy_target:g} with confidence {certificate.confidence:g} "
        f"({certificate.scheme}, n = {certificate.n}, lower bound {certificate.lower_bound:.4f})."
    )


def _rows(predictions: Predictions, rows: list[int]) -> Predictions:
    embedding = None if predictions.embedding is None else predictions.embedding[rows]
    return Predictions(predictions.scores[rows], predictions.costs_usd[rows], embedding)
