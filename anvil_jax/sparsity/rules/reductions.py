"""Reductions over axes: sums are exact, other reductions unite the axes."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jax.extend.core import JaxprEqn

from anvil_jax.sparsity.algebra import summed, total
from anvil_jax.sparsity.rules.registry import out_shapes, register
from anvil_jax.sparsity.structure import Value, tangents_of

if TYPE_CHECKING:
    from anvil_jax.sparsity.propagation import Propagation


@register("reduce_sum")
def reduce_sum(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """The sum."""
    (tangent,) = tangents_of(operands)
    return [summed(tangent, eqn.params["axes"], *out_shapes(eqn))]


@register(
    "argmax", "argmin", "reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_prod",
    "reduce_xor",
)  # fmt: skip
def reduce(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """A nonlinear reduction of a tangent."""
    (tangent,) = tangents_of(operands)
    return [summed(tangent.reweighted(math.nan), eqn.params["axes"], *out_shapes(eqn))]


@register("reduce")
def reduce_with_function(
    trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]
) -> list[Value]:
    """`jax.lax.reduce` of several arrays with any function: all are united."""
    half = len(operands) // 2
    axes, shapes = eqn.params["dimensions"], out_shapes(eqn)
    arrays = [summed(t.reweighted(math.nan), axes, shapes[0]) for t in tangents_of(operands[:half])]
    starts = [t.reweighted(math.nan) for t in tangents_of(operands[half:])]
    return [total([*arrays, *starts], shape) for shape in shapes]
