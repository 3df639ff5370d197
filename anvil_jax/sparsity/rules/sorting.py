"""Sorting: the derivative of a sort is a gather; what is sorted itself is united along the axis."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jax.extend.core import JaxprEqn

from anvil_jax.sparsity.algebra import nonlinear, smeared
from anvil_jax.sparsity.rules.registry import out_shapes, register
from anvil_jax.sparsity.structure import Value, tangents_of

if TYPE_CHECKING:
    from anvil_jax.sparsity.propagation import Propagation


@register("sort")
def sort(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Every element may come from anywhere along the axis, and decide where others go."""
    spread = [smeared(t, (eqn.params["dimension"],)) for t in tangents_of(operands)]
    return [nonlinear(spread, shape) for shape in out_shapes(eqn)]


@register("top_k", "approx_top_k")
def top_k(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """The largest elements, from anywhere along the axis, and their positions."""
    (tangent,) = tangents_of(operands)
    axis = eqn.params.get("axis", eqn.params.get("reduction_dimension", -1))
    union = smeared(tangent, (axis % len(tangent.shape),))
    return [union.broadcast(shape) for shape in out_shapes(eqn)]
