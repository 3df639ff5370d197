"""Integrators: order of convergence, derivatives of the exact solution, native code."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

import anvil_jax as av
from anvil_jax.errors import ArgumentError
from anvil_jax.opti.integrators import (
    collocation_defects,
    gauss_legendre,
    implicit_midpoint,
    midpoint_defect,
    rk4,
)

STATE, INPUT, PARAMETER = np.array([0.7, -0.3, 1.2]), np.array([0.4]), np.array([2.0])


def oscillator(x: Any, u: Any, p: Any) -> Any:
    """Three states that depend on each other, the input and a parameter nonlinearly."""
    return jnp.stack(
        [x[1], -p[0] * jnp.sin(x[0]) - 0.1 * x[1] ** 3 + u[0], x[0] * x[2] - u[0] * x[2] ** 2]
    )


def collocation(order: int) -> Callable[..., Any]:
    def method(*args: Any, **options: Any) -> Any:
        return gauss_legendre(*args, order=order, **options)

    return method


METHODS = {
    "rk4": (rk4, 4),
    "implicit_midpoint": (implicit_midpoint, 2),
    "gauss_legendre_4": (collocation(4), 4),
    "gauss_legendre_6": (collocation(6), 6),
}
IMPLICIT = ["implicit_midpoint", "gauss_legendre_4"]


@pytest.fixture(autouse=True)
def double_precision() -> Any:
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", METHODS)
def test_order_of_convergence(name: str) -> None:
    method, order = METHODS[name]
    rate = jax.jit(lambda x: oscillator(x, INPUT, PARAMETER))
    solution = scipy.integrate.solve_ivp(
        lambda _, x: rate(x),
        (0.0, 1.0), STATE, method="DOP853", rtol=1e-13, atol=1e-13,
    )  # fmt: skip
    step = jax.jit(lambda x, h: method(oscillator, x, INPUT, h, PARAMETER))
    errors = []
    for steps in (8, 16):
        x = STATE
        for _ in range(steps):
            x = step(x, 1.0 / steps)
        errors.append(np.max(np.abs(x - solution.y[:, -1])))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


@pytest.mark.compile
@pytest.mark.parametrize("name", METHODS)
def test_native_values_and_derivatives_are_those_of_jax(name: str) -> None:
    method, _ = METHODS[name]

    def step(z: Any) -> Any:
        return method(oscillator, z[:3], z[3:4], 0.2, z[4:])

    def weighted(z: Any) -> Any:
        return jnp.dot(jnp.array([1.0, 2.0, -1.0]), step(z))

    z = np.concatenate([STATE, INPUT, PARAMETER])
    native = av.NumericalFunction("step", step, (av.Arg(5),))
    np.testing.assert_allclose(native(z), jax.jit(step)(z), rtol=1e-14)
    jacobian = jax.jit(jax.jacfwd(step))(z)
    np.testing.assert_allclose(av.jacobian(native)(z), jacobian, rtol=1e-12, atol=1e-14)
    hessian = av.sphessian(av.NumericalFunction("weighted", weighted, (av.Arg(5),)))(z).toarray()
    want = jax.jit(jax.hessian(weighted))(z)
    np.testing.assert_allclose(np.triu(hessian), np.triu(want), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", IMPLICIT)
def test_derivatives_are_those_of_the_converged_solution(name: str) -> None:
    """By the implicit function theorem: against differences, forward and reverse, twice."""
    method, _ = METHODS[name]

    def weighted(z: Any) -> Any:
        x = method(oscillator, z[:3], z[3:4], z[5], z[4:5])
        return jnp.dot(jnp.array([1.0, 2.0, -1.0]), x)

    z = np.concatenate([STATE, INPUT, PARAMETER, [0.3]])
    value, reverse = jax.jit(weighted), jax.jit(jax.grad(weighted))
    moves = 1e-5 * np.eye(len(z))
    slopes = np.array([(value(z + d) - value(z - d)) / 2e-5 for d in moves])
    np.testing.assert_allclose(reverse(z), slopes, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(weighted))(z), reverse(z), rtol=1e-12)
    curvature = np.array([(reverse(z + d) - reverse(z - d)) / 2e-5 for d in moves])
    hessian = jax.jit(jax.hessian(weighted))(z)
    np.testing.assert_allclose(hessian, curvature, rtol=1e-6, atol=1e-8)
    twice = jax.jit(jax.jacrev(jax.grad(weighted)))(z)
    np.testing.assert_allclose(twice, hessian, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", IMPLICIT)
def test_parameters_may_be_captured(name: str) -> None:
    method, _ = METHODS[name]

    def captured(p: Any) -> Any:
        return method(lambda x, u: oscillator(x, u, p), STATE, INPUT, 0.2)[0]

    def given(p: Any) -> Any:
        return method(oscillator, STATE, INPUT, 0.2, p)[0]

    slopes = [jax.jit(jax.grad(function))(PARAMETER) for function in (captured, given)]
    np.testing.assert_allclose(*slopes, rtol=1e-12)


def test_stiff_system_stays_bounded_where_explicit_steps_do_not() -> None:
    def stiff(x: Any, u: Any) -> Any:
        return -1e4 * (x - u)

    x, u = np.array([1.0]), np.array([0.5])
    assert abs(rk4(stiff, x, u, 0.1)[0]) > 1e6
    assert abs(gauss_legendre(stiff, x, u, 0.1)[0]) < 1.0


def test_midpoint_keeps_a_quadratic_invariant() -> None:
    """The length of a vector that is turned, over many large steps."""

    def turn(x: Any, u: Any) -> Any:
        return jnp.cross(jnp.array([0.3, -1.0, 2.0]) * x[0], x)

    def length(method: Callable[..., Any]) -> Any:
        step = jax.jit(lambda x: method(turn, x, 0.0, 0.2))
        return jnp.linalg.norm(jax.lax.fori_loop(0, 50, lambda _, x: step(x), start))

    start = jnp.array([1.0, 2.0, -2.0])
    assert length(implicit_midpoint) == pytest.approx(3.0, rel=1e-12)
    assert abs(length(rk4) - 3.0) > 1e-4


def test_residuals_vanish_at_the_result_of_the_step() -> None:
    following = implicit_midpoint(oscillator, STATE, INPUT, 0.2, PARAMETER)
    defect = midpoint_defect(oscillator, STATE, following, INPUT, 0.2, PARAMETER)
    np.testing.assert_allclose(defect, np.zeros(3), atol=1e-15)


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_collocation_residuals_vanish_at_the_result_of_the_step(stages: int) -> None:
    following = gauss_legendre(oscillator, STATE, INPUT, 0.2, PARAMETER, order=2 * stages)

    def residual(rates: Any) -> Any:
        return collocation_defects(oscillator, STATE, following, rates, INPUT, 0.2, PARAMETER)

    rates = np.zeros((stages, 3))
    for _ in range(8):
        slope = jax.jacfwd(lambda flat: jnp.ravel(residual(flat.reshape(stages, 3))[0]))
        change = np.linalg.solve(slope(rates.ravel()), np.ravel(residual(rates)[0]))
        rates = rates - change.reshape(stages, 3)
    inner, link = residual(rates)
    np.testing.assert_allclose(inner, np.zeros((stages, 3)), atol=1e-14)
    np.testing.assert_allclose(link, np.zeros(3), atol=1e-14)


def test_single_precision_stays_single() -> None:
    x, u, p = (a.astype(np.float32) for a in (STATE, INPUT, PARAMETER))
    for method, _ in METHODS.values():
        assert method(oscillator, x, u, 0.1, p).dtype == np.float32


def refuse(x: Any, u: Any) -> Any:
    return x[:1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: rk4(oscillator, STATE, INPUT, 0.1, PARAMETER, steps=0),
            "steps must be a positive",
        ),
        (lambda: rk4(refuse, STATE, INPUT, 0.1), "has the shape"),
        (lambda: gauss_legendre(refuse, STATE, INPUT, 0.1, order=3), "order 2, 4 or 6"),
        (lambda: gauss_legendre(refuse, STATE, INPUT, 0.1, newton_steps=0), "newton_steps"),
        (
            lambda: collocation_defects(refuse, STATE, STATE, np.zeros((2, 2)), INPUT, 0.1),
            "rates must have the shape",
        ),
    ],
)
def test_errors(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()
