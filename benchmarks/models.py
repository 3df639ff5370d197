"""The functions that are measured, each in JAX and in CasADi with the same formulas."""

import itertools
import sys
from pathlib import Path
from typing import Any

import casadi as ca
import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

import quadrotor as example  # found through the line above

MLP_SIZES = ((13, 64, 64, 13), (16, 64, 64, 8))
_LORENZ_STATES = 32
_LORENZ_OPERATIONS = 6 * _LORENZ_STATES

step = example.step


def casadi_step() -> ca.Function:
    """The step of examples/quadrotor.py in CasADi SX."""
    x, thrust = ca.SX.sym("x", 13), ca.SX.sym("thrust", 4)
    inertia = ca.DM(example.INERTIA)

    def derivative(x: Any, thrust: Any) -> Any:
        w, i, j, k = ca.vertsplit(x[6:10])
        p, q, r = ca.vertsplit(x[10:13])
        axis = 2 * ca.vertcat(i * k + w * j, j * k - w * i, 0.5 - i * i - j * j)
        acceleration = axis * ca.sum1(thrust) / example.MASS - ca.DM([0, 0, example.GRAVITY])
        spin = ca.vertcat(
            -i * p - j * q - k * r, w * p + j * r - k * q,
            w * q - i * r + k * p, w * r + i * q - j * p,
        )  # fmt: skip
        a, b, c, d = ca.vertsplit(thrust)
        torque = ca.vertcat(
            example.ARM * (b - d), example.ARM * (c - a), example.DRAG * (a - b + c - d)
        )
        angular = (torque - ca.cross(x[10:13], inertia * x[10:13])) / inertia
        return ca.vertcat(x[3:6], acceleration, spin / 2, angular)

    h = 0.02
    k1 = derivative(x, thrust)
    k2 = derivative(x + h / 2 * k1, thrust)
    k3 = derivative(x + h / 2 * k2, thrust)
    k4 = derivative(x + h * k3, thrust)
    result = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    quaternion = result[6:10]
    result = ca.vertcat(result[:6], quaternion / ca.norm_2(quaternion), result[10:])
    return ca.Function("f", [x, thrust], [result])


def roll_out(x: Any, thrust: Any) -> Any:
    """200 steps in a loop; returns all states."""

    def body(state: Any, _: None) -> tuple[Any, Any]:
        state = step(state, thrust)
        return state, state

    return jax.lax.scan(body, x, length=200)[1]


def _layers(sizes: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        (rng.normal(size=(rows, columns)) / np.sqrt(columns), rng.normal(size=rows))
        for columns, rows in itertools.pairwise(sizes)
    ]


def mlp(sizes: tuple[int, ...]) -> Any:
    """A network with tanh between its layers, in JAX."""
    *hidden, (last_weight, last_bias) = _layers(sizes)

    def network(x: Any) -> Any:
        for weight, bias in hidden:
            x = jnp.tanh(weight @ x + bias)
        return last_weight @ x + last_bias

    return network


def casadi_mlp(sizes: tuple[int, ...], kind: Any) -> ca.Function:
    """The same network in CasADi; `kind` is ``ca.SX`` or ``ca.MX``."""
    *hidden, (last_weight, last_bias) = _layers(sizes)
    x = value = kind.sym("x", sizes[0])
    for weight, bias in hidden:
        value = ca.tanh(ca.mtimes(ca.DM(weight), value) + ca.DM(bias))
    return ca.Function("f", [x], [ca.mtimes(ca.DM(last_weight), value) + ca.DM(last_bias)])


def straight_line(operations: int) -> Any:
    """Explicit Euler steps of the Lorenz 96 model without a loop: `operations` or a few more."""
    steps = -(-operations // _LORENZ_OPERATIONS)

    def lorenz(x: Any) -> Any:
        for _ in range(steps):
            before, before2, after = (jnp.roll(x, shift) for shift in (1, 2, -1))
            x = x + 0.01 * ((after - before2) * before - x + 8.0)
        return x

    return lorenz, _LORENZ_STATES
