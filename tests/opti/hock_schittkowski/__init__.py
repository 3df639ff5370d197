"""Problems of the Hock-Schittkowski collection as JAX functions, with their published answers.

Source: W. Hock and K. Schittkowski, Test Examples for Nonlinear Programming Codes, Lecture Notes
in Economics and Mathematical Systems 187, Springer 1981. Where the book misprints a problem, the
statement is that of CUTEst (N. I. M. Gould, D. Orban and Ph. L. Toint, Computational Optimization
and Applications 60, 2015), and the problem's note says so. Some optima have since been computed
more closely, as in J. J. Liang et al., Problem Definitions and Evaluation Criteria for the CEC 2006
Special Session on Constrained Real-Parameter Optimization.

The book's numbers run from 1 to 119 without 58, 82, 94 and 115. Two problems are left out:
problem 87, whose objective is discontinuous, and problem 105, whose printed data do not give the
printed optimum (1138.416240; the data give 1136.3).

Start with ``PROBLEMS``; ``problem.Problem`` explains its entries. ``special_problems`` adds small
infeasible, unbounded and degenerate problems. All functions expect float64: run them under
``jax.enable_x64(True)``.
"""

from tests.opti.hock_schittkowski import (
    problems_1_45,
    problems_46_67,
    problems_68_86,
    problems_88_104,
    problems_106_119,
    special_problems,
)
from tests.opti.hock_schittkowski.problem import Problem

PROBLEMS: dict[str, Problem] = {
    problem.name: problem
    for module in (
        problems_1_45,
        problems_46_67,
        problems_68_86,
        problems_88_104,
        problems_106_119,
    )
    for problem in module.PROBLEMS
}

LEAST_SQUARES: dict[str, Problem] = {
    name: problem for name, problem in PROBLEMS.items() if problem.residuals is not None
}

SPECIAL_PROBLEMS: dict[str, Problem] = {
    problem.name: problem for problem in special_problems.PROBLEMS
}
