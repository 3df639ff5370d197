"""Multiple shooting and tracking costs: the problems are those a user would have written."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anvil_jax import opti
from anvil_jax.errors import ArgumentError
from anvil_jax.opti.integrators import gauss_legendre, implicit_midpoint, rk4
from anvil_jax.opti.multistage_problem import MultistageProblem, NLSMultistageProblem
from anvil_jax.opti.shooting import initial_guess, multiple_shooting
from anvil_jax.opti.tracking import (
    reference_parameters,
    terminal_tracking_cost,
    terminal_tracking_residual,
    tracking_cost,
    tracking_residual,
)

N, NX, NU = 3, 2, 1
NONE = np.zeros(0)
Z, Z_NEXT = np.array([0.4, -0.2, 0.3]), np.array([0.1, 0.5, -0.7])


def swing(x: Any, u: Any) -> Any:
    return jnp.stack([x[1], jnp.sin(x[0]) + u[0]])


def scaled(x: Any, u: Any, p: Any) -> Any:
    return p[0] * swing(x, u)


def scaled_and_moved(x: Any, u: Any, p_global: Any, p: Any) -> Any:
    return p[0] * swing(x, u) + p_global


def shoot(dynamics: Callable[..., Any] = swing, **options: Any) -> MultistageProblem:
    options.setdefault("dt", 0.1)
    return multiple_shooting(dynamics, N, NX, NU, **options)


def called(fn: Callable[..., Any] | None, *args: Any) -> Any:
    assert fn is not None
    return np.asarray(fn(*args))


@pytest.fixture(autouse=True)
def double_precision() -> Any:
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize(
    ("options", "step"),
    [
        ({}, lambda x, u: rk4(swing, x, u, 0.1)),
        ({"steps": 3}, lambda x, u: rk4(swing, x, u, 0.1, steps=3)),
        ({"dt": None}, swing),
        (
            {"integrator": "gauss_legendre_4"},
            lambda x, u: gauss_legendre(swing, x, u, 0.1, order=4),
        ),
        (
            {"integrator": "gauss_legendre_6"},
            lambda x, u: gauss_legendre(swing, x, u, 0.1, order=6),
        ),
    ],
)
def test_link_is_next_state_minus_step(options: dict[str, Any], step: Callable[..., Any]) -> None:
    link = shoot(**options).equalities.functions["interstage"]
    got = called(link, Z, Z_NEXT, NONE, NONE)
    np.testing.assert_allclose(got, Z_NEXT[:NX] - step(Z[:NX], Z[NX:]), rtol=1e-14)


def test_implicit_link_vanishes_at_the_step() -> None:
    link = shoot(integrator="implicit_midpoint").equalities.functions["interstage"]
    following = np.append(implicit_midpoint(swing, Z[:NX], Z[NX:], 0.1), 0.0)
    np.testing.assert_allclose(called(link, Z, following, NONE, NONE), [0.0, 0.0], atol=1e-15)


def test_functions_are_given_the_parameters_they_require() -> None:
    """Two, three or four arguments; those with defaults are left alone."""
    p_global, p = np.array([0.5]), np.array([2.0, 3.0])

    def with_default(x: Any, u: Any, weight: float = 7.0) -> Any:
        return weight * u[0]

    problem = shoot(
        scaled_and_moved, dt=None, param_dim=2, global_param_dim=1,
        stage_cost=with_default, terminal_cost=lambda x, p: p[1] * x[0],
        path_fn=lambda x, u, p: p[1] * x, terminal_fn=lambda x, p_global, p: p_global * x[1],
    )  # fmt: skip
    link = called(problem.equalities.functions["interstage"], Z, Z_NEXT, p_global, p)
    np.testing.assert_allclose(link, Z_NEXT[:2] - (2.0 * swing(Z[:2], Z[2:]) + 0.5))
    assert called(problem.costs["stage"], Z, p_global, p) == 7.0 * Z[2]
    assert called(problem.costs["terminal"], Z, p_global, p) == 3.0 * Z[0]
    path, end = (problem.inequalities.functions[place] for place in ("stage", "terminal"))
    np.testing.assert_array_equal(called(path, Z, p_global, p), 3.0 * Z[:2])
    np.testing.assert_array_equal(called(end, Z, p_global, p), [0.5 * Z[1]])
    three = shoot(scaled, dt=None, param_dim=1).equalities.functions["interstage"]
    np.testing.assert_allclose(
        called(three, Z, Z_NEXT, NONE, p[:1]), Z_NEXT[:2] - 2.0 * swing(Z[:2], Z[2:])
    )


def test_bounds_leave_the_measured_state_and_the_last_input_alone() -> None:
    problem = shoot(x_lb=[-1.0, -2.0], u_lb=[-5.0], x_ub=np.full((N + 1, NX), 9.0), u_ub=4.0)
    lower = problem.defaults.x_lb.reshape(problem.x_shape)
    upper = problem.defaults.x_ub.reshape(problem.x_shape)
    inf = np.inf
    want = [[-inf, -inf, -5.0], [-1.0, -2.0, -5.0], [-1.0, -2.0, -5.0], [-1.0, -2.0, -inf]]
    np.testing.assert_array_equal(lower, want)
    np.testing.assert_array_equal(upper, [[9.0, 9.0, 4.0]] * 3 + [[9.0, 9.0, inf]])


def test_sides_and_fixed_states() -> None:
    problem = shoot(
        x_initial=[1.0, 2.0], x_terminal=[3.0, 4.0],
        path_fn=lambda x, u: x, path_lb=[-1.0, -2.0], path_ub=5.0,
        terminal_fn=lambda x: x[0], terminal_ub=[6.0],
    )  # fmt: skip
    data = problem.defaults
    np.testing.assert_array_equal(data.eq_rhs, [1.0, 2.0, *[0.0] * 6, 3.0, 4.0])
    np.testing.assert_array_equal(data.ineq_lb, [-1.0, -2.0] * 3 + [-np.inf])
    np.testing.assert_array_equal(data.ineq_ub, [5.0] * 6 + [6.0])


@pytest.mark.parametrize(
    "weights",
    [
        ([2.0, 3.0], [0.5]),
        ([0.0, 3.0], [0.5]),
        ([[2.0, 0.5], [0.5, 1.0]], [[0.5]]),
        ([[1.0, 1.0], [1.0, 1.0]], [0.0]),
        ([0.0, 0.0], [0.0]),
    ],
)
def test_tracking_is_a_weighted_square(weights: tuple[Any, Any]) -> None:
    q, r = (np.diag(w) if np.ndim(w) == 1 else np.array(w) for w in weights)
    p = np.array([0.3, -0.4, 0.9, 77.0])
    dx, du = Z[:2] - p[:2], Z[2:] - p[2:3]
    want = 0.5 * dx @ q @ dx + 0.5 * du @ r @ du
    x, u = Z[:2], Z[2:]
    assert float(tracking_cost(*weights)(x, u, p)) == pytest.approx(want, rel=1e-13)
    residual = tracking_residual(*weights)(x, u, p)
    assert residual.shape == (np.linalg.matrix_rank(q) + np.linalg.matrix_rank(r),)
    assert 0.5 * float(residual @ residual) == pytest.approx(want, rel=1e-13)
    terminal = 0.5 * dx @ q @ dx
    assert float(terminal_tracking_cost(weights[0])(x, p)) == pytest.approx(terminal, rel=1e-13)
    end = terminal_tracking_residual(weights[0])(x, p)
    assert 0.5 * float(end @ end) == pytest.approx(terminal, rel=1e-13)


def test_reference_parameters() -> None:
    problem = shoot(param_dim=5, global_param_dim=1)
    p = reference_parameters(
        problem, np.arange(8.0).reshape(4, 2), [[10.0], [11.0], [12.0]], others=[7.0, 8.0],
        p_global=[-1.0],
    )  # fmt: skip
    want = [[0, 1, 10, 7, 8], [2, 3, 11, 7, 8], [4, 5, 12, 7, 8], [6, 7, 12, 7, 8]]
    np.testing.assert_array_equal(p, [-1.0, *np.ravel(want)])


def test_initial_guess() -> None:
    problem = shoot()
    np.testing.assert_array_equal(initial_guess(problem, [1.0, 2.0]), [[1.0, 2.0, 0.0]] * 4)
    line = initial_guess(problem, [[0.0, 3.0], [3.0, 0.0]], [5.0])
    np.testing.assert_allclose(line, [[0, 3, 5], [1, 2, 5], [2, 1, 5], [3, 0, 5]])


@pytest.mark.compile
@pytest.mark.parametrize("integrator", ["rk4", "implicit_midpoint", "gauss_legendre_4"])
def test_solution_is_a_trajectory_of_the_integrator(integrator: Any) -> None:
    """Judged by stepping the inputs through the step functions, not by the solver's residuals."""
    problem = multiple_shooting(
        swing, 12, 2, 1, dt=0.1, integrator=integrator,
        stage_residual=tracking_residual([10.0, 1.0], [0.1]),
        terminal_residual=terminal_tracking_residual([50.0, 5.0]),
        u_lb=[-8.0], u_ub=[8.0], param_dim=3, x_initial=[2.0, 0.0],
    )  # fmt: skip
    assert isinstance(problem, NLSMultistageProblem)
    solver = opti.SparseSQPFunction("swing", problem, qp="riccati")
    p = reference_parameters(problem, [0.0, 0.0])
    result = solver(initial_guess(problem, [2.0, 0.0]), p)
    assert result.success
    method = {"rk4": rk4, "implicit_midpoint": implicit_midpoint}.get(integrator, gauss_legendre)
    step = jax.jit(lambda x, u: method(swing, x, u, 0.1))
    x = np.array([2.0, 0.0])
    for k in range(12):
        x = step(x, result.x[k, 2:])
        np.testing.assert_allclose(result.x[k + 1, :2], x, atol=1e-6)
    assert np.abs(result.x[:-1, 2]).max() <= 8.0 + 1e-6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shoot(integrator="euler"), "'euler' is not one of"),
        (lambda: shoot(dt=-1.0), "dt must be a positive number"),
        (lambda: shoot(dt=None, steps=2), "no integrator"),
        (lambda: shoot(integrator="implicit_midpoint", steps=2), "steps must be 1"),
        (lambda: shoot(lambda x: x), "dynamics must take"),
        (lambda: shoot(stage_cost=3.0), "stage_cost must be a JAX function"),
        (lambda: shoot(terminal_cost=lambda x, u, p, q: x[0]), "terminal_cost must take"),
        (
            lambda: shoot(stage_cost=lambda x, u: 0.0, stage_residual=lambda x, u: x),
            "either costs or residuals",
        ),
        (lambda: shoot(x_lb=[0.0]), "x_lb has the shape"),
        (lambda: shoot(u_ub=np.zeros((N + 1, NU))), "u_ub has the shape"),
        (lambda: shoot(x_terminal=[0.0]), "x_terminal has the shape"),
        (lambda: multiple_shooting(swing, 0, 2, 1), "N, nx >= 1"),
        (lambda: tracking_cost([-1.0], [1.0]), "Q must be a vector of weights"),
        (lambda: tracking_cost([1.0], [[1.0, 2.0], [2.0, 1.0]]), "R must be positive semidef"),
        (lambda: terminal_tracking_cost([[1.0, 2.0], [3.0, 9.0]]), "P must be a vector"),
        (lambda: shoot(stage_cost=tracking_cost([1.0, 1.0], [1.0]), param_dim=2), "param_dim"),
        (lambda: reference_parameters(shoot(param_dim=2), [0.0, 0.0]), "no room"),
        (lambda: reference_parameters(shoot(param_dim=4), [0.0, 0.0]), "others"),
        (lambda: reference_parameters(shoot(param_dim=3), 0.0), "x_ref has the shape"),
        (
            lambda: reference_parameters(shoot(param_dim=3), np.zeros((2, 2))),
            "x_ref has the shape",
        ),
        (lambda: initial_guess(shoot(), np.zeros(4)), "x has the shape"),
    ],
)
def test_errors(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        call()


def test_errors_of_arguments_are_argument_errors() -> None:
    with pytest.raises(ArgumentError):
        shoot(integrator="euler")
