"""Where elements go: reshape, transpose, slice, pad, concatenate, iota and their relatives."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from anvil_jax.kernels.adapter import UOp
from anvil_jax.lowering.assembly import join, stays_scalar, write_block
from anvil_jax.lowering.avals import aval_dtype, aval_shape
from anvil_jax.lowering.interpreter import Lowering
from anvil_jax.lowering.registry import register
from anvil_jax.lowering.values import Constant, Elements, Index, Pull, Value, dense_strides

_FOLDED_IOTA = 1024
"""Size up to which an iota is a compile-time constant rather than arithmetic on loop counters."""


@register(lax.reshape_p, lax.squeeze_p)
def reshape(lowering: Lowering, eqn: JaxprEqn, x: Value) -> Value:
    """Same elements in C order, other shape."""
    if eqn.params.get("dimensions") is not None and eqn.primitive is lax.reshape_p:
        x = x.transpose(eqn.params["dimensions"])
    return x.reshape(aval_shape(eqn.outvars[0].aval))


@register(lax.transpose_p)
def transpose(lowering: Lowering, eqn: JaxprEqn, x: Value) -> Value:
    """Axes in another order."""
    return x.transpose(eqn.params["permutation"])


@register(lax.broadcast_in_dim_p)
def broadcast_in_dim(lowering: Lowering, eqn: JaxprEqn, x: Value) -> Value:
    """Repeats along new axes and axes of extent 1."""
    shape = aval_shape(eqn.outvars[0].aval)
    dimensions = eqn.params["broadcast_dimensions"]
    repeats = math.prod(shape) > math.prod(x.shape)
    if isinstance(x, Elements) and math.prod(shape) > lowering.model.joined_elements:
        x = lowering.pull(x)
    if isinstance(x, Pull) and repeats:
        x = lowering.settle(x)
    if isinstance(x, Constant) and math.prod(shape) > _FOLDED_IOTA:
        x = lowering.pull(x)
    return x.broadcast_in_dim(shape, dimensions)


@register(lax.slice_p)
def slice_(lowering: Lowering, eqn: JaxprEqn, x: Value) -> Value:
    """A strided window."""
    p = eqn.params
    strides = p["strides"] or (1,) * len(x.shape)
    return x.slice(p["start_indices"], p["limit_indices"], strides)


@register(lax.rev_p)
def rev(lowering: Lowering, eqn: JaxprEqn, x: Value) -> Value:
    """Reverses axes."""
    return x.rev(eqn.params["dimensions"])


@register(lax.split_p)
def split(lowering: Lowering, eqn: JaxprEqn, x: Value) -> list[Value]:
    """Consecutive pieces along one axis."""
    axis, ends = eqn.params["axis"], list(itertools.accumulate(eqn.params["sizes"]))
    if len(ends) > 1:
        x = lowering.settle(x)
    pieces = []
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        start = [begin if k == axis else 0 for k in range(len(x.shape))]
        limit = [end if k == axis else n for k, n in enumerate(x.shape)]
        pieces.append(x.slice(start, limit, [1] * len(x.shape)))
    return pieces


@register("unstack")
def unstack(lowering: Lowering, eqn: JaxprEqn, x: Value) -> list[Value]:
    """The slices along one axis, without that axis."""
    axis = eqn.params["axis"]
    x = lowering.settle(x)
    rest = [n for k, n in enumerate(x.shape) if k != axis]
    pieces = []
    for position in range(x.shape[axis]):
        start = [position if k == axis else 0 for k in range(len(x.shape))]
        limit = [position + 1 if k == axis else n for k, n in enumerate(x.shape)]
        pieces.append(x.slice(start, limit, [1] * len(x.shape)).reshape(rest))
    return pieces


@register(lax.concatenate_p)
def concatenate(lowering: Lowering, eqn: JaxprEqn, *operands: Value) -> Value:
    """Joins arrays along an existing axis."""
    return join(lowering, operands, eqn.params["dimension"], aval_shape(eqn.outvars[0].aval))


@register("stack")
def stack(lowering: Lowering, eqn: JaxprEqn, *operands: Value) -> Value:
    """Joins arrays along a new axis."""
    axis = eqn.params["axis"]
    widened = [x.reshape((*x.shape[:axis], 1, *x.shape[axis:])) for x in operands]
    return join(lowering, widened, axis, aval_shape(eqn.outvars[0].aval))


@register(lax.pad_p)
def pad(lowering: Lowering, eqn: JaxprEqn, x: Value, filler: Value) -> Value:
    """Adds (or, negative, removes) elements around and between the elements of x."""
    config = [tuple(map(int, axis)) for axis in eqn.params["padding_config"]]
    shape = aval_shape(eqn.outvars[0].aval)
    kept = [
        [(i, lo + i * (step + 1)) for i in range(n) if 0 <= lo + i * (step + 1) < extent]
        for n, (lo, _, step), extent in zip(x.shape, config, shape, strict=True)
    ]
    empty = any(not axis for axis in kept)
    if not empty:
        start = [axis[0][0] for axis in kept]
        x = x.slice(start, [axis[-1][0] + 1 for axis in kept], [1] * len(shape))
    target = [0 if empty else axis[0][1] for axis in kept]
    steps = [step + 1 for _, _, step in config]
    if stays_scalar(lowering, shape, [x]) or math.prod(shape) <= lowering.model.elements:
        out = np.empty(shape, dtype=object)
        out[...] = lowering.scalar(filler)
        if not empty:
            box = tuple(
                slice(t, t + (n - 1) * s + 1, s)
                for t, n, s in zip(target, x.shape, steps, strict=True)
            )
            out[box] = lowering.elements(x)
        return lowering.joined(out, x.dtype)
    buffer = lowering.allocate(x.dtype, math.prod(shape))
    strides = dense_strides(shape)
    value = lowering.scalar(filler)
    with lowering.loop(buffer.size, parallel=True) as k:
        lowering.store(buffer, k, value)
    if not empty:
        offset = sum(t * s for t, s in zip(target, strides, strict=True))
        write_block(lowering, buffer, strides, x, [offset], steps)
    return lowering.view(buffer, shape)


@register(lax.iota_p)
def iota(lowering: Lowering, eqn: JaxprEqn) -> Value:
    """Position along one axis."""
    shape, axis = aval_shape(eqn.outvars[0].aval), eqn.params["dimension"]
    dtype = aval_dtype(eqn.outvars[0].aval)
    spread = [n if k == axis else 1 for k, n in enumerate(shape)]
    if math.prod(shape) <= _FOLDED_IOTA:
        row = np.arange(shape[axis]).astype(dtype).reshape(spread)
        return lowering.constant(np.broadcast_to(row, shape))

    def at(index: Index) -> UOp:
        return lowering.ex.cast(index[axis], dtype)

    return Pull(lowering.ex, shape, dtype, at, cost=1, flat=_flat_iota(lowering, shape, dtype))


def _flat_iota(lowering: Lowering, shape: Sequence[int], dtype: str):
    if len(shape) != 1:
        return None
    return lambda k: lowering.ex.cast(k, dtype)


@register("tile")
def tile(lowering: Lowering, eqn: JaxprEqn, x: Value) -> Value:
    """Repeats whole arrays along axes."""
    reps = eqn.params["reps"]
    shape = aval_shape(eqn.outvars[0].aval)
    rank = len(shape)
    widened = [1] * (rank - len(x.shape)) + list(x.shape)
    reps = [1] * (rank - len(reps)) + list(reps)
    paired = list(itertools.chain(*zip(reps, widened, strict=True)))
    spread = x.reshape(widened).broadcast_in_dim(paired, range(1, 2 * rank, 2))
    return spread.reshape(shape)


@register("empty2")
def empty(lowering: Lowering, eqn: JaxprEqn) -> Value:
    """Memory that JAX never reads (in the branches of a differentiated `cond`): zero."""
    aval = eqn.outvars[0].aval
    return lowering.constant(np.zeros(aval_shape(aval), aval_dtype(aval)))
