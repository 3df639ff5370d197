"""Element by element: arithmetic, comparison, logic, conversion, transcendental functions.

A rule is a function of scalar expressions; `Lowering.elementwise` applies it to every kind of
array. Primitives that map onto one builder method or one intrinsic are rows of a table.
"""

import itertools
from collections.abc import Callable

import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn, Primitive

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.kernels.adapter import Ops, UOp, dtype_name
from anvil_jax.kernels.expression import Expressions, is_float
from anvil_jax.lowering.avals import aval_dtype, aval_shape
from anvil_jax.lowering.interpreter import Lowering
from anvil_jax.lowering.registry import register
from anvil_jax.lowering.values import Value
from anvil_jax.targets.intrinsics import INTRINSICS

type Operation = Callable[[Expressions], Callable[..., UOp]]


def _bitwise(op: Ops) -> Operation:
    def build(ex: Expressions) -> Callable[..., UOp]:
        def apply(a: UOp, b: UOp) -> UOp:
            if dtype_name(a) == "bool" and op is not Ops.XOR:
                return ex.logical_and(a, b) if op is Ops.AND else ex.logical_or(a, b)
            if dtype_name(a) == "bool":
                return ex.not_equal(a, b)
            return ex.bitwise(op, a, b)

        return apply

    return build


def _less(ex: Expressions, a: UOp, b: UOp) -> UOp:
    if dtype_name(a) == "bool":
        return ex.logical_and(ex.logical_not(a), b)
    return ex.less(a, b)


def _less_equal(ex: Expressions, a: UOp, b: UOp) -> UOp:
    if dtype_name(a) == "bool":
        return ex.logical_or(ex.logical_not(a), b)
    return ex.less_equal(a, b)


def _total_key(ex: Expressions, a: UOp) -> UOp:
    """Integers ordered as the total order of IEEE 754: -NaN < -inf < ... < -0 < +0 < ... < NaN."""
    if not is_float(a):
        return a
    word = f"int{ELEMENT_TYPES[dtype_name(a)].bits}"
    bits = ex.bitcast(a, word)
    flipped = ex.bitwise(Ops.XOR, bits, ex.const(np.iinfo(word).max, word))
    return ex.where(ex.less(bits, ex.const(0, word)), flipped, bits)


def _negate(ex: Expressions, a: UOp) -> UOp:
    return ex.neg(a)


def _complement(ex: Expressions, a: UOp) -> UOp:
    dtype = dtype_name(a)
    if dtype == "bool":
        return ex.logical_not(a)
    row = ELEMENT_TYPES[dtype]
    ones = -1 if row.kind == "i" else 2**row.bits - 1
    return ex.bitwise(Ops.XOR, a, ex.const(ones, dtype))


def _rem(ex: Expressions, a: UOp, b: UOp) -> UOp:
    return ex.intrinsic("fmod" if is_float(a) else "int_rem", dtype_name(a), a, b)


def _absolute(ex: Expressions, a: UOp) -> UOp:
    kind = ELEMENT_TYPES[dtype_name(a)].kind
    if kind == "u":
        return a
    return ex.intrinsic("abs" if kind == "f" else "int_abs", dtype_name(a), a)


def _sign(ex: Expressions, a: UOp) -> UOp:
    return ex.intrinsic("sign" if is_float(a) else "int_sign", dtype_name(a), a)


def _square(ex: Expressions, a: UOp) -> UOp:
    return ex.mul(a, a)


def _one_minus_square(ex: Expressions, a: UOp) -> UOp:
    return ex.sub(ex.const(1, dtype_name(a)), ex.mul(a, a))


def _reciprocal_root(ex: Expressions, a: UOp) -> UOp:
    return ex.div(ex.const(1, dtype_name(a)), ex.sqrt(a))


def _expression(function: Callable[..., UOp]) -> Operation:
    return lambda ex: lambda *operands: function(ex, *operands)


_TABLE: tuple[tuple[Primitive | str, Operation], ...] = (
    (lax.add_p, lambda ex: ex.add),
    (lax.sub_p, lambda ex: ex.sub),
    (lax.mul_p, lambda ex: ex.mul),
    (lax.div_p, lambda ex: ex.div),
    (lax.max_p, lambda ex: ex.maximum),
    (lax.min_p, lambda ex: ex.minimum),
    (lax.sqrt_p, lambda ex: ex.sqrt),
    (lax.neg_p, _expression(_negate)),
    (lax.rem_p, _expression(_rem)),
    (lax.abs_p, _expression(_absolute)),
    (lax.sign_p, _expression(_sign)),
    (lax.square_p, _expression(_square)),
    (lax.rsqrt_p, _expression(_reciprocal_root)),
    ("one_minus_square", _expression(_one_minus_square)),
    (lax.eq_p, lambda ex: ex.equal),
    (lax.ne_p, lambda ex: ex.not_equal),
    (lax.lt_p, _expression(_less)),
    (lax.gt_p, _expression(lambda ex, a, b: _less(ex, b, a))),
    (lax.le_p, _expression(_less_equal)),
    (lax.ge_p, _expression(lambda ex, a, b: _less_equal(ex, b, a))),
    ("lt_to", _expression(lambda ex, a, b: _less(ex, _total_key(ex, a), _total_key(ex, b)))),
    ("le_to", _expression(lambda ex, a, b: _less_equal(ex, _total_key(ex, a), _total_key(ex, b)))),
    ("eq_to", _expression(lambda ex, a, b: ex.equal(_total_key(ex, a), _total_key(ex, b)))),
    (lax.and_p, _bitwise(Ops.AND)),
    (lax.or_p, _bitwise(Ops.OR)),
    (lax.xor_p, _bitwise(Ops.XOR)),
    (lax.not_p, _expression(_complement)),
    ("add_any", lambda ex: ex.add),
)

_INTRINSIC_PRIMITIVES: dict[Primitive | str, str] = {
    lax.sin_p: "sin", lax.cos_p: "cos", lax.tan_p: "tan", lax.asin_p: "asin", lax.acos_p: "acos",
    lax.atan_p: "atan", lax.sinh_p: "sinh", lax.cosh_p: "cosh", lax.tanh_p: "tanh",
    lax.asinh_p: "asinh", lax.acosh_p: "acosh", lax.atanh_p: "atanh", lax.exp_p: "exp",
    lax.exp2_p: "exp2", "log2": "log2", lax.log_p: "log", lax.log1p_p: "log1p",
    lax.expm1_p: "expm1",
    lax.cbrt_p: "cbrt", lax.logistic_p: "logistic", lax.floor_p: "floor", lax.ceil_p: "ceil",
    lax.erf_p: "erf", lax.erfc_p: "erfc", lax.erf_inv_p: "erf_inv", lax.lgamma_p: "lgamma",
    lax.digamma_p: "digamma", lax.bessel_i0e_p: "bessel_i0e", lax.bessel_i1e_p: "bessel_i1e",
    lax.atan2_p: "atan2", lax.nextafter_p: "nextafter", lax.igamma_p: "igamma",
    lax.igammac_p: "igammac", lax.polygamma_p: "polygamma", lax.zeta_p: "zeta",
    lax.regularized_incomplete_beta_p: "regularized_incomplete_beta",
    lax.population_count_p: "popcount", lax.clz_p: "clz", lax.shift_left_p: "shift_left",
    lax.shift_right_logical_p: "shift_right_logical",
    lax.shift_right_arithmetic_p: "shift_right_arithmetic",
}  # fmt: skip


def _register_operation(primitive: Primitive | str, operation: Operation) -> None:
    @register(primitive)
    def rule(lowering: Lowering, eqn: JaxprEqn, *operands: Value) -> Value:
        return lowering.elementwise(operation(lowering.ex), eqn, *operands)


def _register_intrinsic(primitive: Primitive | str, name: str) -> None:
    @register(primitive)
    def rule(lowering: Lowering, eqn: JaxprEqn, *operands: Value) -> Value:
        dtype = aval_dtype(eqn.outvars[0].aval)

        def apply(*nodes: UOp) -> UOp:
            return lowering.ex.intrinsic(name, dtype, *nodes)

        return lowering.elementwise(apply, eqn, *operands, cost=INTRINSICS[name].cost)


for _primitive, _operation in _TABLE:
    _register_operation(_primitive, _operation)
for _primitive, _name in _INTRINSIC_PRIMITIVES.items():
    _register_intrinsic(_primitive, _name)


@register(lax.integer_pow_p)
def integer_pow(lowering: Lowering, eqn: JaxprEqn, x: Value) -> Value:
    """``x**y`` for a literal integer y, by squaring."""
    y = eqn.params["y"]
    return lowering.elementwise(
        lambda a: lowering.ex.power(a, y), eqn, x, cost=2 * max(abs(y), 1).bit_length()
    )


@register(lax.pow_p)
def power(lowering: Lowering, eqn: JaxprEqn, x: Value, y: Value) -> Value:
    """``x**y``; an integer exponent array is used as a number of x's dtype."""
    ex, dtype = lowering.ex, aval_dtype(eqn.outvars[0].aval)
    if ELEMENT_TYPES[dtype].kind != "f":
        return lowering.elementwise(
            lambda a, b: ex.intrinsic("int_pow", dtype, a, ex.cast(b, "int64")), eqn, x, y
        )

    def apply(a: UOp, b: UOp) -> UOp:
        exponent = b.arg if b.op is Ops.CONST else None
        if isinstance(exponent, int) and not isinstance(exponent, bool) and abs(exponent) <= 64:
            return ex.power(a, exponent)
        return ex.intrinsic("pow", dtype, a, ex.cast(b, dtype))

    return lowering.elementwise(apply, eqn, x, y, cost=INTRINSICS["pow"].cost)


@register("polynomial")
def polynomial(lowering: Lowering, eqn: JaxprEqn, x: Value, *coefficients: Value) -> Value:
    """``sum(c[k] * x**k)`` by Horner's rule; the coefficients are ordered from the constant."""
    ex = lowering.ex

    def apply(a: UOp, *terms: UOp) -> UOp:
        total = terms[-1]
        for term in reversed(terms[:-1]):
            total = ex.add(ex.mul(total, a), term)
        return total

    return lowering.elementwise(apply, eqn, x, *coefficients, cost=2 * len(coefficients))


@register(lax.round_p)
def round_(lowering: Lowering, eqn: JaxprEqn, x: Value) -> Value:
    """Rounds halves away from zero, or to even."""
    even = eqn.params["rounding_method"] == lax.RoundingMethod.TO_NEAREST_EVEN
    name = "round_even" if even else "round_away"
    return lowering.elementwise(lambda a: lowering.ex.intrinsic(name, x.dtype, a), eqn, x)


@register(lax.is_finite_p)
def is_finite(lowering: Lowering, eqn: JaxprEqn, x: Value) -> Value:
    """True where neither infinite nor NaN."""
    return lowering.elementwise(lambda a: lowering.ex.intrinsic("is_finite", "bool", a), eqn, x)


@register(lax.convert_element_type_p)
def convert_element_type(lowering: Lowering, eqn: JaxprEqn, x: Value) -> Value:
    """Conversion; float to integer saturates and NaN becomes 0, as XLA does on CPU."""
    dtype = aval_dtype(eqn.outvars[0].aval)
    if dtype == x.dtype:
        return x
    return lowering.elementwise(lambda a: lowering.ex.cast(a, dtype), eqn, x)


@register(lax.bitcast_convert_type_p)
def bitcast_convert_type(lowering: Lowering, eqn: JaxprEqn, x: Value) -> Value:
    """Same bits, other dtype; a width change splits or joins the last axis."""
    dtype = aval_dtype(eqn.outvars[0].aval)
    old, new = ELEMENT_TYPES[x.dtype], ELEMENT_TYPES[dtype]
    if old.bits == new.bits:
        return lowering.elementwise(lambda a: lowering.ex.bitcast(a, dtype), eqn, x)
    return _change_width(lowering, eqn, x, old.bits, new.bits)


def _change_width(
    lowering: Lowering, eqn: JaxprEqn, x: Value, old_bits: int, new_bits: int
) -> Value:
    """Little-endian split of wide words, or join of narrow ones, through shifts."""
    ex = lowering.ex
    dtype = aval_dtype(eqn.outvars[0].aval)
    wide, narrow = f"uint{max(old_bits, new_bits)}", f"uint{min(old_bits, new_bits)}"
    ratio = max(old_bits, new_bits) // min(old_bits, new_bits)
    step = min(old_bits, new_bits)

    def part(word: UOp, k: int) -> UOp:
        amount = ex.const(k * step, wide)
        shifted = ex.intrinsic("shift_right_logical", wide, ex.bitcast(word, wide), amount)
        return ex.bitcast(ex.cast(shifted, narrow), dtype)

    def whole(*parts: UOp) -> UOp:
        word = ex.const(0, wide)
        for k, node in enumerate(parts):
            bits = ex.cast(ex.bitcast(node, narrow), wide)
            amount = ex.const(k * step, wide)
            word = ex.bitwise(Ops.OR, word, ex.intrinsic("shift_left", wide, bits, amount))
        return ex.bitcast(word, dtype)

    elements = lowering.elements(x).reshape(-1)
    if new_bits < old_bits:
        parts = [part(word, k) for word in elements for k in range(ratio)]
    else:
        parts = [whole(*group) for group in itertools.batched(elements, ratio)]
    out = np.empty(len(parts), dtype=object)
    out[:] = parts
    return lowering.joined(out.reshape(aval_shape(eqn.outvars[0].aval)), dtype)


@register(lax.select_n_p)
def select_n(lowering: Lowering, eqn: JaxprEqn, which: Value, *cases: Value) -> Value:
    """``cases[which]`` element by element."""
    ex = lowering.ex

    def apply(selector: UOp, *values: UOp) -> UOp:
        if dtype_name(selector) == "bool":
            return values[0] if len(values) == 1 else ex.where(selector, values[1], values[0])
        result = values[-1]
        for k in range(len(values) - 2, -1, -1):
            is_k = ex.equal(selector, ex.const(k, dtype_name(selector)))
            result = ex.where(is_k, values[k], result)
        return result

    return lowering.elementwise(apply, eqn, which, *cases)


@register(lax.clamp_p)
def clamp(lowering: Lowering, eqn: JaxprEqn, low: Value, x: Value, high: Value) -> Value:
    """``min(max(x, low), high)``."""
    ex = lowering.ex
    return lowering.elementwise(lambda a, b, c: ex.minimum(ex.maximum(b, a), c), eqn, low, x, high)


@register(
    lax.copy_p, "stop_gradient", "optimization_barrier", "name", "sharding_constraint",
    "device_put",
)  # fmt: skip
def identity(lowering: Lowering, eqn: JaxprEqn, *operands: Value) -> tuple[Value, ...]:
    """Primitives that pass their operands through unchanged."""
    return operands
