"""The named functions for Metal compute in float what SciPy computes in double."""

import ctypes
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import scipy.special as sp

from anvil_jax.emit.metal_text import collect_metal_runtime, metal_dialect
from anvil_jax.targets.intrinsics import INTRINSICS
from tests.support import metal_shim

pytestmark = pytest.mark.compile

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
EPSILON = float(np.finfo(np.float32).eps)


# -- the functions of INTRINSICS -------------------------------------------------------------------


def _spread(low: float, high: float, count: int = 4001) -> np.ndarray:
    """Numbers of both kinds between the ends: evenly spaced, and of all magnitudes."""
    top = max(abs(low), abs(high))
    sizes = np.geomspace(1e-30, top, 400)
    both = np.concatenate([np.linspace(low, high, count), sizes, -sizes, [0.0, -0.0]])
    return both[(both >= low) & (both <= high)].astype(np.float32)


def _grid(*axes: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(a.ravel().astype(np.float32) for a in np.meshgrid(*axes, indexing="ij"))


@dataclass(frozen=True)
class FloatCase:
    """One function, where it is tried, and its error in units in the last place.

    `floor`: results are allowed the error of a number of this size at the least.
    """

    reference: Callable[..., Any]
    arguments: tuple[np.ndarray, ...]
    ulp: float = 4.0
    floor: float = field(default=2.0**-126)


_SPECIAL = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 3e38, -3e38])
_PAIRS = _grid(_SPECIAL, _SPECIAL)
_WIDE = _spread(-90.0, 90.0)
_UNIT = _spread(-1.0, 1.0)
_POSITIVE = np.geomspace(1e-37, 3e38, 4000).astype(np.float32)


def _maximum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    tie = np.where(np.signbit(x), y, x)
    return np.where(x == y, tie, np.maximum(x, y))


def _minimum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return -_maximum(-x, -y)


def _round_away(x: np.ndarray) -> np.ndarray:
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


FLOAT_CASES = {
    "sin": FloatCase(np.sin, (_WIDE,)),
    "cos": FloatCase(np.cos, (_WIDE,)),
    "exp": FloatCase(np.exp, (_spread(-87.0, 89.0),)),
    "tanh": FloatCase(np.tanh, (_WIDE,)),
    "logistic": FloatCase(sp.expit, (_spread(-87.0, 90.0),)),
    "exp2": FloatCase(np.exp2, (_spread(-125.0, 129.0),)),
    "expm1": FloatCase(np.expm1, (_spread(-60.0, 90.0, 40001),), 2.0),
    "log": FloatCase(np.log, (_POSITIVE,)),
    "log2": FloatCase(np.log2, (_POSITIVE,)),
    "log1p": FloatCase(np.log1p, (_spread(-0.99999, 40.0, 40001),), 2.0),
    "tan": FloatCase(np.tan, (_WIDE,)),
    "asin": FloatCase(np.arcsin, (_UNIT,)),
    "acos": FloatCase(np.arccos, (_UNIT,)),
    "atan": FloatCase(np.arctan, (_WIDE,)),
    "sinh": FloatCase(np.sinh, (_WIDE,)),
    "cosh": FloatCase(np.cosh, (_WIDE,)),
    "asinh": FloatCase(np.arcsinh, (_WIDE,)),
    "acosh": FloatCase(np.arccosh, (_spread(1.0, 90.0),)),
    "atanh": FloatCase(np.arctanh, (_UNIT,)),
    "erf": FloatCase(sp.erf, (_spread(-5.0, 5.0, 40001),), 2.0),
    "erfc": FloatCase(sp.erfc, (_spread(-5.0, 9.0, 40001),), 4.0),
    "cbrt": FloatCase(np.cbrt, (np.concatenate([_WIDE, _POSITIVE, -_POSITIVE]),), 1.5),
    "atan2": FloatCase(np.arctan2, _PAIRS),
    "pow": FloatCase(np.power, _grid(np.geomspace(0.01, 30, 60), np.linspace(-8, 8, 65))),
    "fmod": FloatCase(np.fmod, _grid(_spread(-90.0, 90.0, 200), np.linspace(-3.1, 7.7, 30))),
    "rsqrt": FloatCase(lambda x: 1 / np.sqrt(x), (_POSITIVE,)),
    "floor": FloatCase(np.floor, (_WIDE,), 0.0),
    "ceil": FloatCase(np.ceil, (_WIDE,), 0.0),
    "round_even": FloatCase(np.rint, (np.linspace(-9.0, 9.0, 73),), 0.0),
    "round_away": FloatCase(
        _round_away, (np.concatenate([np.linspace(-9, 9, 73), [0.49999997, -0.49999997]]),), 0.0
    ),
    "sign": FloatCase(np.sign, (_WIDE,), 0.0),
    "maximum": FloatCase(_maximum, _PAIRS, 0.0),
    "minimum": FloatCase(_minimum, _PAIRS, 0.0),
    "is_finite": FloatCase(np.isfinite, (_SPECIAL,), 0.0),
    "abs": FloatCase(np.abs, (_WIDE,), 0.0),
    "erf_inv": FloatCase(sp.erfinv, (_spread(-0.9999999, 0.9999999, 40001),), 8.0),
    "bessel_i0e": FloatCase(sp.i0e, (_spread(-90.0, 90.0),), 20.0),
    "bessel_i1e": FloatCase(sp.i1e, (_spread(-90.0, 90.0),), 20.0),
    "lgamma": FloatCase(sp.gammaln, (_spread(0.01, 90.0, 40001),), 8.0),
    "digamma": FloatCase(sp.digamma, (_spread(0.01, 90.0, 40001),), 8.0, 1.0),
    "igamma": FloatCase(
        sp.gammainc, _grid(np.geomspace(0.05, 400, 40), np.geomspace(0.02, 900, 50)), 150.0, 1e-30
    ),
    "igammac": FloatCase(
        sp.gammaincc, _grid(np.geomspace(0.05, 400, 40), np.geomspace(0.02, 900, 50)), 300.0, 1e-2
    ),
    "polygamma": FloatCase(sp.polygamma, _grid(np.arange(1, 60), np.geomspace(0.3, 70, 40)), 500.0),
    "zeta": FloatCase(sp.zeta, _grid(np.linspace(1.1, 40, 50), np.geomspace(0.2, 200, 40)), 60.0),
    "regularized_incomplete_beta": FloatCase(
        sp.betainc,
        _grid(np.geomspace(0.1, 90, 15), np.geomspace(0.2, 70, 14), np.linspace(0.02, 0.97, 20)),
        300.0,
        1e-4,
    ),
}
# nextafter goes by single precision, and its reference must too.
EXACT_CASES = {"nextafter": (np.nextafter, _PAIRS)}

# Where the float cases do not reach: poles, ends of the domain, NaN.
EDGE_CASES = [
    ("expm1", (np.inf, -np.inf, np.nan, -0.0), (np.inf, -1.0, np.nan, -0.0)),
    ("log1p", (np.inf, -1.0, -2.0, np.nan, -0.0), (np.inf, -np.inf, np.nan, np.nan, -0.0)),
    ("cbrt", (np.inf, -np.inf, np.nan, -0.0), (np.inf, -np.inf, np.nan, -0.0)),
    ("erf", (np.inf, -np.inf, np.nan, -0.0), (1.0, -1.0, np.nan, -0.0)),
    ("erfc", (np.inf, -np.inf, np.nan), (0.0, 2.0, np.nan)),
    ("erf_inv", (1.0, -1.0, 1.5, np.nan, -0.0), (np.inf, -np.inf, np.nan, np.nan, -0.0)),
    ("lgamma", (0.0, -1.0, np.inf, -np.inf, np.nan), (np.inf,) * 4 + (np.nan,)),
    ("digamma", (0.0, -1.0, np.inf, np.nan), (-np.inf, np.nan, np.inf, np.nan)),
    ("bessel_i0e", (0.0, np.nan), (1.0, np.nan)),
    ("bessel_i1e", (-0.0, np.nan), (-0.0, np.nan)),
]

INT_UNARY = ("wrap_neg", "popcount", "clz", "int_sign", "int_abs")
INT_BINARY = (
    "wrap_add", "wrap_sub", "wrap_mul", "int_div", "int_rem",
    "shift_left", "shift_right_logical", "shift_right_arithmetic", "int_max", "int_min",
)  # fmt: skip
SPECIAL_FORMS = ("int_pow", "convert", "bitcast")


def _metal(dtype: str) -> str:
    return {"float32": "float", "bool": "bool"}.get(dtype, f"std::{dtype}_t")


def _kernel(name: str, dtype: str, out: str, arity: int, call: str) -> str:
    """A kernel that one thread runs over all elements."""
    reads = "".join(f"device const {_metal(dtype)}* x{k}, " for k in range(arity))
    return (
        f"kernel void {name}({reads}device {_metal(out)}* out, constant int& count) {{\n"
        f"  for (int i = 0; i < count; ++i) out[i] = {call};\n}}\n"
    )


def _elementwise_kernels() -> str:
    text = []
    for name, row in INTRINSICS.items():
        called = f"anvil_rt::{row.function}"
        if name in FLOAT_CASES or name in EXACT_CASES:
            arguments = FLOAT_CASES[name].arguments if name in FLOAT_CASES else _PAIRS
            arity = len(arguments)
            call = f"{called}({', '.join(f'x{k}[i]' for k in range(arity))})"
            out = "bool" if name == "is_finite" else "float32"
            text.append(_kernel(f"run_{name}", "float32", out, arity, call))
        elif name in INT_UNARY or name in INT_BINARY:
            arity = 1 if name in INT_UNARY else 2
            call = f"{called}({', '.join(f'x{k}[i]' for k in range(arity))})"
            text += [_kernel(f"run_{name}_{t}", t, t, arity, call) for t in INTEGERS]
    for t in INTEGERS:
        call = f"anvil_rt::convert<{_metal(t)}>(x0[i])"
        text.append(_kernel(f"run_int_pow_{t}", t, t, 1, "anvil_rt::int_pow(x0[i], 5)"))
        text.append(_kernel(f"convert_{t}", "float32", t, 1, call))
        text.append(_kernel(f"back_{t}", t, "float32", 1, "anvil_rt::convert<float>(x0[i])"))
    text.append(_kernel("power", "float32", "float32", 1, "anvil_rt::int_pow(x0[i], -3)"))
    text.append(_kernel("truth", "float32", "bool", 1, "anvil_rt::convert<bool>(x0[i])"))
    text.append(_kernel("bits", "float32", "uint32", 1, "anvil_rt::bitcast<std::uint32_t>(x0[i])"))
    text.append(
        "kernel void both(device const float* x, device float* s, device float* c, "
        "constant int& count) {\n  for (int i = 0; i < count; ++i) {\n    float sine, cosine;\n"
        "    anvil_rt::sincos(x[i], sine, cosine);\n    s[i] = sine;\n    c[i] = cosine;\n  }\n}\n"
    )
    return "".join(text)


def _call(function: Callable[..., object], *arrays: np.ndarray, count: int) -> None:
    function(*(ctypes.c_void_p(a.ctypes.data) for a in arrays), ctypes.byref(ctypes.c_int(count)))


ELEMENTWISE = sorted({row.header for row in INTRINSICS.values()})


@pytest.fixture(scope="module")
def elementwise(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("elementwise")
    text = collect_metal_runtime(ELEMENTWISE) + metal_dialect(_elementwise_kernels())
    metal_shim.check(text, folder)
    return ctypes.CDLL(str(metal_shim.build(text, _HOST, folder)))


_HOST = 'extern "C" void anvil_metal_barrier() {}\n'


def error_in_ulp(library: ctypes.CDLL, name: str) -> float:
    """The largest error of a float case; infinite where the kinds of result differ."""
    case = FLOAT_CASES[name]
    arguments = [np.ascontiguousarray(a, np.float32) for a in case.arguments]
    out = np.empty(arguments[0].size, np.bool_ if name == "is_finite" else np.float32)
    _call(library[f"run_{name}"], *arguments, out, count=out.size)
    with np.errstate(all="ignore"):
        exact = np.asarray(case.reference(*(a.astype(np.float64) for a in arguments)))
        rounded = exact.astype(np.float32).astype(np.float64)
        got = out.astype(np.float64)
        same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        scale = np.maximum(np.abs(exact.astype(np.float64)), case.floor) * EPSILON
        error = np.where(same, 0.0, np.abs(got - exact) / scale)
        # Below the normal numbers a GPU may flush to zero, so that nothing is asked there.
        error[(np.abs(exact) < 2.0**-126) & (np.abs(got) < 2.0**-125)] = 0.0
    return float(np.where(np.isfinite(error), error, np.inf).max())


def test_every_intrinsic_has_a_case():
    assert set(INTRINSICS) == {
        *FLOAT_CASES, *EXACT_CASES, *INT_UNARY, *INT_BINARY, *SPECIAL_FORMS,
    }  # fmt: skip


@pytest.mark.parametrize("name", FLOAT_CASES)
def test_float_functions_agree_with_scipy(elementwise: ctypes.CDLL, name: str):
    assert error_in_ulp(elementwise, name) <= FLOAT_CASES[name].ulp


@pytest.mark.parametrize("name", EXACT_CASES)
def test_float_functions_that_are_exact(elementwise: ctypes.CDLL, name: str):
    reference, arguments = EXACT_CASES[name]
    arguments = [np.ascontiguousarray(a, np.float32) for a in arguments]
    out = np.empty_like(arguments[0])
    _call(elementwise[f"run_{name}"], *arguments, out, count=out.size)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(out, reference(*arguments))


@pytest.mark.parametrize(("name", "arguments", "expected"), EDGE_CASES)
def test_ends_of_domains(
    elementwise: ctypes.CDLL,
    name: str,
    arguments: tuple[float, ...],
    expected: tuple[float, ...],
):
    x = np.array(arguments, np.float32)
    out = np.empty_like(x)
    _call(elementwise[f"run_{name}"], x, out, count=x.size)
    np.testing.assert_array_equal(out, np.array(expected, np.float32))
    np.testing.assert_array_equal(
        np.signbit(out[~np.isnan(out)]), np.signbit(np.array(expected)[~np.isnan(out)])
    )


def test_negative_arguments_of_the_gamma_family(elementwise: ctypes.CDLL):
    x = np.linspace(-9.3, -0.07, 997).astype(np.float32)
    x = x[np.abs(x - np.rint(x)) > 0.01]
    exact = x.astype(np.float64)
    for name, reference in (("lgamma", sp.gammaln), ("digamma", sp.digamma)):
        out = np.empty_like(x)
        _call(elementwise[f"run_{name}"], x, out, count=x.size)
        np.testing.assert_allclose(out, reference(exact), rtol=3e-6, atol=5e-6)


def test_sine_and_cosine_together(elementwise: ctypes.CDLL):
    x = _WIDE
    s, c = np.empty_like(x), np.empty_like(x)
    _call(elementwise.both, x, s, c, count=x.size)
    np.testing.assert_allclose(s, np.sin(x), atol=2e-7)
    np.testing.assert_allclose(c, np.cos(x), atol=2e-7)


def _integers(dtype: str) -> np.ndarray:
    info = np.iinfo(dtype)
    interesting = {0, 1, 2, 3, 7, 8, 31, 32, 63, 64, 100, info.max, info.max - 1}
    interesting |= {info.min, info.min + 1, -1, -2, -7, -100} if info.min < 0 else set()
    return np.array(sorted(v for v in interesting if v <= info.max), dtype)


def _integer_reference(name: str, bits: int, signed: bool, x: int, y: int) -> int:
    """What XLA gives, computed on unbounded integers."""
    mask = (1 << bits) - 1

    def wrap(value: int) -> int:
        value &= mask
        return value - (1 << bits) if signed and value >> (bits - 1) else value

    top = x - (1 << bits) if not signed and x >> (bits - 1) else x
    inside = 0 <= y < bits
    quotient = 0 if y == 0 else abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
    return wrap({
        "wrap_neg": -x,
        "popcount": (x & mask).bit_count(),
        "clz": bits - (x & mask).bit_length(),
        "int_sign": (x > 0) - (x < 0),
        "int_abs": abs(x),
        "wrap_add": x + y,
        "wrap_sub": x - y,
        "wrap_mul": x * y,
        "int_div": quotient if y else -1,
        "int_rem": x - quotient * y,
        "shift_left": x << y if inside else 0,
        "shift_right_logical": (x & mask) >> y if inside else 0,
        "shift_right_arithmetic": top >> (y if inside else bits - 1),
        "int_max": max(x, y),
        "int_min": min(x, y),
        "int_pow": x**5,
    }[name])  # fmt: skip


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", [*INT_UNARY, *INT_BINARY, "int_pow"])
def test_integer_functions_wrap(elementwise: ctypes.CDLL, name: str, dtype: str):
    values = _integers(dtype)
    pairs = list(itertools.product(values.tolist(), repeat=2))
    x, y = (np.array(column, dtype) for column in zip(*pairs, strict=True))
    out = np.empty_like(x)
    inputs = (x, y) if name in INT_BINARY else (x,)
    _call(elementwise[f"run_{name}_{dtype}"], *inputs, out, count=x.size)
    bits, signed = 8 * x.itemsize, np.iinfo(dtype).min < 0
    assert out.tolist() == [_integer_reference(name, bits, signed, a, b) for a, b in pairs]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_conversions_saturate(elementwise: ctypes.CDLL, dtype: str):
    x = np.array([0, -0.5, 2.9, -2.9, 100.5, 3e9, -3e9, 1e30, -1e30, np.inf, -np.inf], np.float32)
    out = np.empty(x.size, dtype)
    _call(elementwise[f"convert_{dtype}"], x, out, count=x.size)
    info = np.iinfo(dtype)
    expected = [int(min(max(v, info.min), info.max)) for v in x.tolist()]
    assert out.tolist() == expected
    back = np.empty(x.size, np.float32)
    _call(elementwise[f"back_{dtype}"], out, back, count=x.size)
    np.testing.assert_array_equal(back, out.astype(np.float32))


def test_conversion_of_nan_to_bool_and_to_bits(elementwise: ctypes.CDLL):
    x = np.array([np.nan, 0.5, 0.0, -0.0, -2.0], np.float32)
    truth, bits, power = np.empty(5, np.bool_), np.empty(5, np.uint32), np.empty(5, np.float32)
    zero = np.ones(5, np.int32)
    _call(elementwise.truth, x, truth, count=5)
    _call(elementwise.bits, x, bits, count=5)
    _call(elementwise.power, x, power, count=5)
    _call(elementwise.convert_int32, x, zero, count=5)
    assert truth.tolist() == [True, True, False, False, True]
    assert bits.tolist() == x.view(np.uint32).tolist()
    np.testing.assert_array_equal(power, np.array([np.nan, 8.0, np.inf, -np.inf, -0.125]))
    assert zero.tolist() == [0, 0, 0, 0, -2]
