"""Sparse rows of coefficients, and the one expensive operation on them: a product.

`Rows` is a compressed-row matrix as plain arrays. SciPy multiplies; everything else is indexing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

DENSE_ENTRIES = 10_000_000
DENSE_SHARE = 0.25
"""A result with more entries than this, and a larger share of all, is not followed any further."""

DENSE_TERMS = 2_000_000_000
"""Multiplications up to which a product is tried."""


class DenseError(Exception):
    """Rows have become so full that following them is pointless; never leaves this room."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A matrix by rows; within a row columns are different, in any order.

    Attributes:
        data: coefficients, float64; NaN where they vary with the inputs.
        indices: column of each coefficient, int32.
        starts: where each row starts, and the end.
        columns: number of columns.
    """

    data: np.ndarray
    indices: np.ndarray
    starts: np.ndarray
    columns: int

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.starts.size - 1

    @property
    def lengths(self) -> np.ndarray:
        """Entries in each row."""
        return np.diff(self.starts)

    def matrix(self) -> sparse.csr_array:
        """As a SciPy matrix."""
        return sparse.csr_array(
            (self.data, self.indices, self.starts), shape=(self.count, self.columns)
        )

    def between(self, first: int, last: int) -> "Rows":
        """The rows from number `first` to before `last`."""
        entries = slice(self.starts[first], self.starts[last])
        starts = self.starts[first : last + 1] - self.starts[first]
        return Rows(self.data[entries], self.indices[entries], starts, self.columns)

    def row_numbers(self) -> np.ndarray:
        """Row of each entry."""
        return np.repeat(np.arange(self.count), self.lengths)

    def keys(self) -> np.ndarray:
        """One number per entry, different for different places in the matrix."""
        return self.row_numbers() * self.columns + self.indices

    def ordered(self) -> "Rows":
        """The same with increasing columns in each row."""
        matrix = self.matrix()
        matrix.sort_indices()
        return from_matrix(matrix, self.columns)


def from_matrix(matrix: sparse.csr_array, columns: int) -> Rows:
    """The rows of a SciPy matrix."""
    return Rows(matrix.data, matrix.indices, matrix.indptr, columns)


def from_terms(
    data: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
) -> Rows:
    """Rows from terms in any order; those at the same place are added."""
    return from_matrix(sparse.csr_array((data, (rows, columns)), shape=shape), shape[1])


def identity(size: int) -> Rows:
    """The rows of the seed itself."""
    positions = np.arange(size + 1, dtype=np.int32)
    return Rows(np.ones(size), positions[:-1], positions, size)


def empty(count: int, columns: int) -> Rows:
    """Rows without entries."""
    return Rows(np.zeros(0), np.zeros(0, np.int32), np.zeros(count + 1, np.int32), columns)


def stacked(parts: Sequence[Rows]) -> Rows:
    """Rows below each other; at least one part."""
    parts = [p for p in parts if p.count] or [parts[0]]
    if len(parts) == 1:
        return parts[0]
    ends = np.cumsum([p.starts[-1] for p in parts])
    tails = [p.starts[1:] + before for p, before in zip(parts[1:], ends[:-1], strict=True)]
    return Rows(
        np.concatenate([p.data for p in parts]),
        np.concatenate([p.indices for p in parts]),
        np.concatenate([parts[0].starts, *tails]),
        parts[0].columns,
    )


def product(left: Rows, right: Rows) -> Rows:
    """``left @ right`` that keeps entries whose terms cancel, as explicit zeros.

    SciPy drops sums that are zero; in other arithmetic (the program's) they may differ from zero
    by a rounding error, and a pattern must never be too small.

    Raises:
        DenseError: the result is large and no longer sparse.
    """
    size = left.count * right.columns
    terms = int(right.lengths[left.indices].sum(dtype=np.int64))
    if terms > DENSE_TERMS and size > 4 * DENSE_ENTRIES:
        raise DenseError
    result = from_matrix(left.matrix() @ right.matrix(), right.columns)
    if terms != result.data.size and ((left.data <= 0).any() or (right.data <= 0).any()):
        result = _with_cancelled(result, left, right)
    if result.data.size > DENSE_ENTRIES and result.data.size > DENSE_SHARE * size:
        raise DenseError
    return result


def _with_cancelled(result: Rows, left: Rows, right: Rows) -> Rows:
    pattern = from_matrix(_present(left).matrix() @ _present(right).matrix(), right.columns)
    if pattern.data.size == result.data.size:
        return result
    pattern, result = pattern.ordered(), result.ordered()
    data = np.zeros(pattern.data.size)
    data[np.searchsorted(pattern.keys(), result.keys())] = result.data
    return Rows(data, pattern.indices, pattern.starts, pattern.columns)


def _present(rows: Rows) -> Rows:
    return Rows(np.ones(rows.data.size, bool), rows.indices, rows.starts, rows.columns)


def closure(step: Rows) -> Rows:
    """Union of all powers of a square matrix, by squaring.

    A row of `step` that is a row of the identity (an operand that stays what it is) remains so;
    the coefficients of other rows vary, as the number of trips is unknown.
    """
    numbers = step.row_numbers()
    alone = step.lengths[numbers] == 1
    kept = np.zeros(step.count, bool)
    kept[numbers[alone & (step.indices == numbers) & (step.data == 1.0)]] = True
    changing = np.flatnonzero(~kept)
    reach = from_terms(
        np.concatenate([np.where(kept[numbers], step.data, math.nan), changing * math.nan]),
        np.concatenate([numbers, changing]),
        np.concatenate([step.indices, changing]),
        (step.count, step.count),
    )
    while True:
        further = product(reach, reach)
        if further.data.size == reach.data.size:
            return reach
        reach = further


def equal(a: Rows, b: Rows) -> bool:
    """Whether two matrices have the same entries."""
    if not np.array_equal(a.starts, b.starts):
        return False
    a, b = a.ordered(), b.ordered()
    return np.array_equal(a.indices, b.indices) and np.array_equal(a.data, b.data, equal_nan=True)
