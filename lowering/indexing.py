"""Reading and writing at computed positions: gather, scatter, dynamic slices.

A gather or scatter is a map between two index spaces. `_Window` says, for one position of the
batch of starts and one offset inside the window, which operand element is meant; static starts
turn into NumPy index arrays, dynamic ones into address arithmetic.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.kernels.adapter import UOp
from anvil_jax.kernels.program import Buffer
from anvil_jax.lowering.avals import aval_dtype, aval_shape
from anvil_jax.lowering.interpreter import Lowering
from anvil_jax.lowering.registry import register
from anvil_jax.lowering.values import Constant, Elements, Index, Pull, Value, dense_strides, ravel

_STATIC_ELEMENTS = 4096
"""Result size up to which static indices are resolved element by element."""


# -- dynamic slices ---------------------------------------------------------------------------


def _clamped(lowering: Lowering, start: Value, limit: int) -> UOp:
    """A start position as an index in 0 .. limit, clamped in its own dtype."""
    ex = lowering.ex
    node = lowering.scalar(start)
    highest = min(limit, _maximum(start.dtype))
    low, high = ex.const(0, start.dtype), ex.const(highest, start.dtype)
    return ex.to_index(ex.minimum(ex.maximum(node, low), high))


def _maximum(dtype: str) -> int:
    return int(np.iinfo(dtype).max)


def _all_known(nodes: Sequence[UOp]) -> list[int] | None:
    """The numbers behind index expressions, None unless all of them are numbers."""
    numbers = [n.arg for n in nodes if not n.src and isinstance(n.arg, int)]
    return numbers if len(numbers) == len(nodes) else None


@register(lax.dynamic_slice_p)
def dynamic_slice(lowering: Lowering, eqn: JaxprEqn, x: Value, *starts: Value) -> Value:
    """A window of static size at a start that is clamped into range."""
    sizes = eqn.params["slice_sizes"]
    begin = [
        _clamped(lowering, s, n - size) for s, n, size in zip(starts, x.shape, sizes, strict=True)
    ]
    static = _all_known(begin)
    if static is not None:
        limit = [b + size for b, size in zip(static, sizes, strict=True)]
        return x.slice(static, limit, [1] * len(sizes))
    return lowering.pull(x).window(begin, sizes)


@register(lax.dynamic_update_slice_p, consumes=True)
def dynamic_update_slice(
    lowering: Lowering, eqn: JaxprEqn, x: Value, update: Value, *starts: Value
) -> Value:
    """A copy of x with a window, at a start clamped into range, replaced."""
    ex = lowering.ex
    begin = [
        _clamped(lowering, s, n - size)
        for s, n, size in zip(starts, x.shape, update.shape, strict=True)
    ]
    static = _all_known(begin)
    if static is not None and lowering.is_scalar(x.shape, x):
        out = lowering.elements(x).copy()
        box = tuple(slice(b, b + n) for b, n in zip(static, update.shape, strict=True))
        out[box] = lowering.elements(update)
        return lowering.joined(out, x.dtype)
    out = writable(lowering, x)
    strides = dense_strides(x.shape)
    update = lowering.pull(update)
    with lowering.nest(update.shape, parallel=True) as index:
        place = ravel(ex, [ex.add(b, i) for b, i in zip(begin, index, strict=True)], strides)
        lowering.store(out, place, update.at(index))
    return updated(lowering, out, x)


def writable(lowering: Lowering, x: Value) -> Buffer:
    """A buffer holding x that may be modified: x's own memory if it is owned, else a copy."""
    if isinstance(x, Pull) and x.owned and x.view is not None and x.is_contiguous:
        return lowering.alias(x.view.buffer)
    buffer = lowering.allocate(x.dtype, math.prod(x.shape))
    lowering.fill(buffer, lowering.ex.index(0), x)
    return buffer


def updated(lowering: Lowering, out: Buffer, x: Value) -> Pull:
    """The array in `out` after x was modified there; still owned if it was."""
    result = lowering.view(out, x.shape)
    result.owned = out.mutable
    return result


# -- gather and scatter -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Window:
    """Geometry shared by gather and scatter.

    Attributes:
        operand: shape of the array that is read or written.
        sizes: extent of the window along each operand axis.
        batch_axes: axes of the output (gather) or updates (scatter) that run over the starts.
        window_axes: the others, one per operand axis that is not dropped.
        kept: operand axes that `window_axes` stand for, in order.
        start_axes: operand axis of each component of a start.
        paired: (operand axis, position among batch axes) of batching axes.
    """

    operand: tuple[int, ...]
    sizes: tuple[int, ...]
    batch_axes: tuple[int, ...]
    window_axes: tuple[int, ...]
    kept: tuple[int, ...]
    start_axes: tuple[int, ...]
    paired: tuple[tuple[int, int], ...]

    def limits(self) -> list[int]:
        """Largest legal value of each component of a start."""
        return [self.operand[a] - self.sizes[a] for a in self.start_axes]

    def independent(self, updates: Sequence[int]) -> list[bool]:
        """Which loops over the axes of `updates`, nested in order, have independent trips.

        Those do of which each trip has an index of its own along some axis of the operand, and
        those over the window of one start.
        """
        own = {self.batch_axes[position] for _, position in self.paired}
        for axis, update_axis in zip(self.kept, self.window_axes, strict=True):
            if axis not in self.start_axes or self.sizes[axis] == self.operand[axis]:
                own.add(update_axis)
        starts = [k for k in self.batch_axes if k not in own and updates[k] > 1]
        inside = max(starts, default=-1) + 1
        return [k in own or (k >= inside and k in self.window_axes) for k in range(len(updates))]

    def axes(
        self, index: Sequence[Any], starts: Sequence[Any], add: Callable[..., Any], zero: Any
    ) -> list[Any]:
        """Operand index for an output index and the components of its start."""
        place = [zero] * len(self.operand)
        for axis, start in zip(self.start_axes, starts, strict=True):
            place[axis] = start
        for axis, position in self.paired:
            place[axis] = index[self.batch_axes[position]]
        for axis, out_axis in zip(self.kept, self.window_axes, strict=True):
            place[axis] = add(place[axis], index[out_axis])
        return place


def _gather_window(eqn: JaxprEqn, operand: tuple[int, ...], rank: int) -> _Window:
    d, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    dropped = {*d.collapsed_slice_dims, *d.operand_batching_dims}
    return _Window(
        operand=operand,
        sizes=tuple(sizes),
        batch_axes=tuple(k for k in range(rank) if k not in d.offset_dims),
        window_axes=tuple(sorted(d.offset_dims)),
        kept=tuple(k for k in range(len(operand)) if k not in dropped),
        start_axes=tuple(d.start_index_map),
        paired=tuple(zip(d.operand_batching_dims, d.start_indices_batching_dims, strict=True)),
    )


def _scatter_window(eqn: JaxprEqn, operand: tuple[int, ...], updates: tuple[int, ...]) -> _Window:
    d = eqn.params["dimension_numbers"]
    dropped = {*d.inserted_window_dims, *d.operand_batching_dims}
    kept = tuple(k for k in range(len(operand)) if k not in dropped)
    sizes = [1] * len(operand)
    for axis, update_axis in zip(kept, sorted(d.update_window_dims), strict=True):
        sizes[axis] = updates[update_axis]
    return _Window(
        operand=operand,
        sizes=tuple(sizes),
        batch_axes=tuple(k for k in range(len(updates)) if k not in d.update_window_dims),
        window_axes=tuple(sorted(d.update_window_dims)),
        kept=kept,
        start_axes=tuple(d.scatter_dims_to_operand_dims),
        paired=tuple(zip(d.operand_batching_dims, d.scatter_indices_batching_dims, strict=True)),
    )


def _mode(eqn: JaxprEqn) -> str:
    """``clip``, ``fill`` (drop for scatter) or ``promise``."""
    mode = str(eqn.params["mode"]).upper()
    if "CLIP" in mode:
        return "clip"
    if "PROMISE" in mode:
        return "promise"
    return "fill"


@register(lax.gather_p)
def gather(lowering: Lowering, eqn: JaxprEqn, x: Value, indices: Value) -> Value:
    """Windows of x at a batch of starts; out-of-range ones are clamped or filled."""
    shape = aval_shape(eqn.outvars[0].aval)
    window = _gather_window(eqn, x.shape, len(shape))
    mode = _mode(eqn)
    fill = _fill_value(eqn, x.dtype)
    if math.prod(shape) == 0:
        return lowering.view(lowering.allocate(x.dtype, 0), shape)
    if isinstance(indices, Constant) and math.prod(shape) <= _STATIC_ELEMENTS:
        return _static_gather(lowering, x, indices.a, window, shape, mode, fill)
    ex = lowering.ex
    source = lowering.materialise(lowering.settle(x)) if not _is_view(x) else lowering.pull(x)
    starts = lowering.pull(lowering.settle(indices))

    def at(index: Index) -> UOp:
        batch = tuple(index[a] for a in window.batch_axes)
        components, inside = _starts(lowering, starts, batch, window, mode)
        value = source.at(tuple(window.axes(index, components, ex.add, ex.index(0))))
        return value if inside is None else ex.where(inside, value, ex.const(fill, x.dtype))

    result = Pull(ex, shape, x.dtype, at, cost=4 * len(window.start_axes) + starts.cost)
    if lowering.is_scalar(shape, result):
        return Elements(lowering.elements(result), x.dtype)
    return result


def _is_view(x: Value) -> bool:
    return isinstance(x, Pull) and x.view is not None


def _fill_value(eqn: JaxprEqn, dtype: str) -> object:
    given = eqn.params.get("fill_value")
    if given is not None:
        return given
    kind = ELEMENT_TYPES[dtype].kind
    if kind == "f":
        return math.nan
    if kind == "i":
        return np.iinfo(dtype).min
    return True if kind == "b" else np.iinfo(dtype).max


def _starts(
    lowering: Lowering, starts: Pull, batch: Index, window: _Window, mode: str
) -> tuple[list[UOp], UOp | None]:
    """Components of one start as safe indices, and whether the start was in range."""
    ex = lowering.ex
    components: list[UOp] = []
    inside: UOp | None = None
    for k, limit in enumerate(window.limits()):
        raw = starts.at((*batch, ex.index(k)))
        low = ex.const(0, starts.dtype)
        high = ex.const(min(limit, _maximum(starts.dtype)), starts.dtype)
        if mode == "fill":
            within = ex.logical_and(ex.less_equal(low, raw), ex.less_equal(raw, high))
            inside = within if inside is None else ex.logical_and(inside, within)
        components.append(ex.to_index(ex.minimum(ex.maximum(raw, low), high)))
    return components, inside


def _static_gather(
    lowering: Lowering,
    x: Value,
    indices: np.ndarray,
    window: _Window,
    shape: tuple[int, ...],
    mode: str,
    fill: object,
) -> Value:
    """Indices known now: an index move for scalars, address arithmetic without any test."""
    places, inside = _static_places(indices, window, shape, clip=mode != "fill")
    if isinstance(x, Pull):
        chosen = _regular_slice(x, places, inside, shape)
        if chosen is not None:
            return chosen
    if not isinstance(x, Pull) or lowering.is_scalar(shape, x):
        if isinstance(x, Constant):
            flat = x.a[places]
            return Constant(np.where(inside, flat, np.asarray(fill, x.a.dtype)), x.dtype)
        flat = np.empty(shape, dtype=object)
        for out in np.ndindex(*shape):
            place = tuple(int(p[out]) for p in places)
            if not inside[out]:
                flat[out] = lowering.ex.const(fill, x.dtype)
            elif isinstance(x, Elements):
                flat[out] = x.a[place]
            else:
                flat[out] = x.at(tuple(map(lowering.ex.index, place)))
        return lowering.joined(flat, x.dtype)
    source = lowering.materialise(lowering.settle(x))
    linear = np.ravel_multi_index(places, x.shape).astype(np.int32)
    ex = lowering.ex
    where = lowering.pull(lowering.constant(linear))
    mask = None if inside.all() else lowering.pull(lowering.constant(inside))

    def at(index: Index) -> UOp:
        assert source.flat is not None
        value = source.flat(ex.to_index(where.at(index)))
        return value if mask is None else ex.where(mask.at(index), value, ex.const(fill, x.dtype))

    return Pull(ex, shape, x.dtype, at, cost=2)


def _static_places(
    indices: np.ndarray, window: _Window, shape: tuple[int, ...], *, clip: bool
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Operand index of every output element, and whether its start was in range."""
    grid = np.indices(shape)
    batch = tuple(grid[a] for a in window.batch_axes)
    inside = np.ones(shape, dtype=bool)
    components = []
    for k, limit in enumerate(window.limits()):
        raw = (
            indices[(*batch, k)].astype(object)
            if indices.dtype == np.uint64
            else indices[(*batch, k)].astype(np.int64)
        )
        if not clip:
            inside &= np.asarray((raw >= 0) & (raw <= limit), dtype=bool)
        components.append(np.clip(raw, 0, max(limit, 0)).astype(np.int64))
    places = window.axes(list(grid), components, np.add, np.zeros(shape, dtype=np.int64))
    return tuple(np.broadcast_to(p, shape) for p in places), inside


def _regular_slice(
    x: Pull, places: tuple[np.ndarray, ...], inside: np.ndarray, shape: tuple[int, ...]
) -> Pull | None:
    """A view, if the gathered addresses are affine in the output index."""
    if x.view is None or not inside.all():
        return None
    address = sum(
        (p * s for p, s in zip(places, x.view.strides, strict=True)),
        start=np.zeros(shape, dtype=np.int64),
    )
    first = int(address.reshape(-1)[0])
    strides = []
    for axis, extent in enumerate(shape):
        corner = tuple(1 if k == axis else 0 for k in range(len(shape)))
        strides.append(int(address[corner]) - first if extent > 1 else 0)
    affine = first + sum(
        (g * s for g, s in zip(np.indices(shape), strides, strict=True)),
        start=np.zeros(shape, dtype=np.int64),
    )
    if not np.array_equal(affine, address):
        return None
    return x._viewed(shape, x.ex.add(x.view.offset, x.ex.index(first)), strides)


_COMBINE: dict[str, Callable] = {
    "scatter": lambda ex: lambda _, new: new,
    "scatter-add": lambda ex: ex.add,
    "scatter-sub": lambda ex: ex.sub,
    "scatter-mul": lambda ex: ex.mul,
    "scatter-min": lambda ex: ex.minimum,
    "scatter-max": lambda ex: ex.maximum,
}


@register(*_COMBINE, consumes=True)
def scatter(lowering: Lowering, eqn: JaxprEqn, x: Value, indices: Value, updates: Value) -> Value:
    """A copy of x with windows combined with updates; out-of-range windows are dropped."""
    ex = lowering.ex
    combine = _combiner(lowering, eqn)
    window = _scatter_window(eqn, x.shape, updates.shape)
    mode = _mode(eqn)
    if math.prod(updates.shape) == 0:
        return x
    scalar = lowering.is_scalar(x.shape, x) and lowering.is_scalar(updates.shape, updates)
    if isinstance(indices, Constant) and scalar:
        places, inside = _static_places(indices.a, window, updates.shape, clip=mode == "clip")
        out, new = lowering.elements(x).copy(), lowering.elements(updates)
        for k in np.ndindex(*updates.shape):
            if inside[k]:
                place = tuple(int(p[k]) for p in places)
                out[place] = combine(out[place], new[k])
        return lowering.joined(out, x.dtype)
    out = writable(lowering, x)
    strides = dense_strides(x.shape)
    starts, new = lowering.pull(lowering.settle(indices)), lowering.pull(updates)
    independent = window.independent(updates.shape)
    if eqn.params["unique_indices"] or _is_unique(indices, window, updates.shape, mode):
        independent = [True] * len(updates.shape)
    with lowering.nest(updates.shape, parallel=independent) as index:
        batch = tuple(index[a] for a in window.batch_axes)
        checked = "clip" if mode == "clip" else "fill"
        components, inside = _starts(lowering, starts, batch, window, checked)
        place = ravel(ex, window.axes(index, components, ex.add, ex.index(0)), strides)

        def write() -> None:
            so_far = ex.load(lowering.alias(out), place)
            lowering.store(out, place, combine(so_far, new.at(index)))

        if inside is None or _is_true(inside):
            write()
        else:
            lowering.switch(inside, [lambda: None, write])
    return updated(lowering, out, x)


def _is_unique(indices: Value, window: _Window, shape: tuple[int, ...], mode: str) -> bool:
    """Whether it is known now that no element is written twice."""
    if not isinstance(indices, Constant) or math.prod(shape) > _STATIC_ELEMENTS:
        return False
    places, inside = _static_places(indices.a, window, shape, clip=mode == "clip")
    written = np.ravel_multi_index(tuple(p[inside] for p in places), window.operand)
    return len(np.unique(written)) == len(written)


def _combiner(lowering: Lowering, eqn: JaxprEqn) -> Callable[..., UOp]:
    """What a scatter makes of an old element and its update; ``x.at[i].apply`` has its own."""
    body = eqn.params["update_jaxpr"]
    if eqn.primitive is not lax.scatter_p or body is None:
        return _COMBINE[eqn.primitive.name](lowering.ex)
    consts = eqn.params["update_consts"]

    def apply(*nodes: UOp) -> UOp:
        dtypes = [aval_dtype(v.aval) for v in body.invars]
        operands = [
            Elements(np.array(n, dtype=object), d) for n, d in zip(nodes, dtypes, strict=True)
        ]
        (result,) = lowering.run(body, consts, operands)
        return lowering.scalar(result)

    return apply


def _is_true(node: UOp) -> bool:
    return not node.src and node.arg is True
