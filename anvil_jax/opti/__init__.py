"""Optimisation: nonlinear programs and optimal control, solved by generated C++.

from anvil_jax import opti

problem = opti.DenseProblem(cost, equalities, x_lb=lower, x_ub=upper)
solver = opti.DenseSQPFunction("solver", problem)
result = solver(x0)
"""

from anvil_jax.opti.multistage_problem import MultistageProblem, NLSMultistageProblem
from anvil_jax.opti.problem import DenseProblem, SparseProblem
from anvil_jax.opti.settings import (
    Globalization,
    HessianApproximation,
    SQPIteration,
    SQPResult,
    SQPSettings,
    SQPStatus,
)
from anvil_jax.opti.sqp_function import DenseSQPFunction, SparseSQPFunction

__all__ = [
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
    "SparseProblem",
    "SparseSQPFunction",
]
