"""Householder reflections by a compiled kernel, each sum in the one order that the NumPy reference has."""

# The compiler infers the types of kernels from their first call; annotations would say nothing to it.
# ruff: noqa: ANN001, ANN202
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._vectors import kernel


@kernel
def _reflect(rows, vectors, scales, first, terms):
    for r in range(rows.shape[0]):
        row = rows[r]
        for k in range(vectors.shape[0]):
            start, vector = first + k, vectors[k]
            length = row.size - start
            for j in range(length):
                terms[j] = row[start + j] * vector[start + j]
            half = 1
            while 2 * half < length:
                half *= 2
            while length > 1:
                for j in range(length - half):
                    terms[j] += terms[half + j]
                length, half = half, half // 2
            along = terms[0] * scales[k]
            for j in range(start, row.size):
                row[j] -= along * vector[j]


def householder(
    rows: NDArray[np.float64], vectors: NDArray[np.float64], scales: NDArray[np.float64], first: int
) -> None:
    """Multiply rows by reflections, in place."""
    _reflect(rows, vectors, scales, first, np.empty(rows.shape[1]))
