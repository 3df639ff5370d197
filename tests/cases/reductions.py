"""Sums, products, extrema and logic over axes, and where the extremum is."""

# ruff: noqa: E501 - a case is one line

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.cases.case import INTEGERS, Data, case

_data = Data(3)

_SMALL, _LARGE, _LONG = _data.normal(2, 4, 3), _data.normal(7, 11, 5), _data.normal(3, 101)
_AXES = ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2), ())
_NAN = np.array([[1.0, np.nan, 3.0], [np.inf, -np.inf, 2.0], [-0.0, 0.0, -0.0]])
_TIES = np.array([[2.0, 5.0, 5.0, 1.0], [1.0, 1.0, 1.0, 1.0], [-3.0, 7.0, -3.0, 7.0]])


def _sums(x, axes):
    return jnp.sum(x, axes), jnp.prod(x, axes), jnp.max(x, axes), jnp.min(x, axes)


def _integers(x):
    zero, one = np.zeros((), x.dtype), np.ones((), x.dtype)
    ones = np.invert(zero)
    return (
        lax.reduce(x, zero, lax.add, (1,)), lax.reduce(x, one, lax.mul, (0,)),
        lax.reduce(x, zero, lax.bitwise_xor, (1,)), lax.reduce(x, ones, lax.bitwise_and, (0,)),
        lax.reduce(x, zero, lax.bitwise_or, (0, 1)), jnp.max(x, 1), jnp.min(x, 0),
        jnp.argmax(x, 1), jnp.argmin(x, 0), jnp.sum(x), jnp.cumsum(x, 1),
    )  # fmt: skip


CASES = (
    *(case(f"small_{''.join(map(str, a))}", lambda x, a=a: _sums(x, a), _SMALL) for a in _AXES),
    *(case(f"large_{''.join(map(str, a))}", lambda x, a=a: _sums(x, a), _LARGE) for a in _AXES),
    *(case(f"computed_{''.join(map(str, a))}", lambda x, a=a: _sums(jnp.sin(x) * 2, a), _LARGE) for a in _AXES),
    *(case(f"transposed_{''.join(map(str, a))}", lambda x, a=a: _sums(x.T, a), _LARGE) for a in _AXES),
    case("float32", lambda x: (_sums(x, 0), _sums(x, 1), _sums(x, None)), _data.normal(5, 37, dtype="float32"), rtol=1e-4),
    case("long_rows", lambda x: (_sums(x, 0), _sums(x, 1), jnp.sum(x)), _LONG),
    case("long_columns", lambda x: (_sums(x, 0), _sums(x, 1), jnp.sum(x)), _LONG.T.copy()),
    *(case(f"{d}", _integers, _data.whole_range(d, 5, 9)) for d in INTEGERS),
    *(case(f"large_{d}", _integers, _data.whole_range(d, 13, 19)) for d in INTEGERS),
    case("bool", lambda x: (x.sum(0), x.all(1), x.any(0), jnp.max(x, 1), jnp.min(x), jnp.argmax(x, 1), jnp.argmin(x, 0), x.mean(), lax.reduce_xor(x, (1,))), _data.booleans(4, 9)),
    case("bool_large", lambda x: (x.sum(0), x.all(1), x.any(0), jnp.max(x, 1), jnp.argmax(x, 1), jnp.argmin(x, 0), lax.reduce_xor(x, (1,)), lax.reduce_xor(x, (0, 1))), _data.booleans(14, 19)),
    case("empty", lambda x: (jnp.sum(x, 0), jnp.prod(x, 0), jnp.sum(x, 1), jnp.sum(x), jnp.all(x > 0), jnp.any(x > 0)), np.zeros((0, 3))),
    case("empty_extremum", lambda x: (jnp.max(x, 0, initial=-np.inf), lax.reduce_max(x, (0,)), lax.reduce_min(x, (0,)), lax.reduce_max(x.astype("int8"), (0,))), np.zeros((0, 3))),
    case("empty_large", lambda x: (jnp.sum(x, 1), jnp.sum(x, 2)), np.zeros((20, 0, 30))),
    case("unit_axes", lambda x: (jnp.sum(x, 0), jnp.sum(x, 2), jnp.max(x, (0, 2)), jnp.argmax(x, 0), jnp.argmin(x, 1)), _data.normal(1, 5, 1)),
    case("one_element", lambda x: (jnp.sum(x), jnp.max(x), jnp.argmax(x, 0), jnp.prod(x)), _data.normal(1)),
    case("rank_zero", lambda x: (jnp.sum(x), jnp.max(x), jnp.argmax(x)), np.array(2.5)),
    case("nan", lambda x: (*_sums(x, 0), *_sums(x, 1), jnp.argmax(x, 0), jnp.argmin(x, 0), jnp.argmax(x, 1), jnp.argmin(x, 1)), _NAN),
    case("nan_large", lambda x: (*_sums(x, 0), *_sums(x, 1), jnp.argmax(x, 0), jnp.argmin(x, 1), jnp.nanmax(x, 0), jnp.nansum(x, 1)), np.tile(_NAN, (5, 7))),
    case("only_nan", lambda x: (jnp.max(x), jnp.argmax(x), jnp.argmin(x), jnp.sum(x)), np.full(5, np.nan)),
    case("negative_zero", lambda x: (jnp.max(x, 0), jnp.min(x, 1), jnp.prod(x, 0)), np.full((2, 3), -0.0), signed=True),
    case("infinities", lambda x: (jnp.argmax(x, 1), jnp.argmin(x, 1), jnp.max(x, 1), jnp.sum(x, 1)), np.array([[-np.inf, -np.inf], [np.inf, -np.inf], [np.inf, np.inf]])),
    case("ties", lambda x: (jnp.argmax(x, 0), jnp.argmin(x, 0), jnp.argmax(x, 1), jnp.argmin(x, 1), jnp.argmax(x)), _TIES),
    case("ties_large", lambda x: (jnp.argmax(x, 0), jnp.argmin(x, 0), jnp.argmax(x, 1), jnp.argmin(x, 1)), np.tile(_TIES, (4, 6))),
    *(case(f"arg_large_{a}", lambda x, a=a: (jnp.argmax(x, a), jnp.argmin(x * 2, a), lax.argmax(x, a, "int8"), lax.argmin(x, a, "uint32")), _LARGE) for a in range(3)),
    case("arg_flat", lambda x: (jnp.argmax(x), jnp.argmin(x)), _LARGE),
    case("statistics", lambda x: (jnp.mean(x, 0), jnp.var(x, 1), jnp.std(x), jnp.ptp(x, 0), jnp.linalg.norm(x), jnp.linalg.norm(x, axis=1)), _BIG := _data.normal(9, 13)),
    case("softmax", lambda x: (jax.nn.softmax(x, 0), jax.nn.softmax(x, 1), jax.nn.log_softmax(x, 1), jax.nn.logsumexp(x, 0)), _BIG),
    case("normalised", lambda x: (x - x.mean(0)) / (x.std(0) + 1e-3), _BIG),
    case("where", lambda x: (jnp.sum(x, where=x > 0), jnp.mean(x, 1, where=x > -1), jnp.max(x, 0, initial=-5.0, where=x < 0.5)), _BIG),
    case("all_any", lambda x: (jnp.all(x > -1, 0), jnp.any(x > 1.5, 1), jnp.count_nonzero(x > 0), jnp.allclose(x, x)), _BIG),
    case("dot_products", lambda x, y: (jnp.vdot(x, y), jnp.sum(x * y, 1), jnp.inner(x, y)), _data.normal(6, 40), _data.normal(6, 40)),
    case("two_stages", lambda x: jnp.max(jnp.sum(x, 2) - jnp.min(x, 2), 0), _LARGE),
    case("median_free_percentile", lambda x: jnp.sum(jnp.abs(x), 1, keepdims=True) * x, _BIG),
)  # fmt: skip
