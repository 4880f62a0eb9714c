"""The paper's router at inference, in numpy: embedding, performance head and policy network.

Section 2 of arXiv 2601.19402: features -> 2-layer MLP -> z; p = sigmoid(linear(z)); policy MLP on [z, tau,
lambda] with lambda-gated hidden units -> Beta(a, b) over mu; m* = argmax p + mu b - (1 - mu)^gamma c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from proteus_router.encoders.base import Encoder
from proteus_router.encoders.lexical import LexicalEncoder
from proteus_router.errors import EncoderError
from proteus_router.routing.points import cheapest_argmax
from proteus_router.types import Arrays, FloatArray, IntArray, Meta, Predictions

__all__ = ["NetworkPolicy", "PaperPredictor", "mean_preference"]

_EPSILON = 1e-3
"""Added to both softplus outputs; the training network adds the same."""

_LEXICAL = "lexical."
_TRUNK = ("trunk_w1", "trunk_b1", "trunk_w2", "trunk_b2", "head_w", "head_b")
_POLICY = ("policy_w1", "policy_b1", "policy_w2", "policy_b2", "gate_w", "gate_b", "beta_w", "beta_b")


@dataclass(frozen=True)
class PaperPredictor:
    """Text -> embedding z, predicted scores, and every model's mean cost.

    Attributes
    ----------
    encoder
        What makes the features; a `LexicalEncoder` is saved with the weights, any other is loaded by name.
    weights
        float64 arrays under the names of `_TRUNK`, (in, out) and (out,).
    mean_costs_usd
        (n_models,): the paper's c_i is one number a model, not a function of the query.
    """

    encoder: Encoder
    weights: Arrays
    mean_costs_usd: FloatArray

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Scores, costs and the float32 embedding that `NetworkPolicy` reads."""
        return self.predict_features(self.encoder.encode(list(texts)).astype(np.float64))

    def predict_features(self, features: FloatArray) -> Predictions:
        """As `predict`, from encoder rows (n, dim)."""
        w = self.weights
        hidden = np.maximum(features @ w["trunk_w1"] + w["trunk_b1"], 0.0)
        embedding = np.maximum(hidden @ w["trunk_w2"] + w["trunk_b2"], 0.0)
        scores = 0.5 * (1.0 + np.tanh(0.5 * (embedding @ w["head_w"] + w["head_b"])))
        costs = np.tile(self.mean_costs_usd, (features.shape[0], 1))
        return Predictions(scores, costs, embedding.astype(np.float32))

    def to_state(self) -> tuple[Arrays, Meta]:
        arrays: Arrays = {name: self.weights[name] for name in _TRUNK}
        arrays["mean_costs_usd"] = self.mean_costs_usd
        if isinstance(self.encoder, LexicalEncoder):
            lexical, lexical_meta = self.encoder.to_state()
            arrays |= {_LEXICAL + name: value for name, value in lexical.items()}
            return arrays, {"kind": "paper", "encoder": None, "lexical": lexical_meta}
        encoder = {"name": self.encoder.name, "fingerprint": self.encoder.fingerprint}
        return arrays, {"kind": "paper", "encoder": encoder}

    @classmethod
    def from_state(cls, arrays: Arrays, meta: Meta, *, encoder: Encoder | None) -> PaperPredictor:
        """Rebuild; `encoder` must be the one trained with, None where that was lexical.

        Raises
        ------
        EncoderError
            Another encoder, or none where one is needed.
        """
        wanted = meta["encoder"]
        if (None if wanted is None else wanted["fingerprint"]) != getattr(encoder, "fingerprint", None):
            name = "lexical" if wanted is None else wanted["name"]
            raise EncoderError(
                f"this router was trained with the encoder {name!r}, another one was given.",
                hint="Load the router with the encoder it names, or train again.",
            )
        if encoder is None:
            lexical = {key[len(_LEXICAL) :]: arrays[key] for key in arrays if key.startswith(_LEXICAL)}
            encoder = LexicalEncoder.from_state(lexical, meta["lexical"])
        weights: Arrays = {name: arrays[name] for name in _TRUNK}
        return cls(encoder, weights, arrays["mean_costs_usd"])


@dataclass(frozen=True)
class NetworkPolicy:
    """One operating point an internal target; mu is the mean of the Beta at (z, tau, lambda).

    Attributes
    ----------
    weights
        float64 arrays under the names of `_POLICY`.
    targets, duals
        (n_points,) tau and lambda of each point; the paper fixes lambda = 1 at inference.
    boosts
        (n_models,)
    gamma
        In [2, 8].
    cost_unit_usd
        Costs enter selection in this unit.
    """

    weights: Arrays
    targets: FloatArray
    duals: FloatArray
    boosts: FloatArray
    gamma: float
    cost_unit_usd: float

    kind = "network"

    @property
    def n_points(self) -> int:
        return int(self.targets.size)

    def preference(self, predictions: Predictions, point: int) -> FloatArray:
        """(n,) mean quality preference at operating point `point`."""
        if predictions.embedding is None:
            raise ValueError("the policy network needs the embedding of each query.")
        return mean_preference(
            self.weights,
            predictions.embedding.astype(np.float64),
            float(self.targets[point]),
            float(self.duals[point]),
        )

    def choose(self, predictions: Predictions, point: int) -> IntArray:
        """(n_queries,) model index; ties go to the lower predicted cost."""
        mu = self.preference(predictions, point)[:, None]
        costs = predictions.costs_usd / self.cost_unit_usd
        utilities = predictions.scores + mu * self.boosts - (1.0 - mu) ** self.gamma * costs
        return cheapest_argmax(utilities, predictions.costs_usd)

    def choose_all(self, predictions: Predictions) -> IntArray:
        """(n_points, n_queries) model index of every operating point."""
        return np.array([self.choose(predictions, point) for point in range(self.n_points)])

    def take(self, points: IntArray) -> NetworkPolicy:
        """The policy of the given points, in the order given."""
        return NetworkPolicy(
            self.weights,
            self.targets[points],
            self.duals[points],
            self.boosts,
            self.gamma,
            self.cost_unit_usd,
        )

    def to_state(self) -> tuple[Arrays, Meta]:
        arrays: Arrays = {name: self.weights[name] for name in _POLICY}
        arrays |= {"targets": self.targets, "duals": self.duals, "boosts": self.boosts}
        return arrays, {"kind": self.kind, "gamma": self.gamma, "cost_unit_usd": self.cost_unit_usd}

    @classmethod
    def from_state(cls, arrays: Arrays, meta: Meta) -> NetworkPolicy:
        return cls(
            {name: arrays[name] for name in _POLICY},
            arrays["targets"],
            arrays["duals"],
            arrays["boosts"],
            float(meta["gamma"]),
            float(meta["cost_unit_usd"]),
        )


def mean_preference(weights: Arrays, embedding: FloatArray, target: float, dual: float) -> FloatArray:
    """(n,) a / (a + b) of the Beta that the policy network gives each embedding (n, width)."""
    width = embedding.shape[1]
    first = weights["policy_w1"]  # (width + 2, hidden): z, tau, lambda
    offset = target * first[width] + dual * first[width + 1] + weights["policy_b1"]
    gate = 0.5 * (1.0 + np.tanh(0.5 * (dual * weights["gate_w"][0] + weights["gate_b"])))
    hidden = np.maximum(embedding @ first[:width] + offset, 0.0) * gate
    hidden = np.maximum(hidden @ weights["policy_w2"] + weights["policy_b2"], 0.0)
    beta = np.logaddexp(0.0, hidden @ weights["beta_w"] + weights["beta_b"]) + _EPSILON  # (n, 2)
    mean: FloatArray = beta[:, 0] / beta.sum(axis=1)
    return mean
