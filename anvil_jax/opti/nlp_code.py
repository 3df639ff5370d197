"""Code of `DenseProblem` and `SparseProblem`: their functions and the patterns of matrices."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from anvil_jax.arguments import Arg
from anvil_jax.emit.views import FunctionView
from anvil_jax.errors import SolverError
from anvil_jax.function import NumericalFunction
from anvil_jax.opti.curvature import curvature_of
from anvil_jax.opti.derivatives import (
    Derivative,
    Entries,
    derivative_of,
    gauss_newton_of,
    hessian_of,
    jacobian_of,
    no_values,
    spread,
)
from anvil_jax.opti.problem import NonlinearProblem, flat
from anvil_jax.opti.settings import HessianApproximation
from anvil_jax.sparse_function import SparseNumericalFunction


class NlpCode:
    """The generated functions of a problem, before they are put into a solver.

    Attributes:
        kernels: ``values`` (x, p) -> f, c, g, and ``derive`` (x, p, y, w) -> the gradient, and
            the values of the Jacobians and of the Lagrangian's Hessian.
        equality, inequality, hessian: places of these values.
        curvature: how the Hessian is stored and made convex.
    """

    def __init__(
        self, problem: NonlinearProblem, approximation: HessianApproximation, dense: bool
    ) -> None:
        """Derive and trace everything.

        Raises:
            SolverError: Gauss-Newton without residuals, or a sparse Hessian that connects too much.
        """
        self.problem = problem
        self.approximation = approximation
        self.dense = dense
        dtype = problem.dtype
        self.specs = (Arg(problem.n, dtype), Arg(problem.param_dim, dtype))
        self.dual_specs = (*self.specs, Arg(problem.m_eq, dtype), Arg(problem.m_ineq, dtype))
        self._equality = self._jacobian("eq")
        self._inequality = self._jacobian("ineq")
        curvature = self._curvature()
        quasi_newton = approximation is HessianApproximation.BFGS
        self.curvature = curvature_of(problem.n, curvature.entries, dense, quasi_newton)
        self.hessian = self.curvature.entries
        self.equality = self._places(self._equality.entries, problem.m_eq)
        self.inequality = self._places(self._inequality.entries, problem.m_ineq)
        self.kernels = self._kernels(curvature)

    def _rows(self, kind: str) -> Callable[..., Any]:
        problem = self.problem
        fn = problem.eq_constraints_fn if kind == "eq" else problem.ineq_constraints_fn
        dtype = problem.dtype
        if fn is None:
            return lambda *_: jnp.zeros(0, dtype)
        return lambda x, p: flat(fn(x, p)).astype(dtype)

    def _jacobian(self, kind: str) -> Derivative:
        problem = self.problem
        rows = problem.m_eq if kind == "eq" else problem.m_ineq
        given = problem.eq_jacobian_fn if kind == "eq" else problem.ineq_jacobian_fn
        if given is None or rows == 0:
            return jacobian_of(f"{kind}_rows", self._rows(kind), self.specs, rows)
        return self._given(given, (rows, problem.n), f"{kind}_jacobian_fn")

    def _curvature(self) -> Derivative:
        problem = self.problem
        kind = self.approximation
        if kind is HessianApproximation.GAUSS_NEWTON:
            residual = problem.residual_fn
            if residual is None:
                raise SolverError(
                    "Gauss-Newton Hessians need a problem with residual_fn; use "
                    "HessianApproximation.EXACT or BFGS"
                )
            return gauss_newton_of("residuals", lambda x, p: flat(residual(x, p)), self.specs)
        if problem.hessian_fn is not None:
            shape = (problem.n, problem.n)
            return self._given(problem.hessian_fn, shape, "hessian_fn", upper=True)
        if kind is HessianApproximation.BFGS and self.dense:
            return no_values(problem.dtype)
        return hessian_of("lagrangian", self._lagrangian, self.dual_specs)

    def _lagrangian(self, x: Any, p: Any, y: Any, w: Any) -> Any:
        assert self.problem.cost_fn is not None  # made from the residual if need be
        cost = jnp.reshape(self.problem.cost_fn(x, p), ())
        if self.problem.m_eq:
            cost = cost + jnp.vdot(y, self._rows("eq")(x, p))
        if self.problem.m_ineq:
            cost = cost + jnp.vdot(w, self._rows("ineq")(x, p))
        return cost

    def _given(self, fn: Any, shape: tuple[int, int], what: str, upper: bool = False) -> Derivative:
        """A matrix that the user differentiates."""
        if isinstance(fn, SparseNumericalFunction):
            if fn.shape != shape:
                raise SolverError(f"{what} returns a {fn.shape} matrix, expected {shape}")
            derivative = derivative_of(fn)
            if upper and (derivative.entries.rows > derivative.entries.columns).any():
                raise SolverError(f"{what} must return the upper triangle")
            return derivative
        if not self.dense:
            raise SolverError(f"{what} of a SparseProblem must be a SparseNumericalFunction")
        entries = _dense_entries(*shape)
        if upper:
            entries = entries.where(entries.rows <= entries.columns)
        rows, columns = entries.rows, entries.columns

        def values(*args: Any) -> Any:
            matrix = jnp.asarray(fn(*args))
            if matrix.shape != shape:
                raise SolverError(f"{what} returns the shape {matrix.shape}, expected {shape}")
            return matrix[rows, columns]

        return Derivative(entries, values, np.full(entries.count, np.nan))

    def _places(self, entries: Entries, rows: int) -> Entries:
        return _dense_entries(rows, self.problem.n) if self.dense else entries

    def _kernels(self, curvature: Derivative) -> tuple[FunctionView, ...]:
        problem = self.problem
        cost, dtype = problem.cost_fn, problem.dtype
        assert cost is not None  # made from the residual if need be
        equality_rows, inequality_rows = self._rows("eq"), self._rows("ineq")
        equality = spread(
            self._equality, _slots(self._equality.entries, self.equality), self.equality.count
        )
        inequality = spread(
            self._inequality,
            _slots(self._inequality.entries, self.inequality),
            self.inequality.count,
        )
        hessian = spread(curvature, _slots(curvature.entries, self.hessian), self.hessian.count)
        has_duals = self.approximation is HessianApproximation.EXACT
        evaluates_hessian = self.approximation is not HessianApproximation.BFGS

        def values(x: Any, p: Any) -> Any:
            f = jnp.reshape(cost(x, p), ()).astype(dtype)
            return f, equality_rows(x, p), inequality_rows(x, p)

        def derive(x: Any, p: Any, y: Any, w: Any) -> Any:
            curved = jnp.zeros(0, dtype)
            if evaluates_hessian:
                curved = hessian(x, p, y, w) if has_duals else hessian(x, p)
            return self._gradient(x, p), equality(x, p), inequality(x, p), curved

        return (
            NumericalFunction("values", values, self.specs).view,
            NumericalFunction("derive", derive, self.dual_specs).view,
        )

    def _gradient(self, x: Any, p: Any) -> Any:
        if self.problem.gradient_fn is not None:
            return jnp.reshape(self.problem.gradient_fn(x, p), (self.problem.n,))
        import jax

        cost = self.problem.cost_fn
        assert cost is not None  # made from the residual if need be
        return jax.grad(lambda v: jnp.reshape(cost(v, p), ()))(x)


def _dense_entries(rows: int, columns: int) -> Entries:
    return Entries(np.tile(np.arange(rows), columns), np.repeat(np.arange(columns), rows))


def _slots(entries: Entries, places: Entries) -> NDArray[np.int64]:
    """Where entries are among places that contain them."""
    rows = int(max(places.rows.max(initial=0), entries.rows.max(initial=0))) + 1
    return np.searchsorted(
        places.columns * rows + places.rows, entries.columns * rows + entries.rows
    )
