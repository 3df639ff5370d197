"""Costs of the distance from a reference that is given at run time.

The reference of stage k, ``(x_ref, u_ref)``, are the first nx + nu parameters of that stage:

    problem = opti.multiple_shooting(
        f, N, nx, nu, dt=dt, param_dim=nx + nu,
        stage_cost=opti.tracking_cost(Q, R), terminal_cost=opti.terminal_tracking_cost(P))
    p = opti.reference_parameters(problem, x_ref, u_ref)
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from anvil_jax.errors import ArgumentError
from anvil_jax.opti.multistage_problem import MultistageProblem
from anvil_jax.opti.shooting import rows_of_stages

type Weights = NDArray[np.float64]


def tracking_cost(Q: ArrayLike, R: ArrayLike) -> Callable[[Any, Any, Any], Any]:
    """``1/2 (x - x_ref)' Q (x - x_ref) + 1/2 (u - u_ref)' R (u - u_ref)`` as a stage cost.

    Args:
        Q: weights of the state, (nx,) for a diagonal or (nx, nx), symmetric positive semidefinite.
        R: weights of the input, (nu,) or (nu, nu), likewise.

    Returns:
        A function of (x, u, p), where p starts with x_ref and u_ref.

    Raises:
        ArgumentError: a weight is not symmetric and positive semidefinite.
    """
    residual = tracking_residual(Q, R)
    return lambda x, u, p: _half_square(residual(x, u, p))


def terminal_tracking_cost(P: ArrayLike) -> Callable[[Any, Any], Any]:
    """``1/2 (x - x_ref)' P (x - x_ref)`` as a terminal cost, a function of (x, p).

    Args:
        P: weights, (nx,) or (nx, nx), symmetric positive semidefinite.

    Raises:
        ArgumentError: P is not.
    """
    residual = terminal_tracking_residual(P)
    return lambda x, p: _half_square(residual(x, p))


def tracking_residual(Q: ArrayLike, R: ArrayLike) -> Callable[[Any, Any, Any], Any]:
    """Residuals whose half square is `tracking_cost`, for Gauss-Newton Hessians.

    Args:
        Q: weights of the state, (nx,) or (nx, nx), symmetric positive semidefinite.
        R: weights of the input, (nu,) or (nu, nu), likewise.

    Returns:
        A function of (x, u, p) with as many values as Q and R have positive eigenvalues.

    Raises:
        ArgumentError: a weight is not symmetric and positive semidefinite.
    """
    state, control = _root(Q, "Q"), _root(R, "R")
    nx, nu = _size(state), _size(control)

    def residual(x: Any, u: Any, p: Any) -> Any:
        _check_reference(p, nx + nu)
        return jnp.concatenate(
            [_weighted(state, x - p[:nx]), _weighted(control, u - p[nx : nx + nu])]
        )

    return residual


def terminal_tracking_residual(P: ArrayLike) -> Callable[[Any, Any], Any]:
    """Residuals whose half square is `terminal_tracking_cost`, a function of (x, p).

    Args:
        P: weights, (nx,) or (nx, nx), symmetric positive semidefinite.

    Raises:
        ArgumentError: P is not.
    """
    weights = _root(P, "P")
    nx = _size(weights)

    def residual(x: Any, p: Any) -> Any:
        _check_reference(p, nx)
        return _weighted(weights, x - p[:nx])

    return residual


def reference_parameters(
    problem: MultistageProblem,
    x_ref: ArrayLike,
    u_ref: ArrayLike | None = None,
    *,
    others: ArrayLike | None = None,
    p_global: ArrayLike | None = None,
) -> NDArray[Any]:
    """The flat parameters p of a problem whose stages track a reference.

    Args:
        problem: its stages' parameters are (x_ref, u_ref, others).
        x_ref: (nx,) for all stages or (N + 1, nx).
        u_ref: (nu,), (N, nu) or (N + 1, nu); default 0. Of N rows the last one is repeated.
        others: further parameters of each stage, (count,) or (N + 1, count).
        p_global: parameters of all stages, (global_param_dim,).

    Returns:
        (parameters_size,).

    Raises:
        ArgumentError: a shape is wrong, or sizes do not add up.
    """
    stages, nz = problem.x_shape
    nx = np.shape(x_ref)[-1] if np.ndim(x_ref) else 0
    if not 0 < nx <= nz:
        raise ArgumentError(f"x_ref has the shape {np.shape(x_ref)}, for {nz} variables per stage")
    if u_ref is not None and np.ndim(u_ref) == 2 and len(np.asarray(u_ref)) == stages - 1:
        u_ref = np.concatenate([np.asarray(u_ref), np.asarray(u_ref)[-1:]])
    rest = problem.param_dim - nz
    if rest < 0:
        raise ArgumentError(
            f"{problem!r} has no room for a reference: param_dim must be at least {nz}"
        )
    if others is None and rest:
        raise ArgumentError(f"the {rest} parameters after each reference are missing: others")
    parts = ((x_ref, nx, "x_ref"), (u_ref, nz - nx, "u_ref"), (others, rest, "others"))
    columns = [
        rows_of_stages(values, (stages, count), 0.0, problem.dtype, what)
        for values, count, what in parts
    ]
    return problem.parameters(p_global, np.concatenate(columns, axis=1))


def _root(weights: ArrayLike, what: str) -> Weights:
    """A diagonal's square roots, (n,), or a matrix W, (rank, n), with ``W'W = weights``."""
    given = np.asarray(weights, np.float64)
    if given.ndim == 1 and np.isfinite(given).all() and (given >= 0).all():
        return np.sqrt(given)
    if given.ndim != 2 or not np.isfinite(given).all() or not np.allclose(given, given.T):
        raise ArgumentError(f"{what} must be a vector of weights or a symmetric matrix")
    values, vectors = np.linalg.eigh(given)
    limit = 1e-12 * max(1.0, float(np.max(np.abs(values), initial=0.0)))
    if (values < -limit).any():
        raise ArgumentError(f"{what} must be positive semidefinite, but has {values.min():.3g}")
    kept = values > limit
    return np.sqrt(values[kept])[:, None] * vectors[:, kept].T


def _size(root: Weights) -> int:
    return root.shape[-1]


def _weighted(root: Weights, difference: Any) -> Any:
    """The residual of one weight; rows without weight are left out."""
    weights = root.astype(difference.dtype)
    if weights.ndim == 2:
        return weights @ difference
    kept = np.flatnonzero(weights)
    if len(kept) == len(weights):
        return weights * difference
    return jnp.stack([weights[k] * difference[k] for k in kept]) if len(kept) else difference[:0]


def _half_square(residual: Any) -> Any:
    return 0.5 * jnp.vdot(residual, residual)


def _check_reference(p: Any, count: int) -> None:
    if p.shape[0] < count:
        raise ArgumentError(
            f"tracking costs take their reference from {count} parameters, but stages have "
            f"{p.shape[0]}: set param_dim"
        )
