"""The functions that are measured, each in JAX and in CasADi with the same formulas."""

import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Model:
    """A discrete-time system, once in JAX and once in CasADi.

    Attributes:
        name: for tables and generated code.
        states, controls: how many.
        step: next state in JAX, of (states,) and (controls,).
        casadi_step: the same as a CasADi SX function.
        point: a state and a control to evaluate at, joined, for a random generator.
    """

    name: str
    states: int
    controls: int
    step: Callable[..., Any]
    casadi_step: Callable[[], ca.Function]
    point: Callable[[np.random.Generator], np.ndarray]

    def stacked(self, z: Any) -> Any:
        """The step of state and control joined in one vector."""
        return self.step(z[: self.states], z[self.states :])

    def _casadi_stacked(self) -> tuple[Any, Any]:
        z = ca.SX.sym("z", self.states + self.controls)
        return z, self.casadi_step()(z[: self.states], z[self.states :])

    def casadi_jacobian(self) -> ca.Function:
        """Jacobian of `stacked`."""
        z, result = self._casadi_stacked()
        return ca.Function("f", [z], [ca.jacobian(result, z)])

    def casadi_hessian(self, *, upper: bool = True) -> ca.Function:
        """Hessian of ``multipliers @ stacked(z)``, its upper triangle or all of it."""
        z, result = self._casadi_stacked()
        multipliers = ca.SX.sym("multipliers", self.states)
        hessian = ca.hessian(ca.dot(multipliers, result), z)[0]
        return ca.Function("f", [z, multipliers], [ca.triu(hessian) if upper else hessian])


def _runge_kutta(derivative: Callable[..., Any], x: Any, u: Any, h: float) -> Any:
    """One step of the classical method, in either language."""
    k1 = derivative(x, u)
    k2 = derivative(x + h / 2 * k1, u)
    k3 = derivative(x + h / 2 * k2, u)
    k4 = derivative(x + h * k3, u)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def _twins(
    name: str,
    states: int,
    controls: int,
    derivative: Callable[[Any, Any, Any], list[Any]],
    h: float,
    point: Callable[[np.random.Generator], np.ndarray],
) -> Model:
    """Both forms of ``derivative(functions, x, u)``, where `functions` is jax.numpy or casadi."""

    def step(x: Any, u: Any) -> Any:
        return _runge_kutta(lambda x, u: jnp.stack(derivative(jnp, x, u)), x, u, h)

    def casadi_step() -> ca.Function:
        x, u = ca.SX.sym("x", states), ca.SX.sym("u", controls)
        return ca.Function(
            "f", [x, u], [_runge_kutta(lambda x, u: ca.vertcat(*derivative(ca, x, u)), x, u, h)]
        )

    return Model(name, states, controls, step, casadi_step, point)


def cart_pole_derivative(functions: Any, x: Any, u: Any) -> list[Any]:
    """Cart and pendulum; x: position, angle, their rates; u: force on the cart."""
    cart, pole, length, gravity = 1.0, 0.1, 0.8, 9.81
    _, angle, velocity, rate = (x[i] for i in range(4))
    sine, cosine = functions.sin(angle), functions.cos(angle)
    mass = cart + pole - pole * cosine * cosine
    push = -pole * length * sine * rate * rate
    return [
        velocity,
        rate,
        (push + pole * gravity * cosine * sine + u[0]) / mass,
        (push * cosine + u[0] * cosine + (cart + pole) * gravity * sine) / (length * mass),
    ]


def race_car_derivative(functions: Any, x: Any, u: Any) -> list[Any]:
    """Bicycle with lateral tyre forces.

    x: position (2), heading, velocity along and across, yaw rate, throttle, steering angle;
    u: rates of throttle and steering angle. Tyres by Pacejka's formula, drive train and parameters
    of a 1:43 car as in Liniger, Domahidi and Morari, "Optimization-based autonomous racing of 1:43
    scale RC cars", Optimal Control Applications and Methods 36, 2015.
    """
    mass, inertia, front, rear = 0.041, 27.8e-6, 0.029, 0.033
    stiffness_front, shape_front, peak_front = 2.579, 1.2, 0.192
    stiffness_rear, shape_rear, peak_rear = 3.3852, 1.2691, 0.1737
    motor, back_emf, rolling, drag = 0.287, 0.0545, 0.0518, 0.00035
    _, _, heading, forward, lateral, yaw, throttle, steering = (x[i] for i in range(8))
    slip_front = steering - functions.arctan2(lateral + front * yaw, forward)
    slip_rear = functions.arctan2(rear * yaw - lateral, forward)
    force_front = peak_front * functions.sin(
        shape_front * functions.arctan(stiffness_front * slip_front)
    )
    force_rear = peak_rear * functions.sin(
        shape_rear * functions.arctan(stiffness_rear * slip_rear)
    )
    drive = (motor - back_emf * forward) * throttle - rolling - drag * forward * forward
    sine, cosine = functions.sin(heading), functions.cos(heading)
    across, along = functions.cos(steering), functions.sin(steering)
    return [
        forward * cosine - lateral * sine,
        forward * sine + lateral * cosine,
        yaw,
        (drive - force_front * along + mass * lateral * yaw) / mass,
        (force_rear + force_front * across - mass * forward * yaw) / mass,
        (force_front * front * across - force_rear * rear) / inertia,
        u[0],
        u[1],
    ]


def chain_derivative(functions: Any, x: Any, u: Any) -> list[Any]:
    """Masses on springs between a fixed point and a controlled one.

    x: positions of the masses and of the controlled end, velocities of the masses, each (3,);
    u: velocity of the end.
    """
    mass, stiffness, rest = 0.03, 0.1, 0.033
    positions = [x[3 * k : 3 * k + 3] for k in range(_CHAIN_MASSES + 1)]
    velocities = x[3 * (_CHAIN_MASSES + 1) :]
    forces = []
    for a, b in itertools.pairwise([np.zeros(3), *positions]):
        d = b - a
        length = functions.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2])
        forces.append(stiffness * (1 - rest / length) * d)
    gravity = np.array([0.0, 0.0, -9.81])
    accelerations = [(b - a) / mass + gravity for a, b in itertools.pairwise(forces)]
    parts = [velocities, u, *accelerations]
    return [part[i] for part in parts for i in range(part.shape[0])]


_CHAIN_MASSES = 5


def _quadrotor_point(random: np.random.Generator) -> np.ndarray:
    return np.concatenate([random.normal(size=13), random.uniform(1, 3, size=4)])


def _cart_pole_point(random: np.random.Generator) -> np.ndarray:
    return random.uniform(-1.0, 1.0, size=5)


def _race_car_point(random: np.random.Generator) -> np.ndarray:
    middle = np.array([0.3, -0.2, 0.8, 1.5, 0.1, 2.0, 0.4, 0.1, 0.5, -0.5])
    return middle * random.uniform(0.8, 1.2, size=10)


def _chain_point(random: np.random.Generator) -> np.ndarray:
    spread = np.repeat(0.1 * np.arange(1, _CHAIN_MASSES + 2), 3)
    rates = np.zeros(3 * _CHAIN_MASSES + 3)
    return np.concatenate([spread, rates]) + 0.02 * random.normal(size=36)


QUADROTOR = Model("quadrotor", 13, 4, step, casadi_step, _quadrotor_point)
CART_POLE = _twins("cart_pole", 4, 1, cart_pole_derivative, 0.05, _cart_pole_point)
RACE_CAR = _twins("race_car", 8, 2, race_car_derivative, 0.02, _race_car_point)
CHAIN = _twins("chain", 6 * _CHAIN_MASSES + 3, 3, chain_derivative, 0.05, _chain_point)


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


def casadi_mlp_jacobian(sizes: tuple[int, ...]) -> ca.Function:
    """Jacobian of the network in MX, which is CasADi's best encoding for it."""
    x = ca.MX.sym("x", sizes[0])
    return ca.Function("f", [x], [ca.jacobian(casadi_mlp(sizes, ca.MX)(x), x)])


def straight_line(operations: int) -> Any:
    """Explicit Euler steps of the Lorenz 96 model without a loop: `operations` or a few more."""
    steps = -(-operations // _LORENZ_OPERATIONS)

    def lorenz(x: Any) -> Any:
        for _ in range(steps):
            before, before2, after = (jnp.roll(x, shift) for shift in (1, 2, -1))
            x = x + 0.01 * ((after - before2) * before - x + 8.0)
        return x

    return lorenz, _LORENZ_STATES
