"""`Pattern`: compressed sparse columns as plain arrays."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True, eq=False)
class Pattern:
    """The entries of a sparse matrix, column by column, rows ascending in each column.

    Attributes:
        shape: rows and columns.
        rows: row of each entry (nnz,), int32.
        starts: where each column starts (columns + 1,), int32.
        coefficients: value of each entry (nnz,), NaN where it varies.
    """

    shape: tuple[int, int]
    rows: np.ndarray
    starts: np.ndarray
    coefficients: np.ndarray

    @classmethod
    def of(cls, matrix: Any) -> "Pattern":
        """From any SciPy matrix; stored zeros count as entries."""
        csc = sp.csc_array(matrix)
        csc.sum_duplicates()
        csc.sort_indices()
        rows, columns = np.shape(matrix)
        return cls(
            (int(rows), int(columns)),
            csc.indices.astype(np.int32),
            csc.indptr.astype(np.int32),
            csc.data,
        )

    @property
    def nnz(self) -> int:
        """Number of entries."""
        return len(self.rows)

    @functools.cached_property
    def columns(self) -> np.ndarray:
        """Column of each entry (nnz,), int32."""
        return np.repeat(np.arange(self.shape[1], dtype=np.int32), np.diff(self.starts))

    @property
    def keys(self) -> np.ndarray:
        """One ascending number per entry, see `key`."""
        return self.key(self.rows, self.columns)

    def key(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Position in column-major order of a dense matrix of this shape, int64."""
        return columns.astype(np.int64) * max(self.shape[0], 1) + rows

    def matrix(self, values: Any) -> Any:
        """The `scipy.sparse.csc_array` with `values` in these entries."""
        return sp.csc_array((values, self.rows, self.starts), shape=self.shape)
