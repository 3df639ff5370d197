"""Rules for operations that a derivative program contains only if somebody's derivative rule does.

A function with a derivative rule of its own puts any operation on tangents. What the operation
depends on is found by changing one element after the other at random points.
"""

# ruff: noqa: E501 - a case is one line

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from anvil_jax.sparsity.detection import jacobian_structure

SHAPE = (2, 3, 3)
POINTS = 12


def _positive(t):
    return t @ t.transpose(0, 2, 1) + 3 * jnp.eye(3)


def _fori(t):
    return lax.fori_loop(0, (t[0, 0, 0] > 0).astype(int), lambda _, c: c * 2, t)


# Each acts on an array (2, 3, 3); the first axis is a batch wherever BATCHED says so.
BATCHED = {
    "abs": jnp.abs,
    "maximum": lambda t: jnp.maximum(t, 0.5),
    "product": lambda t: t * t,
    "quotient": lambda t: 1 / t + t / t[:, ::-1],
    "power": lambda t: jnp.exp2(t) + t**3,
    "comparison": lambda t: (t > 0).astype(float),
    "round": lambda t: jnp.round(t * 3).astype(int) * 1.0,
    "bits": lambda t: lax.bitcast_convert_type(t, jnp.int32).astype(float),
    "select": lambda t: jnp.where(t[:, :1] > 0, t, t[:, ::-1]),
    "clip": lambda t: jnp.clip(t, t[:, :1], 1.0 + t[:, :1]),
    "reduce_max": lambda t: t.max(axis=1),
    "reduce_prod": lambda t: lax.reduce(t, 1.0, lax.mul, (2,)),
    "reduce_function": lambda t: lax.reduce(t, 0.0, lambda a, b: a + jnp.sin(b), (1,)),
    "argmax": lambda t: t.argmax(axis=2) * 1.0,
    "cumulative": lambda t: lax.cummax(t, 1) + lax.cumprod(t, 2) + lax.cumlogsumexp(t, 1, reverse=True),
    "sort": lambda t: jnp.sort(t, axis=2),
    "sort_pairs": lambda t: lax.sort((t, t[:, ::-1]), dimension=1, num_keys=1)[1],
    "top_k": lambda t: lax.top_k(t, 2)[0],
    "fft": lambda t: jnp.abs(jnp.fft.fft(t, axis=2)),
    "convolution": lambda t: jax.vmap(lambda a: jax.scipy.signal.convolve2d(a, a[:2, :2], "valid"))(t),
    "matrix_product": lambda t: t @ t,
    "window_maximum": lambda t: lax.reduce_window(t, -jnp.inf, lax.max, (1, 2, 2), (1, 1, 1), "SAME"),
    "window_function": lambda t: lax.reduce_window(t, 1.0, lambda a, b: a * b + a, (1, 2, 1), (1, 1, 1), "VALID"),
    "cholesky": lambda t: jnp.linalg.cholesky(_positive(t)),
    "eigenvalues": lambda t: jnp.linalg.eigvalsh(_positive(t)),
    "singular_values": lambda t: jnp.linalg.svd(t)[1],
    "qr": lambda t: jnp.linalg.qr(t)[1],
    "lu": lambda t: lax.linalg.lu(t)[0],
    "triangular_solve": lambda t: lax.linalg.triangular_solve(t + 4 * jnp.eye(3), t),
    "tridiagonal": lambda t: lax.linalg.tridiagonal_solve(t[:, 0], t[:, 1] + 5, t[:, 2], t),
}  # fmt: skip
MIXED = {
    "solve": lambda t: jnp.linalg.solve(t, t[:, :, :2]),
    "take_along_axis": lambda t: jnp.take_along_axis(t, t.argmax(1, keepdims=True), 1),
    "gather": lambda t: t[(t[0, 0, 0] > 0).astype(int)],
    "dynamic_slice": lambda t: lax.dynamic_slice(t, ((t[0, 0, 0] > 0).astype(int), 0, 0), (1, 3, 2)),
    "dynamic_update": lambda t: lax.dynamic_update_slice(t, t[:1], ((t[0, 0, 0] > 0).astype(int), 0, 0)),
    "scatter": lambda t: t.at[(t[0, 0, 0] > 0).astype(int)].set(t[1] * 2),
    "scatter_add": lambda t: t.at[(t[0, 0, 0] > 0).astype(int)].add(t[1]),
    "scatter_max": lambda t: t.at[np.array([0])].max(t[1:]),
    "scatter_multiply": lambda t: t.at[np.array([1])].multiply(t[:1]),
    "scatter_apply": lambda t: t.at[np.array([1])].apply(jnp.sin),
    "cond": lambda t: lax.cond(t[0, 0, 0] > 0, lambda v: v, lambda v: v[::-1], t),
    "while": lambda t: lax.while_loop(lambda c: c[0, 0, 0] < 1.0, lambda c: c + 0.5, t),
    "fori": _fori,
}  # fmt: skip
CASES = BATCHED | MIXED


def with_rule(operation):
    """A function whose derivative is `operation`."""

    @jax.custom_jvp
    def function(x):
        return jnp.zeros(jax.eval_shape(operation, x).shape, x.dtype)

    function.defjvp(lambda primals, tangents: (function(*primals), operation(*tangents)))
    return function


def detected(operation) -> np.ndarray:
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(with_rule(operation))(np.ones(SHAPE))
    matrix = jacobian_structure(jaxpr, [0])
    matrix.data[:] = 1
    return matrix.todense() != 0


def observed(operation) -> np.ndarray:
    """What changes when one element changes."""
    rng = np.random.default_rng(3)
    size = int(np.prod(SHAPE))
    with jax.enable_x64(True):
        run = jax.jit(jax.vmap(lambda t: operation(t).reshape(-1)))
        changed: np.ndarray | None = None
        for _ in range(POINTS):
            t = rng.normal(size=size)
            other = rng.normal(size=size)
            points = np.concatenate([t[None], np.where(np.eye(size) > 0, other, t)])
            values = np.asarray(run(points.reshape(-1, *SHAPE)))
            different = (values[1:] != values[:1]).T
            changed = different if changed is None else changed | different
    assert changed is not None
    return changed


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_missing(name):
    mask = detected(CASES[name])
    assert not (observed(CASES[name]) & ~mask).any()


@pytest.mark.parametrize("name", BATCHED)
def test_batches_stay_apart(name):
    first, second = np.split(detected(BATCHED[name]), 2)
    assert not first[:, 9:].any()
    assert not second[:, :9].any()
