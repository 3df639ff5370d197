"""Multiple shooting: a `MultistageProblem` from dynamics, costs and constraints of (x, u).

H. G. Bock and K. J. Plitt, "A multiple shooting algorithm for direct solution of optimal control
problems", IFAC World Congress 1984: the states at all grid points are variables, the integrator's
result over each interval equals the next of them.
"""

import inspect
from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from anvil_jax.errors import ArgumentError
from anvil_jax.opti.integrators import gauss_legendre, midpoint_defect, rk4
from anvil_jax.opti.multistage_problem import MultistageProblem, NLSMultistageProblem
from anvil_jax.opti.problem import Callback, filled, real_dtype

type Integrator = Literal["rk4", "implicit_midpoint", "gauss_legendre_4", "gauss_legendre_6"]

_INTEGRATORS = ("rk4", "implicit_midpoint", "gauss_legendre_4", "gauss_legendre_6")


def multiple_shooting(
    dynamics: Callback,
    N: int,
    nx: int,
    nu: int,
    *,
    dt: float | None = None,
    integrator: Integrator = "rk4",
    steps: int = 1,
    stage_cost: Callback | None = None,
    terminal_cost: Callback | None = None,
    stage_residual: Callback | None = None,
    terminal_residual: Callback | None = None,
    x_lb: ArrayLike | None = None,
    x_ub: ArrayLike | None = None,
    u_lb: ArrayLike | None = None,
    u_ub: ArrayLike | None = None,
    path_fn: Callback | None = None,
    path_lb: ArrayLike | None = None,
    path_ub: ArrayLike | None = None,
    terminal_fn: Callback | None = None,
    terminal_lb: ArrayLike | None = None,
    terminal_ub: ArrayLike | None = None,
    x_initial: ArrayLike | None = None,
    x_terminal: ArrayLike | None = None,
    param_dim: int = 0,
    global_param_dim: int = 0,
    dtype: DTypeLike = np.float64,
) -> MultistageProblem:
    """An optimal control problem over N intervals with z_k = (x_k, u_k).

        min  sum_{k<N} stage_cost(x_k, u_k) + terminal_cost(x_N)
        s.t. x_0 = x_initial,  x_{k+1} = F(x_k, u_k),  bounds,
             path_lb <= path_fn(x_k, u_k) <= path_ub for k < N,
             terminal_lb <= terminal_fn(x_N) <= terminal_ub,  x_N = x_terminal if given

    Functions are JAX functions. Those of a stage take ``(x, u)``, ``(x, u, p)`` or
    ``(x, u, p_global, p)``, those of the end ``(x)``, ``(x, p)`` or ``(x, p_global, p)``: what they
    are given follows from how many arguments they require; arguments with defaults keep them.
    p, (param_dim,), are the parameters of the stage, p_global, (global_param_dim,), of all stages.

    The initial state is the right-hand side of the initial equalities: what ``feedback`` takes and
    the first nx numbers of ``eq_rhs``. Bounds on the state given as (nx,) hold for k = 1, ..., N;
    the initial state is what was measured, bounds or not. The last stage's u_N has no meaning, no
    cost and no bounds.

    Args:
        dynamics: with `dt` the time derivative of the state, otherwise the next state, (nx,).
        N: number of intervals.
        nx: number of states.
        nu: number of inputs.
        dt: length of an interval in units of time; None for dynamics in discrete time.
        integrator: ``rk4``, ``gauss_legendre_4``, ``gauss_legendre_6`` (with Newton's method inside
            each step), or ``implicit_midpoint``, whose equation becomes the constraint itself:
            linear implicit dynamics ``x_next - x = dt f((x + x_next) / 2, u)``.
        steps: equal parts each interval is divided into; 1 for ``implicit_midpoint``.
        stage_cost: one number for each of the stages 0, ..., N - 1.
        terminal_cost: one number.
        stage_residual: a vector r in place of the cost ``1/2 |r|^2``; the result is an
            `NLSMultistageProblem`.
        terminal_residual: likewise.
        x_lb: (nx,), or (N + 1, nx) including the initial state; None means no bound.
        x_ub: likewise.
        u_lb: (nu,) or (N, nu).
        u_ub: likewise.
        path_fn: inequalities of stages 0, ..., N - 1.
        path_lb: (rows,) or (N, rows); with neither side given the rows are ``<= 0``.
        path_ub: likewise.
        terminal_fn: inequalities of the last state.
        terminal_lb: (rows,); with neither side given the rows are ``<= 0``.
        terminal_ub: likewise.
        x_initial: (nx,), default 0; usually given at run time.
        x_terminal: (nx,), fixes the last state.
        param_dim: number of parameters of each stage.
        global_param_dim: number of parameters of all stages.
        dtype: float64 or float32.

    Returns:
        A `MultistageProblem` with nz = nx + nu.

    Raises:
        ArgumentError: costs and residuals are mixed, a shape is wrong, or an option unknown.
        TracingError: a function cannot be traced.
    """
    if min(N, nx) < 1 or nu < 0:
        raise ArgumentError(f"multiple_shooting needs N, nx >= 1 and nu >= 0, not {N}, {nx}, {nu}")
    real = real_dtype(dtype)
    is_nls = stage_residual is not None or terminal_residual is not None
    if is_nls and (stage_cost is not None or terminal_cost is not None):
        raise ArgumentError("multiple_shooting: give either costs or residuals")

    for values, what in ((x_initial, "x_initial"), (x_terminal, "x_terminal")):
        if values is not None:
            _check_shape(values, ((nx,),), what)

    def of_stage(fn: Callback | None, what: str) -> Callback | None:
        if fn is None:
            return None
        call = _with_parameters(fn, 2, what)
        return lambda z, p_global, p: call((z[:nx], z[nx:]), p_global, p)

    def of_end(fn: Callback | None, what: str) -> Callback | None:
        if fn is None:
            return None
        call = _with_parameters(fn, 1, what)
        return lambda z, p_global, p: call((z[:nx],), p_global, p)

    def state(z: Any, p_global: Any, p: Any) -> Any:
        return z[:nx]

    lower = _bounds(x_lb, u_lb, (N, nx, nu), -np.inf, real, "lb")
    upper = _bounds(x_ub, u_ub, (N, nx, nu), np.inf, real, "ub")
    common: dict[str, Any] = {
        "eq_initial_fn": state,
        "eq_initial_rhs": np.zeros(nx) if x_initial is None else x_initial,
        "eq_interstage_fn": _link(dynamics, nx, dt, integrator, steps),
        "eq_terminal_fn": None if x_terminal is None else state,
        "eq_terminal_rhs": x_terminal,
        "ineq_stage_fn": of_stage(path_fn, "path_fn"),
        "ineq_stage_lb": path_lb,
        "ineq_stage_ub": path_ub,
        "ineq_terminal_fn": of_end(terminal_fn, "terminal_fn"),
        "ineq_terminal_lb": terminal_lb,
        "ineq_terminal_ub": terminal_ub,
        "z_lb": lower,
        "z_ub": upper,
        "param_dim": param_dim,
        "global_param_dim": global_param_dim,
        "dtype": real,
    }
    if is_nls:
        return NLSMultistageProblem(
            N,
            nx + nu,
            residual_stage_fn=of_stage(stage_residual, "stage_residual"),
            residual_terminal_fn=of_end(terminal_residual, "terminal_residual"),
            **common,
        )
    return MultistageProblem(
        N,
        nx + nu,
        cost_stage_fn=of_stage(stage_cost, "stage_cost"),
        cost_terminal_fn=of_end(terminal_cost, "terminal_cost"),
        **common,
    )


def initial_guess(
    problem: MultistageProblem, x: ArrayLike, u: ArrayLike | None = None
) -> NDArray[Any]:
    """A start for a solver: the same state, or states along a line, and the same inputs everywhere.

    Args:
        problem: of nz = nx + nu variables per stage, states first.
        x: (nx,) for all stages, (2, nx) for a straight line from the first to the second state, or
            (N + 1, nx).
        u: (nu,) or (N + 1, nu); default 0.

    Returns:
        (N + 1, nz).

    Raises:
        ArgumentError: a shape is wrong.
    """
    stages, nz = problem.x_shape
    states = np.asarray(x, problem.dtype)
    if states.ndim not in (1, 2) or states.shape[-1] > nz:
        raise ArgumentError(f"initial_guess: x has the shape {states.shape}, for {nz} variables")
    nx = states.shape[-1]
    if states.ndim == 2 and len(states) == 2 != stages:
        share = np.linspace(0.0, 1.0, stages)[:, None]
        states = (1 - share) * states[0] + share * states[1]
    guess = np.empty((stages, nz), problem.dtype)
    guess[:, :nx] = rows_of_stages(states, (stages, nx), 0.0, problem.dtype, "x")
    guess[:, nx:] = rows_of_stages(u, (stages, nz - nx), 0.0, problem.dtype, "u")
    return guess


def _with_parameters(
    fn: Callback, leading: int, what: str
) -> Callable[[tuple[Any, ...], Any, Any], Any]:
    """``(values, p_global, p)`` handed to a function in the form it asks for."""
    if not callable(fn):
        raise ArgumentError(f"{what} must be a JAX function, got {type(fn).__name__}")
    wanted = _required(fn)
    if wanted is None or wanted == leading + 2:
        return lambda values, p_global, p: fn(*values, p_global, p)
    if wanted == leading:
        return lambda values, p_global, p: fn(*values)
    if wanted == leading + 1:
        return lambda values, p_global, p: fn(*values, p)
    forms = "(x, u), (x, u, p) or (x, u, p_global, p)"
    if leading == 1:
        forms = "(x), (x, p) or (x, p_global, p)"
    raise ArgumentError(f"{what} must take {forms}, but it requires {wanted} arguments")


def _required(fn: Callback) -> int | None:
    """Arguments that have to be given by position; None if it takes any number."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters)


def _link(dynamics: Callback, nx: int, dt: float | None, integrator: str, steps: int) -> Callback:
    """The interstage equality of (z, z_next, p_global, p)."""
    call = _with_parameters(dynamics, 2, "dynamics")
    if integrator not in _INTEGRATORS:
        raise ArgumentError(f"integrator {integrator!r} is not one of {', '.join(_INTEGRATORS)}")
    if dt is None and (integrator != "rk4" or steps != 1):
        raise ArgumentError("dynamics in discrete time (dt=None) have no integrator and no steps")
    if dt is not None and not (np.ndim(dt) == 0 and np.isfinite(dt) and dt > 0):
        raise ArgumentError(f"dt must be a positive number, not {dt!r}")
    if integrator == "implicit_midpoint" and steps != 1:
        raise ArgumentError("implicit_midpoint is a constraint between neighbours: steps must be 1")

    def f(x: Any, u: Any, p_global: Any, p: Any) -> Any:
        return _vector(call((x, u), p_global, p), nx)

    def link(z: Any, z_next: Any, p_global: Any, p: Any) -> Any:
        x, u, following = z[:nx], z[nx:], z_next[:nx]
        if dt is None:
            return following - f(x, u, p_global, p)
        if integrator == "implicit_midpoint":
            return midpoint_defect(f, x, following, u, dt, p_global, p)
        if integrator == "rk4":
            return following - rk4(f, x, u, dt, p_global, p, steps=steps)
        order = int(integrator[-1])
        return following - gauss_legendre(f, x, u, dt, p_global, p, order=order, steps=steps)

    return link


def _vector(values: Any, size: int) -> Any:
    """A list or array of `size` numbers as a vector."""
    vector = jnp.stack(list(values)) if isinstance(values, list | tuple) else jnp.asarray(values)
    if vector.shape != (size,):
        raise ArgumentError(f"dynamics return the shape {vector.shape}, expected {(size,)}")
    return vector


def _bounds(
    x: ArrayLike | None,
    u: ArrayLike | None,
    sizes: tuple[int, int, int],
    default: float,
    dtype: np.dtype[Any],
    side: str,
) -> NDArray[Any]:
    """Bounds of all stages, (N + 1, nz)."""
    count, nx, nu = sizes
    bounds = np.full((count + 1, nx + nu), default, dtype)
    first = 0 if x is not None and np.ndim(x) == 2 else 1
    shape = (count + 1 - first, nx)
    bounds[first:, :nx] = rows_of_stages(x, shape, default, dtype, f"x_{side}")
    bounds[:-1, nx:] = rows_of_stages(u, (count, nu), default, dtype, f"u_{side}")
    return bounds


def rows_of_stages(
    values: ArrayLike | None,
    shape: tuple[int, int],
    default: float,
    dtype: np.dtype[Any],
    what: str,
) -> NDArray[Any]:
    """Values of all stages, given for each, for one of them, or as one number; nothing else.

    Args:
        values: of `shape`, of its last axis alone, or a scalar.
        shape: (stages, count).
        default: where values are None.
        dtype: of the result.
        what: name for messages.

    Raises:
        ArgumentError: the shape is none of these, or a value is NaN.
    """
    if values is not None:
        _check_shape(values, ((), shape[1:], shape), what)
    return filled(values, shape, default, dtype, what).reshape(shape)


def _check_shape(values: ArrayLike, shapes: tuple[tuple[int, ...], ...], what: str) -> None:
    if np.shape(values) not in shapes:
        expected = " or ".join(str(shape) for shape in shapes)
        raise ArgumentError(f"{what} has the shape {np.shape(values)}, expected {expected}")
