"""Running sums, products, extrema and log-sum-exps along one axis."""

import math
from collections.abc import Callable

import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn, Primitive

from anvil_jax.kernels.adapter import UOp, dtype_name
from anvil_jax.kernels.expression import Expressions
from anvil_jax.lowering.interpreter import Lowering
from anvil_jax.lowering.registry import register
from anvil_jax.lowering.values import Value, dense_strides


def _log_add_exp(ex: Expressions) -> Callable[[UOp, UOp], UOp]:
    def combine(a: UOp, b: UOp) -> UOp:
        dtype = dtype_name(a)
        difference = ex.sub(a, b)
        small = ex.intrinsic("exp", dtype, ex.neg(ex.intrinsic("abs", dtype, difference)))
        finite = ex.add(ex.maximum(a, b), ex.intrinsic("log1p", dtype, small))
        undefined = ex.not_equal(difference, difference)  # equal infinities, or NaN
        return ex.where(undefined, ex.add(a, b), finite)

    return combine


_COMBINE: dict[Primitive, Callable[[Expressions], Callable[[UOp, UOp], UOp]]] = {
    lax.cumsum_p: lambda ex: ex.add,
    lax.cumprod_p: lambda ex: ex.mul,
    lax.cummax_p: lambda ex: ex.maximum,
    lax.cummin_p: lambda ex: ex.minimum,
    lax.cumlogsumexp_p: _log_add_exp,
}


@register(*_COMBINE)
def cumulative(lowering: Lowering, eqn: JaxprEqn, x: Value) -> Value:
    """``out[k] = combine(out[k - 1], x[k])``; from the end if `reverse`."""
    ex = lowering.ex
    axis, reverse = eqn.params["axis"], eqn.params["reverse"]
    combine = _COMBINE[eqn.primitive](ex)
    extent = x.shape[axis]
    if math.prod(x.shape) == 0:
        return x
    if lowering.is_scalar(x.shape, x):
        rows = np.moveaxis(lowering.elements(x), axis, 0)
        out = np.empty(rows.shape, dtype=object)
        order = range(extent - 1, -1, -1) if reverse else range(extent)
        for place in np.ndindex(*rows.shape[1:]):
            running = None
            for k in order:
                element = rows[(k, *place)]
                running = element if running is None else combine(running, element)
                out[(k, *place)] = running
        return lowering.joined(np.moveaxis(out, 0, axis), x.dtype)
    pull = lowering.pull(x)
    out = lowering.allocate(x.dtype, pull.size)
    strides = dense_strides(x.shape)
    others = [n for k, n in enumerate(x.shape) if k != axis]
    zero = ex.index(0)

    def position(step: UOp) -> UOp:
        return ex.sub(ex.index(extent - 1), step) if reverse else step

    with lowering.nest(others, parallel=True) as index:
        running = lowering.allocate(x.dtype, 1)

        def write(step: UOp, value: UOp) -> None:
            place = zero
            full = (*index[:axis], position(step), *index[axis:])
            for i, stride in zip(full, strides, strict=True):
                place = ex.add(place, ex.mul(i, ex.index(stride)))
            lowering.store(running, zero, value)
            lowering.store(out, place, value)

        write(zero, pull.at((*index[:axis], position(zero), *index[axis:])))
        if extent > 1:
            with lowering.loop(extent - 1) as counter:
                step = ex.add(counter, ex.index(1))
                element = pull.at((*index[:axis], position(step), *index[axis:]))
                write(step, combine(ex.load(lowering.alias(running), 0), element))
    return lowering.view(out, x.shape)
