"""Arithmetic: linear operations keep exact coefficients, everything else unites.

In a derivative program tangents are only added, negated, scaled and selected. The nonlinear
functions act on values that do not depend on the seed and end in `folding`; should one of them
meet a tangent (a derivative rule of the user's may do anything), the elements it combines are
united and their coefficients vary.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jax.extend.core import JaxprEqn

from anvil_jax.sparsity.algebra import assembled, nonlinear, one_of, scaled, smeared, total
from anvil_jax.sparsity.rows import Rows
from anvil_jax.sparsity.rules.registry import out_shapes, register
from anvil_jax.sparsity.structure import (
    NAN,
    Known,
    Tangent,
    Value,
    Weights,
    as_tangent,
    from_rows,
    tangents_of,
)

if TYPE_CHECKING:
    from anvil_jax.sparsity.propagation import Propagation


def _factor(value: Value) -> Weights:
    return value.factors() if isinstance(value, Known) else NAN


@register("mul")
def mul(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Scaling by what does not depend on the seed; known zeros remove elements."""
    a, b = operands
    (shape,) = out_shapes(eqn)
    if isinstance(a, Tangent) and isinstance(b, Tangent):
        return [nonlinear([a, b], shape)]
    tangent, other = (a, b) if isinstance(a, Tangent) else (b, a)
    assert isinstance(tangent, Tangent)
    return [scaled(tangent, _factor(other), shape)]


@register("div")
def div(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Scaling by the reciprocal."""
    numerator, denominator = operands
    (shape,) = out_shapes(eqn)
    if isinstance(denominator, Tangent) or not isinstance(numerator, Tangent):
        return [nonlinear(tangents_of(operands), shape)]
    factor = _factor(denominator)
    tangent = numerator.broadcast(shape)
    if tangent.varies or (isinstance(factor, float) and math.isnan(factor)):
        return [tangent.reweighted(NAN)]
    if isinstance(factor, np.ndarray):
        factor = np.broadcast_to(factor, shape)
    return [tangent.reweighted(np.divide(tangent.weights, factor))]


@register("add", "add_any")
def add(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """A sum; summands that do not depend on the seed have no part in the derivative."""
    return [total([as_tangent(v) for v in operands], *out_shapes(eqn))]


@register("sub")
def sub(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """A difference."""
    left, right = (as_tangent(v) for v in operands)
    return [total([left, None if right is None else _negated(right)], *out_shapes(eqn))]


def _negated(tangent: Tangent) -> Tangent:
    weights = tangent.weights
    return tangent.reweighted(weights if tangent.varies else -weights)


@register("neg")
def neg(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Changes the sign of the coefficients."""
    return [_negated(v) for v in tangents_of(operands)]


@register(
    "copy", "copy_p", "device_put", "name", "optimization_barrier", "pvary",
    "sharding_constraint", "stop_gradient", "reshard",
    moves=True,
)  # fmt: skip
def same(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Results are the operands.

    `stop_gradient` inside a derivative program changes nothing: it has already done its work.
    """
    return list(operands[: len(eqn.outvars)])


@register("convert_element_type", "reduce_precision")
def convert(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """Conversion between floating-point types, which rounds constant coefficients."""
    (tangent,) = tangents_of(operands)
    target = np.dtype(eqn.params.get("new_dtype", np.bool_))
    if target.kind != "f":  # not linear, or rounding by a number of bits
        return [tangent.reweighted(NAN)]
    source = getattr(eqn.invars[0].aval, "dtype", target)
    if tangent.varies or source.itemsize <= target.itemsize:
        return [tangent]
    rows = tangent.rows()
    data = rows.data.astype(target).astype(np.float64)
    return [from_rows(Rows(data, rows.indices, rows.starts, rows.columns), tangent.shape)]


@register("select_n", moves=True)
def select_n(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """A choice: exact where the predicate is known, the union where it is not."""
    predicate, *cases = operands
    (shape,) = out_shapes(eqn)
    if isinstance(predicate, Tangent):
        return [nonlinear(tangents_of(operands), shape)]
    if predicate is None:
        return [one_of(cases, shape)]
    if predicate.mask is None and predicate.values.size == 1:
        return [cases[int(predicate.values.reshape(()))]]
    which = np.broadcast_to(predicate.values.astype(np.int64), shape)

    def choose(arrays: list[np.ndarray]) -> np.ndarray:
        result = arrays[-1]
        for k in range(len(arrays) - 2, -1, -1):
            result = np.where(which == k, arrays[k], result)
        return result

    chosen = assembled(cases, [shape] * len(cases), choose)
    if predicate.mask is None:
        return [chosen]
    known = np.broadcast_to(predicate.mask, shape)
    parts = [one_of(cases, shape), chosen]
    return [assembled(parts, [shape] * 2, lambda a: np.where(known, a[1], a[0]))]


@register(
    "abs", "acos", "acosh", "and", "asin", "asinh", "atan", "atan2", "atanh", "bessel_i0e",
    "bessel_i1e", "cbrt", "ceil", "clamp", "clz", "complex", "conj", "cos",
    "cosh", "digamma", "eq", "eq_to", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor",
    "ge", "gt", "igamma", "igamma_grad_a", "igammac", "imag", "integer_pow", "is_finite", "le",
    "le_to", "lgamma", "log", "log1p", "log2", "logistic", "lt", "lt_to", "max", "min", "ne",
    "nextafter", "not", "one_minus_square", "or", "polygamma", "polynomial",
    "population_count", "pow", "random_gamma_grad", "real", "regularized_incomplete_beta", "rem",
    "round", "rsqrt",
    "shift_left", "shift_right_arithmetic", "shift_right_logical", "sign", "sin", "sinh", "sqrt",
    "square", "tan", "tanh", "xor", "zeta",
)  # fmt: skip
def elementwise(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """A nonlinear function of tangents: each element unites the elements it is computed from."""
    (shape,) = out_shapes(eqn)
    return [nonlinear(tangents_of(operands), shape)]


@register("bitcast_convert_type")
def bitcast(trace: "Propagation", eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
    """The bits of one element; a last axis of parts of elements may come or go."""
    (tangent,) = tangents_of(operands)
    (shape,) = out_shapes(eqn)
    rank = min(len(shape), len(tangent.shape))
    whole = smeared(tangent, range(rank, len(tangent.shape)))
    ids = whole.ids.reshape(*tangent.shape[:rank], *[1] * (len(shape) - rank))
    return [Tangent(whole.base, ids, NAN).broadcast(shape)]
