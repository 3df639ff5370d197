"""Programs with indices, loops, branches, linear algebra and networks."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_rng = np.random.default_rng(8)


# --------------------------------------------------------------------------------- index tricks

PERMUTATION = _rng.permutation(20)
SEGMENTS = np.array([0, 0, 1, 3, 3, 3, 2, 0, 1, 1])


def dynamic_slice_counter(x):
    def body(k, c):
        window = lax.dynamic_slice(x, (k,), (2,))
        return lax.dynamic_update_slice(c, jnp.sin(window[:1]) * window[1:], (k,))

    return lax.fori_loop(0, 9, body, jnp.zeros(9))


def table_lookup(x, table):
    """The table is indexed by the data: which row is unknown, which column is not."""
    row = jnp.clip(jnp.floor(jnp.abs(3 * x[0])).astype(int), 0, table.shape[0] - 1)
    return table[row] * x[1]


def argmax_row(x):
    return x[jnp.argmax(x[:, 0])]


def rows_by_data(x):
    """Indices known in one component only."""
    pick = jnp.argmax(x, axis=1)
    return x[jnp.arange(x.shape[0]), pick]


def unknown_scatter(x):
    k = jnp.argmax(x[0])
    return jnp.zeros((3, x.shape[1])).at[jnp.minimum(k, 2)].set(x[1])


def out_of_bounds(x):
    return x.at[np.array([0, 7, 12])].get(mode="fill", fill_value=0.0) * x[:3]


# --------------------------------------------------------------------------------- control flow


def while_shift(x):
    return lax.while_loop(lambda c: jnp.sum(c**2) > 0.3, lambda c: jnp.roll(c, 1) * 0.7, x)


def while_known(x):
    def body(state):
        k, c = state
        return k + 1, c.at[k].set(jnp.sin(c[k] * c[k + 1]))

    return lax.while_loop(lambda s: s[0] < 6, body, (0, x))[1]


def while_cond_constants(x):
    """Constants of the condition are bound before those of the body."""
    limit, rate = x[:1] * 0.0 + 3.0, x[1:2]

    def go_on(state):
        return jnp.sum(state[0]) < limit[0] + x[2]

    return lax.while_loop(go_on, lambda s: (s[0] + 1.0, s[1] * rate), (jnp.zeros(1), x[3:]))[1]


def fori_power(x):
    return lax.fori_loop(0, 3, lambda _, c: c * x, x)


def scan_iir(x):
    def body(state, u):
        state = 0.5 * state + u
        return state, state

    return lax.scan(body, x[0], x[1:])[1]


def scan_reverse(x):
    return lax.scan(lambda c, u: (c * u, c + u), 1.0, x, reverse=True)[1]


def scan_nested(x):
    def outer(c, row):
        total, _ = lax.scan(lambda s, u: (s + jnp.sin(u), None), 0.0, row)
        return c, total * row[0]

    return lax.scan(outer, 0.0, x)[1]


def scan_masks(x):
    """The operand of each trip is a constant mask."""
    masks = np.tri(6)
    return lax.scan(lambda c, m: (c, jnp.sum(m * jnp.sin(x))), 0.0, masks)[1]


def scan_delay_line(x):
    def body(line, u):
        line = jnp.concatenate([u[None], line[:-1]])
        return line, line[-1]

    return lax.scan(body, jnp.zeros(3), x)[1]


def cond_on_data(x):
    return lax.cond(x[0] > 0, lambda v: jnp.sin(v), lambda v: v * jnp.roll(v, 1), x)


def cond_known(x):
    return lax.cond(jnp.asarray(2) > 1, lambda v: v**2, lambda v: jnp.cumsum(v), x)


def switch_in_loop(x):
    def body(k, c):
        return lax.switch(k % 2, [lambda v: v.at[0].set(v[1]), lambda v: v.at[2].multiply(v[3])], c)

    return lax.fori_loop(0, 4, body, x)


def cond_gradient(x):
    return lax.cond(x[0] > 0, lambda v: jnp.sum(v**3), lambda v: v[0] * v[1], x)


def map_rows(x):
    return lax.map(lambda r: jnp.sum(r**2) * r, x)


# ------------------------------------------------------------------------------- linear algebra

MATRIX = _rng.normal(size=(4, 4)) + 4 * np.eye(4)
SPARSE = np.where(_rng.random((12, 12)) < 0.2, _rng.normal(size=(12, 12)), 0.0)


def batched_solve(x):
    return jnp.linalg.solve(x[:, :, :3] + 4 * jnp.eye(3), x[:, :, 3:])


def batched_cholesky(x):
    return jnp.linalg.cholesky(x @ x.transpose(0, 2, 1) + jnp.eye(2))


def triangular(x):
    return jax.scipy.linalg.solve_triangular(np.tril(MATRIX), x, lower=True)


def bidiagonal_solve(x):
    """Block diagonal: the zeros of a constant matrix carry over to its inverse."""
    matrix = np.eye(6) + np.diag([0.5, 0.0, 0.3, 0.0, 0.2], -1)
    return jax.scipy.linalg.solve_triangular(matrix, x**2, lower=True)


def state_dependent_matrix(x):
    zero, one = 0.0, 1.0
    rotation = jnp.array(
        [
            [jnp.cos(x[0]), -jnp.sin(x[0]), zero],
            [jnp.sin(x[0]), jnp.cos(x[0]), zero],
            [zero, zero, one],
        ]
    )
    return rotation @ x[1:4]


# ------------------------------------------------------------------------------------- networks

_KERNEL = _rng.normal(size=(3, 3))
_CHANNELS = _rng.normal(size=(2, 1, 3)), _rng.normal(size=(3, 2, 3))
_WEIGHTS = [_rng.normal(size=s) for s in ((8, 5), (8, 8), (3, 8))]


def mlp(x):
    for weight in _WEIGHTS[:-1]:
        x = jnp.tanh(weight @ x)
    return _WEIGHTS[-1] @ x


def convolution(x):
    return (
        lax.conv_general_dilated(x[None, None], jnp.asarray(_KERNEL)[None, None], (1, 1), "SAME")[
            0, 0
        ]
        ** 2
    )


def convolution_strided(x):
    kernel = jnp.ones((2, 1, 3))
    return lax.conv_general_dilated(
        x[None], kernel, (2,), [(1, 1)], rhs_dilation=(2,), feature_group_count=2
    )[0]


def convolution_channels(x):
    """Two layers: the channels of the second one depend on all channels of the first."""
    first, second = (jnp.asarray(k) for k in _CHANNELS)
    hidden = jnp.tanh(lax.conv_general_dilated(x[None], first, (1,), "VALID"))
    return lax.conv_general_dilated(hidden, second, (2,), "SAME")[0]


def convolution_kernel(w):
    return jnp.convolve(jnp.arange(1.0, 8.0), w, mode="valid") ** 2


def max_pool(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (2, 2), "VALID")


def average_pool(x):
    return lax.reduce_window(x, 0.0, lax.add, (3,), (2,), "SAME") / 3


def attention(x):
    scores = jax.nn.softmax(x @ x.T + jnp.where(np.tri(4) > 0, 0.0, -jnp.inf))
    return scores @ x


def layer_norm(x):
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / jnp.sqrt(1e-3 + (centred**2).mean(axis=1, keepdims=True))
