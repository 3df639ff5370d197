"""What is known about a value while a derivative program is read.

The program is linear in its seed vector ``t``. A value of it is one of three things:

* `Tangent` - depends on the seed: every element is a row of coefficients over the seed's entries;
* `Known` - does not depend on the seed, and (some of) its elements have a value that is the same
  for all inputs of the function: literals, index arithmetic, masks, constant matrices;
* ``None`` - does not depend on the seed and nothing is known about it.

A tangent is ``weights * (base @ t)[ids]``: a matrix by rows, the row of each element (-1: the
element is zero) and a factor of each element. Data movement permutes ids and weights, scaling
changes weights, and only sums touch the matrix, as one sparse product. A coefficient that varies
with the inputs is NaN; NaN spreads through products and sums by itself.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anvil_jax.sparsity.rows import Rows

type Shape = tuple[int, ...]
type Weights = np.ndarray | float

NAN = math.nan


@dataclass(frozen=True, slots=True, eq=False)
class Tangent:
    """A value that is linear in the seed.

    Attributes:
        base: rows of coefficients, (any number, seed size); NaN where they vary.
        ids: row of each element, in the value's shape; -1 for an element that is zero.
        weights: factor of each element, an array of the same shape or one number for all.
    """

    base: Rows
    ids: np.ndarray
    weights: Weights = 1.0

    @property
    def shape(self) -> Shape:
        """Shape of the value."""
        return self.ids.shape

    @property
    def varies(self) -> bool:
        """Whether every coefficient is known to vary."""
        return isinstance(self.weights, float) and math.isnan(self.weights)

    def broadcast(self, shape: Shape) -> "Tangent":
        """The same in a larger shape."""
        if self.ids.shape == shape:
            return self
        weights = self.weights
        if isinstance(weights, np.ndarray):
            weights = np.broadcast_to(weights, shape)
        return Tangent(self.base, np.broadcast_to(self.ids, shape), weights)

    def reweighted(self, weights: Weights) -> "Tangent":
        """The same rows with other factors."""
        return Tangent(self.base, self.ids, weights)

    def rows(self) -> Rows:
        """Coefficients, one row per element in C order."""
        base, ids = self.base, self.ids.reshape(-1)
        whole = ids.size == base.count and bool((ids == np.arange(ids.size)).all())
        if whole and isinstance(self.weights, float) and self.weights == 1.0:
            return base
        counts, starts, entries = base.lengths, base.starts, slice(None)
        if not whole:
            live = ids >= 0
            first = base.starts[ids]  # -1 reads the end
            counts = np.where(live, np.append(counts, 0)[ids], 0)
            starts = np.concatenate([[0], np.cumsum(counts)])
            entries = np.repeat(first - starts[:-1], counts) + np.arange(starts[-1])
        data = base.data[entries]
        if isinstance(self.weights, np.ndarray):
            data = data * np.repeat(self.weights.reshape(-1), counts)
        else:
            data = data * self.weights
        return Rows(data, base.indices[entries], starts, base.columns)


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A value of which at least some elements do not depend on the function's inputs.

    Attributes:
        values: the elements, in the value's shape and dtype.
        mask: True where the element is known; None when all are.
    """

    values: np.ndarray
    mask: np.ndarray | None = None

    @property
    def shape(self) -> Shape:
        """Shape of the value."""
        return self.values.shape

    def factors(self) -> Weights:
        """The elements as coefficients: one number if all are equal, NaN where unknown."""
        values = self.values
        if values.dtype.kind == "c":
            return NAN
        uniform = self.mask is None and not any(
            stride and size > 1 for stride, size in zip(values.strides, values.shape, strict=True)
        )
        if uniform and values.size:
            return float(values[(0,) * values.ndim])
        values = values.astype(np.float64)
        return values if self.mask is None else np.where(self.mask, values, NAN)


type Value = Tangent | Known | None


def from_rows(rows: Rows, shape: Shape) -> Tangent:
    """The tangent whose elements, in C order, are some rows."""
    return Tangent(rows, np.arange(rows.count).reshape(shape))


def masked(values: np.ndarray, mask: np.ndarray) -> Known | None:
    """A partly known value, reduced to what it is."""
    if mask.all():
        return Known(values)
    return Known(values, mask) if mask.any() else None


def as_tangent(value: Value) -> Tangent | None:
    """The tangent of a value; None (zero) where it does not depend on the seed."""
    return value if isinstance(value, Tangent) else None


def tangents_of(values: Sequence[Value]) -> list[Tangent]:
    """Those values that depend on the seed."""
    return [v for v in values if isinstance(v, Tangent)]
