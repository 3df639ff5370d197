"""convert.hpp against jax.lax.convert_element_type, for every pair of dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.runtime.harness import DTYPES, FLOATS, elementwise, symbol

pytestmark = pytest.mark.compile

BITCASTS = [
    ("double", "std::int64_t"),
    ("double", "std::uint64_t"),
    ("float", "std::int32_t"),
    ("std::uint32_t", "float"),
    ("std::int64_t", "double"),
    ("std::int8_t", "std::uint8_t"),
]


def sample(dtype):
    """Around the ends of every integer range, fractions on both sides of 0, and the specials."""
    if dtype == np.bool_:
        return np.array([False, True])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        edges = [info.min, info.min + 1, info.max, info.max - 1, 0, 1, 2, 100]
        return np.array(edges + ([-1, -2, -100] if info.min < 0 else []), dtype)
    powers = np.array([2.0**n for n in (7, 8, 15, 16, 31, 32, 53, 63, 64, 100)], dtype)
    ends = [powers, powers - 1, powers + 1, np.nextafter(powers, dtype.type(0)), powers - 0.5]
    small = np.array([0, 0.5, 0.99, 1, 1.5, 127.9, 255.7, 300, 1e-30, np.inf], dtype)
    positive = np.concatenate([*ends, small])
    return np.concatenate([positive, -positive, np.array([np.nan, -np.nan], dtype)]).astype(dtype)


@pytest.fixture(scope="module")
def library(build):
    units = [
        elementwise(symbol(to, source), [source], to, f"anvil_rt::convert<{to}>(x)")
        for to in DTYPES
        for source in DTYPES
    ]
    units += [
        elementwise(symbol("bits", to, source), [source], to, f"anvil_rt::bitcast<{to}>(x)")
        for source, to in BITCASTS
    ]
    return build(["bitcast.hpp", "convert.hpp"], "\n".join(units))


@pytest.mark.parametrize("source", DTYPES)
def test_equals_jax(library, source):
    values = sample(DTYPES[source])
    for to, dtype in DTYPES.items():
        got = library.map(symbol(to, source), dtype, values)
        want = np.asarray(jax.jit(lambda x, t=dtype: x.astype(t))(jnp.asarray(values)))
        np.testing.assert_array_equal(got, want, err_msg=f"{source} to {to}")
        if to in FLOATS:
            np.testing.assert_array_equal(np.signbit(got), np.signbit(want))


@pytest.mark.parametrize(("source", "to"), BITCASTS)
def test_bitcast(library, source, to):
    values = sample(DTYPES[source])
    got = library.map(symbol("bits", to, source), DTYPES[to], values)
    want = np.asarray(lax.bitcast_convert_type(values, DTYPES[to]))
    assert got.tobytes() == want.tobytes()
