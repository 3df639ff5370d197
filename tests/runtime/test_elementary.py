"""elementary.hpp, sincos.hpp and exponential.hpp: accuracy in units in the last place.

The truth is NumPy's extended precision (where the platform has one; elsewhere a bound of one more
unit applies) or SciPy, never our own output. Special values follow the C standard.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax import lax

from tests.runtime.harness import DTYPES, FLOATS, elementwise, symbol, ulp_error

pytestmark = pytest.mark.compile

EXTENDED = np.longdouble
HAS_EXTENDED = np.finfo(EXTENDED).nmant > np.finfo(np.float64).nmant
HEADERS = ["cbrt.hpp", "elementary.hpp", "sincos.hpp", "exponential.hpp"]


def _logistic(x):
    return 1 / (1 + np.exp(-x))


def _in_double(function):
    return lambda x: function(x.astype(np.float64)).astype(EXTENDED)


# name: (reference, allowed error in units in the last place of a double)
UNARY = {
    "exp": (np.exp, 1),
    "exp2": (np.exp2, 1),
    "expm1": (np.expm1, 1.5),
    "log": (np.log, 1),
    "log2": (np.log2, 1.5),
    "log1p": (np.log1p, 1.5),
    "sin": (np.sin, 1.5),
    "cos": (np.cos, 1.5),
    "tan": (np.tan, 1.5),
    "asin": (np.arcsin, 1),
    "acos": (np.arccos, 1),
    "atan": (np.arctan, 1),
    "sinh": (np.sinh, 2),
    "cosh": (np.cosh, 2),
    "tanh": (np.tanh, 2.5),
    "asinh": (np.arcsinh, 2),
    "acosh": (np.arccosh, 2.5),
    "atanh": (np.arctanh, 2),
    "erf": (_in_double(scipy.special.erf), 3),
    "sqrt": (np.sqrt, 0.51),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1.5),
    "cbrt": (np.cbrt, 1),
    "logistic": (_logistic, 2.5),
    "fast_exp": (np.exp, 1),
    "fast_expm1": (np.expm1, 1.5),
    "fast_tanh": (np.tanh, 1.6),
    "fast_logistic": (_logistic, 2.5),
    "fast_log": (np.log, 1),
}
# Exact functions: equal to JAX in every bit.
EXACT = {
    "floor": jnp.floor,
    "ceil": jnp.ceil,
    "trunc": jnp.trunc,
    "round_even": lambda x: lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN),
    "round_away": lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO),
    "sign": lax.sign,
    "abs": lax.abs,
}
BINARY = {
    "maximum": lax.max,
    "minimum": lax.min,
    "fmod": lax.rem,
    "copysign": jnp.copysign,
    "nextafter": np.nextafter,
}


def sample(dtype):
    """Every magnitude of both signs, ordinary numbers, and the special values."""
    info = np.finfo(dtype)
    generator = np.random.default_rng(1)
    exponents = generator.uniform(info.minexp - info.nmant, info.maxexp - 1, 4000)
    magnitudes = 2.0**exponents
    ordinary = np.concatenate(
        [generator.uniform(-scale, scale, 10000) for scale in (0.7, 3, 30, 800, 8e5)]
    )
    near_quarters = np.arange(-200, 200) * (np.pi / 2)
    halves = np.array([0.5, 1.5, 2.5, 0.25, 0.49999999999999994, 2.0**52 - 0.5, 2.0**23 - 0.5])
    edges = np.array([0, 1, info.max, info.tiny, info.smallest_subnormal, np.inf])
    overflow = np.log(float(info.max)) + np.array([-1e-3, -1e-6, 0, 1e-6, 1, 20])
    underflow = np.log(float(info.tiny)) - np.linspace(-1, 40, 400)
    positive = np.concatenate([magnitudes, halves, edges, overflow])
    pieces = [positive, -positive, ordinary, near_quarters, underflow, [np.nan]]
    with np.errstate(over="ignore"):
        return np.concatenate(pieces).astype(dtype)


@pytest.fixture(scope="module")
def library(build):
    units = []
    for kind in FLOATS:
        for name in [*UNARY, *EXACT, "erfc", "is_finite"]:
            output = "bool" if name == "is_finite" else kind
            units.append(elementwise(symbol(name, kind), [kind], output, f"anvil_rt::{name}(x)"))
        for name in [*BINARY, "pow", "atan2"]:
            call = f"anvil_rt::{name}(x, y)"
            units.append(elementwise(symbol(name, kind), [kind, kind], kind, call))
        units += [
            elementwise(symbol("both", part, kind), [kind], kind, f"both_{part}(x)")
            for part in ("sin", "cos")
        ]
    units.append(elementwise("max_int", ["int", "int"], "int", "anvil_rt::maximum(x, y)"))
    units.append(elementwise("min_int", ["int", "int"], "int", "anvil_rt::minimum(x, y)"))
    both = """
    template <class T> T both_sin(T x) { T s, c; anvil_rt::sincos(x, s, c); return s; }
    template <class T> T both_cos(T x) { T s, c; anvil_rt::sincos(x, s, c); return c; }
    """
    return build(HEADERS, both + "\n".join(units))


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_accuracy(library, name, kind):
    reference, bound = UNARY[name]
    x = sample(DTYPES[kind])
    got = library.map(symbol(name, kind), DTYPES[kind], x)
    with np.errstate(all="ignore"):
        exact = reference(x.astype(EXTENDED))
    error = ulp_error(got, exact)
    if "logistic" in name:  # 1 / (1 + exp(-x)) underflows to 0 where exp(-x) overflows
        error[x < -np.log(float(np.finfo(x.dtype).max))] = 0
    worst = np.argmax(error)
    # A float may be rounded from any float libm: two units.
    limit = (bound if kind == "double" else max(bound, 2)) + (not HAS_EXTENDED)
    assert error[worst] <= limit, f"{name}({x[worst]!r}) = {got[worst]!r}, exact {exact[worst]!r}"


@pytest.mark.parametrize("kind", FLOATS)
def test_erfc(library, kind):
    """Apart from the others: far out, SciPy's own value is good to 13 digits only."""
    x = sample(DTYPES[kind])
    got = library.map(symbol("erfc", kind), x.dtype, x)
    info = np.finfo(x.dtype)
    with np.errstate(under="ignore"):
        want = scipy.special.erfc(x.astype(np.float64)).astype(x.dtype)
    np.testing.assert_allclose(got, want, rtol=max(2e-13, 4 * info.eps), atol=float(info.tiny))


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("part", ["sin", "cos"])
def test_sincos_is_sin_and_cos(library, part, kind):
    x = sample(DTYPES[kind])
    both, alone = (
        library.map(symbol(*name, kind), x.dtype, x) for name in (("both", part), (part,))
    )
    np.testing.assert_array_max_ulp(both[np.isfinite(x)], alone[np.isfinite(x)], 1)
    assert np.isnan(both[~np.isfinite(x)]).all()


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("name", EXACT)
def test_exact(library, name, kind):
    x = sample(DTYPES[kind])
    got = library.map(symbol(name, kind), x.dtype, x)
    want = np.asarray(EXACT[name](jnp.asarray(x)))
    normal = (np.abs(x) >= np.finfo(x.dtype).tiny) | (x == 0) | np.isnan(x)  # XLA may flush others
    np.testing.assert_array_equal(got[normal], want[normal])
    np.testing.assert_array_equal(np.signbit(got[normal]), np.signbit(want[normal]))


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("name", [*BINARY, "pow", "atan2"])
def test_two_operands(library, name, kind):
    dtype = DTYPES[kind]
    numbers = np.random.default_rng(2).normal(size=30) * 5
    special = [0.0, -0.0, 1, -1, 2, -2, 0.5, 3, np.inf, -np.inf, np.nan]
    grid = np.meshgrid(*[np.concatenate([special, numbers]).astype(dtype)] * 2)
    x, y = (np.ascontiguousarray(side.ravel()) for side in grid)
    got = library.map(symbol(name, kind), dtype, x, y)
    if name in BINARY:
        want = np.asarray(BINARY[name](jnp.asarray(x), jnp.asarray(y)))
        np.testing.assert_array_equal(got, want)
        number = ~np.isnan(want)
        np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(want[number]))
        return
    reference = {"pow": jnp.power, "atan2": jnp.arctan2}[name]
    want = np.asarray(jax.jit(reference)(x, y))
    np.testing.assert_allclose(got, want, rtol=4 * np.finfo(dtype).eps)


def test_maximum_of_integers(library):
    x = np.array([1, -5, 7, 0], np.int32)
    y = np.array([2, -6, 7, -1], np.int32)
    np.testing.assert_array_equal(library.map("max_int", np.int32, x, y), np.maximum(x, y))
    np.testing.assert_array_equal(library.map("min_int", np.int32, x, y), np.minimum(x, y))


@pytest.mark.parametrize("kind", FLOATS)
def test_is_finite(library, kind):
    x = sample(DTYPES[kind])
    got = library.map(symbol("is_finite", kind), np.bool_, x)
    np.testing.assert_array_equal(got, np.isfinite(x))
