"""Problems 46 to 67 of the Hock-Schittkowski collection; the package gives the source.

The collection has no problem 58.
"""

from collections.abc import Callable
from math import asin, exp, sqrt

import jax.numpy as jnp
import numpy as np

from tests.opti.hock_schittkowski.problem import Problem, define

INF = np.inf


def hs46_family(target1: float, target2: float) -> Callable:
    """The constraints of problems 46 and 77."""
    return lambda x1, x2, x3, x4, x5: (
        x1**2 * x4 + jnp.sin(x4 - x5) - target1,
        x2 + x3**4 * x4**2 - target2,
    )


def _hs51_family(target: float) -> Callable:
    """The constraints of problems 51, 52 and 53."""
    return lambda x1, x2, x3, x4, x5: (x1 + 3 * x2 - target, x3 + x4 - 2 * x5, x2 - x5)


def _hs54(x1, x2, x3, x4, x5, x6):
    """Minus the density of a normal distribution, up to its constant."""
    z1, z2 = (x1 - 1e4) / 8e3, x2 - 1
    z3, z4 = (x3 - 2e6) / 7e6, (x4 - 10) / 50
    z5, z6 = (x5 - 1e-3) / 5e-2, (x6 - 1e8) / 5e8
    correlated = (z1**2 + 0.4 * z1 * z2 + z2**2) / 0.96
    return -jnp.exp(-(correlated + z3**2 + z4**2 + z5**2 + z6**2) / 2)


# Problem 57: chlorine available (b) after a number of weeks (a), in runs of equal a.
_HS57_A = np.repeat(
    [8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42],
    [2, 4, 4, 3, 3, 2, 3, 3, 3, 3, 2, 3, 2, 1, 2, 2, 1, 1],
)
# fmt: off
_HS57_B = np.array([
    49, 49, 48, 47, 48, 47, 46, 46, 45, 43, 45, 43, 43, 44, 43, 43, 46, 45, 42, 42, 43, 41,
    41, 40, 42, 40, 40, 41, 40, 41, 41, 40, 40, 40, 38, 41, 40, 40, 41, 38, 40, 40, 39, 39,
]) / 100
# fmt: on


def _hs59(x1, x2):
    return (
        -75.196
        + 3.8112 * x1
        - 0.12694 * x1**2
        + 2.0567e-3 * x1**3
        - 1.0345e-5 * x1**4
        + 6.8306 * x2
        - 0.030234 * x1 * x2
        + 1.28134e-3 * x1**2 * x2
        - 3.5256e-5 * x1**3 * x2
        + 2.266e-7 * x1**4 * x2
        - 0.25645 * x2**2
        + 3.4604e-3 * x2**3
        - 1.3514e-5 * x2**4
        + 28.106 / (x2 + 1)
        + 5.2375e-6 * x1**2 * x2**2
        + 6.3e-8 * x1**3 * x2**2
        - 7e-10 * x1**3 * x2**3
        - 3.405e-4 * x1 * x2**2
        + 1.6638e-6 * x1 * x2**3
        + 2.8673 * jnp.exp(5e-4 * x1 * x2)
    )


def _hs62(x1, x2, x3):
    b1, b2, b3 = x1 + x2 + x3 + 0.03, x2 + x3 + 0.03, x3 + 0.03
    return -32.174 * (
        255 * jnp.log(b1 / (0.09 * x1 + x2 + x3 + 0.03))
        + 280 * jnp.log(b2 / (0.07 * x2 + x3 + 0.03))
        + 290 * jnp.log(b3 / (0.13 * x3 + 0.03))
    )


def _hs67_process(x1, x2, x3):
    """Return y2, ..., y8 of Colville's alkylation process.

    The book finds y2 and y4 by fixed-point iterations, both of quadratic equations; here are
    their roots, so that the functions have derivatives of all orders.
    """
    # With y2 = 0.01 x1 (112 + 13.167 y6 - 0.6667 y6^2) and y3 = 1.22 y2 - x1, y6 = (x2 + y3) / x1
    # reads a y6^2 + b y6 - c = 0.
    a, b = 0.0122 * 0.6667, 1 - 0.0122 * 13.167
    c = x2 / x1 - 1 + 0.0122 * 112
    y6 = (-b + jnp.sqrt(b**2 + 4 * a * c)) / (2 * a)
    y2 = 0.01 * x1 * (112 + 13.167 * y6 - 0.6667 * y6**2)
    y3 = 1.22 * y2 - x1

    # With y5 = p + 0.325 y4 and y7 = q - r y4, y4 (y2 y7 + 1000 x3) = 98000 x3 reads
    # r y2 y4^2 - (q y2 + 1000 x3) y4 + 98000 x3 = 0.
    p = 86.35 + 1.098 * y6 - 0.038 * y6**2 - 0.325 * 89
    q, r = 35.82 - 0.222 * (3 * p - 133), 0.222 * 3 * 0.325
    d = q * y2 + 1000 * x3
    y4 = (d - jnp.sqrt(d**2 - 4 * r * y2 * 98000 * x3)) / (2 * r * y2)
    y5 = p + 0.325 * y4
    y8 = 3 * y5 - 133
    y7 = 35.82 - 0.222 * y8
    return y2, y3, y4, y5, y6, y7, y8


def _hs67(x1, x2, x3):
    y2, y3, _, y5, *_ = _hs67_process(x1, x2, x3)
    return -(0.063 * y2 * y5 - 5.04 * x1 - 3.36 * y3 - 0.035 * x2 - 10 * x3)


PROBLEMS: list[Problem] = [
    define(
        "HS46",
        residuals=lambda x1, x2, x3, x4, x5: (x1 - x2, x3 - 1, (x4 - 1) ** 2, (x5 - 1) ** 3),
        equality=hs46_family(1, 2),
        x0=(sqrt(2) / 2, 1.75, 0.5, 2, 2),
        optimum=0,
        other_kkt=(0.0210889286, 3.95024704),
        note="a singular reduced Hessian at the solution (1, 1, 1, 1, 1)",
    ),
    define(
        "HS47",
        lambda x1, x2, x3, x4, x5: (
            (x1 - x2) ** 2 + (x2 - x3) ** 3 + (x3 - x4) ** 4 + (x4 - x5) ** 4
        ),
        equality=lambda x1, x2, x3, x4, x5: (
            x1 + x2**2 + x3**3 - 3,
            x2 - x3**2 + x4 - 1,
            x1 * x5 - 1,
        ),
        x0=(2, sqrt(2), -1, 2 - sqrt(2), 0.5),
        optimum=0,
        other_kkt=(-0.0267141827, 10.0699103),
        note="(1, 1, 1, 1, 1) is a saddle by the cubic term: a lower KKT value is listed",
    ),
    define(
        "HS48",
        residuals=lambda x1, x2, x3, x4, x5: (x1 - 1, x2 - x3, x4 - x5),
        equality=lambda x1, x2, x3, x4, x5: (
            x1 + x2 + x3 + x4 + x5 - 5,
            x3 - 2 * (x4 + x5) + 3,
        ),
        x0=(3, 5, -3, 2, -2),
        optimum=0,
        solution=(1, 1, 1, 1, 1),
    ),
    define(
        "HS49",
        residuals=lambda x1, x2, x3, x4, x5: (x1 - x2, x3 - 1, (x4 - 1) ** 2, (x5 - 1) ** 3),
        equality=lambda x1, x2, x3, x4, x5: (x1 + x2 + x3 + 4 * x4 - 7, x3 + 5 * x5 - 6),
        x0=(10, 7, 2, -3, 0.8),
        optimum=0,
        note="a singular reduced Hessian at the solution (1, 1, 1, 1, 1)",
    ),
    define(
        "HS50",
        residuals=lambda x1, x2, x3, x4, x5: (x1 - x2, x2 - x3, (x3 - x4) ** 2, x4 - x5),
        equality=lambda x1, x2, x3, x4, x5: (
            x1 + 2 * x2 + 3 * x3 - 6,
            x2 + 2 * x3 + 3 * x4 - 6,
            x3 + 2 * x4 + 3 * x5 - 6,
        ),
        x0=(35, -31, 11, 5, -5),
        optimum=0,
        solution=(1, 1, 1, 1, 1),
    ),
    define(
        "HS51",
        residuals=lambda x1, x2, x3, x4, x5: (x1 - x2, x2 + x3 - 2, x4 - 1, x5 - 1),
        equality=_hs51_family(4),
        x0=(2.5, 0.5, 2, -1, 0.5),
        optimum=0,
        solution=(1, 1, 1, 1, 1),
    ),
    define(
        "HS52",
        residuals=lambda x1, x2, x3, x4, x5: (4 * x1 - x2, x2 + x3 - 2, x4 - 1, x5 - 1),
        equality=_hs51_family(0),
        x0=(2, 2, 2, 2, 2),
        optimum=1859 / 349,
        solution=np.array([-33, 11, 180, -158, 11]) / 349,
    ),
    define(
        "HS53",
        residuals=lambda x1, x2, x3, x4, x5: (x1 - x2, x2 + x3 - 2, x4 - 1, x5 - 1),
        equality=_hs51_family(0),
        x_lb=-10,
        x_ub=10,
        x0=(2, 2, 2, 2, 2),
        optimum=176 / 43,
        solution=np.array([-33, 11, 27, -5, 11]) / 43,
    ),
    define(
        "HS54",
        _hs54,
        equality=lambda x1, x2, x3, x4, x5, x6: (x1 + 4000 * x2 - 17600,),
        x_lb=(0, -10, 0, 0, -1, 0),
        x_ub=(2e4, 10, 1e7, 20, 1, 2e8),
        x0=(6e3, 1.5, 4e6, 2, 3e-3, 5e7),
        optimum=-exp(-27 / 280),
        solution=(91600 / 7, 79 / 70, 2e6, 10, 1e-3, 1e8),
        note="badly scaled: second derivatives from 4e-18 to 400",
    ),
    define(
        "HS55",
        lambda x1, x2, x3, x4, x5, x6: x1 + 2 * x2 + 4 * x5 + jnp.exp(x1 * x4),
        equality=lambda x1, x2, x3, x4, x5, x6: (
            x1 + 2 * x2 + 5 * x5 - 6,
            x1 + x2 + x3 - 3,
            x4 + x5 + x6 - 2,
            x1 + x4 - 1,
            x2 + x5 - 2,
            x3 + x6 - 2,
        ),
        x_lb=0,
        x_ub=(1, INF, INF, 1, INF, INF),
        x0=(1, 2, 0, 0, 0, 2),
        optimum=19 / 3,
        solution=(0, 4 / 3, 5 / 3, 1, 2 / 3, 1 / 3),
        other_kkt=(20 / 3, 6.80584635),
        note="the six equalities have rank five",
    ),
    define(
        "HS56",
        lambda x1, x2, x3, x4, x5, x6, x7: -x1 * x2 * x3,
        equality=lambda x1, x2, x3, x4, x5, x6, x7: (
            x1 - 4.2 * jnp.sin(x4) ** 2,
            x2 - 4.2 * jnp.sin(x5) ** 2,
            x3 - 4.2 * jnp.sin(x6) ** 2,
            x1 + 2 * x2 + 2 * x3 - 7.2 * jnp.sin(x7) ** 2,
        ),
        x0=(1, 1, 1, *[asin(sqrt(1 / 4.2))] * 3, asin(sqrt(5 / 7.2))),
        optimum=-3.456,
        note="x = (2.4, 1.2, 1.2, ...), the angles up to sign and period",
    ),
    define(
        "HS57",
        residuals=lambda x: _HS57_B - x[0] - (0.49 - x[0]) * jnp.exp(-x[1] * (_HS57_A - 8)),
        inequality=lambda x: jnp.stack([0.49 * x[1] - x[0] * x[1] - 0.09]),
        x_lb=(0.4, -4),
        x0=(0.42, 5),
        optimum=0.02845966972,
        solution=(0.419952675, 1.284845629),
        other_kkt=(0.0306476190,),
        note="the other value is that of x2 to infinity",
        of_components=False,
    ),
    define(
        "HS59",
        _hs59,
        inequality=lambda x1, x2: (
            x1 * x2 - 700,
            x2 - 8e-3 * x1**2,
            (x2 - 50) ** 2 - 5 * (x1 - 55),
        ),
        x_lb=0,
        x_ub=(75, 65),
        x0=(90, 10),
        other_kkt=(-6.74950527,),
        optimum=-7.8027894,
        solution=(13.550142, 51.659974),
        note="the value of CUTEst's corrected statement; the book prints -7.804235953664",
    ),
    define(
        "HS60",
        residuals=lambda x1, x2, x3: (x1 - 1, x1 - x2, (x2 - x3) ** 2),
        equality=lambda x1, x2, x3: (x1 * (1 + x2**2) + x3**4 - 4 - 3 * sqrt(2),),
        x_lb=-10,
        x_ub=10,
        x0=(2, 2, 2),
        optimum=0.03256820025,
        solution=(1.104859024, 1.196674194, 1.535262257),
        other_kkt=(2.18966059,),
    ),
    define(
        "HS61",
        lambda x1, x2, x3: 4 * x1**2 + 2 * x2**2 + 2 * x3**2 - 33 * x1 + 16 * x2 - 24 * x3,
        equality=lambda x1, x2, x3: (3 * x1 - 2 * x2**2 - 7, 4 * x1 - x3**2 - 11),
        x0=(0, 0, 0),
        optimum=-143.6461422,
        solution=(5.326770157, -2.118998639, 3.210464239),
        other_kkt=(-81.9190961,),
        note="at the standard start the linearised constraints contradict each other",
    ),
    define(
        "HS62",
        _hs62,
        equality=lambda x1, x2, x3: (x1 + x2 + x3 - 1,),
        x_lb=0,
        x_ub=1,
        x0=(0.7, 0.2, 0.1),
        optimum=-26272.51448,
        solution=(0.6178126908, 0.328202223, 0.05398508606),
    ),
    define(
        "HS63",
        lambda x1, x2, x3: 1000 - x1**2 - 2 * x2**2 - x3**2 - x1 * x2 - x1 * x3,
        equality=lambda x1, x2, x3: (8 * x1 + 14 * x2 + 7 * x3 - 56, x1**2 + x2**2 + x3**2 - 25),
        x_lb=0,
        x0=(2, 2, 2),
        optimum=961.7151721,
        solution=(3.512118414, 0.2169881741, 3.552174034),
    ),
    define(
        "HS64",
        lambda x1, x2, x3: 5 * x1 + 5e4 / x1 + 20 * x2 + 72e3 / x2 + 10 * x3 + 144e3 / x3,
        inequality=lambda x1, x2, x3: (1 - 4 / x1 - 32 / x2 - 120 / x3,),
        x_lb=1e-5,
        x0=(1, 1, 1),
        optimum=6299.842428,
        solution=(108.7347175, 85.12613942, 204.3247078),
    ),
    define(
        "HS65",
        residuals=lambda x1, x2, x3: (x1 - x2, (x1 + x2 - 10) / 3, x3 - 5),
        inequality=lambda x1, x2, x3: (48 - x1**2 - x2**2 - x3**2,),
        x_lb=(-4.5, -4.5, -5),
        x_ub=(4.5, 4.5, 5),
        x0=(-5, 5, 0),
        optimum=0.9535288567,
        solution=(3.650461821, 3.65046168, 4.6204170507),
    ),
    define(
        "HS66",
        lambda x1, x2, x3: 0.2 * x3 - 0.8 * x1,
        inequality=lambda x1, x2, x3: (x2 - jnp.exp(x1), x3 - jnp.exp(x2)),
        x_lb=0,
        x_ub=(100, 100, 10),
        x0=(0, 1.05, 2.9),
        optimum=0.5181632741,
        solution=(0.1841264879, 1.202167873, 3.327322322),
    ),
    define(
        "HS67",
        _hs67,
        inequality=_hs67_process,
        g_lb=(0, 0, 85, 90, 3, 0.01, 145),
        g_ub=(5000, 2000, 93, 95, 12, 4, 162),
        x_lb=1e-5,
        x_ub=(2000, 16000, 120),
        x0=(1745, 12000, 110),
        optimum=-1162.02698006,
        note="the book's fixed-point iterations in closed form",
    ),
]
