"""Adam on a dictionary of arrays, its moments open to checkpoints."""

from __future__ import annotations

import numpy as np

from proteus_router.types import Arrays, FloatArray

__all__ = ["Adam"]


class Adam:
    """Ascends; one learning rate a parameter (Kingma & Ba 2015, with bias correction)."""

    def __init__(self, params: dict[str, FloatArray], rates: dict[str, float]) -> None:
        self._rates = rates
        self._first = {name: np.zeros_like(params[name]) for name in rates}
        self._second = {name: np.zeros_like(params[name]) for name in rates}
        self._count = 0

    def ascend(self, params: dict[str, FloatArray], gradients: dict[str, FloatArray], scale: float) -> None:
        """Move `params` in place along `gradients`, rates multiplied by `scale`."""
        self._count += 1
        for name, gradient in gradients.items():
            first, second = self._first[name], self._second[name]
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient**2 - second)
            step = first / (1.0 - 0.9**self._count)
            step /= np.sqrt(second / (1.0 - 0.999**self._count)) + 1e-8
            params[name] += scale * self._rates[name] * step

    def state(self) -> Arrays:
        arrays: Arrays = {f"first.{name}": value.copy() for name, value in self._first.items()}
        arrays |= {f"second.{name}": value.copy() for name, value in self._second.items()}
        return arrays | {"count": np.array(self._count)}

    def restore(self, arrays: Arrays) -> None:
        for name in self._rates:
            self._first[name] = arrays[f"first.{name}"].copy()
            self._second[name] = arrays[f"second.{name}"].copy()
        self._count = int(arrays["count"])
