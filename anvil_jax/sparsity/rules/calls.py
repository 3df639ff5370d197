"""Primitives that call another jaxpr once: it is read in place, with an environment of its own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jax.extend.core import Jaxpr, JaxprEqn

from anvil_jax.sparsity.rules.registry import register
from anvil_jax.sparsity.structure import Tangent, Value

if TYPE_CHECKING:
    from anvil_jax.sparsity.propagation import Propagation

_JAXPR_NAMES = ("jaxpr", "call_jaxpr", "fun_jaxpr", "call", "callee")


@register(
    "jit", "pjit", "closed_call", "core_call", "remat", "remat2", "remat_opt", "checkpoint",
    "custom_jvp_call", "custom_vjp_call", "composite", "custom_vmap_call", "linear_call",
    walks=True,
)  # fmt: skip
def call(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> Sequence[Value]:
    """Reads the called function; what is differentiated has been differentiated before."""
    for name in _JAXPR_NAMES:
        inner = eqn.params.get(name)
        if isinstance(inner, Jaxpr):
            return trace.run(inner, operands)
    if any(isinstance(v, Tangent) for v in operands):
        return trace.conservative(eqn, operands)
    return [None] * len(eqn.outvars)


@register("custom_linear_solve", walks=True)
def custom_linear_solve(
    trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]
) -> Sequence[Value]:
    """Reads the solver that is run; the matvec only matters to derivatives."""
    if not any(isinstance(v, Tangent) for v in operands):
        return [None] * len(eqn.outvars)
    lengths, jaxprs = eqn.params["const_lengths"], eqn.params["jaxprs"]
    skip = lengths.matvec + lengths.vecmat
    solve_constants = operands[skip : skip + lengths.solve]
    right_sides = operands[skip + lengths.solve + lengths.transpose_solve :]
    return trace.run(jaxprs.solve, [*solve_constants, *right_sides])
