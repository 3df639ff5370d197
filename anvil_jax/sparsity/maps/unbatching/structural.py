"""Data movement, reductions, cumulative operations and sorting."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anvil_jax.sparsity.maps.unbatching.registry import (
    Layout,
    Line,
    Lines,
    changing,
    less,
    register,
    unchanged,
    without,
)


def _place(line: Line) -> int:
    """The axis in the first result."""
    (axis, *_) = line.outs
    assert axis is not None
    return axis


def _source(line: Line) -> int:
    """The axis in the first operand."""
    (axis, *_) = line.ins
    assert axis is not None
    return axis


# ------------------------------------------------------------------------------------- reshaping


def _reshape_lines(layout: Layout) -> list[Line]:
    """Axes with the same extent and the same number of elements before them."""
    (old,), (new,) = layout.ins, layout.outs
    if math.prod(old) == 0 or (layout.op.name == "reshape" and layout.params["dimensions"]):
        return []
    before = {math.prod(old[:k]): k for k, n in enumerate(old) if n > 1}
    lines = []
    for axis, extent in enumerate(new):
        source = before.get(math.prod(new[:axis])) if extent > 1 else None
        if source is not None and old[source] == extent:
            lines.append(Line((source,), (axis,)))
    return lines


def _new_sizes(layout: Layout, line: Line) -> Mapping[str, Any]:
    return {"new_sizes": without(layout.params["new_sizes"], _place(line))}


register("reshape", lines=_reshape_lines, drop=changing(_new_sizes))


def _squeezed(layout: Layout, line: Line) -> Mapping[str, Any]:
    return {"dimensions": less(layout.params["dimensions"], _source(line))}


register("squeeze", lines=_reshape_lines, drop=changing(_squeezed))


def _broadcast_lines(layout: Layout) -> list[Line]:
    places = layout.params["broadcast_dimensions"]
    return [
        Line((places.index(axis) if axis in places else None,), (axis,))
        for axis in range(len(layout.outs[0]))
    ]


def _broadcast(layout: Layout, line: Line) -> Mapping[str, Any]:
    places = layout.params["broadcast_dimensions"]
    return {
        "shape": without(layout.outs[0], _place(line)),
        "broadcast_dimensions": less(places, _place(line)),
    }


register("broadcast_in_dim", lines=_broadcast_lines, drop=changing(_broadcast))


def _transpose_lines(layout: Layout) -> list[Line]:
    return [Line((int(old),), (new,)) for new, old in enumerate(layout.params["permutation"])]


def _transposed(layout: Layout, line: Line) -> Mapping[str, Any]:
    return {"permutation": less(layout.params["permutation"], line.ins[0])}


register("transpose", lines=_transpose_lines, drop=changing(_transposed))


def _iota_lines(layout: Layout) -> list[Line]:
    if layout.ins:
        return []
    axes = range(len(layout.outs[0]))
    return [Line((), (axis,)) for axis in axes if axis != layout.params["dimension"]]


def _iota(layout: Layout, line: Line) -> Mapping[str, Any]:
    p, axis = layout.params, _place(line)
    return {"shape": without(p["shape"], axis), "dimension": less([p["dimension"]], axis)[0]}


register("iota", lines=_iota_lines, drop=changing(_iota))


# ----------------------------------------------------------------------- cutting and joining


def _slice_lines(layout: Layout) -> list[Line]:
    (old,), (new,) = layout.ins, layout.outs
    return [Line((d,), (d,)) for d, (a, b) in enumerate(zip(old, new, strict=True)) if a == b]


def _sliced(layout: Layout, line: Line) -> Mapping[str, Any]:
    axis, strides = _source(line), layout.params["strides"]
    return {
        "start_indices": without(layout.params["start_indices"], axis),
        "limit_indices": without(layout.params["limit_indices"], axis),
        "strides": None if strides is None else without(strides, axis),
    }


register("slice", lines=_slice_lines, drop=changing(_sliced))


def _pad_lines(layout: Layout) -> list[Line]:
    config = layout.params["padding_config"]
    return [
        Line((axis, None), (axis,))
        for axis, padding in enumerate(config)
        if all(int(n) == 0 for n in padding)
    ]


def _padded(layout: Layout, line: Line) -> Mapping[str, Any]:
    return {"padding_config": without(layout.params["padding_config"], _source(line))}


register("pad", lines=_pad_lines, drop=changing(_padded))


def _tile_lines(layout: Layout) -> list[Line]:
    return [Line((d,), (d,)) for d, n in enumerate(layout.params["reps"]) if int(n) == 1]


def _tiled(layout: Layout, line: Line) -> Mapping[str, Any]:
    return {"reps": without(layout.params["reps"], _source(line))}


register("tile", lines=_tile_lines, drop=changing(_tiled))


def _stack_lines(layout: Layout) -> list[Line]:
    axis = layout.params["axis"]
    return [Line((d,) * len(layout.ins), (d + (d >= axis),)) for d in range(len(layout.ins[0]))]


def _stacked(layout: Layout, line: Line) -> Mapping[str, Any]:
    axis = layout.params["axis"]
    return {"axis": axis - (axis > _place(line))}


register("stack", lines=_stack_lines, drop=changing(_stacked))


def _unstack_lines(layout: Layout) -> list[Line]:
    axis, rank = layout.params["axis"], len(layout.ins[0])
    return [Line((d,), (d - (d > axis),) * len(layout.outs)) for d in range(rank) if d != axis]


def _unstacked(layout: Layout, line: Line) -> Mapping[str, Any]:
    axis = layout.params["axis"]
    return {"axis": axis - (axis > _source(line))}


register("unstack", lines=_unstack_lines, drop=changing(_unstacked))


# ------------------------------------------------------------------ operations along some axes


def _register_along(*names: str, parameter: str, keeps_rank: bool = True) -> None:
    """Operations that treat all axes alike except the one, or those, that a parameter names.

    Args:
        *names: of the primitives.
        parameter: its name.
        keeps_rank: whether results have the named axes too.
    """

    def named(layout: Layout) -> Sequence[int]:
        axes = layout.params[parameter]
        return [int(a) for a in axes] if isinstance(axes, Sequence) else [int(axes)]

    def lines(layout: Layout) -> list[Line]:
        along = named(layout)
        found = []
        for d in range(len(layout.ins[0])):
            if d in along:
                continue
            out = d if keeps_rank else d - sum(a < d for a in along)
            found.append(Line((d,) * len(layout.ins), (out,) * len(layout.outs)))
        return found

    def parameters(layout: Layout, line: Line) -> Mapping[str, Any]:
        renumbered = less(named(layout), _source(line))
        several = isinstance(layout.params[parameter], Sequence)
        return {parameter: renumbered if several else renumbered[0]}

    register(*names, lines=lines, drop=changing(parameters))


_register_along(
    "reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or",
    "reduce_xor", "argmax", "argmin", parameter="axes", keeps_rank=False,
)  # fmt: skip
_register_along(
    "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "split", "top_k", parameter="axis"
)
_register_along("sort", "concatenate", parameter="dimension")
_register_along("rev", parameter="dimensions")


def _barrier_lines(layout: Layout) -> list[Line]:
    """Operands do not mix, so that one line cannot stand for several of them."""
    if len(layout.ins) != 1:
        return []
    return [Line((d,), (d,)) for d in range(len(layout.ins[0]))]


register("optimization_barrier", lines=_barrier_lines, drop=unchanged)


# ---------------------------------------------------------------------- small linear algebra


def _batch_lines(trailing: Callable[[Layout], int]) -> Lines:
    """Leading axes of operations on matrices or vectors."""

    def lines(layout: Layout) -> list[Line]:
        leading = len(layout.ins[0]) - trailing(layout)
        return [Line((d,) * len(layout.ins), (d,) * len(layout.outs)) for d in range(leading)]

    return lines


register(
    "cholesky", "lu", "qr", "householder_product", "triangular_solve", "svd", "eigh",
    lines=_batch_lines(lambda layout: 2), drop=unchanged,
)  # fmt: skip
register("lu_pivots_to_permutation", lines=_batch_lines(lambda layout: 1), drop=unchanged)
register("tridiagonal_solve", lines=_batch_lines(lambda layout: 1), drop=unchanged)
