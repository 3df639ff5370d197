"""The functions a solver evaluates: values, and derivatives in the order of its matrices.

A `Rows` object differentiates one vector of constraints, `Curvature` the Lagrangian. Both give
patterns now and values where they are called inside a traced function.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from anvil_jax.ad import sphessian, spjacobian
from anvil_jax.arguments import Arg
from anvil_jax.function import NumericalFunction
from anvil_jax.sparse_function import SparseNumericalFunction


@dataclass(frozen=True, slots=True)
class Entries:
    """Places of a matrix's entries: rows and columns, ascending by column, then row."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of entries."""
        return len(self.rows)

    def where(self, mask: NDArray[np.bool_], row: int = 0, column: int = 0) -> "Entries":
        """Those of `mask`, with rows and columns counted from `row` and `column`."""
        return Entries(self.rows[mask] - row, self.columns[mask] - column)


NOTHING = Entries(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Derivative:
    """A matrix of derivatives: its entries, and its values as a function to be traced.

    Attributes:
        entries: where the values belong.
        values: JAX function that returns them.
        coefficients: values that do not depend on anything; NaN for all others.
    """

    entries: Entries
    values: Callable[..., Any]
    coefficients: NDArray[np.float64]


def no_values(dtype: np.dtype[Any]) -> Derivative:
    """A matrix without entries."""
    return Derivative(NOTHING, lambda *_: jnp.zeros(0, dtype), np.zeros(0))


def jacobian_of(
    name: str, fn: Callable[..., Any], specs: Sequence[Arg], rows: int, wrt: tuple[int, ...] = (0,)
) -> Derivative:
    """The Jacobian of a vector of `rows` numbers; columns are the elements of arguments `wrt`."""
    if rows == 0:
        return no_values(specs[0].dtype)
    return derivative_of(spjacobian(NumericalFunction(name, fn, tuple(specs)), wrt))


def hessian_of(
    name: str, fn: Callable[..., Any], specs: Sequence[Arg], wrt: tuple[int, ...] = (0,)
) -> Derivative:
    """The upper triangle of the Hessian with respect to the elements of arguments `wrt`."""
    return derivative_of(sphessian(NumericalFunction(name, fn, tuple(specs)), wrt))


def gauss_newton_of(name: str, residual: Callable[..., Any], specs: Sequence[Arg]) -> Derivative:
    """The upper triangle of J'J for the Jacobian J of a vector of residuals.

    Products are summed entry by entry, so that zeros of J cost nothing.
    """
    jacobian = derivative_of(spjacobian(NumericalFunction(name, residual, tuple(specs))))
    first, second, target, entries = _products(jacobian.entries)
    starts = np.searchsorted(target, np.arange(entries.count))

    def values(*args: Any) -> Any:
        found = jacobian.values(*args)
        products = found[first] * found[second]
        return jnp.stack(
            [
                jnp.sum(products[a:b])
                for a, b in zip(starts, [*starts[1:], len(target)], strict=True)
            ]
        )

    return Derivative(entries, values, np.full(entries.count, np.nan))


def derivative_of(fn: SparseNumericalFunction[..., Any]) -> Derivative:
    """The values of a sparse function, wherever it came from."""
    columns = np.repeat(np.arange(fn.shape[1]), np.diff(fn.indptr))
    entries = Entries(np.asarray(fn.indices, np.int64), columns.astype(np.int64))
    coefficients = np.full(fn.nnz, np.nan)
    if fn.derivative is not None:
        coefficients = np.asarray(fn.derivative.pattern.coefficients, np.float64)
    return Derivative(entries, fn.fn, coefficients)


def spread(derivative: Derivative, slots: NDArray[np.int64], size: int) -> Callable[..., Any]:
    """Values at `slots` of an array of `size` numbers, zero elsewhere."""
    source = np.full(size, derivative.entries.count, np.int64)
    source[slots] = np.arange(derivative.entries.count)

    def values(*args: Any) -> Any:
        found = derivative.values(*args)
        if size == len(slots) and (source == np.arange(size)).all():
            return found
        return jnp.concatenate([found, jnp.zeros(1, found.dtype)])[source]

    return values


def _products(
    jacobian: Entries,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Entries]:
    """Pairs of entries of J in the same row, by the entry of J'J they contribute to."""
    pairs: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for row in np.unique(jacobian.rows):
        inside = np.flatnonzero(jacobian.rows == row)
        for a in inside:
            for b in inside:
                i, j = int(jacobian.columns[a]), int(jacobian.columns[b])
                if i <= j:
                    pairs.setdefault((j, i), []).append((int(a), int(b)))
    keys = sorted(pairs)
    flat = [(a, b, t) for t, key in enumerate(keys) for a, b in pairs[key]]
    first, second, target = (np.array(c, np.int64) for c in zip(*flat, strict=True))
    rows = np.array([i for _, i in keys], np.int64)
    columns = np.array([j for j, _ in keys], np.int64)
    return first, second, target, Entries(rows, columns)
