"""Judging solutions: the optimality conditions of any problem, by JAX's own derivatives."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from anvil_jax import opti
from anvil_jax.opti.problem import flat


def functions(problem: Any) -> tuple[Any, Any, Any]:
    """Cost, equalities and inequalities of a problem as JAX functions of flat x and p."""
    if isinstance(problem, opti.MultistageProblem):
        return _of_stages(problem)

    def rows(fn: Any) -> Any:
        return (lambda x, p: flat(fn(x, p))) if fn is not None else (lambda x, p: jnp.zeros(0))

    return (
        lambda x, p: jnp.reshape(problem.cost_fn(x, p), ()),
        rows(problem.eq_constraints_fn),
        rows(problem.ineq_constraints_fn),
    )


def _of_stages(problem: opti.MultistageProblem) -> tuple[Any, Any, Any]:
    def arguments(x: Any, p: Any, k: int) -> tuple[Any, Any, Any]:
        z = jnp.reshape(x, problem.x_shape)
        count = problem.global_param_dim
        own = jnp.reshape(p[count:], (problem.N + 1, problem.param_dim))
        return z, p[:count], own[k]

    def term(fns: dict[Any, Any], place: str, x: Any, p: Any, k: int) -> list[Any]:
        fn = fns[place]
        if fn is None:
            return []
        z, shared, own = arguments(x, p, k)
        given = (z[k], z[k + 1]) if place == "interstage" else (z[k],)
        return [flat(fn(*given, shared, own))]

    def rows(fns: dict[Any, Any]) -> Any:
        def values(x: Any, p: Any) -> Any:
            found = term(fns, "initial", x, p, 0)
            for k in range(problem.N):
                found += term(fns, "stage", x, p, k) + term(fns, "interstage", x, p, k)
            found += term(fns, "terminal", x, p, problem.N)
            return jnp.concatenate(found) if found else jnp.zeros(0)

        return values

    costs = rows(problem.costs)
    return (
        lambda x, p: jnp.sum(costs(x, p)),
        rows(problem.equalities.functions),
        rows(problem.inequalities.functions),
    )


def check_optimal(
    problem: Any, result: Any, p: Any = (), *, tol: float = 1e-5, **data: Any
) -> None:
    """Assert that a result fulfils the KKT conditions, with signs as documented.

    Args:
        problem: what was solved.
        result: its SQPResult.
        p: parameters.
        tol: of every residual, relative to max(1, largest multiplier).
        data: bounds and right-hand sides in place of the problem's own.
    """
    sides = {name: np.ravel(data.get(name, getattr(problem.defaults, name)))
             for name in problem.defaults.names}  # fmt: skip
    with jax.enable_x64(True):
        cost, eq, ineq = functions(problem)
        x, p = jnp.asarray(result.x.ravel(), float), jnp.asarray(p, float)
        c, g = np.asarray(eq(x, p)), np.asarray(ineq(x, p))
        gradient = np.asarray(jax.grad(cost)(x, p))
        pulled = jax.vjp(lambda x: (eq(x, p), ineq(x, p)), x)[1]
        objective = float(cost(x, p))
        (shift,) = pulled((jnp.asarray(result.lam_eq, float), jnp.asarray(result.lam_ineq, float)))
    box = result.lam_box.ravel()
    scale = max(1.0, np.abs(np.r_[result.lam_eq, result.lam_ineq, box, 0]).max())
    stationarity = gradient + np.asarray(shift) + box
    assert np.abs(stationarity).max() <= tol * scale
    assert np.abs(np.r_[c - sides["eq_rhs"], 0]).max() <= tol
    for value, multiplier, low, high in (
        (g, result.lam_ineq, sides["ineq_lb"], sides["ineq_ub"]),
        (np.asarray(x), box, sides["x_lb"], sides["x_ub"]),
    ):
        assert (value >= low - tol).all()
        assert (value <= high + tol).all()
        gap = np.where(multiplier > 0, high - value, value - low)
        product = multiplier * np.where(np.isfinite(gap), gap, 1.0)
        assert np.abs(np.r_[product, 0]).max() <= tol * scale
    assert abs(objective - result.objective) <= 1e-6 * max(1, abs(result.objective))
