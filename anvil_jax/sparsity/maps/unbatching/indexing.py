"""Gather, scatter and dynamic slices.

In a gather the axes of the result are the axes of the window (`offset_dims`) and, in order, the
leading axes of the indices; the last axis of the indices counts the indexed axes of the operand. In
a scatter the updates take the place of the result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jax import lax

from anvil_jax.sparsity.maps.program import Op, Shape
from anvil_jax.sparsity.maps.unbatching.registry import (
    Layout,
    Line,
    changing,
    less,
    register,
    without,
)


def _window_lines(
    operand: Shape,
    window: Shape,
    hidden: Sequence[int],
    indexed: Sequence[int],
    places: Sequence[int],
) -> list[tuple[int, int]]:
    """(axis of the operand, axis of the windows) where the window is the whole axis.

    Args:
        operand: shape.
        window: extent of the window along each axis of the operand that is not hidden.
        hidden: axes of the operand that windows do not have.
        indexed: axes of the operand along which windows are placed.
        places: axes of the windows.
    """  # fmt: skip
    visible = [d for d in range(len(operand)) if d not in hidden]
    return [
        (d, int(place))
        for d, extent, place in zip(visible, window, places, strict=True)
        if d not in indexed and extent == operand[d]
    ]


def _others(rank: int, places: Sequence[int]) -> list[int]:
    return [d for d in range(rank) if d not in places]


# ---------------------------------------------------------------------------------- gather


def _gather_lines(layout: Layout) -> list[Line]:
    n, (operand, indices), (out,) = layout.params["dimension_numbers"], layout.ins, layout.outs
    hidden = (*n.collapsed_slice_dims, *n.operand_batching_dims)
    window = [out[d] for d in n.offset_dims]
    found = _window_lines(operand, tuple(window), hidden, n.start_index_map, n.offset_dims)
    lines = [Line((d, None), (place,)) for d, place in found]
    of_indices = _others(len(out), n.offset_dims)
    batching = dict(zip(n.start_indices_batching_dims, n.operand_batching_dims, strict=True))
    for axis in range(len(indices) - 1):
        source = batching.get(axis)
        lines.append(Line((None if source is None else int(source), axis), (of_indices[axis],)))
    return lines


def _gather(layout: Layout, line: Line) -> Mapping[str, Any]:
    n, (source, index), (place,) = layout.params["dimension_numbers"], line.ins, line.outs
    sizes = layout.params["slice_sizes"]
    return {
        "dimension_numbers": lax.GatherDimensionNumbers(
            offset_dims=less(n.offset_dims, place),
            collapsed_slice_dims=less(n.collapsed_slice_dims, source),
            start_index_map=less(n.start_index_map, source),
            operand_batching_dims=less(n.operand_batching_dims, source),
            start_indices_batching_dims=less(n.start_indices_batching_dims, index),
        ),
        "slice_sizes": sizes if source is None else without(sizes, source),
    }


register("gather", lines=_gather_lines, drop=changing(_gather))


# ---------------------------------------------------------------------------------- scatter


def _scatter_lines(layout: Layout) -> list[Line]:
    if len(layout.ins) != 3:
        return []
    n, (operand, _, updates) = layout.params["dimension_numbers"], layout.ins
    hidden = (*n.inserted_window_dims, *n.operand_batching_dims)
    window = tuple(updates[d] for d in n.update_window_dims)
    placed = n.scatter_dims_to_operand_dims
    found = _window_lines(operand, window, hidden, placed, n.update_window_dims)
    lines = [Line((d, None, place), (d,)) for d, place in found]
    of_indices = _others(len(updates), n.update_window_dims)
    pairs = zip(n.operand_batching_dims, n.scatter_indices_batching_dims, strict=True)
    lines += [Line((int(d), int(k), of_indices[k]), (int(d),)) for d, k in pairs]
    return lines


def _scatter(layout: Layout, line: Line) -> Mapping[str, Any]:
    n, (target, index, update) = layout.params["dimension_numbers"], line.ins
    return {
        "dimension_numbers": lax.ScatterDimensionNumbers(
            update_window_dims=less(n.update_window_dims, update),
            inserted_window_dims=less(n.inserted_window_dims, target),
            scatter_dims_to_operand_dims=less(n.scatter_dims_to_operand_dims, target),
            operand_batching_dims=less(n.operand_batching_dims, target),
            scatter_indices_batching_dims=less(n.scatter_indices_batching_dims, index),
        )
    }


register(
    "scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max",
    lines=_scatter_lines, drop=changing(_scatter),
)  # fmt: skip


# ---------------------------------------------------------------------------- dynamic slices


def _dynamic_slice_lines(layout: Layout) -> list[Line]:
    """Axes that are taken whole: their start is clamped to zero, whatever it is."""
    operand, out = layout.ins[0], layout.outs[0]
    starts = (None,) * (len(layout.ins) - 1)
    return [
        Line((d, *starts), (d,))
        for d, (a, b) in enumerate(zip(operand, out, strict=True))
        if a == b
    ]


def _dynamic_slice(layout: Layout, line: Line) -> Op:
    (axis,) = line.outs
    assert axis is not None
    op = layout.op
    params = {**op.params, "slice_sizes": without(op.params["slice_sizes"], axis)}
    return replace(op, params=params, ins=without(op.ins, 1 + axis))


register("dynamic_slice", lines=_dynamic_slice_lines, drop=_dynamic_slice)


def _update_lines(layout: Layout) -> list[Line]:
    operand, update = layout.ins[:2]
    starts = (None,) * (len(layout.ins) - 2)
    return [
        Line((d, d, *starts), (d,))
        for d, (a, b) in enumerate(zip(operand, update, strict=True))
        if a == b
    ]


def _update(layout: Layout, line: Line) -> Op:
    (axis,) = line.outs
    assert axis is not None
    return replace(layout.op, ins=without(layout.op.ins, 2 + axis))


register("dynamic_update_slice", lines=_update_lines, drop=_update)
