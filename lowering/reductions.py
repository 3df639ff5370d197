"""Reductions over axes: sum, product, extrema, logic, and where the extremum is."""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn, Primitive

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.kernels.adapter import Ops, UOp, dtype_name
from anvil_jax.kernels.expression import Expressions, is_float
from anvil_jax.kernels.program import Buffer
from anvil_jax.lowering.avals import aval_dtype, aval_shape
from anvil_jax.lowering.interpreter import Lowering
from anvil_jax.lowering.registry import register
from anvil_jax.lowering.values import Pull, Value, dense_strides, ravel, unravel

type Combine = Callable[[UOp, UOp], UOp]

_LANES = 8
"""Independent partial results along the reduced axis; lets compilers use vector registers."""


def _smallest(dtype: str) -> object:
    kind = ELEMENT_TYPES[dtype].kind
    return -math.inf if kind == "f" else (False if kind == "b" else np.iinfo(dtype).min)


def _largest(dtype: str) -> object:
    kind = ELEMENT_TYPES[dtype].kind
    return math.inf if kind == "f" else (True if kind == "b" else np.iinfo(dtype).max)


def _ones(dtype: str) -> object:
    """All bits set."""
    return True if dtype == "bool" else int(np.invert(np.zeros((), dtype)))


def _bits(ex: Expressions, op: Ops, a: UOp, b: UOp) -> UOp:
    """AND, OR or XOR of integers or bools."""
    if dtype_name(a) != "bool":
        return ex.bitwise(op, a, b)
    logical = {Ops.AND: ex.logical_and, Ops.OR: ex.logical_or, Ops.XOR: ex.not_equal}
    return logical[op](a, b)


_REDUCERS: dict[Primitive, tuple[Callable[[Expressions], Combine], Callable[[str], object]]] = {
    lax.reduce_sum_p: (lambda ex: ex.add, lambda _: 0),
    lax.reduce_prod_p: (lambda ex: ex.mul, lambda _: 1),
    lax.reduce_max_p: (lambda ex: ex.maximum, _smallest),
    lax.reduce_min_p: (lambda ex: ex.minimum, _largest),
    lax.reduce_and_p: (lambda ex: partial(_bits, ex, Ops.AND), _ones),
    lax.reduce_or_p: (lambda ex: partial(_bits, ex, Ops.OR), lambda _: 0),
    lax.reduce_xor_p: (lambda ex: partial(_bits, ex, Ops.XOR), lambda _: 0),
}


def _register(
    primitive: Primitive | str, combine: Callable, identity: Callable[[str], object]
) -> None:
    @register(primitive)
    def rule(lowering: Lowering, eqn: JaxprEqn, x: Value) -> Value:
        return reduce_axes(lowering, x, eqn.params["axes"], combine(lowering.ex), identity(x.dtype))


for _primitive, (_combine, _identity) in _REDUCERS.items():
    _register(_primitive, _combine, _identity)


def reduce_axes(
    lowering: Lowering,
    x: Value,
    axes: Sequence[int],
    combine: Combine,
    identity: object,
) -> Value:
    """Combines all elements along `axes`, in pairs (scalar kernel) or lanes (tensor kernel)."""
    kept = [n for k, n in enumerate(x.shape) if k not in axes]
    if not axes:
        return x
    start = lowering.ex.const(identity, x.dtype)
    if lowering.is_scalar(x.shape, x):
        elements = np.moveaxis(lowering.elements(x), tuple(axes), range(len(axes)))
        columns = elements.reshape((math.prod(elements.shape[: len(axes)]), *kept))
        out = np.empty(kept, dtype=object)
        for place in np.ndindex(*kept):
            column = [columns[(k, *place)] for k in range(len(columns))]
            out[place] = _tree(column, combine, start)
        return lowering.joined(out, x.dtype)
    pull = lowering.pull(x)
    if lowering.has_threads:
        return _reduce_by_threads(lowering, pull, axes, combine, start).reshape(kept)
    out = lowering.allocate(x.dtype, math.prod(kept))
    if len(x.shape) - 1 in axes or math.prod(kept) == 1:
        _reduce_rows(lowering, pull, axes, combine, start, out)
    else:
        _reduce_columns(lowering, pull, axes, combine, start, out)
    return lowering.view(out, kept)


def _tree(nodes: list[UOp], combine: Combine, start: UOp) -> UOp:
    """Pairwise combination: short dependency chains and small rounding errors."""
    while len(nodes) > 1:
        nodes = [
            combine(*pair) if len(pair) == 2 else pair[0] for pair in itertools.batched(nodes, 2)
        ]
    return nodes[0] if nodes else start


def _reduce_columns(
    lowering: Lowering,
    pull: Pull,
    axes: Sequence[int],
    combine: Combine,
    start: UOp,
    out: Buffer,
) -> None:
    """The last axis stays: whole rows are combined into the result, contiguously."""
    ex = lowering.ex
    kept = [k for k in range(len(pull.shape)) if k not in axes]
    strides = dense_strides([pull.shape[k] for k in kept])
    with lowering.loop(out.size, parallel=True) as k:
        lowering.store(out, k, start)
    with (
        lowering.nest([pull.shape[k] for k in axes]) as reduced,
        lowering.nest([pull.shape[k] for k in kept], parallel=True) as index,
    ):
        place = ravel(ex, index, strides)
        where = dict(zip((*axes, *kept), (*reduced, *index), strict=True))
        element = pull.at(tuple(where[k] for k in range(len(pull.shape))))
        so_far = ex.load(lowering.alias(out), place)
        lowering.store(out, place, combine(so_far, element))


def _reduce_rows(
    lowering: Lowering,
    pull: Pull,
    axes: Sequence[int],
    combine: Combine,
    start: UOp,
    out: Buffer,
) -> None:
    """The last axis goes: each result is combined in `_LANES` independent parts."""
    ex = lowering.ex
    kept = [k for k in range(len(pull.shape)) if k not in axes]
    strides = dense_strides([pull.shape[k] for k in kept])
    last = axes[-1] if len(pull.shape) - 1 not in axes else len(pull.shape) - 1
    outer = [k for k in axes if k != last]
    extent = pull.shape[last]
    lanes = _LANES if extent >= 2 * _LANES else 1
    with lowering.nest([pull.shape[k] for k in kept], parallel=True) as index:
        partial = lowering.allocate(pull.dtype, lanes)
        for lane in range(lanes):
            lowering.store(partial, ex.index(lane), start)

        def accumulate(lane: UOp, position: UOp, reduced: Sequence[UOp]) -> None:
            where = dict(zip((*kept, *outer, last), (*index, *reduced, position), strict=True))
            element = pull.at(tuple(where[k] for k in range(len(pull.shape))))
            so_far = ex.load(lowering.alias(partial), lane)
            lowering.store(partial, lane, combine(so_far, element))

        with lowering.nest([pull.shape[k] for k in outer]) as reduced:
            with (
                lowering.nest((extent // lanes,)) as (block,),
                lowering.nest((lanes,), parallel=True) as (lane,),
            ):
                position = ex.add(ex.mul(block, ex.index(lanes)), lane)
                accumulate(lane, position, reduced)
            rest = extent % lanes
            if rest:
                with lowering.nest((rest,), parallel=True) as (lane,):
                    accumulate(lane, ex.add(lane, ex.index(extent - rest)), reduced)
        whole = [ex.load(partial, lane) for lane in range(lanes)]
        lowering.store(out, ravel(ex, index, strides), _tree(whole, combine, start))


def _reduce_by_threads(
    lowering: Lowering, pull: Pull, axes: Sequence[int], combine: Combine, start: UOp
) -> Pull:
    """Each result, or each of several parts of it, is combined by one thread.

    Neighbouring threads take neighbouring elements. Parts are combined in the same way until few
    are left. No memory is shared and nothing depends on the order of threads, so results are
    reproducible.
    """
    ex = lowering.ex
    kept_axes = [k for k in range(len(pull.shape)) if k not in axes]
    kept = [pull.shape[k] for k in kept_axes]
    extent = math.prod(pull.shape[k] for k in axes)
    parts = lowering.parts(math.prod(kept), extent)
    out = lowering.allocate(pull.dtype, math.prod(kept) * parts)
    with lowering.nest([*kept, parts], parallel=True) as index:
        part = index[-1]
        sum_so_far = lowering.allocate(pull.dtype, 1)
        lowering.store(sum_so_far, ex.index(0), start)

        def add(trip: UOp, beyond: UOp | None = None) -> None:
            position = ex.add(ex.mul(trip, ex.index(parts)), part)
            if beyond is not None:
                position = ex.minimum(position, ex.index(extent - 1))
            reduced = unravel(ex, position, [pull.shape[k] for k in axes])
            where = dict(zip((*kept_axes, *axes), (*index[:-1], *reduced), strict=True))
            element = pull.at(tuple(where[k] for k in range(len(pull.shape))))
            so_far = ex.load(lowering.alias(sum_so_far), 0)
            total = combine(so_far, element)
            if beyond is not None:
                total = ex.where(beyond, so_far, total)
            lowering.store(sum_so_far, ex.index(0), total)

        trips, rest = divmod(extent, parts)
        with lowering.nest((trips,)) as (trip,):
            if trips:
                add(trip)
        if rest:
            add(ex.index(trips), ex.less_equal(ex.index(rest), part))
        place = ravel(ex, index, dense_strides([*kept, parts]))
        lowering.store(out, place, ex.load(sum_so_far, 0))
    partial = lowering.view(out, (*kept, parts))
    if parts == 1:
        return partial
    return _reduce_by_threads(lowering, partial, [len(kept)], combine, start)


@register(lax.argmax_p, lax.argmin_p)
def argmax(lowering: Lowering, eqn: JaxprEqn, x: Value) -> Value:
    """Position of the first extremum along one axis; NaN counts as the extremum."""
    ex = lowering.ex
    (axis,) = eqn.params["axes"]
    dtype = aval_dtype(eqn.outvars[0].aval)
    kept = aval_shape(eqn.outvars[0].aval)
    larger = eqn.primitive is lax.argmax_p

    def better(new: UOp, best: UOp) -> UOp:
        if dtype_name(new) == "bool":
            first, second = (new, best) if larger else (best, new)
            return ex.logical_and(first, ex.logical_not(second))
        wins = ex.less(best, new) if larger else ex.less(new, best)
        if not is_float(new):
            return wins
        nan = ex.logical_and(ex.not_equal(new, new), ex.equal(best, best))
        return ex.logical_or(wins, nan)

    if lowering.is_scalar(x.shape, x, cost=2):
        columns = np.moveaxis(lowering.elements(x), axis, 0)
        out = np.empty(kept, dtype=object)
        for place in np.ndindex(*kept):
            best, where = columns[(0, *place)], ex.const(0, dtype)
            for k in range(1, x.shape[axis]):
                wins = better(columns[(k, *place)], best)
                best = ex.where(wins, columns[(k, *place)], best)
                where = ex.where(wins, ex.const(k, dtype), where)
            out[place] = where
        return lowering.joined(out, dtype)
    pull = lowering.pull(lowering.settle(x))
    out = lowering.allocate(dtype, math.prod(kept))
    with lowering.nest(kept, parallel=True) as index:
        best, where = lowering.allocate(x.dtype, 1), lowering.allocate(dtype, 1)
        zero = ex.index(0)
        lowering.store(best, zero, pull.at((*index[:axis], zero, *index[axis:])))
        lowering.store(where, zero, ex.const(0, dtype))
        with lowering.loop(x.shape[axis]) as position:
            element = pull.at((*index[:axis], position, *index[axis:]))
            so_far = ex.load(lowering.alias(best), 0)
            so_far_at = ex.load(lowering.alias(where), 0)
            wins = better(element, so_far)
            lowering.store(where, zero, ex.where(wins, ex.cast(position, dtype), so_far_at))
            lowering.store(best, zero, ex.where(wins, element, so_far))
        lowering.store(out, ravel(ex, index, dense_strides(kept)), ex.load(where, 0))
    return lowering.view(out, kept)
