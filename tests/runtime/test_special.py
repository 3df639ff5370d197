"""The special function headers against SciPy where it is the more accurate, else against JAX.

SciPy computes these in double by other algorithms (Boost, Temme's expansions); JAX decides what
happens on poles and outside the domain.
"""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special as sp
from jax import lax

from tests.runtime.harness import DTYPES, FLOATS, elementwise, symbol

pytestmark = pytest.mark.compile

UNARY = ["lgamma", "digamma", "erf_inv", "bessel_i0e", "bessel_i1e"]
BINARY = ["igamma", "igammac", "polygamma", "zeta"]
INF = np.inf


@pytest.fixture(scope="module")
def library(build):
    units = []
    for kind in FLOATS:
        beta = "anvil_rt::regularized_incomplete_beta(x, y, z)"
        units.append(elementwise(symbol("betainc", kind), [kind] * 3, kind, beta))
        for names, letters in ((UNARY, "x"), (BINARY, "x, y")):
            for name in names:
                inputs = [kind] * len(letters.split(","))
                call = f"anvil_rt::{name}({letters})"
                units.append(elementwise(symbol(name, kind), inputs, kind, call))
    return build(["erf_inv.hpp", "bessel.hpp", "gamma.hpp"], "\n".join(units))


def check(library, kind, name, inputs, want, rtol=1e-13, atol=0.0):
    dtype = DTYPES[kind]
    rounded = [np.asarray(value).astype(dtype).ravel() for value in inputs]
    got = library.map(symbol(name, kind), dtype, *rounded)
    exact = np.asarray(want(*[value.astype(np.float64) for value in rounded])).astype(dtype)
    unit = 4 * np.finfo(dtype).eps
    np.testing.assert_allclose(got, exact, rtol=max(rtol, unit), atol=max(atol, unit * atol))


@pytest.mark.parametrize("kind", FLOATS)
def test_erf_inv(library, kind):
    generator = np.random.default_rng(0)
    x = np.concatenate([generator.uniform(-1, 1, 2000), 1 - 10 ** generator.uniform(-15, -1, 500)])
    x = np.concatenate([x, -x, 10 ** generator.uniform(-300, -1, 100)])
    check(library, kind, "erf_inv", [x], sp.erfinv, rtol=2e-15)


def test_normal_variates_agree(library):
    """The step of jax.random.normal that goes through erf_inv."""
    lowest = np.nextafter(-1.0, 0.0)
    uniform = np.random.default_rng(1).uniform(lowest, 1.0, 10000)
    got = np.sqrt(2) * library.map(symbol("erf_inv", "double"), uniform.dtype, uniform)
    np.testing.assert_allclose(got, np.sqrt(2) * lax.erf_inv(uniform), rtol=1e-13)


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("order", [0, 1])
def test_bessel(library, kind, order):
    generator = np.random.default_rng(0)
    x = np.concatenate([generator.uniform(-60, 60, 1000), 10 ** generator.uniform(-20, 20, 200)])
    reference = [sp.i0e, sp.i1e][order]
    check(library, kind, f"bessel_i{order}e", [x], reference, rtol=2e-14)


@pytest.mark.parametrize("kind", FLOATS)
def test_gamma_logarithms(library, kind):
    generator = np.random.default_rng(0)
    x = np.concatenate([generator.uniform(-20, 60, 1000), 10 ** generator.uniform(-10, 15, 200)])
    eps = np.finfo(DTYPES[kind]).eps
    check(library, kind, "lgamma", [x], sp.gammaln, rtol=1e-13, atol=20 * eps)
    check(library, kind, "digamma", [x], sp.digamma, rtol=2e-13, atol=20 * eps)


@pytest.mark.parametrize("kind", FLOATS)
def test_zeta_and_polygamma(library, kind):
    generator = np.random.default_rng(0)
    s, q = 1 + 10 ** generator.uniform(-2, 1.3, 400), 10 ** generator.uniform(-1, 2, 400)
    check(library, kind, "zeta", [s, q], sp.zeta, rtol=1e-13, atol=1e-30)
    n, x = generator.integers(0, 8, 400), 10 ** generator.uniform(-1, 2, 400)
    with np.errstate(all="ignore"):
        check(library, kind, "polygamma", [n, x], sp.polygamma, rtol=1e-12, atol=1e-14)
    x = generator.uniform(-5, 0, 100)
    check(library, kind, "polygamma", [np.ones(100), x], lax.polygamma, rtol=1e-11)


@pytest.mark.parametrize("kind", FLOATS)
def test_incomplete_gamma(library, kind):
    generator = np.random.default_rng(0)
    a = 10 ** generator.uniform(-2, 4, 3000)
    # Where neither function is negligible, and far out on either side.
    x = np.abs(a + np.sqrt(a) * generator.normal(size=3000) * generator.choice([1, 5], 3000))
    for name, reference in (("igamma", sp.gammainc), ("igammac", sp.gammaincc)):
        want = reference(a, x)
        small = want < 1e-3  # 1 - P for x < 1 keeps its absolute, not its relative accuracy
        check(library, kind, name, [a[~small], x[~small]], reference, rtol=5e-13)
        check(library, kind, name, [a[small], x[small]], reference, rtol=2e-12, atol=1e-15)


@pytest.mark.parametrize("kind", FLOATS)
def test_incomplete_beta(library, kind):
    generator = np.random.default_rng(0)
    a, b = (10 ** generator.uniform(-2, 3, 2000) for _ in range(2))
    x = np.clip(generator.beta(a, b), 1e-6, 1 - 1e-6)
    check(library, kind, "betainc", [a, b, x], sp.betainc, rtol=2e-12, atol=1e-14)


def test_huge_arguments_end(library):
    """No iteration waits for a sum that cannot change."""
    x = np.array([1e300, 1e16, -1e15 - 0.5])
    for name in BINARY:
        library.map(symbol(name, "double"), np.float64, np.abs(x), np.abs(x))
        library.map(symbol(name, "double"), np.float64, np.full(3, 2.0), x)
    library.map(symbol("betainc", "double"), x.dtype, np.abs(x), np.abs(x), np.full(3, 0.5))


SPECIAL = {
    "lgamma": (lax.lgamma, [-INF, -2, -1, -0.0, 0, 1, 2, INF, np.nan]),
    "digamma": (lax.digamma, [-INF, -2, -1, -0.0, 0, INF, np.nan]),
    "erf_inv": (lax.erf_inv, [-1, 1, 1.1, -2, INF, np.nan, 0.0, -0.0]),
    "bessel_i0e": (lax.bessel_i0e, [-INF, -0.0, 0, INF, np.nan, 1e300]),
    "bessel_i1e": (lax.bessel_i1e, [-INF, -0.0, 0, INF, np.nan, 1e300]),
    "polygamma": (lax.polygamma, [0, 1, 2, 0.5, -1, np.nan], [0, -1, -1.5, 2, INF, np.nan]),
    "zeta": (lax.zeta, [0.5, 1, 2, 2.5, INF, np.nan], [0, -1, -1.5, 2, INF, np.nan]),
    "igamma": (lax.igamma, [0, 1, -1, 2, INF, np.nan], [0, 1, -1, INF, np.nan]),
    "igammac": (lax.igammac, [0, 1, -1, 2, INF, np.nan], [0, 1, -1, INF, np.nan]),
    "betainc": (lax.betainc, [0, 1, -1, 2, INF, np.nan], [0, 1, 3, INF], [0, 0.5, 1, -0.1, 1.1]),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(library, name):
    reference, *values = SPECIAL[name]
    inputs = [grid.ravel().astype(float) for grid in np.meshgrid(*values)]
    got = library.map(symbol(name, "double"), np.float64, *inputs)
    want = np.asarray(reference(*map(jnp.asarray, inputs)))
    for row in zip(*inputs, got, want, strict=True):
        np.testing.assert_allclose(row[-2], row[-1], rtol=1e-11, err_msg=str(row))
    if name in ("erf_inv", "bessel_i1e"):
        np.testing.assert_array_equal(np.signbit(got[got == 0]), np.signbit(want[got == 0]))
