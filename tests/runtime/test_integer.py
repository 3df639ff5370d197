"""integer.hpp against jax.lax: overflow, division by zero and far shifts included."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.runtime.harness import DTYPES, FLOATS, INTEGERS, elementwise, symbol

pytestmark = pytest.mark.compile

BINARY = {
    "wrap_add": lax.add,
    "wrap_sub": lax.sub,
    "wrap_mul": lax.mul,
    "int_div": lax.div,
    "int_rem": lax.rem,
    "shift_left": lax.shift_left,
    "shift_right_logical": lax.shift_right_logical,
    "shift_right_arithmetic": lax.shift_right_arithmetic,
}
UNARY = {
    "wrap_neg": lax.neg,
    "wrap_abs": lambda x: lax.abs(x) if jnp.issubdtype(x.dtype, jnp.signedinteger) else x,
    "popcount": lax.population_count,
    "clz": lax.clz,
    "int_sign": lax.sign,
}
EXPONENTS = [0, 1, 2, 5, 31, 64]


def sample(dtype):
    """Ends of the range, small numbers, shift amounts about the width, and random words."""
    info = np.iinfo(dtype)
    generator = np.random.default_rng(0)
    edges = [info.min, info.min + 1, info.max, info.max - 1, 0, 1, 2, 3, 7]
    edges += [value for n in (8, 16, 32, 64) for value in (n - 1, n) if value <= info.max]
    signed = [-1, -2, -7] if info.min < 0 else []
    words = generator.integers(info.min, info.max, 20, dtype, endpoint=True)
    return np.concatenate([np.array(edges + signed, dtype), words])


@pytest.fixture(scope="module")
def library(build):
    units = []
    for kind in INTEGERS:
        for name in BINARY:
            call = f"anvil_rt::{name}(x, y)"
            units.append(elementwise(symbol(name, kind), [kind, kind], kind, call))
        units += [
            elementwise(symbol(name, kind), [kind], kind, f"anvil_rt::{name}(x)") for name in UNARY
        ]
    for kind, n in itertools.product(INTEGERS + FLOATS, EXPONENTS):
        units.append(
            elementwise(symbol("pow", kind, n), [kind], kind, f"anvil_rt::int_pow(x, {n})")
        )
    units.append(elementwise(symbol("pow_neg"), ["double"], "double", "anvil_rt::int_pow(x, -3)"))
    return build(["integer.hpp"], "\n".join(units))


@pytest.mark.parametrize("kind", INTEGERS)
def test_equals_jax(library, kind):
    dtype = DTYPES[kind]
    values = sample(dtype)
    x, y = (np.ascontiguousarray(grid.ravel()) for grid in np.meshgrid(values, values))
    for name, reference in BINARY.items():
        got = library.map(symbol(name, kind), dtype, x, y)
        np.testing.assert_array_equal(got, jax.jit(reference)(x, y), err_msg=name)
    for name, reference in UNARY.items():
        got = library.map(symbol(name, kind), dtype, values)
        np.testing.assert_array_equal(got, jax.jit(reference)(jnp.asarray(values)), err_msg=name)
    for n in EXPONENTS:
        got = library.map(symbol("pow", kind, n), dtype, values)
        np.testing.assert_array_equal(got, lax.integer_pow(values, n), err_msg=f"power {n}")


@pytest.mark.parametrize("kind", FLOATS)
def test_power_of_a_float(library, kind):
    """Equal up to the last bits: XLA contracts and reorders the products of a large power."""
    x = np.random.default_rng(0).normal(size=50).astype(DTYPES[kind])
    for n in EXPONENTS:
        got = library.map(symbol("pow", kind, n), x.dtype, x)
        tolerance = max(n, 1) * np.finfo(x.dtype).eps
        flushed = np.finfo(x.dtype).tiny  # XLA may flush what is smaller to zero
        np.testing.assert_allclose(got, lax.integer_pow(x, n), rtol=tolerance, atol=flushed)


def test_negative_power(library):
    x = np.array([2.0, -0.5, 0.0, -0.0, np.inf, np.nan])
    np.testing.assert_array_equal(
        library.map(symbol("pow_neg"), x.dtype, x), lax.integer_pow(x, -3)
    )
