"""The record of one nonlinear test problem, and the function that defines it.

A problem reads

    minimise    f(x)
    subject to  h(x) = 0,    g_lb <= g(x) <= g_ub,    x_lb <= x <= x_ub,

with f, h and g written in ``jax.numpy`` for a float64 vector x of shape (n,).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

type Vector = np.ndarray
type Function = Callable[[jax.Array], jax.Array]
type Verdict = Literal["optimal", "no KKT point", "infeasible", "unbounded"]


@dataclass(frozen=True)
class Problem:
    """One test problem with its published answer.

    Attributes:
        name: ``HS`` and the problem's number, or a word for a problem of another source.
        objective: f, from (n,) to a scalar.
        x0: The standard starting point, (n,); it need not be feasible, nor within the bounds.
        equality: h, from (n,) to (m_h,), or None.
        inequality: g, from (n,) to (m_g,), or None.
        g_lb: Lower bounds of g, (m_g,); -inf where there is none.
        g_ub: Upper bounds of g, (m_g,); inf where there is none.
        x_lb: Lower bounds of x, (n,); -inf where there is none.
        x_ub: Upper bounds of x, (n,); inf where there is none.
        optimum: The published f at the solution, where the book's is a misprint or not converged
            that of a later source, named in ``note``; NaN for the verdicts "infeasible" and
            "unbounded".
        solution: A published minimiser, (n,), to about five digits or better; None where the
            source gives none or it is one of many.
        residuals: r, from (n,) to (m_r,), with f(x) = sum(r(x) ** 2), or None.
        other_kkt: Values of f at other KKT points where a solver may end, as a multi-start search
            met them; not necessarily all.
        verdict: What a solver should report; "no KKT point" means that the minimum exists and
            has no Lagrange multipliers.
        note: What is special, in a sentence.
    """

    name: str
    objective: Function
    x0: Vector
    equality: Function | None
    inequality: Function | None
    g_lb: Vector
    g_ub: Vector
    x_lb: Vector
    x_ub: Vector
    optimum: float
    solution: Vector | None
    residuals: Function | None
    other_kkt: tuple[float, ...]
    verdict: Verdict
    note: str


def define(
    name: str,
    objective: Callable[..., jax.Array] | None = None,
    *,
    x0: ArrayLike,
    optimum: float = np.nan,
    equality: Callable | None = None,
    inequality: Callable | None = None,
    g_lb: ArrayLike = 0.0,
    g_ub: ArrayLike = np.inf,
    x_lb: ArrayLike = -np.inf,
    x_ub: ArrayLike = np.inf,
    solution: ArrayLike | None = None,
    residuals: Callable | None = None,
    other_kkt: tuple[float, ...] = (),
    verdict: Verdict = "optimal",
    note: str = "",
    of_components: bool = True,
) -> Problem:
    """Define a problem as the book prints it.

    Args:
        name: As in ``Problem``.
        objective: f; left out where ``residuals`` are given, whose sum of squares it then is.
        x0: As in ``Problem``.
        optimum: As in ``Problem``.
        equality: h, which returns a tuple of scalars, or an array if not ``of_components``.
        inequality: g, likewise.
        g_lb: A scalar for all of g, or one value each. The default makes it g(x) >= 0.
        g_ub: Likewise.
        x_lb: A scalar for all of x, or one value each.
        x_ub: Likewise.
        solution: As in ``Problem``.
        residuals: r, which returns as ``equality`` does.
        other_kkt: As in ``Problem``.
        verdict: As in ``Problem``.
        note: As in ``Problem``.
        of_components: Whether the functions take the n scalars x1, ..., xn, or the vector x.

    Raises:
        ValueError: Not exactly one of ``objective`` and ``residuals`` is given, or a bound's or
            the solution's shape does not fit.
    """
    if (objective is None) == (residuals is None):
        raise ValueError(f"{name}: give either an objective or residuals")

    start = np.asarray(x0, np.float64)
    vector_residuals = _of_vector(residuals, of_components)
    vector_inequality = _of_vector(inequality, of_components)
    inequalities = 0
    if vector_inequality is not None:
        with jax.enable_x64(True):
            inequalities = jax.eval_shape(vector_inequality, start).shape[0]
    return Problem(
        name=name,
        objective=_scalar_objective(objective, vector_residuals, of_components),
        x0=start,
        equality=_of_vector(equality, of_components),
        inequality=vector_inequality,
        g_lb=_spread(g_lb, inequalities),
        g_ub=_spread(g_ub, inequalities),
        x_lb=_spread(x_lb, start.size),
        x_ub=_spread(x_ub, start.size),
        optimum=float(optimum),
        solution=None if solution is None else _spread(solution, start.size),
        residuals=vector_residuals,
        other_kkt=other_kkt,
        verdict=verdict,
        note=note,
    )


def _spread(values: ArrayLike, size: int) -> Vector:
    return np.broadcast_to(np.asarray(values, np.float64), (size,))


def _of_vector(function: Callable | None, of_components: bool) -> Function | None:
    if function is None or not of_components:
        return function
    return lambda x: jnp.stack(function(*x))


def _scalar_objective(
    objective: Callable | None, residuals: Function | None, of_components: bool
) -> Function:
    if residuals is not None:
        return lambda x: jnp.sum(residuals(x) ** 2)
    if objective is None:
        raise ValueError("neither an objective nor residuals")
    return (lambda x: objective(*x)) if of_components else objective
