"""Matrix products with any batch and contracting dimensions."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.kernels.adapter import UOp
from anvil_jax.lowering.avals import aval_dtype, aval_shape
from anvil_jax.lowering.interpreter import Lowering
from anvil_jax.lowering.registry import register
from anvil_jax.lowering.selection import contraction_size
from anvil_jax.lowering.values import Constant, Pull, Value, dense_strides

type Axes = Sequence[int]


@register(lax.dot_general_p)
def dot_general(lowering: Lowering, eqn: JaxprEqn, lhs: Value, rhs: Value) -> Value:
    """``out[b, m, n] = sum_k lhs[b, m, k] rhs[b, k, n]`` after grouping axes."""
    (lc, rc), (lb, rb) = eqn.params["dimension_numbers"]
    dtype = aval_dtype(eqn.outvars[0].aval)
    shape = aval_shape(eqn.outvars[0].aval)
    lf = [k for k in range(len(lhs.shape)) if k not in (*lc, *lb)]
    rf = [k for k in range(len(rhs.shape)) if k not in (*rc, *rb)]
    lhs, rhs = (x if x.dtype == dtype else _cast(lowering, x, dtype) for x in (lhs, rhs))
    batch, m, k = (math.prod(lhs.shape[a] for a in axes) for axes in (lb, lf, lc))
    n = math.prod(rhs.shape[a] for a in rf)
    if _is_scalar(lowering, contraction_size(batch, m, n, k), lhs, rhs):
        a = lowering.elements(lhs).transpose((*lb, *lf, *lc)).reshape(batch, m, k)
        b = lowering.elements(rhs).transpose((*rb, *rc, *rf)).reshape(batch, k, n)
        return lowering.joined(_written_out(lowering, a, b, dtype).reshape(shape), dtype)
    if k == 1 and dtype != "bool":
        return _outer(lowering, lhs, rhs, (lb, lf), (rb, rf), (shape, dtype))
    left = _matrix(lowering, lhs, (lb, lf, lc), column_major=n < 8)
    right = _matrix(lowering, rhs, (rb, rc, rf), column_major=False)
    out = lowering.view(lowering.allocate(dtype, batch * m * n), shape)
    numbers = (batch, m, n, k, *_strides(left), *_strides(right))
    lowering.call(
        f"contract<{ELEMENT_TYPES[dtype].cpp}, {', '.join(map(str, numbers))}>",
        "contraction.hpp",
        [left, right],
        [out],
        2 * contraction_size(batch, m, n, k),
        product=(batch, m, n, k),
    )
    return out


def _outer(
    lowering: Lowering,
    lhs: Value,
    rhs: Value,
    left: tuple[Axes, Axes],
    right: tuple[Axes, Axes],
    out: tuple[tuple[int, ...], str],
) -> Value:
    """A product without a sum: elements are multiplied where they are used."""
    batch, rows = (tuple(lhs.shape[a] for a in axes) for axes in left)
    columns = tuple(rhs.shape[a] for a in right[1])
    spread = (*batch, *rows, *columns)
    # Axes of extent 1 come last in either order and disappear.
    a = lowering.pull(lowering.settle(lhs)) if isinstance(lhs, Pull) else lhs
    b = lowering.pull(lowering.settle(rhs)) if isinstance(rhs, Pull) else rhs
    order = [*left[0], *left[1]]
    a = a.transpose([*order, *_others(a, order)]).reshape((*batch, *rows))
    order = [*right[0], *right[1]]
    b = b.transpose([*order, *_others(b, order)]).reshape((*batch, *columns))
    front = list(range(len(batch)))
    a = a.broadcast_in_dim(spread, list(range(len(batch) + len(rows))))
    b = b.broadcast_in_dim(spread, [*front, *range(len(batch) + len(rows), len(spread))])
    return lowering.elementwise(lowering.ex.mul, (spread, out[1]), a, b).reshape(out[0])


def _others(x: Value, order: Sequence[int]) -> list[int]:
    return [k for k in range(len(x.shape)) if k not in order]


def _cast(lowering: Lowering, x: Value, dtype: str) -> Value:
    return lowering.elementwise(lambda a: lowering.ex.cast(a, dtype), (x.shape, dtype), x)


def _is_scalar(lowering: Lowering, multiply_adds: int, *operands: Value) -> bool:
    """Few multiply-adds, and no operand whose elements would have to be computed one by one."""
    work = [x.size * (1 + x.cost) for x in operands if isinstance(x, Pull)]
    return (
        multiply_adds <= lowering.model.contraction
        and max(work, default=0) <= 8 * lowering.model.elements
    )


def _written_out(lowering: Lowering, a: np.ndarray, b: np.ndarray, dtype: str) -> np.ndarray:
    """The product of arrays of scalar expressions, sums taken in order."""
    ex = lowering.ex
    batch, m, k = a.shape
    n = b.shape[2]
    out = np.empty((batch, m, n), dtype=object)
    for place in np.ndindex(batch, m, n):
        p, i, j = place
        total: UOp | None = None
        for q in range(k):
            term = ex.mul(a[p, i, q], b[p, q, j])
            total = term if total is None else ex.add(total, term)
        out[place] = ex.const(0, dtype) if total is None else total
    return out


def _matrix(
    lowering: Lowering, x: Value, groups: tuple[Axes, Axes, Axes], *, column_major: bool
) -> Pull:
    """`x` as (batch, rows, columns) with one stride per group, copied only if it has none.

    Captured matrices are laid out here once and for all: column by column for products with few
    columns, where the kernel runs over rows.
    """
    extents = [math.prod(x.shape[a] for a in axes) for axes in groups]
    order = [a for axes in groups for a in axes]
    if isinstance(x, Constant):
        matrix = x.a.transpose(order).reshape(extents)
        if column_major and extents[1] > 1:
            stored = lowering.pull(Constant(matrix.transpose(0, 2, 1), x.dtype))
            return lowering.materialise(stored).transpose((0, 2, 1))
        return lowering.materialise(Constant(matrix, x.dtype))
    pull = lowering.pull(lowering.settle(x))
    if pull.view is None:
        pull = lowering.materialise(pull)
    assert pull.view is not None
    strides = [_merged([(pull.shape[a], pull.view.strides[a]) for a in axes]) for axes in groups]
    if None in strides:
        return lowering.materialise(pull.transpose(order)).reshape(extents)
    return pull._viewed(extents, pull.view.offset, [s or 0 for s in strides])


def _merged(axes: list[tuple[int, int]]) -> int | None:
    """The single stride that walks through several axes in C order, None if there is none."""
    axes = [(n, s) for n, s in axes if n != 1]
    if not axes:
        return 0
    for (_, outer), (n, inner) in itertools.pairwise(axes):
        if outer != n * inner:
            return None
    return axes[-1][1]


def _strides(x: Pull) -> tuple[int, ...]:
    assert x.view is not None
    dense = dense_strides(x.shape)
    return tuple(d if n == 1 else s for n, s, d in zip(x.shape, x.view.strides, dense, strict=True))
