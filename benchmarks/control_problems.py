"""Six optimal control problems, for any number of intervals, with naive starts.

Each function returns a `ControlProblem`. The horizon's duration is fixed, so that more intervals
mean a finer grid. Starts are what a user has without thinking: the initial state at all stages and
inputs that do nothing.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from anvil_jax.opti import MultistageProblem
from anvil_jax.opti.closed_loop import measured
from anvil_jax.opti.integrators import rk4
from anvil_jax.opti.multistage_problem import Place, StageRows
from anvil_jax.opti.shooting import initial_guess, multiple_shooting
from anvil_jax.opti.tracking import (
    reference_parameters,
    terminal_tracking_cost,
    tracking_cost,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

import quadrotor as example  # found through the line above

HORIZONS = (20, 50, 100)


@dataclass(frozen=True, slots=True)
class ControlProblem:
    """A problem with a start.

    Attributes:
        name: for tables and generated code.
        problem: stages are (x, u).
        dt: length of an interval in seconds.
        x_measured: initial state, (nx,).
        x0: start, (N + 1, nz).
        p: flat parameters, (parameters_size,).
        derivative: time derivative of the state, of (x, u).
    """

    name: str
    problem: MultistageProblem
    dt: float
    x_measured: NDArray[np.float64]
    x0: NDArray[np.float64]
    p: NDArray[np.float64]
    derivative: Callable[[Any, Any], Any]

    @property
    def eq_rhs(self) -> NDArray[np.float64]:
        """Right-hand sides of all equalities, (m_eq,)."""
        return measured(self.problem, self.x_measured)

    def plant(self, x: Any, u: Any) -> Any:
        """The state one interval later, integrated four times as finely as by `rk4`."""
        return rk4(self.derivative, x, u, self.dt, steps=4)


# ---- problems ----


def pendulum(N: int) -> ControlProblem:
    """Swing-up of a pendulum by a torque too weak to lift it; x: angle from hanging, rate."""
    mass, length, gravity, damping, limit = 1.0, 1.0, 9.81, 0.1, 6.0
    inertia = mass * length**2

    def derivative(x: Any, u: Any) -> Any:
        torque = u[0] - mass * gravity * length * jnp.sin(x[0]) - damping * x[1]
        return jnp.stack([x[1], torque / inertia])

    duration = 3.0
    dt = duration / N
    problem = multiple_shooting(
        derivative, N, 2, 1, dt=dt,
        stage_cost=lambda x, u: dt * (0.5 * u[0] ** 2 + 0.1 * x[1] ** 2),
        u_lb=[-limit], u_ub=[limit], x_terminal=[np.pi, 0.0],
    )  # fmt: skip
    return _posed("pendulum", problem, dt, derivative, np.zeros(2))


def cart_pole(N: int) -> ControlProblem:
    """Swing-up of a pole on a cart with least force; x: position, angle, their rates.

    Parameters and formulation of M. Kelly, "An introduction to trajectory optimization", SIAM
    Review 59, 2017, section 6: the cart ends 1 m away after 2 s, the pole upright.
    """
    cart, pole, length, gravity = 1.0, 0.3, 0.5, 9.81

    def derivative(x: Any, u: Any) -> Any:
        sine, cosine, rate = jnp.sin(x[1]), jnp.cos(x[1]), x[3]
        mass = cart + pole * sine**2
        push = length * pole * sine * rate**2 + u[0]
        return jnp.stack(
            [
                x[2],
                rate,
                (push + pole * gravity * cosine * sine) / mass,
                -(push * cosine + (cart + pole) * gravity * sine) / (length * mass),
            ]
        )

    duration = 2.0
    dt = duration / N
    problem = multiple_shooting(
        derivative, N, 4, 1, dt=dt,
        stage_cost=lambda x, u: dt * u[0] ** 2,
        x_lb=[-2.0, -np.inf, -np.inf, -np.inf], x_ub=[2.0, np.inf, np.inf, np.inf],
        u_lb=[-20.0], u_ub=[20.0], x_terminal=[1.0, np.pi, 0.0, 0.0],
    )  # fmt: skip
    return _posed("cart_pole", problem, dt, derivative, np.zeros(4))


def quadrotor(N: int) -> ControlProblem:
    """Flight of a quadrotor to another point; dynamics of examples/quadrotor.py.

    x: position, velocity, unit quaternion (w, x, y, z), body rates; u: thrusts of the rotors.
    """
    hover = example.MASS * example.GRAVITY / 4
    duration = 2.0
    dt = duration / N
    state_weights = [10.0] * 3 + [1.0] * 3 + [0.0] + [2.0] * 3 + [0.2] * 3
    stage = tracking_cost(state_weights, [0.1] * 4)
    end = terminal_tracking_cost(10 * np.array(state_weights))
    problem = multiple_shooting(
        example.derivative, N, 13, 4, dt=dt,
        stage_cost=lambda x, u, p: dt * stage(x, u, p), terminal_cost=end,
        x_lb=[-np.inf] * 3 + [-2.5] * 3 + [-np.inf] * 4 + [-4.0] * 3,
        x_ub=[np.inf] * 3 + [2.5] * 3 + [np.inf] * 4 + [4.0] * 3,
        u_lb=[0.0] * 4, u_ub=[2 * hover] * 4, param_dim=17,
    )  # fmt: skip
    x_init, x_ref = np.zeros(13), np.zeros(13)
    x_init[6] = x_ref[6] = 1.0
    x_ref[:3] = [2.0, -1.0, 1.5]
    p = reference_parameters(problem, x_ref, [hover] * 4)
    return _posed("quadrotor", problem, dt, example.derivative, x_init, p, [hover] * 4)


def hanging_chain(N: int) -> ControlProblem:
    """Masses on springs between a fixed and a moved end come to rest beside a wall.

    x: positions of three masses and of the end, velocities of the masses, each (3,); u: velocity of
    the end. After L. Wirsching, H. G. Bock, M. Diehl, "Fast NMPC of a chain of masses connected by
    springs", IEEE International Conference on Control Applications, 2006. Discretised by the
    implicit midpoint rule, whose equations are constraints.
    """
    masses, mass, stiffness, rest_length = 3, 0.03, 1.0, 0.033
    gravity = np.array([0.0, 0.0, -9.81])
    moved = 3 * masses

    def derivative(x: Any, u: Any) -> Any:
        positions = jnp.reshape(x[: moved + 3], (masses + 1, 3))
        links = jnp.concatenate([positions[:1], positions[1:] - positions[:-1]])
        lengths = jnp.sqrt(jnp.sum(links**2, axis=1, keepdims=True))
        forces = stiffness * (1 - rest_length / lengths) * links
        accelerations = (forces[1:] - forces[:-1]) / mass + gravity
        return jnp.concatenate([x[moved + 3 :], u, jnp.ravel(accelerations)])

    nx, end, wall = 6 * masses + 3, np.array([1.0, 0.0, 0.0]), -0.01
    rest = _chain_at_rest(derivative, end, masses)
    x_init = _pulled(derivative, rest, np.array([-1.0, 1.0, 1.0]), 1.0)
    duration = 5.0
    dt = duration / N
    weights = np.concatenate([np.zeros(moved), np.full(3, 2.5), np.ones(moved)])
    stage, last = tracking_cost(weights, [0.1] * 3), terminal_tracking_cost(10 * weights)
    x_lb = np.full(nx, -np.inf)
    x_lb[1 : moved + 3 : 3] = wall
    problem = multiple_shooting(
        derivative, N, nx, 3, dt=dt, integrator="implicit_midpoint",
        stage_cost=lambda x, u, p: dt * stage(x, u, p), terminal_cost=last,
        x_lb=x_lb, u_lb=[-1.0] * 3, u_ub=[1.0] * 3, param_dim=nx + 3,
    )  # fmt: skip
    return _posed(
        "hanging_chain", problem, dt, derivative, x_init, reference_parameters(problem, rest)
    )


def race_car(N: int) -> ControlProblem:
    """A car follows a curved track as fast as its tyres allow, within the track's borders.

    x: position (2), heading, speed, steering angle; u: acceleration, rate of the steering angle.
    Kinematic bicycle. Parameters of a stage: reference state and input, then the track's direction
    (2) there. Rows: distance from the centre line, lateral acceleration.
    """
    wheelbase, grip, half_width = 0.3, 6.0, 0.1

    def derivative(x: Any, u: Any) -> Any:
        _, _, heading, speed, steering = x
        turn = speed * jnp.tan(steering) / wheelbase
        return jnp.stack([speed * jnp.cos(heading), speed * jnp.sin(heading), turn, u[0], u[1]])

    def limits(x: Any, u: Any, p: Any) -> Any:
        direction = p[7:9]
        beside = direction[0] * (x[1] - p[1]) - direction[1] * (x[0] - p[0])
        lateral = x[3] ** 2 * jnp.tan(x[4]) / wheelbase
        return jnp.stack([beside, lateral])

    duration, speed = 3.0, 2.6
    dt = duration / N
    stage = tracking_cost([50.0, 50.0, 50.0, 50.0, 10.0], [5.0, 5.0])
    last = terminal_tracking_cost([2000.0, 2000.0, 200.0, 200.0, 10.0])
    problem = multiple_shooting(
        derivative, N, 5, 2, dt=dt,
        stage_cost=lambda x, u, p: dt * stage(x, u, p), terminal_cost=last,
        path_fn=limits, path_lb=[-half_width, -grip], path_ub=[half_width, grip],
        x_lb=[-np.inf] * 3 + [0.0, -0.6], x_ub=[np.inf] * 3 + [4.0, 0.6],
        u_lb=[-6.0, -4.0], u_ub=[4.0, 4.0], param_dim=9,
    )  # fmt: skip
    points, headings = _track(speed * dt * np.arange(N + 1))
    x_ref = np.column_stack([points, headings, np.full(N + 1, speed), np.zeros(N + 1)])
    directions = np.column_stack([np.cos(headings), np.sin(headings)])
    p = reference_parameters(problem, x_ref, others=directions)
    x_init = np.array([points[0, 0], points[0, 1] + 0.05, headings[0], 1.5, 0.0])
    return _posed("race_car", problem, dt, derivative, x_init, p)


def two_link_arm(N: int) -> ControlProblem:
    """An arm in a vertical plane lifts itself from hanging to a pose at rest.

    x: angles of shoulder (from hanging) and elbow, their rates; u: torques.
    """
    mass, length, gravity, limits = (1.0, 0.8), (0.5, 0.4), 9.81, (10.0, 4.0)
    middle = (length[0] / 2, length[1] / 2)
    inertia = tuple(m * a**2 / 12 for m, a in zip(mass, length, strict=True))
    first = inertia[0] + inertia[1] + mass[0] * middle[0] ** 2
    first += mass[1] * (length[0] ** 2 + middle[1] ** 2)
    second, coupling = inertia[1] + mass[1] * middle[1] ** 2, mass[1] * length[0] * middle[1]

    def derivative(x: Any, u: Any) -> Any:
        q1, q2, w1, w2 = x
        sine, cosine = jnp.sin(q2), jnp.cos(q2)
        a, b, c = first + 2 * coupling * cosine, second + coupling * cosine, second
        weight2 = mass[1] * gravity * middle[1] * jnp.sin(q1 + q2)
        weight1 = (mass[0] * middle[0] + mass[1] * length[0]) * gravity * jnp.sin(q1) + weight2
        r1 = u[0] + coupling * sine * (2 * w1 * w2 + w2**2) - weight1
        r2 = u[1] - coupling * sine * w1**2 - weight2
        determinant = a * c - b * b
        return jnp.stack([w1, w2, (c * r1 - b * r2) / determinant, (a * r2 - b * r1) / determinant])

    pose = np.array([2.0, -1.0])
    duration = 1.5
    dt = duration / N
    problem = multiple_shooting(
        derivative, N, 4, 2, dt=dt,
        stage_cost=lambda x, u: dt * (10 * jnp.sum((x[:2] - pose) ** 2) + jnp.sum(u**2)),
        x_lb=[-np.inf, -2.5, -8.0, -8.0], x_ub=[np.inf, 2.5, 8.0, 8.0],
        u_lb=np.negative(limits), u_ub=limits, x_terminal=[*pose, 0.0, 0.0],
    )  # fmt: skip
    return _posed("two_link_arm", problem, dt, derivative, np.zeros(4))


PROBLEMS: dict[str, Callable[[int], ControlProblem]] = {
    make.__name__: make
    for make in (pendulum, cart_pole, quadrotor, hanging_chain, race_car, two_link_arm)
}


# ---- the same as one nonlinear program ----


@dataclass(frozen=True, slots=True)
class FlatProgram:
    """A multistage problem as JAX functions of all variables, for judges.

    Attributes:
        cost: of (w, p), w of shape ((N + 1) nz,).
        equalities, inequalities: of (w, p), rows in the problem's order.
        x_lb, x_ub, eq_rhs, ineq_lb, ineq_ub: as in `ProblemData`.
    """

    cost: Callable[[Any, Any], Any]
    equalities: Callable[[Any, Any], Any]
    inequalities: Callable[[Any, Any], Any]
    x_lb: NDArray[np.float64]
    x_ub: NDArray[np.float64]
    eq_rhs: NDArray[np.float64]
    ineq_lb: NDArray[np.float64]
    ineq_ub: NDArray[np.float64]


def flat_program(control: ControlProblem) -> FlatProgram:
    """The nonlinear program a solver has to solve, written independently of the solver."""
    problem = control.problem

    def arguments(w: Any, p: Any) -> tuple[Any, Any, Any]:
        start = problem.global_param_dim
        return (
            jnp.reshape(w, problem.x_shape),
            p[:start],
            jnp.reshape(p[start:], (problem.N + 1, problem.param_dim)),
        )

    def cost(w: Any, p: Any) -> Any:
        z, shared, own = arguments(w, p)
        total = jnp.zeros((), w.dtype)
        for k in range(problem.N + 1):
            for place, applies in _applying(k, problem.N):
                fn = problem.costs[place]
                if applies and place != "interstage" and fn is not None:
                    total += jnp.reshape(fn(z[k], shared, own[k]), ())
        return total

    def rows(kind: StageRows) -> Callable[[Any, Any], Any]:
        def values(w: Any, p: Any) -> Any:
            z, shared, own = arguments(w, p)
            found = [jnp.zeros(0, w.dtype)]
            for k in range(problem.N + 1):
                for place, applies in _applying(k, problem.N):
                    fn = kind.functions[place]
                    if applies and fn is not None:
                        points = (z[k], z[k + 1]) if place == "interstage" else (z[k],)
                        found.append(jnp.ravel(fn(*points, shared, own[k])))
            return jnp.concatenate(found)

        return values

    data = problem.defaults
    return FlatProgram(
        cost,
        rows(problem.equalities),
        rows(problem.inequalities),
        data.x_lb,
        data.x_ub,
        control.eq_rhs,
        data.ineq_lb,
        data.ineq_ub,
    )


# ---- pieces ----


def _applying(k: int, horizon: int) -> tuple[tuple[Place, bool], ...]:
    """Which functions stage k has, in the order of their rows."""
    inner = k < horizon
    return ("initial", k == 0), ("stage", inner), ("interstage", inner), ("terminal", not inner)


def _posed(
    name: str,
    problem: MultistageProblem,
    dt: float,
    derivative: Callable[[Any, Any], Any],
    x_init: NDArray[np.float64],
    p: NDArray[np.float64] | None = None,
    inputs: Any = None,
) -> ControlProblem:
    """A problem with its naive start."""
    parameters = problem.parameters() if p is None else p
    x0 = initial_guess(problem, x_init, inputs)
    return ControlProblem(name, problem, dt, x_init, x0, parameters, derivative)


def _chain_at_rest(
    derivative: Callable[[Any, Any], Any], end: NDArray[np.float64], masses: int
) -> NDArray[np.float64]:
    """Where no mass accelerates, by Newton's method from a sagging line."""
    share = np.arange(1, masses + 1)[:, None] / (masses + 1)
    free = np.ravel(share * end - np.array([0.0, 0.0, 2.0]) * share * (1 - share))
    still = np.zeros(3 * masses)

    with jax.enable_x64(True):

        def acceleration(free: Any) -> Any:
            x = jnp.concatenate([free, end, still])
            return derivative(x, jnp.zeros(3))[-len(still) :]

        slope = jax.jit(jax.jacobian(acceleration))
        for _ in range(30):
            free = free - np.linalg.solve(np.asarray(slope(free)), np.asarray(acceleration(free)))
        if not np.max(np.abs(acceleration(free))) < 1e-9:
            raise ArithmeticError("the chain's rest was not found")
    return np.concatenate([free, end, still])


def _pulled(
    derivative: Callable[[Any, Any], Any],
    x: NDArray[np.float64],
    u: NDArray[np.float64],
    duration: float,
) -> NDArray[np.float64]:
    """The state after a constant input."""
    with jax.enable_x64(True):
        move = jax.jit(lambda x: rk4(derivative, x, u, duration / 50))
        for _ in range(50):
            x = np.asarray(move(x))
    return x


def _track(distances: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points of a winding closed track at distances along it, and headings there."""
    t = np.linspace(0.0, 2 * np.pi, 20001)
    radius = 2.0 + 0.45 * np.sin(3 * t)
    curve = np.column_stack([radius * np.cos(t), radius * np.sin(t)])
    steps = np.diff(curve, axis=0)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*steps.T))])
    points = np.column_stack([np.interp(distances, along, column) for column in curve.T])
    heading = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
    return points, np.interp(distances, (along[1:] + along[:-1]) / 2, heading)
