"""One step of time: JAX functions that turn ``dx/dt = f(x, u)`` into ``x_next = F(x, u)``.

All of them take ``(f, x, u, dt, *parameters)`` and call ``f(x, u, *parameters)``; the input u is
constant over the step. They contain only JAX operations, so they can be used inside any function
that is differentiated, mapped or turned into native code.

* `rk4`: explicit, for everything that is not stiff.
* `gauss_legendre`, `implicit_midpoint`: implicit, for stiff or conservative systems. They solve
  their equations by Newton's method; first and second derivatives come from the implicit function
  theorem, not from the iterations.
* `midpoint_defect`, `collocation_defects`: the same equations as residuals, for optimisation
  problems that solve them together with everything else.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from anvil_jax.errors import ArgumentError

type Derivative = Callable[..., Any]


def rk4(f: Derivative, x: Any, u: Any, dt: ArrayLike, *parameters: Any, steps: int = 1) -> Any:
    """The classical Runge-Kutta method of order 4.

    W. Kutta, "Beitrag zur näherungsweisen Integration totaler Differentialgleichungen", 1901.

    Args:
        f: time derivative of the state, ``f(x, u, *parameters)``, shaped like x.
        x: state, (nx,).
        u: input, constant over the step.
        dt: length of the step in units of time, number or traced scalar.
        *parameters: passed on to f.
        steps: equal parts the step is divided into.

    Returns:
        The state at the end of the step, (nx,).

    Raises:
        ArgumentError: `steps` is no positive integer.
    """

    def step(x: Any, h: Any) -> Any:
        k1 = _rate(f, x, u, parameters)
        k2 = _rate(f, x + h / 2 * k1, u, parameters)
        k3 = _rate(f, x + h / 2 * k2, u, parameters)
        k4 = _rate(f, x + h * k3, u, parameters)
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    return _repeat(step, x, dt, steps)


def implicit_midpoint(
    f: Derivative,
    x: Any,
    u: Any,
    dt: ArrayLike,
    *parameters: Any,
    steps: int = 1,
    newton_steps: int = 5,
) -> Any:
    """The implicit midpoint rule, order 2: `gauss_legendre` with one stage.

    A-stable and symplectic; quadratic invariants (the length of a quaternion) are kept.

    Args:
        f: time derivative of the state, ``f(x, u, *parameters)``, shaped like x.
        x: state, (nx,).
        u: input, constant over the step.
        dt: length of the step in units of time.
        *parameters: passed on to f.
        steps: equal parts the step is divided into.
        newton_steps: iterations of Newton's method in each part.

    Returns:
        The state at the end of the step, (nx,).

    Raises:
        ArgumentError: `steps` or `newton_steps` is no positive integer.
    """
    return gauss_legendre(f, x, u, dt, *parameters, order=2, steps=steps, newton_steps=newton_steps)


def gauss_legendre(
    f: Derivative,
    x: Any,
    u: Any,
    dt: ArrayLike,
    *parameters: Any,
    order: int = 4,
    steps: int = 1,
    newton_steps: int = 5,
) -> Any:
    """Gauss-Legendre collocation, implicit Runge-Kutta methods of order 2, 4 and 6.

    A-stable and symplectic. J. C. Butcher, "Implicit Runge-Kutta processes", Mathematics of
    Computation 18, 1964; Hairer, Norsett, Wanner, "Solving Ordinary Differential Equations I",
    section II.7.

    The number of Newton iterations is fixed, as generated code needs it: nothing checks that they
    converged. From the initial guess ``f(x, u)`` of all stages, errors shrink quadratically; five
    reach rounding errors wherever ``dt`` is small enough for the result to be useful. Derivatives
    of any order, forward and reverse, are those of the exact solution of the equations.

    Args:
        f: time derivative of the state, ``f(x, u, *parameters)``, shaped like x.
        x: state, (nx,).
        u: input, constant over the step.
        dt: length of the step in units of time.
        *parameters: passed on to f.
        order: 2, 4 or 6, with 1, 2 or 3 stages.
        steps: equal parts the step is divided into.
        newton_steps: iterations of Newton's method in each part.

    Returns:
        The state at the end of the step, (nx,).

    Raises:
        ArgumentError: `order` is not one of these, or `steps` or `newton_steps` is no positive
            integer.
    """
    coefficients, weights = butcher_tableau(order)
    _check_count(newton_steps, "newton_steps")

    def step(x: Any, h: Any) -> Any:
        def defects(rates: Any) -> Any:
            return rates - _stage_rates(f, coefficients, x, rates, u, h, parameters)

        guess = jnp.broadcast_to(_rate(f, x, u, parameters), (len(weights), *x.shape))
        rates = _root(defects, guess, newton_steps)
        return x + h * jnp.tensordot(weights.astype(x.dtype), rates, 1)

    return _repeat(step, x, dt, steps)


def midpoint_defect(
    f: Derivative, x: Any, x_next: Any, u: Any, dt: ArrayLike, *parameters: Any
) -> Any:
    """The implicit midpoint rule as an equation: ``x_next - x - dt f((x + x_next) / 2, u) = 0``.

    As interstage equality of a `MultistageProblem` it needs neither Newton iterations nor further
    variables.

    Args:
        f: time derivative of the state, ``f(x, u, *parameters)``, shaped like x.
        x: state at the beginning of the step, (nx,).
        x_next: state at its end, (nx,).
        u: input, constant over the step.
        dt: length of the step in units of time.
        *parameters: passed on to f.

    Returns:
        What is zero if x_next is the result of `implicit_midpoint`, (nx,).
    """
    x, x_next = jnp.asarray(x), jnp.asarray(x_next)
    return x_next - x - dt * _rate(f, (x + x_next) / 2, u, parameters)


def collocation_defects(
    f: Derivative,
    x: Any,
    x_next: Any,
    rates: Any,
    u: Any,
    dt: ArrayLike,
    *parameters: Any,
) -> tuple[Any, Any]:
    """The equations of `gauss_legendre`, with the rates of its stages as further variables.

    Args:
        f: time derivative of the state, ``f(x, u, *parameters)``, shaped like x.
        x: state at the beginning of the step, (nx,).
        x_next: state at its end, (nx,).
        rates: time derivatives at the 1, 2 or 3 collocation points, (stages, nx).
        u: input, constant over the step.
        dt: length of the step in units of time.
        *parameters: passed on to f.

    Returns:
        What is zero: ``rates_i - f(x + dt sum_j a_ij rates_j, u)``, (stages, nx), which does not
        contain x_next, and ``x_next - x - dt sum_j b_j rates_j``, (nx,).

    Raises:
        ArgumentError: the number of stages is not 1, 2 or 3.
    """
    x, x_next, rates = jnp.asarray(x), jnp.asarray(x_next), jnp.asarray(rates)
    if rates.shape[1:] != x.shape:
        raise ArgumentError(f"rates must have the shape (stages, {x.shape[0]}), not {rates.shape}")
    coefficients, weights = butcher_tableau(2 * rates.shape[0])
    stages = rates - _stage_rates(f, coefficients, x, rates, u, dt, parameters)
    return stages, x_next - x - dt * jnp.tensordot(weights.astype(x.dtype), rates, 1)


def butcher_tableau(order: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients a, (stages, stages), and weights b, (stages,), of a Gauss-Legendre method.

    Args:
        order: 2, 4 or 6.

    Raises:
        ArgumentError: `order` is not one of these.
    """
    if order == 2:
        return np.array([[1 / 2]]), np.array([1.0])
    if order == 4:
        r = np.sqrt(3) / 6
        return np.array([[1 / 4, 1 / 4 - r], [1 / 4 + r, 1 / 4]]), np.array([1 / 2, 1 / 2])
    if order == 6:
        r = np.sqrt(15)
        coefficients = [
            [5 / 36, 2 / 9 - r / 15, 5 / 36 - r / 30],
            [5 / 36 + r / 24, 2 / 9, 5 / 36 - r / 24],
            [5 / 36 + r / 30, 2 / 9 + r / 15, 5 / 36],
        ]
        return np.array(coefficients), np.array([5 / 18, 4 / 9, 5 / 18])
    raise ArgumentError(f"Gauss-Legendre methods have the order 2, 4 or 6, not {order!r}")


def _rate(f: Derivative, x: Any, u: Any, parameters: tuple[Any, ...]) -> Any:
    """``f`` where its result has the state's shape."""
    rate = jnp.asarray(f(x, u, *parameters))
    if rate.shape != x.shape:
        raise ArgumentError(
            f"the time derivative of a state of shape {x.shape} has the shape {rate.shape}"
        )
    return rate


def _stage_rates(
    f: Derivative,
    coefficients: NDArray[np.float64],
    x: Any,
    rates: Any,
    u: Any,
    h: Any,
    parameters: tuple[Any, ...],
) -> Any:
    """Time derivatives at the collocation points that `rates` lead to."""
    points = [x + h * jnp.tensordot(row.astype(x.dtype), rates, 1) for row in coefficients]
    return jnp.stack([_rate(f, point, u, parameters) for point in points])


def _root(residual: Callable[[Any], Any], guess: Any, newton_steps: int) -> Any:
    """Where `residual` is zero, differentiable with respect to everything it refers to.

    ``d root = -(d residual / d root)^-1 d residual``, evaluated at the root; as this rule contains
    the root itself, it can be differentiated as often as asked.
    """
    shape = guess.shape

    def flat(values: Any) -> Any:
        return jnp.ravel(residual(values.reshape(shape)))

    function, constants = jax.closure_convert(flat, jnp.ravel(guess))

    @jax.custom_jvp
    def root(start: Any, *constants: Any) -> Any:
        def iteration(_: Any, values: Any) -> Any:
            jacobian = jax.jacfwd(function)(values, *constants)
            return values - jnp.linalg.solve(jacobian, function(values, *constants))

        return jax.lax.fori_loop(0, newton_steps, iteration, start)

    @root.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        solution = root(*primals)
        constants, directions = primals[1:], tangents[1:]
        _, change = jax.jvp(lambda *given: function(solution, *given), constants, directions)
        return solution, -jnp.linalg.solve(jax.jacfwd(function)(solution, *constants), change)

    return root(jnp.ravel(guess), *constants).reshape(shape)


def _repeat(step: Callable[[Any, Any], Any], x: Any, dt: ArrayLike, steps: int) -> Any:
    """``steps`` steps of equal length."""
    _check_count(steps, "steps")
    x = jnp.asarray(x)
    h = dt / steps if steps > 1 else dt
    for _ in range(steps):
        x = step(x, h)
    return x


def _check_count(count: int, what: str) -> None:
    if not isinstance(count, int) or count < 1:
        raise ArgumentError(f"{what} must be a positive integer, not {count!r}")
