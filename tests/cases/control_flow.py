"""Loops that stay loops, and branches that stay branches."""

# ruff: noqa: E501 - a case is one line

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.cases.case import Data, case

_data = Data(8)

_X, _BIG, _XS = _data.normal(5), _data.normal(90), _data.normal(20, 5)
_WIDE = _data.normal(12, 70)
_TABLE = _data.normal(30, 4)


def _many(c, _):
    """A body too long to be unrolled."""
    for _ in range(6):
        c = jnp.sin(c) + 0.3 * c[::-1]
    return c, c.sum()


def _branches(x):
    return [jnp.sin, lambda x: jnp.exp(x) / jnp.cosh(x), lambda x: x, lambda x: x[::-1] * 2]


def _costly(f):
    def branch(x):
        for _ in range(5):
            x = f(x) + 0.1 * x[::-1]
        return x

    return branch


def _collatz(n):
    return lax.while_loop(
        lambda s: s[0] > 1,
        lambda s: (jnp.where(s[0] % 2 == 0, s[0] // 2, 3 * s[0] + 1), s[1] + 1),
        (n, 0),
    )


def _sequence(step):
    return lambda x: lax.fori_loop(0, 100, step, x)


CASES = (
    case("scan_short", lambda x: lax.scan(lambda c, _: (c * 1.1 + 1, c.sum()), x, None, length=3), _X),
    case("scan_long", lambda x: lax.scan(_many, x, None, length=30), _X),
    case("scan_inputs", lambda x, xs: lax.scan(lambda c, v: (jnp.sin(c) + v, (c * v, v[0])), x, xs), _X, _XS),
    case("scan_reverse", lambda x, xs: lax.scan(lambda c, v: (jnp.sin(c) + v, c * v), x, xs, reverse=True), _X, _XS),
    case("scan_reverse_short", lambda x, xs: lax.scan(lambda c, v: (c + v, c * v), x, xs, reverse=True), _X, _XS[:3]),
    case("scan_length_zero", lambda x, xs: lax.scan(lambda c, v: (c + v, c * v), x, xs), _X, np.zeros((0, 5))),
    case("scan_length_one", lambda x, xs: lax.scan(lambda c, v: (c + v, c * v), x, xs), _X, _XS[:1]),
    case("scan_no_carry", lambda xs: lax.scan(lambda _, v: (None, jnp.sin(v) * v[0]), None, xs)[1], _XS),
    case("scan_no_output", lambda x, xs: lax.scan(lambda c, v: (c * 0.5 + v, None), x, xs)[0], _X, _XS),
    case("scan_unused_carry", lambda x, xs: lax.scan(lambda c, v: (c * 2, v + 1), x, xs)[1], _X, _XS),
    case("scan_carry_passed_on", lambda x, xs: lax.scan(lambda c, v: ((c[0], c[1] + v), c[0]), (x, x), xs), _X, _XS),
    case("scan_carry_replaced", lambda x, xs: lax.scan(lambda c, v: (v, c), x, xs), _X, _XS),
    case("scan_swapped", lambda x: lax.fori_loop(0, 101, lambda i, c: (c[1], c[0] + 1, c[2]), (x, 2 * x, x)), _X),
    case("scan_swapped_large", lambda x: lax.fori_loop(0, 33, lambda i, c: (c[1], c[2] * 0.9, c[0] + 1), (x, 2 * x, -x)), _WIDE),
    case("scan_rotated_large", lambda x: lax.fori_loop(0, 7, lambda i, c: jnp.roll(c, 1, 1).at[0].add(c[1]), x), _WIDE),
    case("scan_reversed_large", lambda x: lax.fori_loop(0, 7, lambda i, c: c[::-1, ::-1] * 0.9, x), _WIDE),
    case("scan_same_carry_twice", lambda x: lax.scan(lambda c, _: ((c[1], c[1]), c[0]), (x, x + 1), None, length=40), _X),
    case("scan_captured", lambda x, a: lax.scan(lambda c, _: (jnp.tanh(a @ c), c[0]), x, None, length=25), _X, _data.normal(5, 5)),
    case("scan_captured_expensive", lambda x, a: lax.scan(lambda c, _: (c * 0.5 + jnp.exp(a), None), x, None, length=25)[0], _BIG, _BIG),
    case("scan_constant_table", lambda c: lax.scan(lambda c, row: (c * 0.9 + row, c), c, jnp.asarray(_TABLE)), _data.normal(4)),
    case("scan_mixed_dtypes", lambda x, k: lax.scan(lambda c, _: ((c[0] * 0.5, c[1] + 1, ~c[2]), c[1].astype("int8")), (x, k, k > 0), None, length=300), _X, np.array(3, "int32")),
    case("scan_float32", lambda x, xs: lax.scan(lambda c, v: (c * 0.5 + v, c), x, xs), _X.astype("float32"), _XS.astype("float32")),
    case("scan_scalar", lambda x: lax.scan(lambda c, _: (jnp.sin(c) + 0.1, c), x, None, length=500), np.array(0.3)),
    case("scan_counter", lambda x: lax.scan(lambda c, i: (c + i, c * i), x, jnp.arange(50.0)), np.array(0.3)),
    case("scan_structured_inputs", lambda xs: lax.scan(lambda c, v: (c + v[0, 0], v.T * c), 0.0, xs), _data.normal(9, 3, 4)),
    case("scan_strided_inputs", lambda x, xs: lax.scan(lambda c, v: (c + v, c), x, xs[::2]), _X, _XS),
    case("scan_computed_inputs", lambda x, xs: lax.scan(lambda c, v: (c * 0.5 + v, c), x, jnp.sin(xs).T.reshape(20, 5)), _X, _XS),
    case("scan_empty_carry", lambda x, xs: lax.scan(lambda c, v: (c, v * 2), x, xs), np.zeros(0), _XS),
    case("scan_outputs_used", lambda x, xs: jnp.sum(lax.scan(lambda c, v: (c + v, c * v), x, xs)[1], 0), _X, _XS),
    case("scan_wide_rnn", lambda w, h, xs: lax.scan(lambda h, v: (jnp.tanh(w @ h + v), h), h, xs), _data.normal(33, 33) / 6, _data.normal(33), _data.normal(9, 33)),
    case("scan_unroll", lambda x, xs: lax.scan(lambda c, v: (c * 0.5 + v, c), x, xs, unroll=3), _X, _XS),
    case("nested_scan", lambda x: lax.scan(lambda c, _: (lax.fori_loop(0, 30, lambda i, y: jnp.sin(y) + y * 0.1, c), c.sum()), x, None, length=20), _X),
    case("nested_scan_inputs", lambda x, xs: lax.scan(lambda c, row: lax.scan(lambda d, v: (d * 0.5 + v, d), c, row), x, xs), np.array(1.0), _data.normal(15, 12)),
    case("nested_scan_captures", lambda x: lax.scan(lambda c, i: (c + lax.scan(lambda d, j: (d + jnp.sin(c * j), None), c, jnp.arange(40.0))[0] * 1e-3, i), x, jnp.arange(30.0)), _X),
    case("triple_loop", lambda a, b: lax.fori_loop(0, 9, lambda i, c: lax.fori_loop(0, 7, lambda j, c: lax.fori_loop(0, 8, lambda k, c: c.at[i, j].add(a[i, k] * b[k, j]), c), c), jnp.zeros((9, 7))), _data.normal(9, 8), _data.normal(8, 7)),
    case("fori_static", lambda x: lax.fori_loop(0, 100, lambda i, c: c * 0.9 + i, x), _X),
    case("fori_dynamic", lambda n, x: lax.fori_loop(2, n, lambda i, c: c * 0.9 + i, x), np.array(17), _X),
    case("fori_no_trip", lambda n, x: lax.fori_loop(5, n, lambda i, c: c * 0.9 + i, x), np.array(3), _X),
    case("fori_in_place", lambda x: lax.fori_loop(1, 90, lambda i, c: c.at[i].set(c[i - 1] * 0.9 + 1), x), _BIG),
    case("fori_in_place_rows", lambda x: lax.fori_loop(1, 12, lambda i, c: c.at[i].set(jnp.sin(c[i - 1]) + c[i]), x), _WIDE),
    case("fori_update_slice", lambda x: lax.fori_loop(0, 80, lambda i, c: lax.dynamic_update_slice(c, lax.dynamic_slice(c, (i,), (5,)) * 0.5 + 1, (i + 3,)), x), _BIG),
    case("fori_swap_elements", lambda x: lax.fori_loop(0, 45, lambda i, c: c.at[i].set(c[89 - i]).at[89 - i].set(c[i]), x), _BIG),
    case("fori_branch", _sequence(lambda i, c: lax.cond(i % 2 == 0, lambda a: a * 0.5, jnp.sin, c)), _X),
    case("fori_branch_costly", _sequence(lambda i, c: lax.cond(i % 3 == 0, _costly(jnp.sin), _costly(jnp.cos), c)), _X),
    case("fori_index", lambda x: lax.fori_loop(0, 30, lambda i, c: c + jnp.asarray(_TABLE)[i] * (i % 3), x), _data.normal(4)),
    case("while_newton", lambda a: lax.while_loop(lambda x: jnp.abs(x * x - a) > 1e-12, lambda x: 0.5 * (x + a / x), a), np.array(2.0)),
    case("while_no_trip", lambda x: lax.while_loop(lambda x: x[0] > 1e9, lambda x: x * 2, x), _X),
    case("while_captures", lambda x, a, s: lax.while_loop(lambda c: jnp.sum(c * c) > a, lambda c: c * s, x), _X, np.array(1e-3), np.array(0.7)),
    case("while_collatz", lambda n: (_collatz(n), _collatz(n + 1)), np.array(27)),
    case("while_vmapped", jax.vmap(lambda n: _collatz(n)[1]), np.array([1, 7, 27, 6, 0])),
    case("while_vmapped_floats", jax.vmap(lambda a: lax.while_loop(lambda s: (jnp.abs(s[0] ** 2 - a) > 1e-12) & (s[1] < 50), lambda s: (s[0] - (s[0] ** 2 - a) / (2 * s[0]), s[1] + 1), (a + 1, 0))), np.array([2.0, 3.0, 50.0])),
    case("while_large_state", lambda x: lax.while_loop(lambda s: s[1] < 9, lambda s: (jnp.roll(s[0], 1, 0) + 1, s[1] + 1), (x, 0)), _WIDE),
    case("while_swapped", lambda a, b: lax.while_loop(lambda s: s[1] != 0, lambda s: (s[1], s[0] % s[1]), (a, b)), np.array(1071), np.array(462)),
    case("while_nested", lambda x: lax.while_loop(lambda s: s[0] < 50, lambda s: (s[0] + lax.while_loop(lambda t: t < s[0], lambda t: t * 2 + 1, 0), s[1] + 1), (x, 0)), np.array(1)),
    case("while_large_condition", lambda x: lax.while_loop(lambda c: jnp.sum(c) > 1.0, lambda c: c * 0.9, x), np.abs(_WIDE)),
    case("while_in_scan", lambda xs: lax.scan(lambda c, n: (c + _collatz(n)[1], _collatz(n)[1]), 0, xs), np.arange(1, 30)),
    *(case(f"switch_{i}", lambda i, x: lax.switch(i, _branches(x), x), np.array(i, "int32"), _X) for i in (-1, 0, 1, 2, 3, 9)),
    *(case(f"switch_costly_{i}", lambda i, x: lax.switch(i, [_costly(f) for f in _branches(x)], x), np.array(i), _X) for i in (-5, 1, 3, 4)),
    case("switch_static", lambda x: lax.switch(2, _branches(x), x), _X),
    case("switch_single", lambda i, x: lax.switch(i, _branches(x)[:1], x), np.array(0), _X),
    *(case(f"cond_{p}", lambda p, x: lax.cond(p, jnp.sin, lambda x: x * 2, x), np.array(p), _X) for p in (True, False)),
    *(case(f"cond_costly_{p}", lambda p, x: lax.cond(p, _costly(jnp.sin), _costly(jnp.cos), x), np.array(p), _X) for p in (True, False)),
    *(case(f"cond_large_{p}", lambda p, x: lax.cond(p, lambda x: (x * 2, x.sum(0)), lambda x: (x[::-1], x.max(0)), x), np.array(p), _WIDE) for p in (True, False)),
    case("cond_integer_predicate", lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), _X),
    case("cond_captures", lambda x, y: lax.cond(x[0] > 0, lambda: jnp.sin(y) * x, lambda: jnp.cos(x)), _X, _X + 1),
    case("cond_constants", lambda x: lax.cond(x[0] > 0, lambda: (1.0, jnp.arange(3)), lambda: (2.0, jnp.zeros(3, int))), _X),
    case("cond_passed_on", lambda p, x: lax.cond(p, lambda x: x, lambda x: x[::-1], x), np.array(False), _WIDE),
    case("cond_nested", lambda x: lax.cond(x[0] > 0, lambda x: lax.cond(x[1] > 0, _costly(jnp.sin), _costly(jnp.cos), x), lambda x: x * 3, x), _X),
    case("cond_in_cond_costly", lambda x: lax.cond(x[0] < 9, lambda x: lax.cond(x[1] > 9, _costly(jnp.sin), lambda x: _costly(jnp.cos)(x) + 1, x), _costly(jnp.tanh), x), _X),
    case("cond_not_taken_divides", lambda a, b: lax.cond(b == 0, lambda: 0.0, lambda: a / b), np.array(1.0), np.array(0.0)),
    case("cond_shared_work", lambda p, x: (lambda y: lax.cond(p, lambda: _costly(jnp.sin)(y), lambda: y) + y)(_costly(jnp.exp)(x * 0.1)), np.array(False), _X),
    case("cond_in_scan", lambda x, xs: lax.scan(lambda c, v: (lax.cond(v[0] > 0, _costly(jnp.sin), lambda c: c + v, c), c), x, xs), _X, _XS),
    case("cond_in_scan_large", lambda x: lax.fori_loop(0, 9, lambda i, c: lax.cond(i % 2 == 0, lambda c: c[::-1] + 1, lambda c: c * 0.5, c), x), _WIDE),
    case("cond_vmapped", jax.vmap(lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x)), _XS),
    case("scan_in_cond", lambda p, x: lax.cond(p, lambda x: lax.scan(_many, x, None, length=9)[0], lambda x: x, x), np.array(True), _X),
    case("while_in_cond", lambda p, n: lax.cond(p, lambda n: _collatz(n)[1], lambda n: n, n), np.array(True), np.array(27)),
    case("loop_invariant_of_branch", lambda p, x: lax.fori_loop(0, 50, lambda i, c: lax.cond(p, lambda: c + jnp.sum(jnp.exp(x)), lambda: c - 1), 0.0), np.array(True), _BIG),
    case("map", lambda x: lax.map(lambda v: jnp.sin(v) * v[0], x), _XS),
    case("map_large", lambda x: lax.map(lambda v: jnp.tanh(v).sum(), x), _data.normal(50, 70)),
    case("map_two", lambda x, y: lax.map(lambda p: (p[0] @ p[1], p[0][0]), (x, y)), _XS, _XS[::-1].copy()),
    case("map_batch", lambda x: lax.map(lambda v: jnp.sin(v) * v[0], x, batch_size=4), _XS),
    case("associative_scan", lambda x: (lax.associative_scan(jnp.add, x), lax.associative_scan(jnp.multiply, x, reverse=True)), _XS),
    case("gradient_of_scan", jax.grad(lambda x: lax.scan(lambda c, _: (jnp.sin(c) + 0.3 * c, c.sum()), x, None, length=30)[1].sum()), _X),
    case("gradient_of_scan_inputs", lambda x, xs: jax.grad(lambda xs: lax.scan(lambda c, v: (jnp.tanh(c + v), c @ v), x, xs)[1].sum())(xs), _X, _XS),
    case("gradient_of_checkpointed_scan", jax.grad(lambda x: lax.scan(jax.checkpoint(_many), x, None, length=9)[1].sum()), _X),
    case("forward_through_while", lambda a: jax.jvp(lambda a: lax.while_loop(lambda s: s[1] < 9, lambda s: (0.5 * (s[0] + a / s[0]), s[1] + 1), (a, 0))[0], (a,), (1.0,)), np.array(2.0)),
    case("jacobian_of_scan", jax.jacfwd(lambda x: lax.scan(lambda c, _: (jnp.sin(c) + 0.3 * c[::-1], None), x, None, length=12)[0]), _X),
    case("gradient_of_cond", jax.grad(lambda x: lax.cond(x[0] > 0, lambda v: jnp.sum(v**3), lambda v: v[0] * v[1], x)), _X),
    case("platform_dependent", lambda x: lax.platform_dependent(x, cpu=jnp.sin, default=jnp.cos), _X),
)  # fmt: skip
