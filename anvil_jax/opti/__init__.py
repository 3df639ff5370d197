"""Optimisation: nonlinear programs and optimal control, solved by generated C++.

from anvil_jax import opti

problem = opti.DenseProblem(cost, equalities, x_lb=lower, x_ub=upper)
solver = opti.DenseSQPFunction("solver", problem)
result = solver(x0)
"""

from anvil_jax.opti.closed_loop import ClosedLoop, measured, simulate_closed_loop
from anvil_jax.opti.integrators import (
    collocation_defects,
    gauss_legendre,
    implicit_midpoint,
    midpoint_defect,
    rk4,
)
from anvil_jax.opti.multistage_problem import MultistageProblem, NLSMultistageProblem
from anvil_jax.opti.problem import (
    DenseDerivatives,
    DenseProblem,
    SparseDerivatives,
    SparseProblem,
)
from anvil_jax.opti.settings import (
    Globalization,
    HessianApproximation,
    SQPIteration,
    SQPResult,
    SQPSettings,
    SQPStatus,
)
from anvil_jax.opti.shooting import initial_guess, multiple_shooting
from anvil_jax.opti.sqp_function import DenseSQPFunction, SparseSQPFunction
from anvil_jax.opti.tracking import (
    reference_parameters,
    terminal_tracking_cost,
    terminal_tracking_residual,
    tracking_cost,
    tracking_residual,
)

__all__ = [
    "ClosedLoop",
    "DenseDerivatives",
    "DenseProblem",
    "DenseSQPFunction",
    "Globalization",
    "HessianApproximation",
    "MultistageProblem",
    "NLSMultistageProblem",
    "SQPIteration",
    "SQPResult",
    "SQPSettings",
    "SQPStatus",
    "SparseDerivatives",
    "SparseProblem",
    "SparseSQPFunction",
    "collocation_defects",
    "gauss_legendre",
    "implicit_midpoint",
    "initial_guess",
    "measured",
    "midpoint_defect",
    "multiple_shooting",
    "reference_parameters",
    "rk4",
    "simulate_closed_loop",
    "terminal_tracking_cost",
    "terminal_tracking_residual",
    "tracking_cost",
    "tracking_residual",
]
