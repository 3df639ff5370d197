"""Nonlinear programs without stages: `DenseProblem` and `SparseProblem`.

    min f(x, p)  subject to  g_eq(x, p) = eq_rhs,  ineq_lb <= g_ineq(x, p) <= ineq_ub,
                             x_lb <= x <= x_ub

A problem is a record of functions and default bounds; `anvil_jax.opti.program` makes code of it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from anvil_jax.arguments import Arg
from anvil_jax.dtypes import element_type
from anvil_jax.errors import ArgumentError
from anvil_jax.function import NumericalFunction

type Callback = Callable[..., Any]


@runtime_checkable
class Problem(Protocol):
    """What every solver needs to know of a problem: its sizes and default data.

    Anything that has these members, and the functions of `DenseProblem`, `SparseProblem` or
    `MultistageProblem`, can be solved.
    """

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of all numbers: float64 or float32."""
        ...

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape in which the variables are given and returned."""
        ...

    @property
    def parameters_size(self) -> int:
        """Number of parameters."""
        ...

    @property
    def defaults(self) -> "ProblemData":
        """Bounds and right-hand sides unless a call says otherwise."""
        ...


@runtime_checkable
class DenseDerivatives(Protocol):
    """Derivatives a user may supply to a `DenseProblem`, as JAX functions; None derives one.

    ``gradient_fn(x, p)`` returns (n,), ``eq_jacobian_fn(x, p)`` (m_eq, n),
    ``ineq_jacobian_fn(x, p)`` (m_ineq, n) and ``hessian_fn(x, p, lam_eq, lam_ineq)`` the Hessian of
    the Lagrangian (n, n), of which the upper triangle is used.
    """

    gradient_fn: Callback | None
    eq_jacobian_fn: Callback | None
    ineq_jacobian_fn: Callback | None
    hessian_fn: Callback | None


@runtime_checkable
class SparseDerivatives(Protocol):
    """Derivatives a user may supply to a `SparseProblem`; None derives one.

    As in `DenseDerivatives`, but the matrices are `SparseNumericalFunction`s, the Hessian's an
    upper triangle.
    """

    gradient_fn: Callback | None
    eq_jacobian_fn: Any
    ineq_jacobian_fn: Any
    hessian_fn: Any


class ProblemData:
    """Bounds and right-hand sides, flat and complete.

    Attributes:
        x_lb, x_ub: (n,).
        eq_rhs: (m_eq,).
        ineq_lb, ineq_ub: (m_ineq,).
    """

    names = ("x_lb", "x_ub", "eq_rhs", "ineq_lb", "ineq_ub")

    def __init__(
        self,
        x_lb: NDArray[Any],
        x_ub: NDArray[Any],
        eq_rhs: NDArray[Any],
        ineq_lb: NDArray[Any],
        ineq_ub: NDArray[Any],
    ) -> None:
        """Keep the arrays."""
        self.x_lb, self.x_ub, self.eq_rhs = x_lb, x_ub, eq_rhs
        self.ineq_lb, self.ineq_ub = ineq_lb, ineq_ub


class NonlinearProblem:
    """What `DenseProblem` and `SparseProblem` share; make one of those."""

    def __init__(
        self,
        cost_fn: Callback | None,
        eq_constraints_fn: Callback | None = None,
        ineq_constraints_fn: Callback | None = None,
        x_lb: ArrayLike | None = None,
        x_ub: ArrayLike | None = None,
        eq_rhs: ArrayLike | None = None,
        ineq_lb: ArrayLike | None = None,
        ineq_ub: ArrayLike | None = None,
        *,
        n: int | None = None,
        param_dim: int = 0,
        dtype: DTypeLike = np.float64,
        residual_fn: Callback | None = None,
        gradient_fn: Callback | None = None,
        eq_jacobian_fn: Any = None,
        ineq_jacobian_fn: Any = None,
        hessian_fn: Any = None,
    ) -> None:
        """Record the functions; sizes are found by tracing.

        Args:
            cost_fn: JAX function or `NumericalFunction` of (x, p), a scalar. May be None if
                `residual_fn` is given.
            eq_constraints_fn: of (x, p), (m_eq,) or None.
            ineq_constraints_fn: of (x, p), (m_ineq,) or None.
            x_lb: lower bounds, (n,) or scalar; None means none.
            x_ub: upper bounds, likewise.
            eq_rhs: (m_eq,) or scalar; default 0.
            ineq_lb: lower sides, (m_ineq,) or scalar; None means none, and with neither side given
                ``g_ineq <= 0``.
            ineq_ub: upper sides, likewise.
            n: number of variables, if it cannot be seen from `cost_fn`'s inputs or the bounds.
            param_dim: number of parameters p; with none p has the shape (0,).
            dtype: float64 or float32.
            residual_fn: of (x, p), a vector r: the cost is ``1/2 |r|^2`` and Gauss-Newton
                Hessians are possible.
            gradient_fn: own gradient of the cost, see `DenseDerivatives`, `SparseDerivatives`.
            eq_jacobian_fn: own Jacobian of the equalities.
            ineq_jacobian_fn: own Jacobian of the inequalities.
            hessian_fn: own Hessian of the Lagrangian.

        Raises:
            ArgumentError: sizes are unknown or do not agree, or bounds cross or are NaN.
            TracingError: a function cannot be traced.
        """
        if cost_fn is None and residual_fn is None:
            raise ArgumentError("a problem needs a cost_fn or a residual_fn")
        if cost_fn is not None and residual_fn is not None:
            raise ArgumentError("give either cost_fn or residual_fn, whose cost is 1/2 |r|^2")
        self.dtype = real_dtype(dtype)
        self.cost_fn = half_square(residual_fn) if residual_fn is not None else cost_fn
        self.residual_fn = residual_fn
        self.eq_constraints_fn = eq_constraints_fn
        self.ineq_constraints_fn = ineq_constraints_fn
        self.gradient_fn = gradient_fn
        self.eq_jacobian_fn = eq_jacobian_fn
        self.ineq_jacobian_fn = ineq_jacobian_fn
        self.hessian_fn = hessian_fn
        self.param_dim = param_dim
        self.n = _count(n, (cost_fn, residual_fn, eq_constraints_fn), (x_lb, x_ub))
        specs = (Arg(self.n, self.dtype), Arg(param_dim, self.dtype))
        check_scalar(self.cost_fn, specs, "cost_fn")
        self.m_eq = row_count(eq_constraints_fn, specs, "eq_constraints_fn")
        self.m_ineq = row_count(ineq_constraints_fn, specs, "ineq_constraints_fn")
        lower, upper = ineq_lb, ineq_ub
        if lower is None and upper is None:
            upper = 0.0
        self.defaults = ProblemData(
            filled(x_lb, (self.n,), -np.inf, self.dtype, "x_lb"),
            filled(x_ub, (self.n,), np.inf, self.dtype, "x_ub"),
            filled(eq_rhs, (self.m_eq,), 0.0, self.dtype, "eq_rhs"),
            filled(lower, (self.m_ineq,), -np.inf, self.dtype, "ineq_lb"),
            filled(upper, (self.m_ineq,), np.inf, self.dtype, "ineq_ub"),
        )
        check_sides(self.defaults)

    @property
    def x_shape(self) -> tuple[int, ...]:
        """``(n,)``."""
        return (self.n,)

    @property
    def parameters_size(self) -> int:
        """Number of parameters."""
        return self.param_dim

    def __repr__(self) -> str:
        """Kind and sizes."""
        return (
            f"<{type(self).__name__}: {self.n} variables, {self.m_eq} equalities, "
            f"{self.m_ineq} inequalities, {self.param_dim} parameters>"
        )


class DenseProblem(NonlinearProblem):
    """A nonlinear program with dense derivatives, for up to some hundred variables."""


class SparseProblem(NonlinearProblem):
    """A nonlinear program with sparse derivatives, their structure found by the tracer."""


# ---- pieces ----


def real_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """float32 or float64; anything else is refused."""
    row = element_type(dtype, "a problem")
    if row.numpy not in ("float32", "float64"):
        raise ArgumentError(f"problems are solved in float64 or float32, not {row.numpy}")
    return row.dtype


def half_square(residual_fn: Callback) -> Callback:
    """The cost ``1/2 |r|^2`` of a residual."""

    def cost(*args: Any) -> Any:
        residual = flat(residual_fn(*args))
        return 0.5 * jnp.vdot(residual, residual)

    return cost


def flat(values: Any) -> jax.Array:
    """All leaves of a result as one vector."""
    leaves = [jnp.ravel(leaf) for leaf in jax.tree_util.tree_leaves(values)]
    return jnp.concatenate(leaves) if leaves else jnp.zeros(0)


def traced_outputs(fn: Callback, specs: Sequence[Arg], what: str) -> tuple[Arg, ...]:
    """The outputs of a JAX function of arguments like `specs`."""
    if not callable(fn):
        raise ArgumentError(f"{what} must be a JAX function, got {type(fn).__name__}")
    name = "".join(c if c.isalnum() else "_" for c in what)
    return NumericalFunction(name, fn, tuple(specs)).outputs


def check_scalar(fn: Any, specs: Sequence[Arg], what: str) -> None:
    """Refuse a cost that is not one real number."""
    outputs = traced_outputs(fn, specs, what)
    if len(outputs) != 1 or outputs[0].size != 1 or outputs[0].dtype.kind != "f":
        raise ArgumentError(f"{what} must return one number, but returns {outputs}")


def row_count(fn: Callback | None, specs: Sequence[Arg], what: str) -> int:
    """How many constraints a function has; 0 for None."""
    if fn is None:
        return 0
    outputs = traced_outputs(fn, specs, what)
    for output in outputs:
        if output.dtype.kind != "f":
            raise ArgumentError(f"{what} returns {output}, which is no vector of real numbers")
    return sum(output.size for output in outputs)


def filled(
    values: ArrayLike | None,
    shape: tuple[int, ...],
    default: float,
    dtype: np.dtype[Any],
    what: str,
) -> NDArray[Any]:
    """A flat copy of `values`: a scalar, those of one stage, or an array of `shape`.

    Raises:
        ArgumentError: it is neither, or a number is NaN.
    """
    given = np.asarray(default if values is None else values, dtype)
    if given.shape not in ((), shape[1:], shape):
        raise ArgumentError(f"{what} has the shape {given.shape}, expected {shape}")
    result = np.broadcast_to(given, shape).reshape(-1).copy()
    if np.isnan(result).any():
        raise ArgumentError(f"{what} contains NaN")
    return result


def check_sides(data: ProblemData) -> None:
    """Refuse lower sides above upper ones.

    Raises:
        ArgumentError: names the first that is.
    """
    for name, low, high in (("x", data.x_lb, data.x_ub), ("ineq", data.ineq_lb, data.ineq_ub)):
        for bad in np.flatnonzero(~((low <= high) & (low < np.inf) & (high > -np.inf))):
            raise ArgumentError(
                f"{name}_lb[{bad}] = {low[bad]} is above {name}_ub[{bad}] = {high[bad]}"
                if low[bad] > high[bad]
                else f"{name}_lb[{bad}] = {low[bad]}, {name}_ub[{bad}] = {high[bad]} leave nothing"
            )
    if not np.isfinite(data.eq_rhs).all():
        raise ArgumentError("eq_rhs must be finite")


def _count(n: int | None, functions: Sequence[Any], bounds: Sequence[Any]) -> int:
    if n is not None:
        return int(n)
    for fn in functions:
        if isinstance(fn, NumericalFunction):
            return fn.inputs[0].size
    for bound in bounds:
        if bound is not None and np.ndim(bound) == 1:
            return len(np.asarray(bound))
    raise ArgumentError("give the number of variables: n=, or x_lb / x_ub of shape (n,)")
