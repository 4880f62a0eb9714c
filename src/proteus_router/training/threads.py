"""One BLAS thread for loops of small matrix products."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from threadpoolctl import threadpool_limits

__all__ = ["one_blas_thread"]


def one_blas_thread() -> AbstractContextManager[Any]:
    """While it is open, BLAS runs in the calling thread.

    Products of a batch of 64 are too small to share: threads then mostly wait for each other, and when anything else
    runs on the machine they wait very long (seen: 5 s became 30 to 100 s with one other busy process a core).
    """
    limited: AbstractContextManager[Any] = threadpool_limits(limits=1, user_api="blas")
    return limited
