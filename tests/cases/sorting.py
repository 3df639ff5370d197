"""Sorting along one axis, with passengers and several keys."""

# ruff: noqa: E501 - a case is one line

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.cases.case import INTEGERS, Data, case

_data = Data(10)

_NAN = np.array([np.nan, 1.0, -0.0, 0.0, np.inf, -np.inf, -np.nan, 2.0, 1.0])
_TIES = np.array([3, 1, 2, 1, 3, 3, 0, 1])
_X, _BIG = _data.normal(11), _data.normal(40, 30)

CASES = (
    case("vector", lambda x: (jnp.sort(x), jnp.argsort(x), jnp.sort(x, descending=True)), _X),
    case("large", lambda x: (jnp.sort(x, 0), jnp.argsort(x, 1)), _BIG),
    case("rank3", lambda x: (jnp.sort(x, 0), jnp.sort(x, 1), jnp.argsort(x, 2)), _data.normal(3, 7, 5)),
    case("nan", lambda x: (jnp.sort(x), jnp.argsort(x)), _NAN, signed=True),
    case("ties_are_stable", lambda x: (jnp.argsort(x), jnp.argsort(x, descending=True), jnp.argsort(x, stable=True)), _TIES),
    *(case(f"{d}", lambda x: (jnp.sort(x), jnp.argsort(x)), _data.whole_range(d, 13)) for d in (*INTEGERS, )),
    case("bool", lambda x: (jnp.sort(x), jnp.argsort(x)), _data.booleans(9)),
    case("float32", lambda x: (jnp.sort(x), jnp.argsort(x)), _data.normal(9, dtype="float32")),
    case("empty", lambda x: (jnp.sort(x, 0), jnp.sort(x, 1)), np.zeros((0, 3))),
    case("one", lambda x: (jnp.sort(x), jnp.argsort(x)), _data.normal(1)),
    case("passengers", lambda k, x, y: lax.sort((k, x, y), num_keys=1), _TIES, _data.normal(8), np.arange(8, dtype="int8")),
    case("two_keys", lambda k, x: lax.sort((k, x), num_keys=2), _TIES, np.append(_data.normal(7), np.nan)),
    case("two_keys_large", lambda k, x: lax.sort((k, x), num_keys=2, dimension=1), _data.integers(0, 4, 9, 40), _data.normal(9, 40)),
    case("lexsort", lambda a, b: jnp.lexsort((a, b)), _data.normal(8), _TIES),
    case("top_k", lambda x: (lax.top_k(x, 3), lax.top_k(-x, 1)), _X),
    case("top_k_large", lambda x: lax.top_k(x, 4), _BIG),
    case("statistics", lambda x: (jnp.median(x), jnp.percentile(x, 30.0), jnp.quantile(x, 0.8)), _X),
    case("unique", lambda x: jnp.unique(x, size=4, fill_value=-1), _TIES),
    case("rank", lambda x: jnp.argsort(jnp.argsort(x)), _X),
    case("computed", lambda x: jnp.sort(jnp.sin(x) * 2)[::-1], _BIG),
    case("gradient", jax.grad(lambda x: jnp.sum(jnp.sort(x) * jnp.arange(11.0))), _X),
    case("in_scan", lambda x: lax.scan(lambda c, _: (jnp.sort(jnp.sin(c * 3)), c[0]), x, None, length=5), _X),
)  # fmt: skip
