"""Running sums, products, extrema and log-sum-exps."""

# ruff: noqa: E501 - a case is one line

import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.cases.case import INTEGERS, Data, case

_data = Data(4)

_OPERATIONS = {
    "sum": lax.cumsum, "prod": lax.cumprod, "max": lax.cummax, "min": lax.cummin,
    "logsumexp": lax.cumlogsumexp,
}  # fmt: skip
_SMALL, _LARGE = _data.normal(3, 5), _data.normal(11, 13)
_NAN = np.array([1.0, 2.0, np.nan, 3.0, np.inf, -1.0])
_INF = np.array([-np.inf, -np.inf, 0.5, np.inf, -1.0, np.inf])


def _axes(f):
    return lambda x: tuple(f(x, a, reverse=r) for a in range(x.ndim) for r in (False, True))


def _exact(x):
    return tuple(f(x, 0) for n, f in _OPERATIONS.items() if n != "logsumexp")


CASES = (
    *(case(f"small_{n}", _axes(f), _SMALL) for n, f in _OPERATIONS.items()),
    *(case(f"large_{n}", _axes(f), _LARGE) for n, f in _OPERATIONS.items()),
    *(case(f"computed_{n}", lambda x, f=f: f(jnp.sin(x).T * 2, 1) + 1, _LARGE) for n, f in _OPERATIONS.items()),
    *(case(f"rank3_{n}", _axes(f), _data.normal(3, 6, 4)) for n, f in _OPERATIONS.items()),
    *(case(f"float32_{n}", _axes(f), _data.normal(4, 17, dtype="float32"), rtol=1e-4) for n, f in _OPERATIONS.items()),
    *(case(f"nan_{n}", _axes(f), _NAN) for n, f in _OPERATIONS.items()),
    *(case(f"infinite_{n}", _axes(f), _INF) for n, f in _OPERATIONS.items()),
    *(case(f"empty_{n}", _axes(f), np.zeros((0, 3))) for n, f in _OPERATIONS.items()),
    *(case(f"one_{n}", _axes(f), _data.normal(1, 1)) for n, f in _OPERATIONS.items()),
    *(case(f"{d}", _exact, _data.whole_range(d, 9)) for d in INTEGERS),
    *(case(f"large_{d}", _exact, _data.whole_range(d, 50, 2)) for d in INTEGERS),
    *(case(f"long_{n}", lambda x, y, f=f: (f(x, 0), f(x, 0, reverse=True), f(y, 1), f(y, 1, reverse=True)), 1 + _data.normal(9973) / 100, 1 + _data.normal(3, 700, 2) / 100) for n, f in _OPERATIONS.items()),
    *(case(f"long_{d}", _exact, _data.whole_range(d, 5001)) for d in ("int8", "uint64")),
    case("long_nan", _exact, np.where(np.arange(4000) == 3001, np.nan, 1 + _data.normal(4000) / 100)),
    case("long_computed", lambda x: jnp.cumsum(jnp.sin(x) * jnp.exp(x))[::-1] * 2, _data.normal(3000)),
    case("bool", lambda x: (jnp.cumsum(x, 0), jnp.cumprod(x, 1)), _data.booleans(4, 9)),
    case("of_cumulative", lambda x: jnp.cumsum(jnp.cumsum(x, 0), 1), _LARGE),
    case("difference", lambda x: (jnp.diff(jnp.cumsum(x)), jnp.diff(x, n=2)), _data.normal(45)),
)  # fmt: skip
