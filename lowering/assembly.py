"""Building arrays out of pieces, as several families need it."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from anvil_jax.kernels.adapter import UOp
from anvil_jax.kernels.program import Buffer
from anvil_jax.lowering.interpreter import Lowering
from anvil_jax.lowering.values import Constant, Elements, Pull, Value, dense_strides


def join(lowering: Lowering, operands: Sequence[Value], axis: int, shape: tuple[int, ...]) -> Value:
    """Joins arrays along an existing axis into one of `shape`."""
    if len(operands) == 1:
        return operands[0]
    dtype = operands[0].dtype
    constants = [x.a for x in operands if isinstance(x, Constant)]
    if len(constants) == len(operands):
        return Constant(np.concatenate(constants, axis), dtype)
    if stays_scalar(lowering, shape, operands):
        parts = [lowering.elements(x) for x in operands]
        return lowering.joined(np.concatenate(parts, axis), dtype)
    buffer = lowering.allocate(dtype, math.prod(shape))
    strides = dense_strides(shape)
    begin = 0
    for x in operands:
        write_block(lowering, buffer, strides, x, [begin * strides[axis]])
        begin += x.shape[axis]
    return lowering.view(buffer, shape)


def stays_scalar(lowering: Lowering, shape: Sequence[int], operands: Sequence[Value]) -> bool:
    """Whether moving elements around should keep them as scalars."""
    size = math.prod(shape)
    from_memory = sum(math.prod(x.shape) for x in operands if isinstance(x, Pull))
    if from_memory > lowering.model.elements:
        return False
    return size <= 4 * lowering.model.joined_elements


def write_block(
    lowering: Lowering,
    buffer: Buffer,
    strides: Sequence[int],
    value: Value,
    offsets: Sequence[int | UOp],
    steps: Sequence[int] | None = None,
) -> None:
    """Stores `value` in a box of a dense array: element i at offsets + i * steps * strides."""
    ex = lowering.ex
    base = ex.index(0)
    for offset in offsets:
        base = ex.add(base, ex.index(offset) if isinstance(offset, int) else offset)
    steps = steps or [1] * len(value.shape)
    if isinstance(value, Elements):
        places = itertools.product(*(range(n) for n in value.shape))
        for place, element in zip(places, value.a.reshape(-1), strict=True):
            shift = sum(i * st * sp for i, st, sp in zip(place, strides, steps, strict=True))
            lowering.store(buffer, ex.add(base, ex.index(shift)), element)
        return
    pull = lowering.pull(value)
    with lowering.nest(pull.shape, parallel=True) as index:
        target = base
        for i, stride, step in zip(index, strides, steps, strict=True):
            target = ex.add(target, ex.mul(i, ex.index(stride * step)))
        lowering.store(buffer, target, pull.at(index))


def row(lowering: Lowering, value: Value, position: int | UOp) -> Value:
    """``value[position]`` along the first axis."""
    if isinstance(position, int):
        rank = len(value.shape)
        start = [position] + [0] * (rank - 1)
        limit = [position + 1, *value.shape[1:]]
        return value.slice(start, limit, [1] * rank).reshape(value.shape[1:])
    return lowering.pull(value).row(position)
