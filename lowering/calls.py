"""Primitives that call another jaxpr once: it is lowered in place."""

from collections.abc import Sequence

from jax.extend.core import Jaxpr, JaxprEqn

from anvil_jax.lowering.interpreter import Lowering
from anvil_jax.lowering.registry import register
from anvil_jax.lowering.values import Value


@register(
    "jit", "closed_call", "remat", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call",
    "composite", "custom_vmap_call", "linear_call",
    consumes=True,
)  # fmt: skip
def call(lowering: Lowering, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """Lowers the called function as if it had been written at the call."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr", "call", "callee"):
        inner = eqn.params.get(name)
        if isinstance(inner, Jaxpr):
            return lowering.run(inner.jaxpr, inner.consts, operands)
    raise NotImplementedError(f"{eqn.primitive.name} carries no jaxpr")


@register("custom_linear_solve")
def custom_linear_solve(lowering: Lowering, eqn: JaxprEqn, *operands: Value) -> Sequence[Value]:
    """Solves with the user's own solver; the matvec only matters to derivatives."""
    lengths, jaxprs = eqn.params["const_lengths"], eqn.params["jaxprs"]
    skip = lengths.matvec + lengths.vecmat
    solve_constants = operands[skip : skip + lengths.solve]
    right_sides = operands[skip + lengths.solve + lengths.transpose_solve :]
    solve = jaxprs.solve
    return lowering.run(solve.jaxpr, solve.consts, (*solve_constants, *right_sides))
