"""The collection's problems as programs for a solver, and a judge of what it answers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from anvil_jax import opti
from tests.opti.hock_schittkowski.problem import Problem


def dense_problem(problem: Problem, *, least_squares: bool = False) -> opti.DenseProblem:
    """The problem for `opti.DenseSQPFunction`, with residuals if they are asked for."""
    equality, inequality, residuals = problem.equality, problem.inequality, problem.residuals
    return opti.DenseProblem(
        None if least_squares else lambda x, p: problem.objective(x),
        None if equality is None else lambda x, p: equality(x),
        None if inequality is None else lambda x, p: inequality(x),
        residual_fn=None
        if residuals is None or not least_squares
        else lambda x, p: jnp.sqrt(2.0) * residuals(x),
        x_lb=problem.x_lb,
        x_ub=problem.x_ub,
        ineq_lb=None if inequality is None else problem.g_lb,
        ineq_ub=None if inequality is None else problem.g_ub,
        n=problem.x0.size,
    )


def identifier(problem: Problem) -> str:
    """Its name as C++ takes it."""
    return problem.name.replace(" ", "_").replace("-", "_").lower()


@dataclasses.dataclass(frozen=True)
class Residuals:
    """How far a point and its multipliers are from the conditions of Karush, Kuhn and Tucker."""

    stationarity: float
    infeasibility: float
    complementarity: float


def kkt_residuals(problem: Problem, result: opti.SQPResult) -> Residuals:
    """Judge a result by JAX's derivatives; scaled by multipliers as `SQPSettings` says."""
    with jax.enable_x64(True):
        x = jnp.asarray(result.x)
        lagrangian = np.array(jax.grad(problem.objective)(x)) + result.lam_box
        infeasibility, complementarity = _sides(
            result.lam_box, result.x, problem.x_lb, problem.x_ub
        )
        if problem.equality is not None:
            lagrangian += np.asarray(jax.jacobian(problem.equality)(x)).T @ result.lam_eq
            infeasibility = max(infeasibility, np.max(np.abs(problem.equality(x)), initial=0.0))
        if problem.inequality is not None:
            lagrangian += np.asarray(jax.jacobian(problem.inequality)(x)).T @ result.lam_ineq
            g = np.asarray(problem.inequality(x))
            violation, product = _sides(result.lam_ineq, g, problem.g_lb, problem.g_ub)
            infeasibility = max(infeasibility, violation)
            complementarity = max(complementarity, product)
    multipliers = np.concatenate([result.lam_eq, result.lam_ineq, result.lam_box])
    scale = max(1.0, float(np.mean(np.abs(multipliers))) / 100)
    return Residuals(
        float(np.max(np.abs(lagrangian))) / scale, float(infeasibility), complementarity / scale
    )


def _sides(
    multiplier: np.ndarray, value: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[float, float]:
    """Violation, and the largest product of a multiplier and the distance to its side."""
    if value.size == 0:
        return 0.0, 0.0
    distance = np.where(multiplier > 0, high - value, value - low)
    product = np.where(np.isfinite(distance), multiplier * np.nan_to_num(distance), multiplier)
    violation = np.maximum(np.maximum(low - value, value - high), 0.0)
    return float(np.max(violation)), float(np.max(np.abs(product)))
