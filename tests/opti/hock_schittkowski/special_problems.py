"""Small problems with a verdict other than a regular minimum, and degenerate minima.

Each is infeasible, unbounded, without a constraint qualification at its solution, or known to
mislead one family of methods; ``Problem.verdict`` says what a solver should report.
"""

from math import cos, sin

import numpy as np

from tests.opti.hock_schittkowski.problem import Problem, define

INF = np.inf

PROBLEMS: list[Problem] = [
    define(
        "contradictory equalities",
        residuals=lambda x1, x2: (x1, x2),
        equality=lambda x1, x2: (x1 + x2 - 1, x1 + x2 - 3),
        x0=(0, 0),
        verdict="infeasible",
        note="the linear constraints are parallel: the KKT matrix is singular everywhere",
    ),
    define(
        "disc and half plane",
        lambda x1, x2: x1 - x2,
        inequality=lambda x1, x2: (1 - x1**2 - x2**2, x1 + x2 - 3),
        x0=(0, 0),
        verdict="infeasible",
        note="convex, with the least violation on the line x1 = x2",
    ),
    define(
        "equality outside the bounds",
        residuals=lambda x1, x2: (x1 - 2, x2),
        equality=lambda x1, x2: (x1 + x2 - 3,),
        x_lb=0,
        x_ub=1,
        x0=(0.5, 0.5),
        verdict="infeasible",
        note="only the bounds contradict the equality",
    ),
    define(
        "parabola above the line",
        residuals=lambda x1, x2: (x1 - 1, x2),
        equality=lambda x1, x2: (x2 - x1**2 - 1,),
        inequality=lambda x1, x2: (-x2,),
        x0=(3, 2),
        verdict="infeasible",
        note="each constraint alone is feasible; the least violation is at x1 = 0",
    ),
    define(
        "unbounded along a line",
        lambda x1, x2: -x1 - x2,
        equality=lambda x1, x2: (x1 - x2,),
        x_lb=0,
        x0=(1, 0),
        verdict="unbounded",
        note="f(t, t) = -2 t",
    ),
    define(
        "unbounded within a parabola",
        lambda x1, x2: -(x1**2) + x2**2,
        inequality=lambda x1, x2: (x1 - x2**2,),
        x_lb=(0, -INF),
        x0=(1, 2),
        verdict="unbounded",
        note="f(t, 0) = -t^2: negative curvature that no constraint stops",
    ),
    define(
        "redundant equality",
        residuals=lambda x1, x2: (x1, x2),
        equality=lambda x1, x2: (x1 + x2 - 2, 2 * x1 + 2 * x2 - 4),
        x0=(3, -1),
        optimum=2,
        solution=(1, 1),
        note="the equalities' Jacobian has rank one, and so one free multiplier",
    ),
    define(
        "point constraint",
        lambda x1, x2: x1 + x2,
        inequality=lambda x1, x2: (-(x1**2) - x2**2,),
        x0=(1, 1),
        optimum=0,
        solution=(0, 0),
        verdict="no KKT point",
        note="one feasible point, at which the constraint's gradient vanishes",
    ),
    define(
        "complementarity",
        residuals=lambda x1, x2: (x1 - 1, x2 - 2),
        inequality=lambda x1, x2: (-x1 * x2,),
        x_lb=0,
        x0=(0.5, 0.5),
        optimum=1,
        solution=(0, 2),
        other_kkt=(4.0,),
        note="no point is strictly feasible: the multipliers are unbounded",
    ),
    define(
        "weakly active bound",
        residuals=lambda x1, x2: (x1, x2 - 1),
        x_lb=0,
        x0=(2, 3),
        optimum=0,
        solution=(0, 1),
        note="the bound x1 >= 0 is active with a zero multiplier",
    ),
    define(
        "Waechter-Biegler",
        lambda x1, x2, x3: x1,
        equality=lambda x1, x2, x3: (x1**2 - x2 - 1, x1 - x3 - 0.5),
        x_lb=(-INF, 0, 0),
        x0=(-2, 3, 1),
        optimum=1,
        solution=(1, 0, 0.5),
        note="line-search interior-point methods jam; the violation is stationary at (-1, 0, 0)",
    ),
    define(
        "Maratos",
        lambda x1, x2: 2 * (x1**2 + x2**2 - 1) - x1,
        equality=lambda x1, x2: (x1**2 + x2**2 - 1,),
        x0=(cos(0.8), sin(0.8)),
        optimum=-1,
        solution=(1, 0),
        other_kkt=(1.0,),
        note="from a feasible point a full Newton step raises both f and the violation",
    ),
]
