"""sorting.hpp against jax.lax.sort and jax.lax.top_k: ties, zeros of both signs, NaN, strides."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.runtime.harness import DTYPES, symbol

pytestmark = pytest.mark.compile

SIZES = [0, 1, 17, 100, 1000]
KINDS = ["double", "float", "std::int32_t", "std::uint8_t", "bool"]


def sources():
    for kind in KINDS:
        for n in SIZES:
            name = symbol("sort", kind, n)
            head = (
                f"void {name}(const {kind}* keys, const double* more, std::int32_t* order, "
                f"std::int32_t* scratch, std::int32_t* both, {kind}* sorted, std::int32_t* top)"
            )
            yield (
                f'extern "C" {head};\n{head} {{\n'
                f"  anvil_rt::sort_order<{n}>(1, order, scratch, keys);\n"
                f"  anvil_rt::reorder<{n}>(1, order, keys, sorted);\n"
                f"  anvil_rt::sort_order<{n}>(1, both, scratch, keys, more);\n"
                f"  anvil_rt::top_k_order<{n}>(1, top, scratch, keys);\n}}\n"
            )
    head = "void columns(const double* in, double* out, std::int32_t* order, std::int32_t* scratch)"
    yield (
        f'extern "C" {head};\n{head} {{\n'
        "  for (int j = 0; j < 3; ++j) {\n"
        "    anvil_rt::sort_order<20>(3, order, scratch, in + j);\n"
        "    anvil_rt::reorder<20>(3, order, in + j, out + j);\n  }\n}\n"
    )


@pytest.fixture(scope="module")
def library(build):
    return build(["sorting.hpp"], "\n".join(sources()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", SIZES)
def test_equals_jax(library, kind, n):
    generator = np.random.default_rng(n)
    keys = generator.integers(0, 7, n).astype(DTYPES[kind])  # many ties
    if keys.dtype.kind == "f":
        special = np.array([np.nan, -np.nan, 0.0, -0.0, np.inf, -np.inf], keys.dtype)
        keys = np.where(generator.random(n) < 0.5, generator.choice(special, n), keys)
    more = generator.integers(0, 3, n).astype(float)
    order, scratch, both, top = (np.zeros(n, np.int32) for _ in range(4))
    ordered = np.zeros_like(keys)
    library(symbol("sort", kind, n), keys, more, order, scratch, both, ordered, top)
    positions = jnp.arange(n)
    want = lax.sort((jnp.asarray(keys), positions), num_keys=1, is_stable=True)
    np.testing.assert_array_equal(order, want[1])
    assert ordered.tobytes() == keys[np.asarray(want[1])].tobytes()
    want = lax.sort((jnp.asarray(keys), jnp.asarray(more), positions), num_keys=2, is_stable=True)
    np.testing.assert_array_equal(both, want[2])
    if kind != "bool":
        np.testing.assert_array_equal(top, lax.top_k(jnp.asarray(keys), n)[1])


def test_strided_columns(library):
    values = np.random.default_rng(0).normal(size=(20, 3))
    result = np.zeros_like(values)
    library("columns", values, result, np.zeros(20, np.int32), np.zeros(20, np.int32))
    np.testing.assert_array_equal(result, np.sort(values, axis=0))
