"""Nonlinear programs over stages, as in optimal control: `MultistageProblem`.

    min  l_0(z_0) + sum_{k<N} l(z_k) + l_N(z_N)   subject to, for k = 0, ..., N - 1,
         interstage equalities  c(z_k, z_{k+1}) = rhs,   stage rows at k,
         initial rows at 0, terminal rows at N,   z_lb <= z_k <= z_ub for k = 0, ..., N

Every function also takes the global parameters and those of its stage.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from anvil_jax.arguments import Arg
from anvil_jax.errors import ArgumentError
from anvil_jax.opti.problem import (
    Callback,
    ProblemData,
    check_scalar,
    check_sides,
    filled,
    half_square,
    real_dtype,
    row_count,
    traced_outputs,
)

type Place = Literal["initial", "stage", "interstage", "terminal"]
PLACES: tuple[Place, ...] = ("initial", "stage", "interstage", "terminal")


@dataclass(frozen=True, slots=True)
class StageRows:
    """The rows of one kind (equalities or inequalities): functions and counts for each place."""

    functions: dict[Place, Callback | None]
    counts: dict[Place, int]

    @property
    def own(self) -> int:
        """Rows of a stage before the last, those that link it to the next included."""
        return self.counts["stage"] + self.counts["interstage"]

    def total(self, horizon: int) -> int:
        """All rows: initial, then of each stage its own and its interstage ones, then terminal."""
        return self.counts["initial"] + horizon * self.own + self.counts["terminal"]

    def spread(
        self, horizon: int, given: dict[Place, Any], default: float, dtype: Any, what: str
    ) -> NDArray[Any]:
        """Values per row of each place, shape (rows,) or (N, rows), as one flat array."""
        parts = {}
        for place in PLACES:
            count = self.counts[place]
            shape = (horizon, count) if place in ("stage", "interstage") else (count,)
            parts[place] = filled(given[place], shape, default, dtype, what.format(place))
        stages = [parts[p].reshape(horizon, self.counts[p]) for p in ("stage", "interstage")]
        middle = np.concatenate(stages, axis=1).reshape(-1)
        return np.concatenate([parts["initial"], middle, parts["terminal"]])


class MultistageProblem:
    """A nonlinear program over N + 1 stages z_0, ..., z_N of nz variables each.

    Callbacks are JAX functions ``(z, p_global, p_k)``; interstage ones take
    ``(z, z_next, p_global, p_k)`` with the parameters of the stage they leave. Cost functions
    return one number, the others vectors. In the order of multipliers, initial rows come first,
    then for each stage its own and its interstage rows, then the terminal ones.

    Where interstage equalities determine the next state, ``x_next = F(z)`` up to order and sign, or
    implicitly, and nothing else refers to the next stage, the problem has the form of optimal
    control, for which the built-in Riccati method is made.
    """

    def __init__(
        self,
        N: int,
        nz: int,
        *,
        cost_initial_fn: Callback | None = None,
        cost_stage_fn: Callback | None = None,
        cost_terminal_fn: Callback | None = None,
        eq_initial_fn: Callback | None = None,
        eq_interstage_fn: Callback | None = None,
        eq_stage_fn: Callback | None = None,
        eq_terminal_fn: Callback | None = None,
        ineq_initial_fn: Callback | None = None,
        ineq_stage_fn: Callback | None = None,
        ineq_interstage_fn: Callback | None = None,
        ineq_terminal_fn: Callback | None = None,
        z_lb: ArrayLike | None = None,
        z_ub: ArrayLike | None = None,
        eq_initial_rhs: ArrayLike | None = None,
        eq_interstage_rhs: ArrayLike | None = None,
        eq_stage_rhs: ArrayLike | None = None,
        eq_terminal_rhs: ArrayLike | None = None,
        ineq_initial_lb: ArrayLike | None = None,
        ineq_initial_ub: ArrayLike | None = None,
        ineq_stage_lb: ArrayLike | None = None,
        ineq_stage_ub: ArrayLike | None = None,
        ineq_interstage_lb: ArrayLike | None = None,
        ineq_interstage_ub: ArrayLike | None = None,
        ineq_terminal_lb: ArrayLike | None = None,
        ineq_terminal_ub: ArrayLike | None = None,
        param_dim: int = 0,
        global_param_dim: int = 0,
        dtype: DTypeLike = np.float64,
    ) -> None:
        """Record the functions; sizes are found by tracing.

        Args:
            N: number of intervals, at least 1.
            nz: variables of a stage.
            cost_initial_fn: cost of stage 0, besides its stage cost.
            cost_stage_fn: cost of each of the stages 0, ..., N - 1.
            cost_terminal_fn: cost of stage N.
            eq_initial_fn: equalities of stage 0, besides its stage rows; their right-hand side is
                what a controller measures.
            eq_interstage_fn: equalities between neighbouring stages, the dynamics.
            eq_stage_fn: equalities of each of the stages 0, ..., N - 1.
            eq_terminal_fn: equalities of stage N.
            ineq_initial_fn: inequalities of stage 0, besides its stage rows.
            ineq_stage_fn: inequalities of each of the stages 0, ..., N - 1.
            ineq_interstage_fn: inequalities between neighbouring stages.
            ineq_terminal_fn: inequalities of stage N.
            z_lb: lower bounds, (nz,) for all stages or (N + 1, nz); None means none.
            z_ub: upper bounds, likewise.
            eq_initial_rhs: right-hand side (rows,); default 0, as for all of them.
            eq_interstage_rhs: (rows,) for all stages or (N, rows).
            eq_stage_rhs: (rows,) for all stages or (N, rows).
            eq_terminal_rhs: (rows,).
            ineq_initial_lb: lower side (rows,); None means none. With neither side given rows are
                ``<= 0``; so for all of them.
            ineq_initial_ub: upper side (rows,).
            ineq_stage_lb: (rows,) for all stages or (N, rows).
            ineq_stage_ub: (rows,) for all stages or (N, rows).
            ineq_interstage_lb: (rows,) for all stages or (N, rows).
            ineq_interstage_ub: (rows,) for all stages or (N, rows).
            ineq_terminal_lb: (rows,).
            ineq_terminal_ub: (rows,).
            param_dim: parameters of each stage.
            global_param_dim: parameters of all stages.
            dtype: float64 or float32.

        Raises:
            ArgumentError: sizes do not agree, or bounds cross or are NaN.
            TracingError: a function cannot be traced.
        """
        if N < 1 or nz < 1:
            raise ArgumentError(f"a multistage problem needs N >= 1 and nz >= 1, got {N}, {nz}")
        self.N, self.nz = int(N), int(nz)
        self.dtype = real_dtype(dtype)
        self.param_dim, self.global_param_dim = param_dim, global_param_dim
        self.costs: dict[Place, Callback | None] = {
            "initial": cost_initial_fn,
            "stage": cost_stage_fn,
            "interstage": None,
            "terminal": cost_terminal_fn,
        }
        for place in ("initial", "stage", "terminal"):
            if (cost := self.costs[place]) is not None:
                check_scalar(cost, self.specs(place), f"cost_{place}_fn")
        self.residuals: dict[Place, Callback | None] = dict.fromkeys(PLACES)
        self.equalities = self._rows(
            "eq", eq_initial_fn, eq_stage_fn, eq_interstage_fn, eq_terminal_fn
        )
        self.inequalities = self._rows(
            "ineq", ineq_initial_fn, ineq_stage_fn, ineq_interstage_fn, ineq_terminal_fn
        )
        rhs: dict[Place, Any] = {
            "initial": eq_initial_rhs,
            "stage": eq_stage_rhs,
            "interstage": eq_interstage_rhs,
            "terminal": eq_terminal_rhs,
        }
        lower: dict[Place, Any] = {
            "initial": ineq_initial_lb,
            "stage": ineq_stage_lb,
            "interstage": ineq_interstage_lb,
            "terminal": ineq_terminal_lb,
        }
        upper: dict[Place, Any] = {
            "initial": ineq_initial_ub,
            "stage": ineq_stage_ub,
            "interstage": ineq_interstage_ub,
            "terminal": ineq_terminal_ub,
        }
        for place in PLACES:
            if lower[place] is None and upper[place] is None:
                upper[place] = 0.0
        dt, count = self.dtype, self.N
        self.defaults = ProblemData(
            filled(z_lb, self.x_shape, -np.inf, dt, "z_lb"),
            filled(z_ub, self.x_shape, np.inf, dt, "z_ub"),
            self.equalities.spread(count, rhs, 0.0, dt, "eq_{}_rhs"),
            self.inequalities.spread(count, lower, -np.inf, dt, "ineq_{}_lb"),
            self.inequalities.spread(count, upper, np.inf, dt, "ineq_{}_ub"),
        )
        check_sides(self.defaults)

    def specs(self, place: Place) -> tuple[Arg, ...]:
        """Arguments of a callback."""
        z = Arg(self.nz, self.dtype)
        stages = (z, z) if place == "interstage" else (z,)
        return (
            *stages,
            Arg(self.global_param_dim, self.dtype),
            Arg(self.param_dim, self.dtype),
        )

    def _rows(
        self,
        kind: str,
        initial: Callback | None,
        stage: Callback | None,
        interstage: Callback | None,
        terminal: Callback | None,
    ) -> StageRows:
        functions = dict(zip(PLACES, (initial, stage, interstage, terminal), strict=True))
        counts: dict[Place, int] = {
            place: row_count(functions[place], self.specs(place), f"{kind}_{place}_fn")
            for place in PLACES
        }
        return StageRows(functions, counts)

    @property
    def x_shape(self) -> tuple[int, ...]:
        """``(N + 1, nz)``."""
        return (self.N + 1, self.nz)

    @property
    def m_eq(self) -> int:
        """Number of equalities."""
        return self.equalities.total(self.N)

    @property
    def m_ineq(self) -> int:
        """Number of inequalities."""
        return self.inequalities.total(self.N)

    @property
    def parameters_size(self) -> int:
        """Length of the flat parameter vector: global ones, then those of stages 0, ..., N."""
        return self.global_param_dim + (self.N + 1) * self.param_dim

    def parameters(
        self, p_global: ArrayLike | None = None, p_stages: ArrayLike | None = None
    ) -> NDArray[Any]:
        """The flat parameter vector of a solve.

        Args:
            p_global: (global_param_dim,).
            p_stages: (N + 1, param_dim), or (param_dim,) for all stages.

        Raises:
            ArgumentError: a shape is wrong, or parameters are missing.
        """
        if p_global is None and self.global_param_dim:
            raise ArgumentError(f"p_global is missing: {self.global_param_dim} numbers")
        if p_stages is None and self.param_dim:
            raise ArgumentError(f"p_stages is missing: shape {(self.N + 1, self.param_dim)}")
        shared = filled(p_global, (self.global_param_dim,), 0.0, self.dtype, "p_global")
        own = filled(p_stages, (self.N + 1, self.param_dim), 0.0, self.dtype, "p_stages")
        return np.concatenate([shared, own])

    def __repr__(self) -> str:
        """Kind and sizes."""
        return (
            f"<{type(self).__name__}: {self.N} intervals, {self.nz} variables per stage, "
            f"{self.m_eq} equalities, {self.m_ineq} inequalities, "
            f"{self.global_param_dim} + {self.param_dim} per stage parameters>"
        )


class NLSMultistageProblem(MultistageProblem):
    """A `MultistageProblem` whose costs are sums of squares ``1/2 |r|^2``.

    Takes ``residual_initial_fn``, ``residual_stage_fn`` and ``residual_terminal_fn`` in place of
    the cost functions; Gauss-Newton Hessians are possible (``HessianApproximation.GAUSS_NEWTON``).
    """

    def __init__(
        self,
        N: int,
        nz: int,
        *,
        residual_initial_fn: Callback | None = None,
        residual_stage_fn: Callback | None = None,
        residual_terminal_fn: Callback | None = None,
        **options: Any,
    ) -> None:
        """As `MultistageProblem`, with residuals of (z, p_global, p_k) as vectors.

        Raises:
            ArgumentError: a cost function is given, or as for `MultistageProblem`.
        """
        costs = [name for name in options if name.startswith("cost_")]
        if costs:
            raise ArgumentError(f"give residuals, not {', '.join(costs)}")
        functions: dict[Place, Callback | None] = {
            "initial": residual_initial_fn,
            "stage": residual_stage_fn,
            "interstage": None,
            "terminal": residual_terminal_fn,
        }
        super().__init__(
            N,
            nz,
            cost_initial_fn=_cost(residual_initial_fn),
            cost_stage_fn=_cost(residual_stage_fn),
            cost_terminal_fn=_cost(residual_terminal_fn),
            **options,
        )
        for place, fn in functions.items():
            if fn is not None:
                _refuse_empty(traced_outputs(fn, self.specs(place), f"residual_{place}_fn"), place)
        self.residuals = functions


def _cost(residual: Callback | None) -> Callback | None:
    return None if residual is None else half_square(residual)


def _refuse_empty(outputs: Sequence[Arg], place: str) -> None:
    if any(output.dtype.kind != "f" for output in outputs):
        raise ArgumentError(f"residual_{place}_fn must return real numbers")
