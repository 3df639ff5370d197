"""Primitives without a rule: look whether JAX itself writes them with primitives that have one."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core


def trace_implementation(eqn: core.JaxprEqn) -> core.Jaxpr | None:
    """The jaxpr of a primitive's own implementation.

    Returns:
        A closed jaxpr for the equation's operands, or None if the implementation is not written
        in traceable JAX (it calls back into the same primitive, or fails to trace).
    """
    avals: list[Any] = [v.aval for v in eqn.invars]
    structs = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals]
    try:
        with jax.enable_x64(True):
            traced = jax.make_jaxpr(_implementation(eqn))(*structs)
    except Exception:
        return None
    return None if _contains(traced, eqn) else traced


def _implementation(eqn: core.JaxprEqn) -> Callable[..., object]:
    composite = eqn.params.get("_prim")
    if eqn.primitive.name == "call_hi_primitive" and composite is not None:
        return composite.expand
    return lambda *args: eqn.primitive.impl(*args, **eqn.params)


def _contains(jaxpr: core.Jaxpr, eqn: core.JaxprEqn) -> bool:
    """Whether `eqn` comes back (for a composite: with the same parameters) in `jaxpr`."""
    composite = eqn.params.get("_prim")
    return any(
        (
            inner.primitive is eqn.primitive
            and (composite is None or inner.params.get("_prim") == composite)
        )
        or any(_contains(j, eqn) for j in core.jaxprs_in_params(inner.params))
        for inner in jaxpr.eqns
    )
