"""Where the elements of a result come from, for operations that only move data.

Everything here is index arithmetic on NumPy arrays; it serves row numbers, weights, values and
masks alike. Positions are flat; -1 stands for an element that comes from nowhere.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from anvil_jax.sparsity.structure import Shape

type Parameters = Mapping[str, Any]
type Move = Callable[[np.ndarray, Parameters], np.ndarray]


def _broadcast_in_dim(array: np.ndarray, p: Parameters) -> np.ndarray:
    shape = [1] * len(p["shape"])
    for axis, size in zip(p["broadcast_dimensions"], array.shape, strict=True):
        shape[axis] = size
    return np.broadcast_to(array.reshape(shape), p["shape"])


def _reshape(array: np.ndarray, p: Parameters) -> np.ndarray:
    order = p.get("dimensions")
    return (array if order is None else array.transpose(order)).reshape(p["new_sizes"])


def _slice(array: np.ndarray, p: Parameters) -> np.ndarray:
    strides = p["strides"] or (1,) * array.ndim
    bounds = zip(p["start_indices"], p["limit_indices"], strides, strict=True)
    return array[tuple(slice(*b) for b in bounds)]


MOVES: dict[str, Move] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "expand_dims": lambda a, p: np.expand_dims(a, p["dimensions"]),
    "reshape": _reshape,
    "rev": lambda a, p: np.flip(a, p["dimensions"]),
    "slice": _slice,
    "squeeze": lambda a, p: a.squeeze(tuple(p["dimensions"])),
    "tile": lambda a, p: np.tile(a, p["reps"]),
    "transpose": lambda a, p: a.transpose(p["permutation"]),
}
"""Operations with one operand, by primitive."""


def padded(array: np.ndarray, fill: Any, config: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """`array` with (low, high, interior) padding; negative padding cuts off."""
    sizes = [
        max(0, low + high + n + max(0, n - 1) * interior)
        for n, (low, high, interior) in zip(array.shape, config, strict=True)
    ]
    out = np.full(sizes, fill, array.dtype)
    sources, targets = [], []
    for n, size, (low, _, interior) in zip(array.shape, sizes, config, strict=True):
        target = low + np.arange(n) * (interior + 1)
        inside = (target >= 0) & (target < size)
        sources.append(np.flatnonzero(inside))
        targets.append(target[inside])
    if array.ndim:
        out[np.ix_(*targets)] = array[np.ix_(*sources)]
    else:
        out[()] = array
    return out


def taken(array: np.ndarray, positions: np.ndarray, fill: Any) -> np.ndarray:
    """Elements at flat positions, `fill` where the position is -1."""
    if array.size == 0:
        return np.full(positions.shape, fill, array.dtype)
    result = array.reshape(-1)[positions]
    missing = positions < 0
    return np.where(missing, np.asarray(fill, array.dtype), result) if missing.any() else result


def flat(coordinates: Sequence[np.ndarray], shape: Shape, out_shape: Shape) -> np.ndarray:
    """Flat positions from one broadcastable coordinate array per axis, all inside `shape`."""
    result = np.zeros((), np.int64)
    for coordinate, size in zip(coordinates, shape, strict=True):
        result = result * size + coordinate
    return np.broadcast_to(result, out_shape)


def _clips(mode: Any) -> bool:
    """Whether an index out of bounds is moved inside; where JAX promises, both are right."""
    return "FILL" not in str(mode).upper()


def gather_positions(
    shape: Shape, indices: np.ndarray, out_shape: Shape, p: Parameters
) -> np.ndarray:
    """Position in the operand of every element of a gather.

    Args:
        shape: of the operand.
        indices: start indices, (batch..., components).
        out_shape: of the result.
        p: parameters of the equation.
    """
    dimensions = p["dimension_numbers"]
    batching = dict(
        zip(dimensions.operand_batching_dims, dimensions.start_indices_batching_dims, strict=True)
    )
    windows = _windows(shape, (*dimensions.collapsed_slice_dims, *batching), dimensions.offset_dims)
    return _positions(
        shape, out_shape, indices, dimensions.start_index_map, batching, windows,
        p["slice_sizes"], clips=_clips(p["mode"]),
    )  # fmt: skip


def scatter_positions(
    shape: Shape, indices: np.ndarray, update_shape: Shape, p: Parameters
) -> np.ndarray:
    """Position in the operand to which every element of the updates goes; -1 if dropped.

    Args:
        shape: of the operand (and the result).
        indices: start indices, (batch..., components).
        update_shape: of the updates.
        p: parameters of the equation.
    """
    dimensions = p["dimension_numbers"]
    batching = dict(
        zip(dimensions.operand_batching_dims, dimensions.scatter_indices_batching_dims, strict=True)
    )
    inserted = (*dimensions.inserted_window_dims, *batching)
    windows = _windows(shape, inserted, dimensions.update_window_dims)
    sizes = [update_shape[windows[d]] if d in windows else 1 for d in range(len(shape))]
    components = dimensions.scatter_dims_to_operand_dims
    return _positions(
        shape, update_shape, indices, components, batching, windows, sizes,
        clips=_clips(p["mode"]),
    )  # fmt: skip


def _windows(shape: Shape, without: Sequence[int], axes: Sequence[int]) -> dict[int, int]:
    """Axis of the windowed array for each operand dimension that has one."""
    dimensions = [d for d in range(len(shape)) if d not in without]
    return dict(zip(dimensions, sorted(axes), strict=True))


def _positions(
    shape: Shape,
    layout: Shape,
    indices: np.ndarray,
    components: Sequence[int],
    batching: Mapping[int, int],
    windows: Mapping[int, int],
    sizes: Sequence[int],
    *,
    clips: bool,
) -> np.ndarray:
    """Flat positions in `shape` of windows laid out as (batch axes and window axes) `layout`.

    Args:
        shape: of the indexed array.
        layout: of the array of windows.
        indices: (batch..., components).
        components: indexed dimension of each component of `indices`.
        batching: batch axis (among the batch axes) for each dimension that is iterated.
        windows: axis of `layout` for each dimension that a window covers.
        sizes: of the window in each dimension.
        clips: whether windows are moved inside; else those outside are -1.
    """
    rank = len(layout)
    batch_axes = [axis for axis in range(rank) if axis not in windows.values()]
    batch_layout = [1] * rank
    for axis, size in zip(batch_axes, indices.shape[:-1], strict=True):
        batch_layout[axis] = size

    def along(axis: int, count: int) -> np.ndarray:
        return np.arange(count).reshape([-1 if a == axis else 1 for a in range(rank)])

    outside = np.zeros((), bool)
    coordinates: list[np.ndarray] = []
    for d, size in enumerate(shape):
        last = size - sizes[d]
        start = np.zeros((), np.int64)
        if d in batching:
            axis = batch_axes[batching[d]]
            start = along(axis, layout[axis])
        elif d in components:
            start = indices[..., components.index(d)].astype(np.int64).reshape(batch_layout)
            if not clips:
                outside = outside | (start < 0) | (start > last)
            start = np.clip(start, 0, max(last, 0))
        if d in windows:
            start = start + along(windows[d], sizes[d])
        coordinates.append(start)
    positions = flat(coordinates, shape, layout)
    return np.where(outside, -1, positions) if outside.any() else positions


def window_pairs(shape: Shape, out_shape: Shape, p: Parameters) -> tuple[np.ndarray, np.ndarray]:
    """All (position in the result, position in the operand) of a window reduction."""
    rank = len(shape)
    base_dilation = p.get("base_dilation") or (1,) * rank
    window_dilation = p.get("window_dilation") or (1,) * rank
    config = [
        (low, high, dilation - 1)
        for (low, high), dilation in zip(p["padding"], base_dilation, strict=True)
    ]
    source = padded(np.arange(math.prod(shape)).reshape(shape), -1, config)
    target = np.arange(math.prod(out_shape)).reshape(out_shape)
    targets, sources = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for offset in np.ndindex(*p["window_dimensions"]):
        block = source[
            tuple(
                slice(o * dilation, o * dilation + (n - 1) * stride + 1, stride)
                for o, dilation, n, stride in zip(
                    offset, window_dilation, out_shape, p["window_strides"], strict=True
                )
            )
        ]
        inside = block >= 0
        targets.append(target[inside])
        sources.append(block[inside])
    return np.concatenate(targets), np.concatenate(sources)
