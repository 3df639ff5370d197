"""Indexing: exact where the indices are known; where they are not, the indexed axes are united.

Indices may be known in some components only (``x[i, jnp.arange(n)]``), and so may the starts of a
dynamic slice.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jax.extend.core import JaxprEqn

from anvil_jax.sparsity.algebra import assembled, mapped, nonlinear, smeared, total
from anvil_jax.sparsity.movement import gather_positions, scatter_positions, taken
from anvil_jax.sparsity.rules.registry import in_shapes, out_shapes, register, united
from anvil_jax.sparsity.structure import (
    NAN,
    Known,
    Shape,
    Tangent,
    Value,
    as_tangent,
    masked,
    tangents_of,
)

if TYPE_CHECKING:
    from anvil_jax.sparsity.propagation import Propagation


def _known_components(indices: Value, shape: Shape) -> tuple[np.ndarray, list[int]]:
    """Indices with zeros where nothing is known, and the components where that is so."""
    if not isinstance(indices, Known):
        return np.zeros(shape, np.int64), list(range(shape[-1]))
    values = indices.values.astype(np.int64)
    if indices.mask is None:
        return values, []
    unknown = [k for k in range(shape[-1]) if not indices.mask[..., k].all()]
    values = values.copy()
    values[..., unknown] = 0
    return values, unknown


# ------------------------------------------------------------------------------------- gather


@register("gather", moves=True)
def gather(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Windows of an array at given starts."""
    array, indices = operands
    if isinstance(indices, Tangent):
        return united(eqn, operands)
    shape, index_shape = in_shapes(eqn)
    (out_shape,) = out_shapes(eqn)
    p = eqn.params
    fill = p["fill_value"]
    values, unknown = _known_components(indices, index_shape)
    if array is None and (unknown or fill is None):
        return [None]
    positions = gather_positions(shape, values, out_shape, p)
    if array is None:
        filling = np.full(out_shape, fill, getattr(eqn.outvars[0].aval, "dtype", None))
        return [masked(filling, positions < 0)]
    if unknown:
        if not isinstance(array, Tangent):
            return [None]
        dimensions = [p["dimension_numbers"].start_index_map[k] for k in unknown]
        axes = [d for d in dimensions if p["slice_sizes"][d] < shape[d]]
        array = smeared(array, axes).broadcast(shape)
    elif isinstance(array, Known) and (positions < 0).any():
        return [None]
    return [assembled([array], [shape], lambda arrays: taken(arrays[0], positions, -1))]


@register("dynamic_slice", moves=True)
def dynamic_slice(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """One window of an array; its start is moved inside."""
    array, *starts = operands
    shape, sizes = in_shapes(eqn)[0], eqn.params["slice_sizes"]
    if any(isinstance(s, Tangent) for s in starts):
        return united(eqn, operands)
    first, unknown = _starts(starts, shape, sizes)
    if unknown:
        if not isinstance(array, Tangent):
            return [None]
        array = smeared(array, unknown).broadcast(shape)
    window = tuple(slice(b, b + n) for b, n in zip(first, sizes, strict=True))
    return [assembled([array], [shape], lambda arrays: arrays[0][window])]


def _starts(
    starts: Sequence[Value], shape: Shape, sizes: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Start on each axis (0 where unknown), and the axes where it is unknown."""
    first, unknown = [], []
    for axis, (start, extent, size) in enumerate(zip(starts, shape, sizes, strict=True)):
        known = isinstance(start, Known) and start.mask is None
        if size < extent and not known:
            unknown.append(axis)
        value = int(start.values) if isinstance(start, Known) and known else 0
        first.append(min(max(value, 0), extent - size))
    return first, unknown


# ------------------------------------------------------------------------------------- scatter


@register("dynamic_update_slice", moves=True)
def dynamic_update_slice(
    trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]
) -> list[Value]:
    """One window of an array replaced."""
    array, update, *starts = operands
    shape, update_shape = in_shapes(eqn)[:2]
    if any(isinstance(s, Tangent) for s in starts):
        return united(eqn, operands)
    first, unknown = _starts(starts, shape, update_shape)
    if unknown and not any(isinstance(v, Tangent) for v in (array, update)):
        return [None]
    sizes = [shape[d] if d in unknown else n for d, n in enumerate(update_shape)]
    window = tuple(slice(b, b + n) for b, n in zip(first, sizes, strict=True))
    if isinstance(update, Tangent) and unknown:
        update = smeared(update, unknown).broadcast(tuple(sizes))
    if unknown and isinstance(array, Tangent):
        inside = np.zeros(shape, bool)
        inside[window] = True
        kept = array.reweighted(np.where(inside, NAN, array.weights))
        old = Tangent(array.base, array.ids[window], NAN)
        merged = nonlinear([old, *tangents_of([update])], tuple(sizes))
        return [_replaced(kept, merged, shape, tuple(sizes), window)]
    return [_replaced(array, update, shape, tuple(sizes), window)]


def _replaced(
    array: Value, update: Value, shape: Shape, sizes: Shape, window: tuple[slice, ...]
) -> Value:
    def replace(arrays: list[np.ndarray]) -> np.ndarray:
        result = arrays[0].copy()
        result[window] = arrays[1]
        return result

    return assembled([array, update], [shape, sizes], replace)


@register("scatter", moves=True)
def scatter(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Windows replaced; where several are written to one place, nobody knows which wins."""
    array, indices, updates = operands
    if isinstance(indices, Tangent):
        return united(eqn, operands)
    shape, index_shape, update_shape = in_shapes(eqn)
    values, unknown = _known_components(indices, index_shape)
    if unknown or eqn.params.get("update_jaxpr") is not None:
        return [_touched(eqn, operands)]
    positions = scatter_positions(shape, values, update_shape, eqn.params).reshape(-1)
    inside = positions >= 0
    if np.bincount(positions[inside], minlength=1).max() > 1:
        return [_touched(eqn, operands)]

    def replace(arrays: list[np.ndarray]) -> np.ndarray:
        result = arrays[0].reshape(-1).copy()
        result[positions[inside]] = arrays[1].reshape(-1)[inside]
        return result.reshape(shape)

    return [assembled([array, updates], [shape, update_shape], replace)]


@register("scatter-add", "scatter-sub", moves=True)
def scatter_add(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Windows added to, or subtracted from, an array."""
    array, indices, updates = operands
    sign = -1.0 if eqn.primitive.name == "scatter-sub" else 1.0
    if isinstance(indices, Tangent):
        return united(eqn, operands)
    if isinstance(array, Tangent) or isinstance(updates, Tangent):
        added = _placed(eqn, updates, indices, sign)
        return [total([as_tangent(array), added], *out_shapes(eqn))]
    whole = [v for v in operands if isinstance(v, Known) and v.mask is None]
    if len(whole) < 3:
        return [None]
    shape, _, update_shape = in_shapes(eqn)
    positions = scatter_positions(shape, whole[1].values, update_shape, eqn.params).reshape(-1)
    inside = positions >= 0
    result = whole[0].values.reshape(-1).copy()
    added = np.broadcast_to(whole[2].values, update_shape).reshape(-1)[inside]
    np.add.at(result, positions[inside], -added if sign < 0 else added)
    return [Known(result.reshape(shape))]


@register("scatter-mul", "scatter-max", "scatter-min", "scatter_max", "scatter_min", "scatter_mul")
def scatter_nonlinear(
    trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]
) -> list[Value]:
    """Windows combined with an array in a way that is not linear."""
    if isinstance(operands[1], Tangent):
        return united(eqn, operands)
    return [_touched(eqn, operands)]


def _touched(eqn: JaxprEqn, operands: Sequence[Value]) -> Tangent | None:
    """Elements that updates may reach unite old and new; the others keep their coefficients."""
    array, indices, updates = operands
    (shape,) = out_shapes(eqn)
    added = _placed(eqn, updates, indices, NAN)
    if not isinstance(array, Tangent):
        return added
    _, index_shape, update_shape = in_shapes(eqn)
    values, unknown = _known_components(indices, index_shape)
    weights = NAN
    if not unknown:
        positions = scatter_positions(shape, values, update_shape, eqn.params).reshape(-1)
        reached = np.zeros(math.prod(shape), bool)
        reached[positions[positions >= 0]] = True
        weights = np.where(reached.reshape(shape), NAN, array.weights)
    return total([array.reweighted(weights), added], shape)


def _placed(eqn: JaxprEqn, updates: Value, indices: Value, factor: float) -> Tangent | None:
    """Sum of the updates that reach each element.

    Along an axis whose index is unknown an update may reach every element: positions are computed
    as if the axis had length one, and the result is broadcast along it.
    """
    if not isinstance(updates, Tangent):
        return None
    shape, index_shape, update_shape = in_shapes(eqn)
    p, dimensions = eqn.params, eqn.params["dimension_numbers"]
    values, unknown = _known_components(indices, index_shape)
    updates = updates.broadcast(update_shape)
    if unknown:
        factor = NAN
        inserted = (*dimensions.inserted_window_dims, *dimensions.operand_batching_dims)
        windows = [d for d in range(len(shape)) if d not in inserted]
        axes = dict(zip(windows, sorted(dimensions.update_window_dims), strict=True))
        indexed = [dimensions.scatter_dims_to_operand_dims[k] for k in unknown]
        free = [d for d in indexed if d not in axes or update_shape[axes[d]] < shape[d]]
        updates = smeared(updates, [axes[d] for d in free if d in axes])
        shape = tuple(1 if d in free else n for d, n in enumerate(shape))
    positions = scatter_positions(shape, values, updates.shape, p).reshape(-1)
    sources = np.flatnonzero(positions >= 0)
    placed = mapped(updates, positions[sources], sources, factor, shape)
    return placed.broadcast(*out_shapes(eqn))
