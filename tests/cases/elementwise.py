"""Arithmetic, comparison, logic, conversion and transcendental functions of single elements."""

# ruff: noqa: E501 - a case is one line

from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.cases.case import DTYPES, FLOATS, INTEGERS, SIGNED, Case, Data, case

_data = Data(1)

SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.5, -2.5, 3.7, 30.0, 1e10, -1e10]
)
FINITE = np.array([0.3, -0.7, 0.999, -1e-5, 1e-9, 0.0, -0.0, 1.0, -1.0])
POSITIVE = np.array([0.1, 0.5, 1.0, 1.5, 2.0, 7.3, 20.0, np.nan, np.inf])
_PAIR = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, -2.5, 3.0])
LEFT, RIGHT = (m.reshape(-1) for m in np.meshgrid(_PAIR, _PAIR))

_UNARY = {
    "abs": lax.abs, "neg": lax.neg, "sign": lax.sign, "floor": lax.floor, "ceil": lax.ceil,
    "round_away": lax.round, "square": lax.square, "sqrt": lax.sqrt, "rsqrt": lax.rsqrt,
    "round_even": lambda x: lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN),
    "is_finite": lax.is_finite, "exp": lax.exp, "exp2": lax.exp2, "expm1": lax.expm1,
    "log": lax.log, "log1p": lax.log1p, "log2": jnp.log2, "tanh": lax.tanh,
    "logistic": lax.logistic, "cbrt": lax.cbrt, "atan": lax.atan, "asinh": lax.asinh,
    "erf": lax.erf, "erfc": lax.erfc, "sin": lax.sin, "cos": lax.cos, "sinh": lax.sinh,
    "cosh": lax.cosh, "acosh": lax.acosh, "reciprocal": lambda x: 1 / x,
    "cube": lambda x: x**3, "inverse_square": lambda x: x**-2, "seventh": lambda x: x**7,
    "one_minus_square": lax.one_minus_square,
}  # fmt: skip
_UNIT = {"asin": lax.asin, "acos": lax.acos, "atanh": lax.atanh, "erf_inv": lax.erf_inv}
_SPECIAL_FUNCTIONS = {
    "lgamma": lax.lgamma, "digamma": lax.digamma, "bessel_i0e": lax.bessel_i0e,
    "bessel_i1e": lax.bessel_i1e,
}  # fmt: skip
_BINARY = {
    "add": lax.add, "sub": lax.sub, "mul": lax.mul, "div": lax.div, "rem": lax.rem,
    "max": lax.max, "min": lax.min, "eq": lax.eq, "ne": lax.ne, "lt": lax.lt, "le": lax.le,
    "gt": lax.gt, "ge": lax.ge, "lt_total": lax.lt_to_p.bind, "le_total": lax.le_to_p.bind,
    "eq_total": lax.eq_to_p.bind,
}  # fmt: skip
_LOGIC = {"and": lax.bitwise_and, "or": lax.bitwise_or, "xor": lax.bitwise_xor}
_SHIFTS = {
    "left": lax.shift_left, "right": lax.shift_right_logical,
    "arithmetic": lax.shift_right_arithmetic,
}  # fmt: skip


def _all(functions, *inputs):
    return tuple(f(*inputs) for f in functions.values())


def _integers(dtype: str) -> list[Case]:
    """Everything that integers of one dtype can do, division by zero and overflow included."""
    a, b = _data.whole_range(dtype, 40), _data.whole_range(dtype, 40)
    bits = np.iinfo(dtype).bits
    amounts = np.array([0, 1, 3, bits - 1, bits, bits + 1, np.iinfo(dtype).max, 5], dtype=dtype)
    amounts = np.resize(amounts, 40)
    negative = np.resize(np.array([-1, -3, np.iinfo(dtype).min, 2], dtype="int64"), 8)
    rows = [
        case(f"binary_{dtype}", partial(_all, _BINARY), a, b),
        case(f"logic_{dtype}", partial(_all, _LOGIC), a, b),
        case(f"shift_{dtype}", partial(_all, _SHIFTS), a, amounts),
        case(f"shift_by_constant_{dtype}", lambda x: (x << 3, x >> 2, x << bits, x >> bits), a),
        case(f"not_{dtype}", lambda x: (~x, lax.population_count(x), lax.clz(x)), a),
        case(f"abs_{dtype}", lambda x: (jnp.abs(x), jnp.sign(x), -x, x * x), a),
        case(f"power_{dtype}", lambda x: (x**0, x**1, x**2, x**5), a),
        case(f"constants_{dtype}", lambda x: (x + 0, x * 1, x * 0, x - x, x // 1, x * 3 - 1), a),
        case(f"floor_divide_{dtype}", lambda x, y: (x // y, x % y, x // 3, x % 7), a, b),
        case(f"one_{dtype}", lambda x, y: (x + y, x // y, x * y), a[:1], b[1]),
        case(f"none_{dtype}", lambda x: (x + 1, x * 2), a[:0]),
    ]
    if dtype in SIGNED:
        rows.append(
            case(f"shift_back_{dtype}", partial(_all, _SHIFTS), a[:8], negative.astype(dtype))
        )
    return rows


def _values(dtype: str) -> np.ndarray:
    """Values of a dtype that are hard to convert to another."""
    if dtype == "bool":
        return np.array([True, False, True])
    if dtype in INTEGERS:
        return _data.whole_range(dtype, 20)
    limits = [
        2.0**k * s + d for k in (7, 8, 15, 16, 31, 32, 63, 64) for s in (1, -1) for d in (0, 0.5)
    ]
    return np.array([*SPECIAL, 0.9999, -0.9999, 254.5, 1e30, -1e30, *limits]).astype(dtype)


def _convert(x):
    return tuple(lax.convert_element_type(x, d) for d in DTYPES if d != x.dtype)


def _bits(x):
    width = x.dtype.itemsize * 8
    same = [d for d in DTYPES if d != "bool" and np.dtype(d).itemsize * 8 == width]
    return tuple(lax.bitcast_convert_type(x, d) for d in same)


def _split(x):
    return tuple(
        lax.bitcast_convert_type(x, d) for d in ("uint8", "int16", "uint32", "float32")
        if np.dtype(d).itemsize < x.dtype.itemsize
    )  # fmt: skip


_A, _B = _data.normal(3, 5), _data.normal(3, 5)
_LARGE, _OTHER = _data.normal(17, 23), _data.normal(17, 23)

CASES = (
    *(
        case(f"{name}_{d}", f, SPECIAL.astype(d), signed=name not in ("sinh",))
        for d in FLOATS
        for name, f in _UNARY.items()
        if name not in ("sin", "cos", "sinh", "cosh")
    ),
    *(
        case(f"{name}_{d}", f, np.append(FINITE, [np.nan, np.inf, 3.0, -20.0, 1e4]).astype(d))
        for d in FLOATS
        for name, f in _UNARY.items()
        if name in ("sin", "cos", "sinh", "cosh")
    ),
    *(case(f"{n}_{d}", f, np.append(FINITE, [np.nan, 1.5]).astype(d)) for d in FLOATS for n, f in _UNIT.items()),
    *(
        case(f"{n}_{d}", f, POSITIVE.astype(d), rtol=1e-11 if d == "float64" else 2e-5)
        for d in FLOATS
        for n, f in _SPECIAL_FUNCTIONS.items()
    ),
    case("tan_float64", lax.tan, FINITE),
    case("tan_float32", lax.tan, FINITE.astype("float32")),
    *(case(f"binary_{d}", partial(_all, _BINARY), LEFT.astype(d), RIGHT.astype(d), signed=True) for d in FLOATS),
    *(case(f"pow_{d}", jnp.power, LEFT.astype(d), RIGHT.astype(d)) for d in FLOATS),
    *(case(f"atan2_{d}", jnp.atan2, LEFT.astype(d), RIGHT.astype(d), signed=True) for d in FLOATS),
    *(case(f"nextafter_{d}", jnp.nextafter, LEFT.astype(d), RIGHT.astype(d)) for d in FLOATS),
    case("pow_integer_exponent", lambda x, k: lax.pow(x, k), _data.normal(6), np.array([0, 1, -2, 3, 70, -5])),
    case("pow_constants", lambda x: (x**0.5, x**2.5, x**-1.0, 2.0**x, x**2.0, x**0.0), POSITIVE),
    case("igamma", lax.igamma, np.array([0.5, 1.0, 3.0, 10.0]), np.array([0.1, 2.0, 2.5, 14.0]), rtol=1e-10),
    case("igammac", lax.igammac, np.array([0.5, 1.0, 3.0, 10.0]), np.array([0.1, 2.0, 2.5, 14.0]), rtol=1e-10),
    case("polygamma", lax.polygamma, np.array([1.0, 2.0, 3.0]), np.array([0.7, 2.0, 5.5]), rtol=1e-9),
    case("zeta", lax.zeta, np.array([1.5, 2.0, 4.0]), np.array([0.7, 1.0, 5.5]), rtol=1e-9),
    case("betainc", lax.betainc, np.array([0.5, 2.0, 3.0]), np.array([1.5, 2.0, 0.7]), np.array([0.1, 0.5, 0.9]), rtol=1e-9),
    case("binary_bool", lambda x, y: (x & y, x | y, x ^ y, ~x, x == y, x != y, x < y, x <= y, x > y, x >= y, x + y, x * y, jnp.maximum(x, y), jnp.minimum(x, y)), np.array([True, True, False, False]), np.array([True, False, True, False])),
    *(row for d in INTEGERS for row in _integers(d)),
    *(case(f"convert_{d}", _convert, _values(d)) for d in DTYPES),
    *(case(f"bitcast_{d}", _bits, _values(d)) for d in DTYPES if d != "bool"),
    *(case(f"bitcast_split_{d}", _split, _values(d)[:6].reshape(2, 3)) for d in ("float64", "int64", "uint32")),
    case("bitcast_join", lambda x: (lax.bitcast_convert_type(x, "float64"), lax.bitcast_convert_type(x.reshape(2, 3, 2, 1)[..., 0], "uint64")), _data.whole_range("uint32", 2, 3, 2)),
    case("bitcast_join_bytes", lambda x: lax.bitcast_convert_type(x, "int32"), _data.whole_range("uint8", 3, 4)),
    case("bitcast_large", lambda x: lax.bitcast_convert_type(x * 2, "uint32"), _data.normal(9, 11)),
    case("select_bool", lax.select_n, _data.booleans(3, 5), _A, _B),
    case("select_scalar_predicate", lax.select_n, np.array(True), _A, _B),
    case("select_int", lax.select_n, np.array([0, 1, 2, 1, 0], dtype="int32"), _A[0], _B[0], _B[1]),
    case("select_int_large", lambda k, a, b: lax.select_n(k, a, b, a * b), _data.integers(0, 3, 17, 23, dtype="int32"), _LARGE, _OTHER),
    case("select_nan_is_not_spread", lambda x: jnp.where(x > 0, jnp.log(x), 0.0), SPECIAL),
    case("clamp", lax.clamp, np.array(-0.5), np.append(SPECIAL, 0.2), np.array(0.7), signed=True),
    case("clamp_arrays", lax.clamp, _A, _B, _A + 0.3),
    case("clamp_crossed", lax.clamp, np.array(1.0), _A, np.array(-1.0)),
    case("clamp_integers", lax.clamp, np.int8(-3), _data.whole_range("int8", 9), np.int8(100)),
    case("fold_zero", lambda x: (x - 0.0, 0.0 - x, x + (-0.0), x * 0.0, x * -1.0, -0.0 - x, 0.0 * -x), SPECIAL, signed=True),
    case("fold_one", lambda x: (x * 1.0, x / 1.0, x / -1.0, x / 2.0, x / 3.0, x / 1024.0, 1.0 / x), SPECIAL, signed=True),
    case("fold_signs", lambda x, y: (-x * y, x * -y, -x * -y, -(x * y), -(x - y), -x + y, x - (-y), -x - y, -x / y, x / -y, lax.neg(-x), -(2.0 * x)), LEFT, RIGHT, signed=True),
    case("fold_odd_even", lambda x: (jnp.sin(-x), jnp.cos(-x), jnp.tanh(-x), jnp.abs(-x), jnp.arctan(-x), jnp.cosh(-x)), FINITE, signed=True),
    case("fold_same", lambda x: (x - x, x / x, x == x, x < x, jnp.maximum(x, x), x * x, jnp.where(x > 0, x, x)), SPECIAL, signed=True),
    case("fold_constants", lambda x: x * 0 + (jnp.sin(jnp.float64(0.3)) + jnp.exp(jnp.float64(2.0)) / 3 - jnp.sqrt(jnp.float64(2))), FINITE),
    case("constants_only", lambda: (jnp.sin(jnp.arange(5.0)), jnp.float32(1) / 3, jnp.int8(100) + jnp.int8(100), jnp.float64(0) / 0, -jnp.float64(0), jnp.array([np.inf, -np.inf]))),
    case("scalar_times_array", lambda a, x: (a * x + a, x - a), np.array(1.7), _LARGE),
    case("broadcast_rows", lambda a, x: x * a + a[:1], _data.normal(23), _LARGE),
    case("broadcast_columns", lambda a, x: x * a, _data.normal(17, 1), _LARGE),
    case("broadcast_unit", lambda a, x: x * a, _data.normal(1, 1), _LARGE),
    case("outer", lambda a, b: jnp.sin(a)[:, None] * b[None, :] + a[:, None], _data.normal(19), _data.normal(7)),
    case("chain", lambda x, y: jnp.tanh(jnp.sin(x) * y + jnp.exp(-x * x)) / (1 + y * y), _LARGE, _OTHER),
    case("deep_chain", lambda x: [x := jnp.sin(x) + 0.1 * x for _ in range(40)][-1], _data.normal(33)),
    case("shared_expensive", lambda x: (jnp.exp(x) + 1, jnp.exp(x) * 2, jnp.exp(x).sum()), _LARGE),
    case("sincos", lambda x: jnp.sin(x) * jnp.cos(x) + jnp.sin(2 * x), _LARGE),
    case("mixed_dtypes", lambda x, y, z: (x.astype("float64") * y + z, z.astype("float32") * x, z > x), _data.normal(5, dtype="float32"), _data.normal(5), np.arange(5, dtype="int32")),
    case("rank_zero", lambda x, k: (jnp.sin(x), x * 2, k + 1, x > k), np.array(0.7), np.array(3, dtype="int16")),
    case("size_zero", lambda x, y: (jnp.sin(x) + y, x > 0, x.astype("int8")), np.zeros((0, 3)), np.zeros((0, 3))),
    case("size_one", lambda x, y: (jnp.sin(x) + y, x * y), _data.normal(1, 1, 1), _data.normal(1, 4, 1)),
    case("float32_chain", lambda x: jnp.exp(-x) * jnp.sqrt(jnp.abs(x)) + 1 / 3, _data.normal(7, 9, dtype="float32")),
    case("angle_functions", lambda x: (jnp.degrees(x), jnp.radians(x), jnp.sinc(x), jnp.hypot(x, 1.0)), _data.normal(11)),
    case("polynomial", lambda x, c: (jnp.polyval(c, x), lax.polynomial(x, (1.0, c[0], 2.0, c[1])), lax.polynomial(x, (c[2],))), _data.normal(11), _data.normal(4)),
    case("numpy_rounding", lambda x: (jnp.trunc(x), jnp.round(x, 1), jnp.rint(x), jnp.fmod(x, 2.0), jnp.remainder(x, 2.0), jnp.floor_divide(x, 0.7)), _data.normal(11) * 5),
    case("numpy_logarithms", lambda x: (jnp.logaddexp(x, 1.0), jnp.log10(jnp.abs(x)), jnp.logaddexp2(x, 0.5)), _data.normal(11)),
    case("numpy_tests", lambda x: (jnp.isnan(x), jnp.isinf(x), jnp.signbit(x), jnp.nan_to_num(x, posinf=3.0), jnp.isclose(x, 1.0)), SPECIAL),
    case("numpy_floats", lambda x: (jnp.copysign(2.0, x), jnp.heaviside(x, 0.5), jnp.fmax(x, 0.0)), SPECIAL),
    case("frexp_ldexp", lambda x: (jnp.frexp(x), jnp.ldexp(x, 3), jnp.modf(x)), _data.normal(7)),
    case("activations", lambda x: (jnp.maximum(x, 0), lax.logistic(x), jnp.where(x > 0, x, jnp.expm1(x)), x * lax.logistic(x)), _LARGE),
    case("erf_functions", lambda x: (lax.erf(x), lax.erfc(x), lax.erf_inv(jnp.tanh(x))), _data.normal(6, 7)),
)  # fmt: skip
