"""What solvers of all kinds of problems have in common when they become text."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from anvil_jax.emit.views import DefaultView, FunctionView, SolverView, TableView
from anvil_jax.errors import SolverError
from anvil_jax.opti.problem import ProblemData
from anvil_jax.opti.tables import segments

type Pieces = tuple[tuple[int, int], ...]

_MEMBERS = {
    "x_lb": ("x_lower", "variables"),
    "x_ub": ("x_upper", "variables"),
    "eq_rhs": ("equality_target", "equalities"),
    "ineq_lb": ("lower", "inequalities"),
    "ineq_ub": ("upper", "inequalities"),
}


@dataclass(frozen=True, slots=True)
class DefaultsText:
    """Bounds and right-hand sides of a problem, with the tables they need."""

    views: tuple[DefaultView, ...]
    tables: tuple[TableView, ...]

    @classmethod
    def of(
        cls, data: ProblemData, variables: Pieces, equalities: Pieces, inequalities: Pieces
    ) -> Self:
        """Of the arrays in `data`, whose pieces may repeat: their lengths, how often."""
        pieces = {"x": variables, "eq": equalities, "ineq": inequalities}
        views, tables = [], []
        for name, (member, count) in _MEMBERS.items():
            listed, made = segments(getattr(data, name), pieces[name.partition("_")[0]])
            views.append(DefaultView(name, member, count, listed))
            tables += made
        return cls(tuple(views), tuple(tables))


def solver_view(
    name: str,
    problem: Any,
    *,
    kernels: tuple[FunctionView, ...],
    model: str,
    defaults: DefaultsText,
    subproblem: str,
    runtime: tuple[str, ...],
    supplier: str,
    initial_equalities: int = 0,
    has_stages: bool = False,
) -> SolverView:
    """A solver ready to be put into a module.

    Args:
        name: C++ identifier.
        problem: any problem, for its sizes.
        kernels: functions in namespaces of their own.
        model: C++ text that defines ``model``.
        defaults: bounds and right-hand sides.
        subproblem: C++ type that solves the quadratic programs.
        runtime: run-time headers that define it.
        supplier: ``riccati``, ``dense``, ``external`` or ``piqp``.
        initial_equalities: leading equalities whose right-hand side is measured.
        has_stages: whether variables can be shifted by a stage.

    Raises:
        SolverError: PIQP is asked for numbers in single precision.
    """
    if supplier in ("external", "piqp"):
        if problem.dtype != np.float64:
            raise SolverError(
                f"{name}: PIQP solves in float64 only; use the built-in solvers for float32 "
                "(qp='dense' or 'riccati')"
            )
        runtime = (*runtime, "sqp_piqp.hpp" if supplier == "piqp" else "sqp_external.hpp")
    return SolverView(
        name=name,
        source=repr(problem).strip("<>"),
        real=cpp_real(problem.dtype),
        dtype=problem.dtype.name,
        kernels=kernels,
        model=model,
        defaults=defaults.views,
        tables=defaults.tables,
        runtime=("sqp.hpp", *runtime),
        subproblem=subproblem,
        variables=int(np.prod(problem.x_shape)),
        equalities=problem.m_eq,
        inequalities=problem.m_ineq,
        parameters=problem.parameters_size,
        initial_equalities=initial_equalities,
        has_stages=has_stages,
        takes_qp_solver=supplier == "external",
        calls_piqp=supplier == "piqp",
    )


def external(convexification: str, supplier: str) -> str:
    """C++ type of a subproblem that is solved behind a function pointer, or by PIQP."""
    kind = "piqp_subproblem" if supplier == "piqp" else "external_subproblem"
    return f"anvil_rt::{kind}<model, anvil_rt::{convexification}, QPData>"


def cpp_bool(value: bool) -> str:
    """``true`` or ``false``."""
    return "true" if value else "false"


def cpp_real(dtype: np.dtype[Any]) -> str:
    """``double`` or ``float``."""
    return "double" if dtype == np.float64 else "float"
