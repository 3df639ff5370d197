"""What Metal cannot compute: it has no float64, so nothing that runs may be of that dtype.

Constants are computed while code is generated, so a number like the ``0.0`` of
``jnp.where(x > 0, x, 0.0)``, which JAX carries as float64 until it meets an array of float32, is
none of the device's business. Everything that depends on an input is.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jax.extend import core

from anvil_jax.errors import ArgumentError, LoweringError
from anvil_jax.tracing import Traced, user_location

_ADVICE = "which METAL does not have; use float32 or another device"


def refuse_double(dtype: np.dtype[Any], what: str) -> None:
    """Refuses float64.

    Raises:
        ArgumentError: `dtype` is float64; the message starts with `what`.
    """
    if dtype == np.float64:
        raise ArgumentError(f"{what} has dtype float64, {_ADVICE}")


def check_traced(name: str, traced: Traced) -> None:
    """Refuses a function that computes in float64.

    Args:
        name: of the function, for messages.
        traced: the same after tracing.

    Raises:
        ArgumentError: an input, a captured array or a result has dtype float64.
        LoweringError: a value in between has; the message names the user's line.
    """
    for port in traced.inputs:
        refuse_double(np.dtype(port.dtype), f"{name}: input {port.name}")
    for const in traced.jaxpr.consts:
        dtype = np.dtype(getattr(const, "dtype", np.float64))
        refuse_double(dtype, f"{name}: a captured array of shape {np.shape(const)}")
    jaxpr = getattr(traced.jaxpr, "jaxpr", traced.jaxpr)
    _walk(name, jaxpr, set(), jaxpr.outvars, None)
    for port in traced.outputs:
        refuse_double(np.dtype(port.dtype), f"{name}: result {port.name}")


def _walk(name: str, jaxpr: Any, known: set[Any], wanted: Iterable[Any], outer: str | None) -> None:
    """Goes through the equations that `wanted` depends on; `known` variables are constants."""
    needed = _variables(wanted)
    live = []
    for eqn in reversed(jaxpr.eqns):
        if any(v in needed for v in eqn.outvars):
            live.append(eqn)
            needed |= _variables(eqn.invars)
    for eqn in reversed(live):
        where = user_location(eqn) or outer
        is_loop = eqn.primitive.name in ("scan", "while")
        if not is_loop and all(_is_known(v, known) for v in eqn.invars):
            known.update(eqn.outvars)
            continue
        for v in eqn.invars:
            if not _is_known(v, known):
                _refuse_value(name, eqn, v, where)
        for inner in core.jaxprs_in_params(eqn.params):
            if is_loop:
                _walk(name, inner, set(), inner.outvars, where)
            else:
                _walk(name, inner, *_call(eqn, inner, known, needed), where)
        for v in eqn.outvars:
            _refuse_value(name, eqn, v, where)


def _call(eqn: Any, inner: Any, known: set[Any], needed: set[Any]) -> tuple[set[Any], list[Any]]:
    """Which parameters of a jaxpr inside `eqn` are constants, and which results are needed."""
    # Behind the index of a branch, the operands are the parameters.
    given = eqn.invars[max(len(eqn.invars) - len(inner.invars), 0) :]
    inside = {p for p, v in zip(inner.invars, given, strict=False) if _is_known(v, known)}
    results = list(inner.outvars)
    if len(results) == len(eqn.outvars):
        results = [r for r, v in zip(results, eqn.outvars, strict=True) if v in needed]
    return inside, results


def _refuse_value(name: str, eqn: Any, value: Any, where: str | None) -> None:
    if getattr(value.aval, "dtype", None) == np.float64:
        raise LoweringError(
            f"{name}: the operation {eqn.primitive.name}{f' at {where}' if where else ''} computes "
            f"with float64, {_ADVICE}. Arrays made by jnp.zeros, jnp.arange and the like are "
            "float64 unless they are given a dtype"
        )


def _is_known(value: Any, known: set[Any]) -> bool:
    return isinstance(value, core.Literal) or value in known


def _variables(values: Iterable[Any]) -> set[Any]:
    return {v for v in values if not isinstance(v, core.Literal)}
