"""The solver of a `DenseProblem` or `SparseProblem` as text: `nlp_view`."""

from dataclasses import dataclass

import numpy as np

from anvil_jax.emit.environment import render_template
from anvil_jax.emit.views import SolverView, TableView
from anvil_jax.opti.curvature import PartitionView
from anvil_jax.opti.derivatives import Entries
from anvil_jax.opti.nlp_code import NlpCode
from anvil_jax.opti.problem import NonlinearProblem
from anvil_jax.opti.settings import HessianApproximation
from anvil_jax.opti.solver_view import DefaultsText, cpp_bool, cpp_real, external, solver_view
from anvil_jax.opti.tables import named


@dataclass(frozen=True, slots=True)
class NlpModelView:
    """What templates/sqp/nlp_model.cpp.j2 prints: sizes, and tables of the patterns."""

    real: str
    variables: int
    equalities: int
    inequalities: int
    parameters: int
    hessian_entries: int
    equality_entries: int
    inequality_entries: int
    partition: PartitionView
    quasi_newton: str
    scratch: int
    tables: tuple[TableView, ...]


def nlp_view(
    name: str,
    problem: NonlinearProblem,
    approximation: HessianApproximation,
    dense: bool,
    supplier: str,
) -> SolverView:
    """The solver of a problem without stages.

    Args:
        name: C++ identifier.
        problem: what to solve.
        approximation: of the Hessian.
        dense: whether its matrices are stored in full.
        supplier: ``dense``, ``external`` or ``piqp``.
    """
    code = NlpCode(problem, approximation, dense)
    tables = []
    for what in ("equality", "inequality", "hessian"):
        entries: Entries = getattr(code, what)
        starts = np.searchsorted(entries.columns, np.arange(problem.n + 1))
        tables += [named(f"{what}_starts", starts), named(f"{what}_rows", entries.rows)]
    partition = code.curvature.view
    model = NlpModelView(
        real=cpp_real(problem.dtype),
        variables=problem.n,
        equalities=problem.m_eq,
        inequalities=problem.m_ineq,
        parameters=problem.param_dim,
        hessian_entries=code.hessian.count,
        equality_entries=code.equality.count,
        inequality_entries=code.inequality.count,
        partition=partition,
        quasi_newton=cpp_bool(approximation is HessianApproximation.BFGS),
        scratch=max(1, *(kernel.workspace_nbytes for kernel in code.kernels)),
        tables=(*tables, *partition.tables),
    )
    is_built_in = supplier == "dense"
    return solver_view(
        name,
        problem,
        kernels=code.kernels,
        model=render_template("sqp/nlp_model.cpp.j2", model=model),
        defaults=DefaultsText.of(
            problem.defaults, ((problem.n, 1),), ((problem.m_eq, 1),), ((problem.m_ineq, 1),)
        ),
        subproblem=(
            "anvil_rt::dense_subproblem<model>"
            if is_built_in
            else external(f"{code.curvature.convexification}<model>", supplier)
        ),
        runtime=code.curvature.runtime,
        supplier=supplier,
    )
