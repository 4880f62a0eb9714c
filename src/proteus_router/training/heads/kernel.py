"""Kernel ridge regression of many models at once, with exact leave-group-out predictions.

With A = G + alpha I, an unpenalised intercept makes the solution B = P Y,

    P = A^-1 - u u' / (1' u),    u = A^-1 1,

and what the fit would predict for a text group g had none of its rows been seen is

    y_g - (P_gg)^-1 (P Y)_g,

the block form of the leave-one-out identity. Near-twins of a text therefore never vouch for it, at no extra cost.
Models that answered the same rows share one factorisation; a model never sees rows it did not answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from proteus_router.errors import TrainingError
from proteus_router.types import BoolArray, FloatArray, IntArray

__all__ = ["KernelSolution", "observation_patterns", "solve_kernel"]

_EXACT_ROWS = 4_000
"""Up to here factorise in float64; above it in float32, whose error (1e-4 of a score) is far below the noise."""


@dataclass(frozen=True, slots=True)
class KernelSolution:
    """f(x) = intercept + sum_r k(x, x_r) weights[r].

    Attributes
    ----------
    weights
        (n, k), zero where the row was not observed.
    intercept
        (k,).
    oof
        (n, k) leave-group-out predictions, for rows without an outcome too.
    """

    weights: FloatArray
    intercept: FloatArray
    oof: FloatArray


def observation_patterns(observed: BoolArray) -> list[tuple[IntArray, IntArray]]:
    """(rows, columns) pairs: the models in `columns` were observed on exactly `rows`."""
    distinct, which = np.unique(observed, axis=1, return_inverse=True)
    which = which.ravel()
    return [(np.flatnonzero(distinct[:, p]), np.flatnonzero(which == p)) for p in range(distinct.shape[1])]


def solve_kernel(
    gram: NDArray[np.floating], targets: FloatArray, groups: IntArray, alpha: float
) -> KernelSolution:
    """Fit every column of `targets` (n, k; NaN missing) on the Gram matrix (n, n).

    Parameters
    ----------
    groups
        (n,) text group of each row.
    alpha
        Noise variance over signal variance, > 0.
    """
    n, k = targets.shape
    weights, intercept, oof = np.zeros((n, k)), np.zeros(k), np.zeros((n, k))
    for rows, columns in observation_patterns(~np.isnan(targets)):
        everything = len(rows) == n
        block = gram if everything else gram[np.ix_(rows, rows)]
        inverse = _inverse(block, alpha)
        y = targets[np.ix_(rows, columns)]
        u = inverse.sum(axis=1, dtype=np.float64)
        total = u.sum()
        middle = (u @ y) / total  # generalised least squares mean, (k',)
        b = _times(inverse, y - middle)
        b -= (
            np.outer(u, b.sum(axis=0)) / total
        )  # the weights of an intercept fit sum to zero; repairs rounding
        weights[np.ix_(rows, columns)] = b
        intercept[columns] = middle
        left_out, without = _leave_groups_out(inverse, u, total, b, groups[rows])
        oof[np.ix_(rows, columns)] = y - left_out
        if not everything:
            unseen = np.setdiff1d(np.arange(n), rows)
            oof[np.ix_(unseen, columns)] = _predict_unseen(
                gram, inverse, u, total, b, middle, rows, unseen, groups, without
            )
    return KernelSolution(weights, intercept, oof)


def _inverse(block: NDArray[np.floating], alpha: float) -> NDArray[np.floating]:
    """(block + alpha I)^-1 by Cholesky, symmetric in memory."""
    double = len(block) <= _EXACT_ROWS
    a: NDArray[Any] = np.array(block, dtype=np.float64 if double else np.float32, order="F")
    a[np.diag_indices_from(a)] += alpha
    factor, inverse = (lapack.dpotrf, lapack.dpotri) if double else (lapack.spotrf, lapack.spotri)
    a, info = factor(a, lower=1, overwrite_a=1, clean=0)
    if info == 0:
        a, info = inverse(a, lower=1, overwrite_c=1)
    if info != 0:
        raise TrainingError(
            f"The kernel matrix of {len(a)} rows is not positive definite.", hint="Raise heads.kernel_alpha."
        )
    _mirror_lower(a)
    return np.asarray(a)


def _mirror_lower(a: NDArray[np.floating], step: int = 512) -> None:
    """Copy the lower triangle onto the upper one, block by block, without a second n x n array."""
    n = len(a)
    for i in range(0, n, step):
        j = min(i + step, n)
        a[i:j, j:] = a[j:, i:j].T
        corner = a[i:j, i:j]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T


def _times(inverse: NDArray[np.floating], y: FloatArray) -> FloatArray:
    product: FloatArray = (inverse @ y.astype(inverse.dtype)).astype(np.float64)
    return product


def _leave_groups_out(
    inverse: NDArray[np.floating], u: FloatArray, total: float, b: FloatArray, groups: IntArray
) -> tuple[FloatArray, dict[int, tuple[IntArray, FloatArray]]]:
    """Left-out residuals (n', k'), and for every group its rows and (P_gg)^-1 b_g where it has several rows."""
    diagonal = np.diagonal(inverse).astype(np.float64) - u * u / total
    residual = b / diagonal[:, None]
    without: dict[int, tuple[IntArray, FloatArray]] = {}
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(groups[order]) != 0])
    for members in np.split(order, starts[1:]):
        if len(members) > 1:
            block = inverse[np.ix_(members, members)].astype(np.float64)
            block -= np.outer(u[members], u[members]) / total
            residual[members] = np.linalg.solve(block, b[members])
            without[int(groups[members[0]])] = (members, residual[members])
    return residual, without


def _predict_unseen(
    gram: NDArray[np.floating],
    inverse: NDArray[np.floating],
    u: FloatArray,
    total: float,
    b: FloatArray,
    middle: FloatArray,
    rows: IntArray,
    unseen: IntArray,
    groups: IntArray,
    without: dict[int, tuple[IntArray, FloatArray]],
) -> FloatArray:
    """Predictions on rows the models did not answer, leaving out the outcomes of the row's own group.

    Dropping group g changes the weights to b - P[:, g] (P_gg)^-1 b_g and the intercept by (u_g / total)' of the same.
    """
    predicted = middle + gram[np.ix_(unseen, rows)].astype(np.float64) @ b
    by_group: dict[int, IntArray] = {}
    order = np.argsort(groups[rows], kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(groups[rows][order]) != 0]) if len(order) else order
    for members in np.split(order, starts[1:]):
        by_group[int(groups[rows[members[0]]])] = members
    for i, row in enumerate(unseen):
        group = int(groups[row])
        if group not in by_group:
            continue
        members = by_group[group]
        if group in without:
            step = without[group][1]
        else:
            m = members[0]
            step = b[[m]] / (float(inverse[m, m]) - u[m] ** 2 / total)
        columns = inverse[:, members].astype(np.float64) - np.outer(u, u[members]) / total
        lifted = b - columns @ step
        shift = -(u[members] / total) @ step
        predicted[i] = middle + shift + gram[row, rows].astype(np.float64) @ lifted
    return predicted
