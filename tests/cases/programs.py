"""Whole programs as users write them."""

# ruff: noqa: E501 - a case is one line

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.cases.case import TENSOR, Data, case

_data = Data(12)

with jax.enable_x64(True):
    _KEY = jax.random.PRNGKey(0)
    MLP = eqx.nn.MLP(4, 3, 32, 2, key=_KEY)
    SMALL_MLP = eqx.nn.MLP(3, 2, 5, 1, activation=jnp.tanh, key=_KEY)
    GRU = eqx.nn.GRUCell(4, 8, key=_KEY)
    LSTM = eqx.nn.LSTMCell(4, 8, key=_KEY)
    ATTENTION = eqx.nn.MultiheadAttention(2, 8, key=_KEY)
    NORM = eqx.nn.LayerNorm(8)


def pendulum(state, torque, dt=0.02):
    angle, rate = state
    return state + dt * jnp.stack([rate, 9.81 * jnp.sin(angle) - 0.1 * rate + torque])


def quadrotor(x, u):
    v, q, w = x[3:6], x[6:10], x[10:13]
    qw, qx, qy, qz = q
    f = jnp.sum(u) / 1.2
    a = jnp.stack([
        2 * (qx * qz + qw * qy) * f,
        2 * (qy * qz - qw * qx) * f,
        (qw * qw - qx * qx - qy * qy + qz * qz) * f - 9.81,
    ])  # fmt: skip
    qd = 0.5 * jnp.stack([
        -qx * w[0] - qy * w[1] - qz * w[2],
        qw * w[0] + qy * w[2] - qz * w[1],
        qw * w[1] - qx * w[2] + qz * w[0],
        qw * w[2] + qx * w[1] - qy * w[0],
    ])  # fmt: skip
    inertia = jnp.array([0.01, 0.012, 0.02])
    torque = jnp.stack(
        [0.2 * (u[1] - u[3]), 0.2 * (u[2] - u[0]), 0.01 * (u[0] - u[1] + u[2] - u[3])]
    )
    return jnp.concatenate([v, a, qd, (torque - jnp.cross(w, inertia * w)) / inertia])


def rk4(f, x, u, h=0.02):
    k1 = f(x, u)
    k2 = f(x + h / 2 * k1, u)
    k3 = f(x + h / 2 * k2, u)
    k4 = f(x + h * k3, u)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def quadrotor_step(x, u):
    x = rk4(quadrotor, x, u)
    return jnp.concatenate([x[:6], x[6:10] / jnp.linalg.norm(x[6:10]), x[10:]])


def riccati(a, b, q, r, horizon=30):
    def step(p, _):
        gain = jnp.linalg.solve(r + b.T @ p @ b, b.T @ p @ a)
        return q + a.T @ p @ (a - b @ gain), gain

    return lax.scan(step, q, None, length=horizon)


def newton(a):
    def step(s):
        x, k = s
        return x - (x**3 - a) / (3 * x**2), k + 1

    return lax.while_loop(lambda s: (jnp.abs(s[0] ** 3 - a) > 1e-12) & (s[1] < 50), step, (a, 0))


def bouncing_ball(x):
    def step(_, c):
        return lax.cond(
            c[0] < 0,
            lambda c: jnp.array([-c[0], -c[1] * 0.9]),
            lambda c: c + 0.01 * jnp.array([c[1], -9.81]),
            c,
        )

    return lax.fori_loop(0, 150, step, x)


def conjugate_gradient(a, b):
    def step(s, _):
        x, r, p = s
        step = (r @ r) / (p @ a @ p)
        new = r - step * (a @ p)
        return (x + step * p, new, new + (new @ new) / (r @ r) * p), jnp.sqrt(new @ new)

    return lax.scan(step, (jnp.zeros_like(b), b, b), None, length=6)


def kalman(x, p, zs):
    f, h = jnp.array([[1.0, 0.1], [0.0, 1.0]]), jnp.array([[1.0, 0.0]])

    def step(s, z):
        x, p = f @ s[0], f @ s[1] @ f.T + 0.01 * jnp.eye(2)
        k = p @ h.T @ jnp.linalg.inv(h @ p @ h.T + 0.5)
        x = x + k @ (z - h @ x)
        return (x, (jnp.eye(2) - k @ h) @ p), x

    return lax.scan(step, (x, p), zs)


def heat(u):
    return lax.fori_loop(
        0, 20, lambda _, u: u.at[1:-1].add(0.2 * (u[2:] - 2 * u[1:-1] + u[:-2])), u
    )


def life(board):
    count = sum(jnp.roll(board, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j)
    return (count == 3) | ((board == 1) & (count == 2))


def cost(x, us):
    return lax.scan(lambda x, u: (quadrotor_step(x, u), x @ x + u @ u), x, us)[1].sum()


_STATE, _CONTROL = _data.normal(13), _data.normal(4)
_SPD = (lambda a: a @ a.T + 3 * np.eye(6))(_data.normal(6, 6))
_PYTREE = {"w": _data.normal(3, 4), "b": (_data.normal(3), np.array(2))}

CASES = (
    case("mlp", lambda x: MLP(x), _data.normal(4)),
    case("mlp_batch", jax.vmap(lambda x: MLP(x)), _data.normal(9, 4), kernels=TENSOR),
    case("mlp_jacobian", jax.jacfwd(lambda x: SMALL_MLP(x)), _data.normal(3)),
    case("mlp_as_argument", lambda p, x: eqx.combine(p, SMALL_MLP)(x), eqx.filter(SMALL_MLP, eqx.is_array), _data.normal(3)),
    case("gru", lambda x, h: GRU(x, h), _data.normal(4), _data.normal(8)),
    case("gru_sequence", lambda xs, h: lax.scan(lambda h, x: (GRU(x, h), h), h, xs), _data.normal(11, 4), _data.normal(8)),
    case("lstm", lambda x, h, c: LSTM(x, (h, c)), _data.normal(4), _data.normal(8), _data.normal(8)),
    case("attention", lambda q: jax.vmap(NORM)(q + ATTENTION(q, q, q)), _data.normal(6, 8)),
    case("pendulum", lambda x, u: pendulum(x, u), _data.normal(2), np.array(0.3)),
    case("pendulum_rollout", lambda x, us: lax.scan(lambda x, u: (pendulum(x, u), x), x, us), _data.normal(2), _data.normal(100), rtol=1e-11),
    case("quadrotor", quadrotor, _STATE, _CONTROL),
    case("quadrotor_step", quadrotor_step, _STATE, _CONTROL),
    case("quadrotor_jacobian", jax.jacfwd(quadrotor_step), _STATE, _CONTROL, rtol=1e-11),
    case("quadrotor_rollout", lambda x, us: lax.scan(lambda x, u: (quadrotor_step(x, u), x), x, us), _STATE * 0.1, _data.normal(60, 4) * 0.1, rtol=1e-9),
    case("quadrotor_cost_gradient", lambda x, us: jax.grad(cost, 1)(x, us), _STATE * 0.1, _data.normal(15, 4) * 0.1, rtol=1e-9),
    case("quadrotor_batch", jax.vmap(quadrotor_step), _data.normal(33, 13), _data.normal(33, 4)),
    case("riccati", riccati, np.eye(4) + 0.1 * _data.normal(4, 4), _data.normal(4, 2), np.eye(4), np.eye(2), rtol=1e-9),
    case("riccati_large", riccati, np.eye(12) + 0.1 * _data.normal(12, 12), _data.normal(12, 4), np.eye(12), np.eye(4), rtol=1e-8),
    case("kalman", kalman, _data.normal(2), np.eye(2), _data.normal(25, 1), rtol=1e-10),
    case("linear_solve", jnp.linalg.solve, _data.normal(7, 7), _data.normal(7), rtol=1e-9),
    case("expm", jax.scipy.linalg.expm, _data.normal(5, 5), rtol=1e-9),
    case("interp", lambda x: jnp.interp(x, jnp.linspace(-1, 1, 5), jnp.linspace(-1, 1, 5) ** 2), np.append(_data.normal(6), [0.0, -1.0, 1.0, 3.0])),
    case("interp_dynamic", jnp.interp, _data.normal(40), np.sort(_data.normal(9)), _data.normal(9)),
    case("sort", lambda x: (jnp.sort(x), jnp.median(x)), _data.normal(17)),
    case("newton", newton, np.array(5.0)),
    case("conjugate_gradient", conjugate_gradient, _SPD, _data.normal(6), rtol=1e-7),
    case("noise", lambda x, k: x + 0.1 * jax.random.normal(k, (4,)), _data.normal(4), np.array([1, 2], "uint32")),
    case("bouncing_ball", bouncing_ball, np.array([1.0, 0.0])),
    case("heat", heat, _data.normal(60)),
    case("life", lambda b: life(life(b).astype(b.dtype)), _data.integers(0, 2, 12, 9)),
    case("polynomial", lambda x: (jnp.polyval(jnp.array([1.0, -2.0, 0.5, 3.0]), x, unroll=4), jnp.vander(x, 4)), _data.normal(5)),
    case("logistic_regression", lambda w, x, y: jax.value_and_grad(lambda w: jnp.mean(jnp.logaddexp(0.0, -y * (x @ w))))(w), _data.normal(6), _data.normal(40, 6), np.sign(_data.normal(40))),
    case("unused_input", lambda x, y: x * 2, _data.normal(5), _data.normal(70)),
    case("all_unused", lambda x: jnp.arange(3.0), _data.normal(5)),
    case("no_input", lambda: (jnp.arange(3), jnp.float32(0.5))),
    case("no_output", lambda x: (), _data.normal(5)),
    case("constant_outputs", lambda x: (x, 1.5, jnp.eye(3), jnp.zeros((0, 2)), True, jnp.full((20, 20), 2.0)), _data.normal(5)),
    case("input_as_output", lambda x, y: (y, x), _data.normal(5), _data.normal(50)),
    case("same_output_twice", lambda x: (lambda y: (y, y, y.T, y))(jnp.sin(x)), _data.normal(3, 4)),
    case("same_output_twice_large", lambda x: (lambda y: (y, y, y.T, y[::-1]))(jnp.sin(x)), _data.normal(30, 40)),
    case("same_input_twice", lambda x: (x, x), _data.normal(50)),
    case("aliased_outputs", lambda x: (lambda y: (y, y.reshape(-1), y[1:3], y[::-1]))(jnp.cumsum(x, 0)), _data.normal(13, 11)),
    case("intermediate_of_output", lambda x: (lambda y: (y, jnp.cumsum(y, 1), y.sum(0)))(jnp.cumsum(x, 0)), _data.normal(13, 11)),
    case("loop_state_as_outputs", lambda x: (lambda c: (c, c[0], c[1] + 1))(lax.fori_loop(0, 9, lambda i, c: (c[1], c[0] + 1), (x, x * 2))), _data.normal(13, 11)),
    case("zero_size", lambda x, y: (jnp.concatenate([x, y]), x @ y.T, x.sum(0), x * 2), np.zeros((0, 3)), _data.normal(4, 3)),
    case("unit_axes", lambda x, y: (x * y, x @ y, (x + y).sum(1)), _data.normal(1, 4, 1), _data.normal(4, 1, 6)),
    case("pytree", lambda p, x: {"y": p["w"] @ x + p["b"][0], "z": (p["b"][1] + 1, x)}, _PYTREE, _data.normal(4)),
    case("many_inputs", lambda *xs: sum(k * x for k, x in enumerate(xs)), *(_data.normal(3) for _ in range(20))),
    case("float32_program", lambda x: jax.nn.softmax(jnp.tanh(x) @ x.T), _data.normal(7, 9, dtype="float32"), rtol=1e-4),
    case("distances", lambda x: jnp.sqrt(jnp.sum((x[:, None] - x[None]) ** 2, -1) + 1e-3), _data.normal(11, 3)),
    case("fixed_point_matrix", lambda a: lax.fori_loop(0, 25, lambda _, x: 2 * x - x @ a @ x, a.T / (jnp.linalg.norm(a, 1) * jnp.linalg.norm(a, np.inf))), _SPD, rtol=1e-9),
)  # fmt: skip
