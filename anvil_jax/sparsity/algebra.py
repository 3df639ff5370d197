"""What can be done with tangents: sums, unions, scaling and rearrangement."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from anvil_jax.sparsity.rows import Rows, from_terms, product, stacked
from anvil_jax.sparsity.structure import (
    NAN,
    Known,
    Shape,
    Tangent,
    Value,
    Weights,
    as_tangent,
    from_rows,
    masked,
    tangents_of,
)

type Combine = Callable[[list[np.ndarray]], np.ndarray]


def scaled(tangent: Tangent, factor: Weights, shape: Shape) -> Tangent | None:
    """The tangent times coefficients; elements with factor zero vanish.

    Args:
        tangent: any shape that broadcasts.
        factor: a number, or an array that broadcasts; NaN where it varies.
        shape: of the result.
    """
    tangent = tangent.broadcast(shape)
    if isinstance(factor, float):
        if factor == 0.0:
            return None
        return tangent.reweighted(NAN if math.isnan(factor) else tangent.weights * factor)
    factor = np.broadcast_to(factor, shape)
    zero = factor == 0
    ids = np.where(zero, -1, tangent.ids) if zero.any() else tangent.ids
    weights = NAN if tangent.varies else tangent.weights * factor
    return Tangent(tangent.base, ids, weights)


def mapped(
    tangent: Tangent, targets: np.ndarray, sources: np.ndarray, factors: Weights, shape: Shape
) -> Tangent:
    """Adds up elements: ``result[targets[k]] += factors[k] * tangent[sources[k]]``.

    Args:
        tangent: what is added.
        targets: flat positions in the result, one per term.
        sources: flat positions in `tangent`, one per term.
        factors: coefficient of each term, NaN for unknown; zero removes the term.
        shape: of the result.
    """
    ids = tangent.ids.reshape(-1)[sources]
    keep = ids >= 0
    if isinstance(factors, np.ndarray):
        keep &= factors != 0
    if not keep.all():
        ids, targets, sources = ids[keep], targets[keep], sources[keep]
        if isinstance(factors, np.ndarray):
            factors = factors[keep]
    weights = tangent.weights
    if isinstance(weights, np.ndarray):
        weights = weights.reshape(-1)[sources]
    data = np.broadcast_to(weights * factors, ids.shape)
    terms = from_terms(data, targets, ids, (math.prod(shape), tangent.base.count))
    return from_rows(product(terms, tangent.base), shape)


def summed(tangent: Tangent, axes: Sequence[int], shape: Shape) -> Tangent:
    """Sum over axes, in the result's shape."""
    kept = tuple(1 if d in axes else n for d, n in enumerate(tangent.shape))
    targets = np.broadcast_to(np.arange(math.prod(kept)).reshape(kept), tangent.shape)
    return mapped(tangent, targets.reshape(-1), np.arange(tangent.ids.size), 1.0, shape)


def smeared(tangent: Tangent, axes: Sequence[int]) -> Tangent:
    """Union over some axes, which are kept with length one; all coefficients vary."""
    axes = [axis for axis in axes if tangent.shape[axis] != 1]
    if not axes:
        return tangent.reweighted(NAN)
    shape = tuple(1 if d in axes else n for d, n in enumerate(tangent.shape))
    groups = np.arange(math.prod(shape)).reshape(shape)
    targets = np.broadcast_to(groups, tangent.shape).reshape(-1)
    return mapped(tangent.reweighted(NAN), targets, np.arange(tangent.ids.size), 1.0, shape)


def everything(tangents: Sequence[Tangent], shape: Shape) -> Tangent:
    """Every element depends on whatever any element of any tangent depends on."""
    columns = np.unique(np.concatenate([_used_columns(t) for t in tangents]))
    starts = np.array([0, columns.size])
    row = Rows(np.full(columns.size, NAN), columns, starts, tangents[0].base.columns)
    return Tangent(row, np.zeros(shape, np.int64), NAN)


def _used_columns(tangent: Tangent) -> np.ndarray:
    used = np.zeros(tangent.base.count + 1, bool)
    used[tangent.ids.reshape(-1)] = True
    return tangent.base.indices[np.repeat(used[:-1], tangent.base.lengths)]


# ----------------------------------------------------------------------------- several tangents


def with_common_base(tangents: Sequence[Tangent]) -> list[Tangent]:
    """The same tangents over one matrix."""
    first = tangents[0].base
    if all(t.base is first for t in tangents):
        return list(tangents)
    tangents = [_compact(t) for t in tangents]
    offsets: dict[int, int] = {}
    bases: list[Rows] = []
    rows = 0
    for t in tangents:
        if id(t.base) not in offsets:
            offsets[id(t.base)] = rows
            bases.append(t.base)
            rows += t.base.count
    base = stacked(bases)
    return [
        Tangent(base, np.where(t.ids >= 0, t.ids + offsets[id(t.base)], -1), t.weights)
        for t in tangents
    ]


def _compact(tangent: Tangent) -> Tangent:
    """Without the rows of a matrix that is much larger than the value."""
    if tangent.base.count <= 2 * tangent.ids.size + 16:
        return tangent
    return from_rows(tangent.rows(), tangent.shape)


def total(tangents: Sequence[Tangent | None], shape: Shape) -> Tangent | None:
    """Sum of tangents after broadcasting to one shape; None is zero."""
    live = [t.broadcast(shape) for t in tangents if t is not None]
    if len(live) < 2:
        return live[0] if live else None
    if len(live) == 2:
        simple = _simple_sum(*live)
        if simple is not None:
            return simple
    live = with_common_base(live)
    ids = np.stack([t.ids.reshape(-1) for t in live])
    scalars = [t.weights for t in live if isinstance(t.weights, float)]
    if len(scalars) == len(live):
        return _sum_of_rows(live[0].base, ids, np.array(scalars), shape)
    arrays = [np.broadcast_to(t.weights, shape).reshape(-1) for t in live]
    return _sum_of_rows(live[0].base, ids, np.stack(arrays), shape)


def _simple_sum(a: Tangent, b: Tangent) -> Tangent | None:
    """The sum where it needs no product: same rows, or never both."""
    if a.base is not b.base:
        return None
    if a.ids is b.ids or np.array_equal(a.ids, b.ids):
        return a.reweighted(a.weights + b.weights)
    if ((a.ids >= 0) & (b.ids >= 0)).any():
        return None
    weights = a.weights
    if not _same_weights(a.weights, b.weights):
        weights = np.where(a.ids >= 0, a.weights, b.weights)
    return Tangent(a.base, np.maximum(a.ids, b.ids), weights)


def _same_weights(a: Weights, b: Weights) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    return a is b


def _sum_of_rows(base: Rows, ids: np.ndarray, weights: np.ndarray, shape: Shape) -> Tangent:
    """Per element, the sum of the rows ``ids[:, element]`` times ``weights[:(, element)]``."""
    numbers = np.arange(ids.shape[1]).reshape(shape)
    if weights.ndim == 1:
        ids, numbers = _distinct(ids, numbers)
        weights = np.broadcast_to(weights[:, None], ids.shape)
    live = ids >= 0
    if live.all():
        starts = np.arange(0, ids.size + 1, ids.shape[0])
        indices, data = ids.T.reshape(-1), weights.T.reshape(-1)
    else:
        starts = np.concatenate([[0], np.cumsum(np.add.reduce(live, axis=0, dtype=np.int64))])
        indices, data = ids.T[live.T], weights.T[live.T]
    terms = Rows(data, indices, starts, base.count)
    return Tangent(product(terms, base), numbers)


def _distinct(ids: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each combination of rows once, where it is cheap to see that there are few."""
    if ids.shape[1] < 64:
        return ids, numbers
    low = ids.min(axis=1, keepdims=True)
    spans = (ids.max(axis=1, keepdims=True) - low + 1).reshape(-1)
    if math.prod(spans.tolist()) > ids.shape[1] // 2:
        return ids, numbers
    key = np.ravel_multi_index(tuple(ids - low), tuple(spans))
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return ids[:, first], inverse.reshape(numbers.shape)


def nonlinear(tangents: Sequence[Tangent], shape: Shape) -> Tangent | None:
    """Elementwise union: a function of the tangents about which nothing is assumed."""
    return total([t.reweighted(NAN) for t in tangents], shape)


def joined(tangents: Sequence[Tangent | None], shape: Shape) -> Tangent | None:
    """One of several tangents, nobody knows which.

    An element that is the same in all of them is kept; other elements are the union, varying.
    """
    live = [t.broadcast(shape) for t in tangents if t is not None]
    if not live:
        return None
    union = nonlinear(live, shape)
    first = live[0]
    if len(live) < len(tangents) or any(t.base is not first.base for t in live):
        return union
    same = np.ones(shape, bool)
    for t in live[1:]:
        same &= (t.ids == first.ids) & np.equal(t.weights, first.weights)
    if same.all():
        return first
    if not same.any():
        return union
    return as_tangent(assembled([union, first], [shape] * 2, lambda a: np.where(same, a[1], a[0])))


def one_of(cases: Sequence[Value], shape: Shape) -> Value:
    """One of several values, nobody knows which."""
    if any(isinstance(c, Tangent) for c in cases):
        return joined([as_tangent(c) for c in cases], shape)
    known = [c for c in cases if isinstance(c, Known) and c.mask is None]
    if len(known) == len(cases) and all(np.array_equal(c.values, known[0].values) for c in known):
        return known[0]
    return None


# --------------------------------------------------------------------------------- data movement


def assembled(parts: Sequence[Value], shapes: Sequence[Shape], combine: Combine) -> Value:
    """A value put together from the elements of others.

    Args:
        parts: the operands.
        shapes: their shapes.
        combine: what the operation does to arrays of those shapes. It is applied to row numbers,
            weights, values and masks alike, and must only move elements.

    Returns:
        A tangent if one part is one, else what is known, else None.
    """
    live = tangents_of(parts)
    if live:
        return _assembled_tangent(parts, live, shapes, combine)
    known = [p for p in parts if isinstance(p, Known)]
    if not known:
        return None
    kind = known[0].values.dtype
    values = combine([_values(p, s, kind) for p, s in zip(parts, shapes, strict=True)])
    if len(known) == len(parts) and all(p.mask is None for p in known):
        return Known(values)
    mask = combine([_mask(p, s) for p, s in zip(parts, shapes, strict=True)])
    return masked(values, mask)


def _assembled_tangent(
    parts: Sequence[Value], live: list[Tangent], shapes: Sequence[Shape], combine: Combine
) -> Tangent | None:
    rebased = iter(with_common_base(live))
    tangents = [next(rebased) if isinstance(p, Tangent) else None for p in parts]
    ids = combine(
        [
            np.broadcast_to(np.int64(-1), s) if t is None else t.ids
            for t, s in zip(tangents, shapes, strict=True)
        ]
    )
    first = live[0].weights
    base = next(t.base for t in tangents if t is not None)
    if all(_same_weights(t.weights, first) for t in live) and isinstance(first, float):
        return Tangent(base, ids, first)
    weights = combine(
        [
            np.broadcast_to(0.0 if t is None else t.weights, s)
            for t, s in zip(tangents, shapes, strict=True)
        ]
    )
    return Tangent(base, ids, weights)


def _values(part: Value, shape: Shape, kind: np.dtype) -> np.ndarray:
    return part.values if isinstance(part, Known) else np.broadcast_to(np.zeros((), kind), shape)


def _mask(part: Value, shape: Shape) -> np.ndarray:
    if isinstance(part, Known) and part.mask is not None:
        return part.mask
    return np.broadcast_to(np.bool_(isinstance(part, Known)), shape)
