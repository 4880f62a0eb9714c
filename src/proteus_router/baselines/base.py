"""What every router of the benchmark is reduced to: a list of settings, each a rule from text to model.

A router turns something (a price of cost, a mixing weight, a number of neighbours). Each value of it is one
point here. `inversion.invert` takes the points to a requested accuracy in the same way for all of them, so
that routers are compared at equal promise; a router that maps a target to a setting by itself says so in
`RouterFit.native`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from proteus_router.baselines.context import Context
from proteus_router.routing.frontier import Estimates
from proteus_router.routing.hull import Mix
from proteus_router.types import FloatArray, IntArray, Predictions

__all__ = ["BenchRouter", "RouterFit"]


@dataclass(frozen=True)
class RouterFit:
    """A router fitted on training rows alone.

    Attributes
    ----------
    name
        As in the registry.
    knobs
        (P,) what the sweep turned, for reading; NaN for a point that always takes one model.
    choices
        texts (n) -> (P, n) model index. Deterministic, and a text's choice does not depend on its neighbours
        unless the method decides in batches; a random policy draws by its seed and the text.
    out_of_fold
        (P, n_train) the same rules on the training rows by fits that saw no outcome of a row's text group.
    native
        Target -> the two points and the coin (`Mix` over indices of points) that the router itself would serve
        it with; None where it knows no targets.
    estimates
        Mean score and cost of every point as the router deploys them, most accurate first on a convex chain; None:
        `out_of_fold` outcomes are to be estimated and their lower hull taken.
    predicted
        texts -> predicted scores and costs, where the router has them.
    seconds
        Time of the fit, shared features and heads not counted.
    """

    name: str
    knobs: FloatArray
    choices: Callable[[Sequence[str]], IntArray]
    out_of_fold: IntArray
    native: Callable[[float], Mix] | None = None
    estimates: Estimates | None = None
    predicted: Callable[[Sequence[str]], Predictions] | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.out_of_fold.ndim != 2 or self.knobs.shape != self.out_of_fold.shape[:1]:
            raise ValueError(
                f"{self.name}: knobs {self.knobs.shape} and out_of_fold {self.out_of_fold.shape} disagree."
            )

    @property
    def n_points(self) -> int:
        return int(self.knobs.size)

    @property
    def target_mode(self) -> Literal["calibrated", "native"]:
        """native: the router itself maps a target to a setting."""
        return "calibrated" if self.native is None else "native"


class BenchRouter(Protocol):
    """A router before it is fitted.

    `fit` raises a `ProteusError` where the router cannot work on the data (a missing extra, too few rows, outcomes it
    would need); the harness leaves it out and prints the reason.
    """

    @property
    def name(self) -> str: ...

    def fit(self, context: Context) -> RouterFit: ...
