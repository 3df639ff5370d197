"""Problems 106 to 119 of the Hock-Schittkowski collection; the package gives the source.

The collection has no problem 115.
"""

from math import cos, sin, sqrt

import jax.numpy as jnp
import numpy as np

from tests.opti.hock_schittkowski.problem import Problem, define
from tests.opti.hock_schittkowski.problems_68_86 import (
    COLVILLE_A,
    COLVILLE_B,
    COLVILLE_C,
    COLVILLE_D,
    COLVILLE_E,
)

INF = np.inf


def _hs107(x1, x2, x3, x4, x5, x6, x7, x8, x9):
    c, d = 48.4 / 50.176 * sin(0.25), 48.4 / 50.176 * cos(0.25)
    y1, y2, y3, y4 = jnp.sin(x8), jnp.cos(x8), jnp.sin(x9), jnp.cos(x9)
    y5, y6 = jnp.sin(x8 - x9), jnp.cos(x8 - x9)
    x56, x57, x67 = x5 * x6, x5 * x7, x6 * x7
    return (
        0.4 - x1 + 2 * c * x5**2 - x56 * (d * y1 + c * y2) - x57 * (d * y3 + c * y4),
        0.4 - x2 + 2 * c * x6**2 + x56 * (d * y1 - c * y2) + x67 * (d * y5 - c * y6),
        0.8 + 2 * c * x7**2 + x57 * (d * y3 - c * y4) - x67 * (d * y5 + c * y6),
        0.2 - x3 + 2 * d * x5**2 + x56 * (c * y1 - d * y2) + x57 * (c * y3 - d * y4),
        0.2 - x4 + 2 * d * x6**2 - x56 * (c * y1 + d * y2) - x67 * (c * y5 + d * y6),
        -0.337 + 2 * d * x7**2 - x57 * (c * y3 + d * y4) + x67 * (c * y5 - d * y6),
    )


def _hs108(x1, x2, x3, x4, x5, x6, x7, x8, x9):
    return (
        1 - x3**2 - x4**2,
        1 - x9**2,
        1 - x5**2 - x6**2,
        1 - x1**2 - (x2 - x9) ** 2,
        1 - (x1 - x5) ** 2 - (x2 - x6) ** 2,
        1 - (x1 - x7) ** 2 - (x2 - x8) ** 2,
        1 - (x3 - x5) ** 2 - (x4 - x6) ** 2,
        1 - (x3 - x7) ** 2 - (x4 - x8) ** 2,
        1 - x7**2 - (x8 - x9) ** 2,
        x1 * x4 - x2 * x3,
        x3 * x9,
        -x5 * x9,
        x5 * x8 - x6 * x7,
    )


def _hs109(x1, x2, x3, x4, x5, x6, x7, x8, x9):
    a, b, c = 50.176, sin(0.25), cos(0.25)
    charging = 0.7533e-3 * a
    return (
        x5 * x6 * jnp.sin(-x3 - 0.25)
        + x5 * x7 * jnp.sin(-x4 - 0.25)
        + (2 * b * x5**2 - a * x1 + 400 * a),
        x5 * x6 * jnp.sin(x3 - 0.25)
        + x6 * x7 * jnp.sin(x3 - x4 - 0.25)
        + (2 * b * x6**2 - a * x2 + 400 * a),
        x5 * x7 * jnp.sin(x4 - 0.25)
        + x6 * x7 * jnp.sin(x4 - x3 - 0.25)
        + (2 * b * x7**2 + 881.779 * a),
        a * x8
        + x5 * x6 * jnp.cos(-x3 - 0.25)
        + x5 * x7 * jnp.cos(-x4 - 0.25)
        - (200 * a + 2 * c * x5**2 - charging * x5**2),
        a * x9
        + x5 * x6 * jnp.cos(x3 - 0.25)
        + x6 * x7 * jnp.cos(x3 - x4 - 0.25)
        - (200 * a + 2 * c * x6**2 - charging * x6**2),
        x5 * x7 * jnp.cos(x4 - 0.25)
        + x6 * x7 * jnp.cos(x4 - x3 - 0.25)
        - (22.938 * a + 2 * c * x7**2 - charging * x7**2),
    )


# Problems 111 and 112: free energies of ten species, and their contents of three elements.
_SPECIES_ENERGY = np.array(
    [-6.089, -17.164, -34.054, -5.914, -24.721, -14.986, -24.100, -10.708, -26.662, -22.179]
)
_SPECIES_ELEMENTS = np.array(
    [
        [1.0, 2, 2, 0, 0, 1, 0, 0, 0, 1],
        [0, 0, 0, 1, 2, 1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0, 0, 1, 1, 2, 1],
    ]
)
_ELEMENT_AMOUNTS = np.array([2.0, 1, 1])


def _hs113(x1, x2, x3, x4, x5, x6, x7, x8, x9, x10):
    return (
        105 - 4 * x1 - 5 * x2 + 3 * x7 - 9 * x8,
        -10 * x1 + 8 * x2 + 17 * x7 - 2 * x8,
        8 * x1 - 2 * x2 - 5 * x9 + 2 * x10 + 12,
        -3 * (x1 - 2) ** 2 - 4 * (x2 - 3) ** 2 - 2 * x3**2 + 7 * x4 + 120,
        -5 * x1**2 - 8 * x2 - (x3 - 6) ** 2 + 2 * x4 + 40,
        -0.5 * (x1 - 8) ** 2 - 2 * (x2 - 4) ** 2 - 3 * x5**2 + x6 + 30,
        -(x1**2) - 2 * (x2 - 2) ** 2 + 2 * x1 * x2 - 14 * x5 + 6 * x6,
        3 * x1 - 6 * x2 - 12 * (x9 - 8) ** 2 + 7 * x10,
    )


def _hs114(x1, x2, x3, x4, x5, x6, x7, x8, x9, x10):
    a, b = 0.99, 0.9
    g1 = 35.82 - 0.222 * x10 - b * x9
    g2 = -133 + 3 * x7 - a * x10
    g5 = 1.12 * x1 + 0.13167 * x1 * x8 - 0.00667 * x1 * x8**2 - a * x4
    g6 = 57.425 + 1.098 * x8 - 0.038 * x8**2 + 0.325 * x6 - a * x7
    return (
        g1,
        g2,
        -g1 + x9 * (1 / b - b),
        -g2 + (1 / a - a) * x10,
        g5,
        g6,
        -g5 + (1 / a - a) * x4,
        -g6 + (1 / a - a) * x7,
    )


def _hs116(x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13):
    a, b, c, d, e, f = 0.002, 1.262626, 1.231059, 0.03475, 0.975, 0.00975
    return (
        x3 - x2,
        x2 - x1,
        1 - a * x7 + a * x8,
        x11 + x12 + x13,
        x13 - b * x10 + c * x3 * x10,
        x5 - d * x2 - e * x2 * x5 + f * x2**2,
        x6 - d * x3 - e * x3 * x6 + f * x3**2,
        x4 - d * x1 - e * x1 * x4 + f * x1**2,
        x12 - b * x9 + c * x2 * x9,
        x11 - b * x8 + c * x1 * x8,
        x5 * x7 - x1 * x8 - x4 * x7 + x4 * x8,
        1 - a * (x2 * x9 + x5 * x8 - x1 * x8 - x6 * x9) - x5 - x6,
        x2 * x9 - x3 * x10 - x6 * x9 - 500 * x2 + 500 * x6 + x2 * x10,
        x2 - 0.9 - a * (x2 * x10 - x3 * x10),
    )


def _hs117(x):
    y = x[10:]
    return -COLVILLE_B @ x[:10] + y @ COLVILLE_C @ y + 2 * COLVILLE_D @ y**3


def _hs117_constraints(x):
    y = x[10:]
    return 2 * COLVILLE_C @ y + 3 * COLVILLE_D * y**2 + COLVILLE_E - x[:10] @ COLVILLE_A


def _hs118(x):
    """Costs of three products in five periods, x of shape (5, 3) row by row."""
    linear, quadratic = np.tile([2.3, 1.7, 2.2], 5), np.tile([1e-4, 1e-4, 1.5e-4], 5)
    return linear @ x + quadratic @ x**2


# Problem 119: the pairs (i, j), counted from one, with a[i, j] = 1 beside the diagonal.
# fmt: off
_HS119_PAIRS = [
    (1, 4), (1, 7), (1, 8), (1, 16), (2, 3), (2, 7), (2, 10), (3, 7), (3, 9), (3, 10), (3, 14),
    (4, 7), (4, 11), (4, 15), (5, 6), (5, 10), (5, 12), (5, 16), (6, 8), (6, 15), (7, 11),
    (7, 13), (8, 10), (8, 15), (9, 12), (9, 16), (10, 14), (11, 13), (12, 14), (13, 14),
]
_HS119_B = np.hstack([
    np.array([
        [0.22, 0.20, 0.19, 0.25, 0.15, 0.11, 0.12, 0.13],
        [-1.46, 0, -1.30, 1.82, -1.15, 0, 0.80, 0],
        [1.29, -0.89, 0, 0, -1.16, -0.96, 0, -0.49],
        [-1.10, -1.06, 0.95, -0.54, 0, -1.78, -0.41, 0],
        [0, 0, 0, -1.43, 1.51, 0.59, -0.33, -0.43],
        [0, -1.72, -0.33, 0, 1.62, 1.24, 0.21, -0.26],
        [1.12, 0, 0, 0.31, 0, 0, 1.12, 0],
        [0, 0.45, 0.26, -1.10, 0.58, 0, -1.03, 0.10],
    ]),
    np.eye(8),
])
# fmt: on
_HS119_B[6, 8] = -0.36
_HS119_C = np.array([2.5, 1.1, -3.1, -3.5, 1.3, 2.1, 2.3, -1.5])
_HS119_A = np.eye(16)
for _i, _j in _HS119_PAIRS:
    _HS119_A[_i - 1, _j - 1] = 1


def _hs119(x):
    terms = x**2 + x + 1
    return terms @ _HS119_A @ terms


PROBLEMS: list[Problem] = [
    define(
        "HS106",
        lambda x1, x2, x3, x4, x5, x6, x7, x8: x1 + x2 + x3,
        inequality=lambda x1, x2, x3, x4, x5, x6, x7, x8: (
            1 - 0.0025 * (x4 + x6),
            1 - 0.0025 * (x5 + x7 - x4),
            1 - 0.01 * (x8 - x5),
            x1 * x6 - 833.33252 * x4 - 100 * x1 + 83333.333,
            x2 * x7 - 1250 * x5 - x2 * x4 + 1250 * x4,
            x3 * x8 - 1250000 - x3 * x5 + 2500 * x5,
        ),
        x_lb=(100, 1000, 1000, 10, 10, 10, 10, 10),
        x_ub=(10000, 10000, 10000, 1000, 1000, 1000, 1000, 1000),
        x0=(5000, 5000, 5000, 200, 350, 150, 225, 425),
        optimum=7049.248021,
        solution=(579.3067, 1359.971, 5109.971, 182.0177, 295.6012, 217.9823, 286.4165, 395.6012),
        note="heat exchanger design; the optimum of CEC 2006, g10; the book prints 7049.330923",
    ),
    define(
        "HS107",
        lambda x1, x2, *_: 3000 * x1 + 1000 * x1**3 + 2000 * x2 + 666.667 * x2**3,
        equality=_hs107,
        x_lb=(0, 0, -INF, -INF, 0.90909, 0.90909, 0.90909, -INF, -INF),
        x_ub=(INF, INF, INF, INF, 1.0909, 1.0909, 1.0909, INF, INF),
        x0=(0.8, 0.8, 0.2, 0.2, 1.0454, 1.0454, 1.0454, 0, 0),
        optimum=5055.011803,
    ),
    define(
        "HS108",
        lambda x1, x2, x3, x4, x5, x6, x7, x8, x9: (
            -0.5 * (x1 * x4 - x2 * x3 + x3 * x9 - x5 * x9 + x5 * x8 - x6 * x7)
        ),
        inequality=_hs108,
        x_lb=(*[-INF] * 8, 0),
        x0=np.ones(9),
        optimum=-sqrt(3) / 2,
        other_kkt=(-0.6749814429,),
        note="the hexagon of largest area with no diagonal beyond one; several local minima",
    ),
    define(
        "HS109",
        lambda x1, x2, *_: 3 * x1 + 1e-6 * x1**3 + 2 * x2 + 0.522074e-6 * x2**3,
        equality=_hs109,
        inequality=lambda x1, x2, x3, x4, x5, x6, x7, x8, x9: (
            x4 - x3,
            2250000 - x1**2 - x8**2,
            2250000 - x2**2 - x9**2,
        ),
        g_lb=(-0.55, 0, 0),
        g_ub=(0.55, INF, INF),
        x_lb=(0, 0, -0.55, -0.55, 196, 196, 196, -400, -400),
        x_ub=(INF, INF, 0.55, 0.55, 252, 252, 252, 800, 800),
        x0=np.zeros(9),
        optimum=5362.06928,
        solution=(
            675.0253,
            1134.021,
            0.1334851,
            -0.3711903,
            252,
            252,
            201.4659,
            426.6190,
            368.4882,
        ),
    ),
    define(
        "HS110",
        lambda x: jnp.sum(jnp.log(x - 2) ** 2 + jnp.log(10 - x) ** 2) - jnp.prod(x) ** 0.2,
        x_lb=2.001,
        x_ub=9.999,
        x0=np.full(10, 9.0),
        optimum=-45.77846971,
        solution=np.full(10, 9.350266),
        of_components=False,
    ),
    define(
        "HS111",
        lambda x: jnp.exp(x) @ (_SPECIES_ENERGY + x - jnp.log(jnp.sum(jnp.exp(x)))),
        equality=lambda x: _SPECIES_ELEMENTS @ jnp.exp(x) - _ELEMENT_AMOUNTS,
        x_lb=-100,
        x_ub=100,
        x0=np.full(10, -2.3),
        optimum=-47.76109026,
        other_kkt=(-40.5166236, -45.4256258, -47.5055254),
        note="problem 112 in the logarithms of its variables",
        of_components=False,
    ),
    define(
        "HS112",
        lambda x: x @ (_SPECIES_ENERGY + jnp.log(x / jnp.sum(x))),
        equality=lambda x: _SPECIES_ELEMENTS @ x - _ELEMENT_AMOUNTS,
        x_lb=1e-6,
        x0=np.full(10, 0.1),
        optimum=-47.76109026,
        note="the book prints -47.707579 here, and for the same problem as 111 the value above",
        of_components=False,
    ),
    define(
        "HS113",
        lambda x1, x2, x3, x4, x5, x6, x7, x8, x9, x10: (
            x1**2
            + x2**2
            + x1 * x2
            - 14 * x1
            - 16 * x2
            + (x3 - 10) ** 2
            + 4 * (x4 - 5) ** 2
            + (x5 - 3) ** 2
            + 2 * (x6 - 1) ** 2
            + 5 * x7**2
            + 7 * (x8 - 11) ** 2
            + 2 * (x9 - 10) ** 2
            + (x10 - 7) ** 2
            + 45
        ),
        inequality=_hs113,
        x0=(2, 3, 5, 5, 1, 2, 7, 3, 6, 10),
        optimum=24.3062091,
    ),
    define(
        "HS114",
        lambda x1, x2, x3, x4, x5, x6, x7, x8, x9, x10: (
            5.04 * x1 + 0.035 * x2 + 10 * x3 + 3.36 * x5 - 0.063 * x4 * x7
        ),
        equality=lambda x1, x2, x3, x4, x5, x6, x7, x8, x9, x10: (
            1.22 * x4 - x1 - x5,
            98000 * x3 / (x4 * x9 + 1000 * x3) - x6,
            (x2 + x5) / x1 - x8,
        ),
        inequality=_hs114,
        x_lb=(1e-5, 1e-5, 1e-5, 1e-5, 1e-5, 85, 90, 3, 1.2, 145),
        x_ub=(2000, 16000, 120, 5000, 2000, 93, 95, 12, 4, 162),
        x0=(1745, 12000, 110, 3048, 1974, 89.2, 92.8, 8, 3.6, 145),
        optimum=-1768.80696,
        note="Colville's alkylation process",
    ),
    define(
        "HS116",
        lambda *x: x[10] + x[11] + x[12],
        inequality=_hs116,
        g_lb=(0, 0, 0, 50, *[0] * 10),
        g_ub=(INF, INF, INF, 250, *[INF] * 10),
        x_lb=(0.1, 0.1, 0.1, 1e-4, 0.1, 0.1, 0.1, 0.1, 500, 0.1, 1, 1e-4, 1e-4),
        x_ub=(1, 1, 1, 0.1, 0.9, 0.9, 1000, 1000, 1000, 500, 150, 150, 150),
        x0=(0.5, 0.8, 0.9, 0.1, 0.14, 0.5, 489, 80, 650, 450, 150, 150, 150),
        optimum=97.58750956,
        note="three-stage membrane separation; the book prints 97.588409, less converged",
    ),
    define(
        "HS117",
        _hs117,
        inequality=_hs117_constraints,
        x_lb=0,
        x0=1e-3 * np.array([1, 1, 1, 1, 1, 1, 60000, 1, 1, 1, 1, 1, 1, 1, 1]),
        optimum=32.34867897,
        note="the dual of problem 86",
        of_components=False,
    ),
    define(
        "HS118",
        _hs118,
        inequality=lambda x: jnp.concatenate([x[3:] - x[:-3], jnp.sum(x.reshape(5, 3), axis=1)]),
        g_lb=(*[-7] * 12, 60, 50, 70, 85, 100),
        g_ub=(*[6, 7, 6] * 4, *[INF] * 5),
        x_lb=(8, 43, 3, *[0] * 12),
        x_ub=(21, 57, 16, *[90, 120, 60] * 4),
        x0=(20, 55, 15, *[20, 60, 20] * 4),
        optimum=664.82045,
        solution=(8, 49, 3, 1, 56, 0, 1, 63, 6, 3, 70, 12, 5, 77, 18),
        of_components=False,
    ),
    define(
        "HS119",
        _hs119,
        equality=lambda x: _HS119_B @ x - _HS119_C,
        x_lb=0,
        x_ub=5,
        x0=np.full(16, 10.0),
        optimum=244.899698,
        of_components=False,
    ),
]
