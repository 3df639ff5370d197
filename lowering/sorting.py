"""Sorting along one axis: a run-time function finds the order, passengers follow by address.

`sort` with several keys, `top_k`; argsort is a sort with positions as passenger.
"""

import math
from collections.abc import Sequence

from jax import lax
from jax.extend.core import JaxprEqn

from anvil_jax.kernels.adapter import UOp
from anvil_jax.lowering.avals import aval_dtype
from anvil_jax.lowering.interpreter import Lowering
from anvil_jax.lowering.registry import register
from anvil_jax.lowering.values import Elements, Index, Pull, Value


def _order(lowering: Lowering, keys: Sequence[Value], axis: int, *, descending: bool) -> Pull:
    """Positions along `axis` in sorted order, with the sorted axis moved to the end."""
    rank, extent = len(keys[0].shape), keys[0].shape[axis]
    last = [k for k in range(rank) if k != axis] + [axis]
    rows = [lowering.materialise(lowering.pull(x).transpose(last)) for x in keys]
    shape = rows[0].shape
    order = lowering.view(lowering.allocate("int32", math.prod(shape)), shape)
    function = f"{'top_k_order' if descending else 'sort_order'}<{extent}>"
    steps = extent * max(extent, 2).bit_length()
    with lowering.nest(shape[:-1], parallel=True) as index:
        scratch = lowering.view(lowering.allocate("int32", extent), (extent,))
        lowering.call(
            function,
            "sorting.hpp",
            [_row(x, index) for x in rows],
            [_row(order, index), scratch],
            steps * len(keys),
            literals=[1],
            writes_first=True,
        )
    return order


def _row(x: Pull, index: Index) -> Pull:
    for i in index:
        x = x.row(i)
    return x


def _rearranged(lowering: Lowering, x: Value, order: Pull, axis: int, count: int) -> Value:
    """The first `count` elements of `x` along `axis`, in the given order."""
    ex = lowering.ex
    source = lowering.pull(lowering.settle(x))
    shape = tuple(count if k == axis else n for k, n in enumerate(x.shape))

    def at(index: Index) -> UOp:
        others = (*index[:axis], *index[axis + 1 :])
        place = ex.to_index(order.at((*others, index[axis])))
        return source.at((*index[:axis], place, *index[axis + 1 :]))

    result = Pull(ex, shape, x.dtype, at, cost=1)
    if lowering.is_scalar(shape, result):
        return Elements(lowering.elements(result), x.dtype)
    return result


@register(lax.sort_p)
def sort(lowering: Lowering, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """Sorts all operands together by the first `num_keys` of them; ties keep their order."""
    axis, keys = eqn.params["dimension"], operands[: eqn.params["num_keys"]]
    extent = operands[0].shape[axis]
    if math.prod(operands[0].shape) == 0 or extent == 1:
        return operands
    order = _order(lowering, keys, axis, descending=False)
    return [_rearranged(lowering, x, order, axis, extent) for x in operands]


@register("top_k")
def top_k(lowering: Lowering, eqn: JaxprEqn, x: Value) -> Sequence[Value]:
    """The k largest elements along one axis and their positions."""
    k, axis = eqn.params["k"], eqn.params.get("axis", len(x.shape) - 1)
    order = _order(lowering, [x], axis, descending=True)
    start, rank = [0] * len(x.shape), len(x.shape)
    limit = [*order.shape[:-1], k]
    back = [*range(axis), rank - 1, *range(axis, rank - 1)]
    positions = order.slice(start, limit, [1] * rank).transpose(back)
    dtype = aval_dtype(eqn.outvars[1].aval)
    values = _rearranged(lowering, x, order, axis, k)
    return [
        values,
        lowering.elementwise(
            lambda a: lowering.ex.cast(a, dtype), (positions.shape, dtype), positions
        ),
    ]
