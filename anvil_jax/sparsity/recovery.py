"""The entries of a sparse matrix from its products with the seeds of a `Coloring`.

`recovery` is for Jacobians, `symmetric_recovery` for Hessians. Both decide once, in NumPy, from
which number of the products each entry is read; evaluation is one gather with constant indices,
and for acyclic colourings a few additions to it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from jax import numpy as jnp

from anvil_jax.errors import SparsityError
from anvil_jax.sparsity.coloring import Coloring
from anvil_jax.sparsity.coloring.incidence import canonical, shape_of
from anvil_jax.sparsity.coloring.reading import (
    Reading,
    find_reading,
    jacobian_slots,
    symmetric_slots,
)


@dataclass(frozen=True)
class Substitution:
    """One step of `Recovery.values`: ``x[targets] += sign * x[sources]``.

    Attributes:
        targets: (k,) int32 positions, sorted; a position may occur several times.
        sources: (k,) int32 positions.
        sign: 1 or -1.
    """

    targets: np.ndarray
    sources: np.ndarray
    sign: int


@dataclass(frozen=True, eq=False)
class Recovery:
    """How the entries of a matrix are made from its products.

    Attributes:
        shape: (m, n) of the matrix.
        coloring: the passes.
        index: (k,) int32 or int64, where each value is read in the concatenation of the raveled
            forward and reverse products; k is nnz, except that `symmetric_recovery` of both
            triangles by substitution reads only one.
        steps: the substitutions, empty when every entry is read directly.
        expansion: (nnz,) int32 position of every entry among the k values, None for the identity.
        depth: largest number of substitutions between an entry and a direct read. The rounding
            error of an entry is that of a sum of that many terms and their side branches.
    """

    shape: tuple[int, int]
    coloring: Coloring
    index: np.ndarray
    steps: tuple[Substitution, ...]
    expansion: np.ndarray | None
    depth: int

    @property
    def nnz(self) -> int:
        """Number of values."""
        return len(self.index if self.expansion is None else self.expansion)

    @cached_property
    def column_seeds(self) -> np.ndarray:
        """(n_forward, n) float64 zeros and ones: the vectors the matrix is multiplied with."""
        return _seeds(self.coloring.columns, self.coloring.n_forward)

    @cached_property
    def row_seeds(self) -> np.ndarray:
        """(n_reverse, m) float64 zeros and ones: the vectors multiplied with the matrix."""
        return _seeds(self.coloring.rows, self.coloring.n_reverse)

    def values(self, columns: Any, rows: Any) -> Any:
        """The entries (nnz,) from the products; NumPy arrays give NumPy, all others JAX arrays.

        Args:
            columns: (n_forward, m) ``matrix @ seed`` for every column seed.
            rows: (n_reverse, n) ``seed @ matrix`` for every row seed.

        Raises:
            SparsityError: a shape is wrong.
        """
        m, n = self.shape
        _check_shape("columns", columns, (self.coloring.n_forward, m))
        _check_shape("rows", rows, (self.coloring.n_reverse, n))
        products = [x.reshape(-1) for x in (columns, rows) if x.shape[0]]
        if not len(self.index):
            return columns.reshape(-1)[:0]
        if all(isinstance(x, np.ndarray) for x in products):
            return self._expand(self._substitute_numpy(np.concatenate(products)[self.index]))
        flat = products[0] if len(products) == 1 else jnp.concatenate(products)
        found = flat.at[self.index].get(mode="promise_in_bounds")
        for step in self.steps:
            terms = step.sign * found.at[step.sources].get(mode="promise_in_bounds")
            found = found.at[step.targets].add(
                terms, mode="promise_in_bounds", indices_are_sorted=True
            )
        return self._expand(found)

    def _substitute_numpy(self, found: np.ndarray) -> np.ndarray:
        for step in self.steps:
            np.add.at(found, step.targets, step.sign * found[step.sources])
        return found

    def _expand(self, found: Any) -> Any:
        if self.expansion is None:
            return found
        if isinstance(found, np.ndarray):
            return found[self.expansion]
        return found.at[self.expansion].get(mode="promise_in_bounds")


def recovery(pattern: Any, coloring: Coloring) -> Recovery:
    """The values of a matrix in CSC order.

    Args:
        pattern: (m, n) SciPy sparse matrix; the values are in the order of its canonical CSC form.
        coloring: of this pattern, or of one with more entries: then the products must be those of
            a matrix that is zero outside `pattern`.

    Raises:
        SparsityError: the shapes differ, or the colouring does not determine every entry.
    """
    matrix = canonical(pattern)
    m, n = _check_sizes(matrix, coloring, symmetric=False)
    columns = np.repeat(np.arange(n), np.diff(matrix.indptr))
    slots = jacobian_slots(coloring.columns, coloring.rows, matrix.indices, columns)
    reading = _read(slots, coloring)
    steps = _substitutions(reading.parent)
    return Recovery((m, n), coloring, _compact(reading.slot), steps, None, reading.depth)


def symmetric_recovery(pattern: Any, coloring: Coloring, upper: bool = True) -> Recovery:
    """The values of a symmetric matrix in CSC order.

    Args:
        pattern: (n, n) SciPy sparse matrix; both triangles or the upper one.
        coloring: star or acyclic, of this pattern.
        upper: the values of the upper triangle with the diagonal; otherwise those of both.

    Raises:
        SparsityError: the shapes differ, or the colouring does not determine every entry.
    """
    matrix = canonical(pattern)
    n = _check_sizes(matrix, coloring, symmetric=True)[1]
    columns = np.repeat(np.arange(n), np.diff(matrix.indptr))
    rows = matrix.indices.astype(np.int64)
    keys = np.maximum(rows, columns) * n + np.minimum(rows, columns)
    triangle, twin = np.unique(keys, return_inverse=True)
    reading = _read(symmetric_slots(coloring.columns, triangle % n, triangle // n), coloring)
    steps = _substitutions(reading.parent)
    index, expansion = reading.slot, None
    if not upper and steps:
        expansion = _compact(twin)
    elif not upper:
        index = index[twin]
    return Recovery((n, n), coloring, _compact(index), steps, expansion, reading.depth)


def _read(slots: np.ndarray, coloring: Coloring) -> Reading:
    reading = find_reading(slots)
    if reading is None or (reading.depth and coloring.kind != "acyclic"):
        raise SparsityError(
            f"the {coloring.kind} colouring does not determine every entry of the pattern: it "
            "belongs to another pattern"
        )
    return reading


def _substitutions(parent: np.ndarray) -> tuple[Substitution, ...]:
    """Subtract from every entry those it shares a number with, which may need others first.

    With P the matrix that adds entries to their parents, the values are ``(I + P)^-1 b`` for the
    numbers b that are read. P is nilpotent, so this is ``(I - P)(I + P^2)(I + P^4) ... b``: the
    number of steps is the logarithm of the depth, and P^(2^k) adds to the ancestor 2^k above.
    """
    steps = []
    ancestor, sign = parent, -1
    while len(sources := np.flatnonzero(ancestor >= 0)):
        sources = sources[np.argsort(ancestor[sources], kind="stable")]
        steps.append(Substitution(_compact(ancestor[sources]), _compact(sources), sign))
        ancestor, sign = np.where(ancestor >= 0, ancestor[ancestor], -1), 1
    return tuple(steps)


def _seeds(colors: np.ndarray, count: int) -> np.ndarray:
    seeds = np.zeros((count, len(colors)))
    colored = np.flatnonzero(colors >= 0)
    seeds[colors[colored], colored] = 1.0
    return seeds


def _compact(index: np.ndarray) -> np.ndarray:
    """As int32 if the largest index allows it."""
    fits = int(index.max(initial=0)) <= np.iinfo(np.int32).max
    return index.astype(np.int32 if fits else np.int64)


def _check_sizes(matrix: sp.csc_array, coloring: Coloring, *, symmetric: bool) -> tuple[int, int]:
    m, n = shape_of(matrix)
    if (len(coloring.rows), len(coloring.columns)) != (m, n) or (symmetric and m != n):
        raise SparsityError(
            f"a colouring of {len(coloring.rows)} rows and {len(coloring.columns)} columns does "
            f"not fit a pattern of shape {(m, n)}"
        )
    if symmetric != (coloring.kind in ("star", "acyclic")):
        wanted = "a star or acyclic colouring" if symmetric else "a colouring of a Jacobian"
        raise SparsityError(f"needed {wanted}, got one of kind {coloring.kind!r}")
    return m, n


def _check_shape(name: str, products: Any, expected: tuple[int, int]) -> None:
    if tuple(products.shape) != expected:
        raise SparsityError(f"{name} must have shape {expected}, not {tuple(products.shape)}")
