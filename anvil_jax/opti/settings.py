"""What a solver is told and what it answers: settings, statuses, results.

`SQPSettings` mirrors the C++ struct of the same name in templates/sqp/interface.hpp; all of it can
change from call to call without compiling anything.
"""

import enum
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from anvil_jax.errors import ArgumentError


class HessianApproximation(enum.Enum):
    """The matrix in the quadratic programs; decides which functions are generated.

    * ``EXACT``: second derivatives of the Lagrangian, made convex where needed.
    * ``GAUSS_NEWTON``: J'J of the residuals; needs a cost that is given as residuals.
    * ``BFGS``: damped updates of dense blocks: all variables, the connected blocks of a sparse
      problem, the stages of a multistage one.
    """

    EXACT = "exact"
    GAUSS_NEWTON = "gauss_newton"
    BFGS = "bfgs"


class Globalization(enum.Enum):
    """How trial points of the line search are judged."""

    FILTER = 0
    MERIT = 1
    NONE = 2


class SQPStatus(enum.IntEnum):
    """How a solve ended; whatever it is, the result holds the best iterate."""

    SOLVED = 0
    MAX_ITER = 1
    INFEASIBLE = 2
    UNBOUNDED = 3
    LINE_SEARCH_FAILED = 4
    QP_FAILED = 5
    EVALUATION_FAILED = 6
    TIME_LIMIT = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class SQPSettings:
    """Settings of a solve.

    Attributes:
        hessian: the matrix of the quadratic programs; fixed when a solver is made.
        tolerance_stationarity: largest entry of the Lagrangian's gradient, divided by
            max(1, mean |multiplier| / 100).
        tolerance_feasibility: largest violation of a constraint or bound.
        tolerance_complementarity: largest product of a multiplier and the distance to its side,
            divided like the first. None of the three counts for less than 1000 units of rounding,
            1.2e-4 in float32.
        qp_tolerance: of the quadratic programs near the solution.
        time_limit: seconds; the best iterate so far is returned.
        regularization: added to the diagonal of the Hessian (Levenberg-Marquardt).
        largest_penalty: largest weight of the constraints in elastic mode.
        max_iterations: of the SQP method.
        qp_max_iterations: of each quadratic program's interior-point method.
        max_line_search_steps: trial points of each line search.
        globalization: filter, l1 merit function, or full steps.
        second_order_correction: correct steps for the curvature of constraints where they would be
            refused.
        elastic: minimise the violation where a quadratic program has no feasible point.
    """

    hessian: HessianApproximation = HessianApproximation.EXACT
    tolerance_stationarity: float = 1e-6
    tolerance_feasibility: float = 1e-6
    tolerance_complementarity: float = 1e-6
    qp_tolerance: float = 1e-9
    time_limit: float = 1e30
    regularization: float = 0.0
    largest_penalty: float = 1e7
    max_iterations: int = 100
    qp_max_iterations: int = 40
    max_line_search_steps: int = 30
    globalization: Globalization = Globalization.FILTER
    second_order_correction: bool = True
    elastic: bool = True

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        for name in (
            "tolerance_stationarity",
            "tolerance_feasibility",
            "tolerance_complementarity",
            "qp_tolerance",
            "time_limit",
            "largest_penalty",
        ):
            if not _number(name, getattr(self, name)) > 0:
                raise ArgumentError(f"SQPSettings: {name} must be positive")
        for name in ("regularization", "max_iterations", "qp_max_iterations"):
            if not _number(name, getattr(self, name)) >= 0:
                raise ArgumentError(f"SQPSettings: {name} must not be negative")
        if _number("max_line_search_steps", self.max_line_search_steps) < 1:
            raise ArgumentError("SQPSettings: max_line_search_steps must be at least 1")
        if not isinstance(self.hessian, HessianApproximation):
            raise ArgumentError(f"SQPSettings: hessian {self.hessian!r} is no HessianApproximation")
        if not isinstance(self.globalization, Globalization):
            raise ArgumentError(
                f"SQPSettings: globalization {self.globalization!r} is no Globalization"
            )

    def replace(self, **changes: Any) -> Self:
        """A copy with other values."""
        return replace(self, **changes)


def _number(name: str, value: object) -> float:
    is_count = name.startswith(("max_", "qp_max"))
    kinds = (int, np.integer) if is_count else (int, float, np.integer, np.floating)
    if not isinstance(value, kinds) or isinstance(value, bool):
        kind = "a whole number" if is_count else "a number"
        raise ArgumentError(f"SQPSettings: {name} must be {kind}, got {value!r}")
    return float(value)


@dataclass(frozen=True, slots=True)
class SQPIteration:
    """An iterate and the step that led to it, as in the C++ struct of the same name."""

    iteration: int
    qp_iterations: int
    line_search_steps: int
    elastic: bool
    objective: float
    stationarity: float
    infeasibility: float
    complementarity: float
    step: float
    step_length: float
    penalty: float
    time: float


@dataclass(frozen=True, slots=True)
class SQPResult:
    """The answer of a solve: always finite, the best iterate if `status` is not SOLVED.

    The Lagrangian is ``f + lam_eq'(g_eq - eq_rhs) + lam_ineq'g_ineq + lam_box'x``: each multiplier
    is positive where the upper side of its row or bound is active, negative at the lower side.

    Attributes:
        x: (n,), or (N + 1, nz) for multistage problems.
        lam_eq: multipliers of the equalities.
        lam_ineq: multipliers of the inequalities.
        lam_box: multipliers of the bounds, shaped like `x`.
        status: how the solve ended.
        objective: value of the cost.
        stationarity, infeasibility, complementarity: residuals of the KKT conditions, scaled as
            `SQPSettings` says.
        iterations: of the SQP method.
        qp_iterations: of all interior-point methods together.
        qps: quadratic programs solved.
        evaluations: of the functions' values.
        corrections: second-order corrections that were accepted.
        elastic_steps: steps that minimised violation.
        time: seconds in native code, of which `time_evaluation` for functions and derivatives,
            `time_qp` for quadratic programs and `time_line_search` for the rest of line searches.
        history: every iterate, if asked for.
    """

    x: NDArray[Any]
    lam_eq: NDArray[Any]
    lam_ineq: NDArray[Any]
    lam_box: NDArray[Any]
    status: SQPStatus
    objective: float
    stationarity: float
    infeasibility: float
    complementarity: float
    iterations: int
    qp_iterations: int
    qps: int
    evaluations: int
    corrections: int
    elastic_steps: int
    time: float
    time_evaluation: float
    time_qp: float
    time_line_search: float
    history: tuple[SQPIteration, ...] = ()

    @property
    def success(self) -> bool:
        """Whether the KKT conditions hold within the tolerances."""
        return self.status == SQPStatus.SOLVED

    def __repr__(self) -> str:
        """Status, objective, effort."""
        return (
            f"<SQPResult {self.status.name}: objective {self.objective:.8g} after "
            f"{self.iterations} iterations ({self.qp_iterations} of the QPs) in "
            f"{1e3 * self.time:.3g} ms, stationarity {self.stationarity:.1e}, infeasibility "
            f"{self.infeasibility:.1e}, complementarity {self.complementarity:.1e}>"
        )

    def _repr_html_(self) -> str:
        """A small table for notebooks."""
        rows = {
            "status": self.status.name,
            "objective": f"{self.objective:.8g}",
            "iterations (of the QPs)": f"{self.iterations} ({self.qp_iterations})",
            "stationarity": f"{self.stationarity:.1e}",
            "infeasibility": f"{self.infeasibility:.1e}",
            "complementarity": f"{self.complementarity:.1e}",
            "time": f"{1e3 * self.time:.3g} ms",
            "of which functions, QPs": (
                f"{1e3 * self.time_evaluation:.3g} ms, {1e3 * self.time_qp:.3g} ms"
            ),
        }
        cells = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows.items())
        return f"<table>{cells}</table>"
