"""Patterns in the two forms the algorithms read: columns with their rows, and symmetric graphs."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp

from anvil_jax.errors import SparsityError


def canonical(pattern: Any) -> sp.csc_array:
    """A copy of a sparse matrix's pattern: sorted, no duplicates, every stored entry is 1.

    Stored zeros and NaN are entries like all others.

    Raises:
        SparsityError: `pattern` is not a SciPy sparse matrix with two dimensions.
    """
    if not sp.issparse(pattern) or pattern.ndim != 2:
        raise SparsityError(
            f"a sparsity pattern is a SciPy sparse array with two dimensions, not {pattern!r}"
        )
    entries = pattern.tocoo()
    ones = np.ones(entries.nnz, np.int8)
    matrix = sp.csc_array((ones, (entries.row, entries.col)), shape=entries.shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def shape_of(matrix: Any) -> tuple[int, int]:
    """Numbers of rows and columns."""
    m, n = matrix.shape
    return int(m), int(n)


@dataclass(frozen=True, eq=False)
class Incidence:
    """Which columns have an entry in which rows.

    Attributes:
        n_columns: number of columns; it is these that are coloured.
        n_rows: number of rows.
        indptr: (n_columns + 1,) where every column's rows begin.
        indices: (nnz,) the rows.
    """

    n_columns: int
    n_rows: int
    indptr: np.ndarray
    indices: np.ndarray

    @staticmethod
    def of(pattern: sp.csc_array) -> "Incidence":
        """The columns of a canonical pattern."""
        m, n = shape_of(pattern)
        return Incidence(n, m, np.asarray(pattern.indptr), np.asarray(pattern.indices))

    @property
    def nnz(self) -> int:
        """Number of entries."""
        return len(self.indices)

    @cached_property
    def transposed(self) -> "Incidence":
        """The rows as columns."""
        matrix = sp.csr_array(self._matrix)
        return Incidence(self.n_rows, self.n_columns, matrix.indptr, matrix.indices)

    @cached_property
    def as_lists(self) -> tuple[list[int], list[int]]:
        """`indptr` and `indices` as Python lists."""
        return self.indptr.tolist(), self.indices.tolist()

    @cached_property
    def columns(self) -> np.ndarray:
        """(nnz,) the column of every entry."""
        return np.repeat(np.arange(self.n_columns), np.diff(self.indptr))

    @cached_property
    def column_lengths(self) -> np.ndarray:
        """(n_columns,) number of entries in every column."""
        return np.diff(self.indptr)

    @cached_property
    def row_lengths(self) -> np.ndarray:
        """(n_rows,) number of entries in every row."""
        return np.bincount(self.indices, minlength=self.n_rows)

    @property
    def greedy_cost(self) -> int:
        """Units of `Effort` of one greedy colouring."""
        return self.nnz + self.n_columns

    @property
    def intersections(self) -> int:
        """Bound of the number of pairs of columns that share a row."""
        return int(np.sum(self.row_lengths.astype(np.int64) ** 2))

    def of_rows(self, keep: np.ndarray) -> "Incidence":
        """The entries in the rows where `keep` (n_rows,) is True; the shape does not change."""
        kept = keep[self.indices]
        lengths = np.bincount(self.columns[kept], minlength=self.n_columns)
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        return Incidence(self.n_columns, self.n_rows, indptr, self.indices[kept])

    @cached_property
    def _matrix(self) -> sp.csc_array:
        return sp.csc_array(
            (np.ones(self.nnz, np.int32), self.indices, self.indptr),
            shape=(self.n_rows, self.n_columns),
        )

    def intersection_graph(self) -> "Graph":
        """Vertices are columns; those that share a row are neighbours."""
        a = self._matrix
        return Graph.of(sp.csc_array(a.T @ a))


@dataclass(frozen=True, eq=False)
class Graph:
    """An undirected graph: the pattern of a symmetric matrix.

    Attributes:
        n: number of vertices.
        indptr: (n + 1,) where every vertex's neighbours begin.
        indices: the neighbours, sorted; no vertex is its own neighbour.
        diagonal: (n,) whether the matrix has an entry there.
    """

    n: int
    indptr: np.ndarray
    indices: np.ndarray
    diagonal: np.ndarray

    @staticmethod
    def of(pattern: sp.csc_array) -> "Graph":
        """The graph of a structurally symmetric matrix."""
        n = shape_of(pattern)[1]
        columns = np.repeat(np.arange(n), np.diff(pattern.indptr))
        on_diagonal = pattern.indices == columns
        diagonal = np.zeros(n, bool)
        diagonal[columns[on_diagonal]] = True
        indices = pattern.indices[~on_diagonal]
        degrees = np.bincount(columns[~on_diagonal], minlength=n)
        return Graph(n, np.concatenate([[0], np.cumsum(degrees)]), indices, diagonal)

    @cached_property
    def neighbours(self) -> list[list[int]]:
        """The neighbours of every vertex as Python lists."""
        flat = self.indices.tolist()
        return [flat[begin:end] for begin, end in pairwise(self.indptr.tolist())]

    @cached_property
    def degrees(self) -> np.ndarray:
        """(n,) number of neighbours."""
        return np.diff(self.indptr)

    @cached_property
    def sources(self) -> np.ndarray:
        """The vertex whose neighbour stands at the same place in `indices`."""
        return np.repeat(np.arange(self.n), self.degrees)

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return len(self.indices) // 2

    @property
    def greedy_cost(self) -> int:
        """Units of `Effort` of one star colouring; an acyclic one takes a few times that."""
        return 2 * (len(self.indices) + self.n)

    def matrix(self) -> sp.csr_array:
        """Adjacency matrix of ones."""
        return sp.csr_array(
            (np.ones(len(self.indices), np.int8), self.indices, self.indptr), shape=(self.n, self.n)
        )

    def induced(self, keep: np.ndarray) -> "Graph":
        """The subgraph of the vertices where `keep` (n,) is True, renumbered."""
        inside = keep[self.sources] & keep[self.indices]
        number = np.cumsum(keep) - 1
        degrees = np.bincount(number[self.sources[inside]], minlength=int(keep.sum()))
        return Graph(
            int(keep.sum()),
            np.concatenate([[0], np.cumsum(degrees)]),
            number[self.indices[inside]],
            self.diagonal[keep],
        )
