"""Problems 68 to 86 of the Hock-Schittkowski collection; the package gives the source.

The collection has no problem 82.
"""

from math import sqrt

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf

from tests.opti.hock_schittkowski.problem import Problem, define
from tests.opti.hock_schittkowski.problems_46_67 import hs46_family

INF = np.inf


def _hs78_family(x1, x2, x3, x4, x5):
    """The constraints of problems 78, 80 and 81."""
    return (
        x1**2 + x2**2 + x3**2 + x4**2 + x5**2 - 10,
        x2 * x3 - 5 * x4 * x5,
        x1**3 + x2**3 + 1,
    )


def _normal(x):
    """The distribution function of the standard normal distribution."""
    return (1 + erf(x / sqrt(2))) / 2


def _control_chart(name: str, a: float, b: float, n: int, optimum: float, solution) -> Problem:
    """Problems 68 and 69: the economic design of a control chart."""

    def cost(x1, x2, x3, x4):
        failure = jnp.exp(x1) - 1
        return (a * n - (b * failure - x3) * x4 / (failure + x4)) / x1

    return define(
        name,
        cost,
        equality=lambda x1, x2, x3, x4: (
            x3 - 2 * _normal(-x2),
            x4 - _normal(-x2 + sqrt(n)) - _normal(-x2 - sqrt(n)),
        ),
        x_lb=(1e-4, 0, 0, 0),
        x_ub=(100, 100, 2, 2),
        x0=(1, 1, 1, 1),
        optimum=optimum,
        solution=solution,
    )


_HS70_C = np.array([0.1, *range(1, 19)])
# fmt: off
_HS70_Y = np.array([
    0.00189, 0.1038, 0.268, 0.506, 0.577, 0.604, 0.725, 0.898, 0.947, 0.845, 0.702, 0.528,
    0.385, 0.257, 0.159, 0.0869, 0.0453, 0.01509, 0.00189,
])
# fmt: on


def _hs70(x):
    x1, x2, x3, x4 = x
    b = x3 + (1 - x3) * x4
    c = _HS70_C / 7.658

    def gamma_density(k, scale):
        stirling = 1 + 1 / (12 * k)
        power = scale**k * c ** (k - 1)
        return power * jnp.sqrt(k / 6.2832) * jnp.exp(k - scale * c * k) / stirling

    return x3 * gamma_density(x2, b) + (1 - x3) * gamma_density(x1, b / x4) - _HS70_Y


def _power_flow(name: str, a: float, optimum: float, solution) -> Problem:
    """Problems 74 and 75, with a limit of a on the angles x3 and x4 and on their difference."""
    return define(
        name,
        lambda x1, x2, x3, x4: 3 * x1 + 1e-6 * x1**3 + 2 * x2 + 2e-6 / 3 * x2**3,
        equality=lambda x1, x2, x3, x4: (
            1000 * jnp.sin(-x3 - 0.25) + 1000 * jnp.sin(-x4 - 0.25) + 894.8 - x1,
            1000 * jnp.sin(x3 - 0.25) + 1000 * jnp.sin(x3 - x4 - 0.25) + 894.8 - x2,
            1000 * jnp.sin(x4 - 0.25) + 1000 * jnp.sin(x4 - x3 - 0.25) + 1294.8,
        ),
        inequality=lambda x1, x2, x3, x4: (x4 - x3,),
        g_lb=-a,
        g_ub=a,
        x_lb=(0, 0, -a, -a),
        x_ub=(1200, 1200, a, a),
        x0=(0, 0, 0, 0),
        optimum=optimum,
        solution=solution,
    )


_HS80_BOX = np.array([2.3, 2.3, 3.2, 3.2, 3.2])
_HS78_SOLUTION = (-1.717144, 1.595710, 1.827246, -0.763643, -0.763643)


def _hs84(x1, x2, x3, x4, x5):
    return (
        24345
        + 8720288.849 * x1
        - 150512.5253 * x1 * x2
        + 156.6950325 * x1 * x3
        - 476470.3222 * x1 * x4
        - 729482.8271 * x1 * x5
    )


def _hs85_process(x1, x2, x3, x4, x5):
    """Return the objective and the constrained quantities of problem 85, a chemical process."""
    y1 = x2 + x3 + 41.6
    c1 = 0.024 * x4 - 4.62
    y2 = 12.5 / c1 + 12
    c2 = 3.535e-4 * x1**2 + 0.5311 * x1 + 0.08705 * y2 * x1
    c3 = 0.052 * x1 + 78 + 0.002377 * y2 * x1
    y3 = c2 / c3
    y4 = 19 * y3
    c4 = 0.04782 * (x1 - y3) + 0.1956 * (x1 - y3) ** 2 / x2 + 0.6376 * y4 + 1.594 * y3
    c5 = 100 * x2
    c6 = x1 - y3 - y4
    c7 = 0.95 - c4 / c5
    y5 = c6 * c7
    y6 = x1 - y5 - y4 - y3
    c8 = 0.995 * (y5 + y4)
    y7 = c8 / y1
    y8 = c8 / 3798
    c9 = y7 - 0.0663 * y7 / y8 - 0.3153
    y9 = 96.82 / c9 + 0.321 * y1
    y10 = 1.29 * y5 + 1.258 * y4 + 2.29 * y3 + 1.71 * y6
    y11 = 1.71 * x1 - 0.452 * y4 + 0.58 * y3
    c10 = 12.3 / 752.3
    c11 = 1.75 * y2 * 0.995 * x1
    c12 = 0.995 * y10 + 1998
    y12 = c10 * x1 + c11 / c12
    y13 = c12 - 1.75 * y2
    y14 = 3623 + 64.4 * x2 + 58.4 * x3 + 146312 / (y9 + x5)
    c13 = 0.995 * y10 + 60.8 * x2 + 48 * x4 - 0.1121 * y14 - 5095
    y15 = y13 / c13
    y16 = 148000 - 331000 * y15 + 40 * y13 - 61 * y15 * y13
    c14 = 2324 * y10 - 28740000 * y2
    y17 = 14130000 - 1328 * y10 - 531 * y11 + c14 / c12
    c15 = y13 / y15 - y13 / 0.52
    c16 = 1.104 - 0.72 * y15
    c17 = y9 + x5
    objective = (
        -5.843e-7 * y17
        + 1.17e-4 * y14
        + 2.358e-5 * y13
        + 1.502e-6 * y16
        + 0.0321 * y12
        + 0.004324 * y5
        + 1e-4 * c15 / c16
        + 37.48 * y2 / c12
        + 0.1365
    )
    return objective, (
        1.5 * x2 - x3,
        *(y1, y2, y3, y4, y5, y6, y7, y8, y9, y10, y11, y12, y13, y14, y15, y16, y17),
        y4 - 0.28 / 0.72 * y5,
        21 - 3496 * y2 / c12,
        62212 / c17 - 110.6 - y1,
    )


# Limits of y1, ..., y17 in problem 85.
# fmt: off
_HS85_LOWER = (
    213.1, 17.505, 11.275, 214.228, 7.458, 0.961, 1.612, 0.146, 107.99, 922.693, 926.832,
    18.766, 1072.163, 8961.448, 0.063, 71084.33, 2802713,
)
_HS85_UPPER = (
    405.23, 1053.6667, 35.03, 665.585, 584.463, 265.916, 7.046, 0.222, 273.366, 1286.105,
    1444.046, 537.141, 3247.039, 26844.086, 0.386, 140000, 12146108,
)
# fmt: on


# Colville's first problem, 86; its dual is problem 117.
COLVILLE_A = np.array(
    [
        [-16, 2, 0, 1, 0],
        [0, -2, 0, 4, 2],
        [-3.5, 0, 2, 0, 0],
        [0, -2, 0, -4, -1],
        [0, -9, -2, 1, -2.8],
        [2, 0, -4, 0, 0],
        [-1, -1, -1, -1, -1],
        [-1, -2, -3, -2, -1],
        [1, 2, 3, 4, 5],
        [1, 1, 1, 1, 1],
    ]
)
COLVILLE_B = np.array([-40, -2, -0.25, -4, -4, -1, -40, -60, 5, 1])
COLVILLE_C = np.array(
    [
        [30.0, -20, -10, 32, -10],
        [-20, 39, -6, -31, 32],
        [-10, -6, 10, -6, -10],
        [32, -31, -6, 39, -20],
        [-10, 32, -10, -20, 30],
    ]
)
COLVILLE_D = np.array([4.0, 8, 10, 6, 2])
COLVILLE_E = np.array([-15.0, -27, -36, -18, -12])


PROBLEMS: list[Problem] = [
    _control_chart(
        "HS68", 1e-4, 1, 24, -0.920425026, (0.06785874, 3.6461717, 2.6617e-4, 0.8948622)
    ),
    _control_chart(
        "HS69", 0.1, 1000, 4, -956.712887, (0.02937141, 1.1902534, 0.23394676, 0.7916678)
    ),
    define(
        "HS70",
        residuals=_hs70,
        inequality=lambda x: jnp.stack([x[2] + (1 - x[2]) * x[3]]),
        x_lb=1e-5,
        x_ub=(100, 100, 1, 100),
        x0=(2, 4, 0.04, 2),
        optimum=0.007498464,
        solution=(12.27695, 4.631788, 0.3128625, 2.029290),
        other_kkt=(0.152864467, 0.179807906, 0.186349122, 0.187043654, 0.269083925),
        note="CUTEst's corrected statement, which the published solution fits; the book's differs",
        of_components=False,
    ),
    define(
        "HS71",
        lambda x1, x2, x3, x4: x1 * x4 * (x1 + x2 + x3) + x3,
        equality=lambda x1, x2, x3, x4: (x1**2 + x2**2 + x3**2 + x4**2 - 40,),
        inequality=lambda x1, x2, x3, x4: (x1 * x2 * x3 * x4 - 25,),
        x_lb=1,
        x_ub=5,
        x0=(1, 5, 5, 1),
        optimum=17.0140173,
        solution=(1, 4.742994, 3.8211503, 1.3794082),
        other_kkt=(27.1464276, 32.9443868),
    ),
    define(
        "HS72",
        lambda x1, x2, x3, x4: 1 + x1 + x2 + x3 + x4,
        inequality=lambda x1, x2, x3, x4: (
            0.0401 - 4 / x1 - 2.25 / x2 - 1 / x3 - 0.25 / x4,
            0.010085 - 0.16 / x1 - 0.36 / x2 - 0.64 / x3 - 0.64 / x4,
        ),
        x_lb=1e-3,
        x_ub=(4e5, 3e5, 2e5, 1e5),
        x0=(1, 1, 1, 1),
        optimum=727.67937,
        solution=(193.4071, 179.5475, 185.0186, 168.7062),
    ),
    define(
        "HS73",
        lambda x1, x2, x3, x4: 24.55 * x1 + 26.75 * x2 + 39 * x3 + 40.5 * x4,
        equality=lambda x1, x2, x3, x4: (x1 + x2 + x3 + x4 - 1,),
        inequality=lambda x1, x2, x3, x4: (
            2.3 * x1 + 5.6 * x2 + 11.1 * x3 + 1.3 * x4 - 5,
            12 * x1
            + 11.9 * x2
            + 41.8 * x3
            + 52.1 * x4
            - 21
            - 1.645 * jnp.sqrt(0.28 * x1**2 + 0.19 * x2**2 + 20.5 * x3**2 + 0.62 * x4**2),
        ),
        x_lb=0,
        x0=(1, 1, 1, 1),
        optimum=29.894378,
        solution=(0.6355216, 0, 0.3127019, 0.05177655),
        note="the cattle-feed mix",
    ),
    _power_flow("HS74", 0.55, 5126.4981, (679.9453, 1026.067, 0.1188764, -0.3962336)),
    _power_flow("HS75", 0.48, 5174.4129, (776.1592, 925.1949, 0.05110879, -0.4288911)),
    define(
        "HS76",
        lambda x1, x2, x3, x4: (
            x1**2 + 0.5 * x2**2 + x3**2 + 0.5 * x4**2 - x1 * x3 + x3 * x4 - x1 - 3 * x2 + x3 - x4
        ),
        inequality=lambda x1, x2, x3, x4: (
            5 - x1 - 2 * x2 - x3 - x4,
            4 - 3 * x1 - x2 - 2 * x3 + x4,
            x2 + 4 * x3 - 1.5,
        ),
        x_lb=0,
        x0=(0.5, 0.5, 0.5, 0.5),
        optimum=-4.681818181,
        solution=(3 / 11, 23 / 11, 0, 6 / 11),
    ),
    define(
        "HS77",
        residuals=lambda x1, x2, x3, x4, x5: (
            x1 - 1,
            x1 - x2,
            x3 - 1,
            (x4 - 1) ** 2,
            (x5 - 1) ** 3,
        ),
        equality=hs46_family(2 * sqrt(2), 8 + sqrt(2)),
        x0=(2, 2, 2, 2, 2),
        optimum=0.24150513,
        solution=(1.166172, 1.182111, 1.380257, 1.506036, 0.6109203),
        other_kkt=(4.60256151, 5.53335728, 9.9087602),
    ),
    define(
        "HS78",
        lambda x1, x2, x3, x4, x5: x1 * x2 * x3 * x4 * x5,
        equality=_hs78_family,
        x0=(-2, 1.5, 2, -1, -1),
        optimum=-2.91970041,
        solution=_HS78_SOLUTION,
        other_kkt=(0.0, -0.82359483),
    ),
    define(
        "HS79",
        residuals=lambda x1, x2, x3, x4, x5: (
            x1 - 1,
            x1 - x2,
            x2 - x3,
            (x3 - x4) ** 2,
            (x4 - x5) ** 2,
        ),
        equality=lambda x1, x2, x3, x4, x5: (
            x1 + x2**2 + x3**3 - 2 - 3 * sqrt(2),
            x2 - x3**2 + x4 + 2 - 2 * sqrt(2),
            x1 * x5 - 2,
        ),
        x0=(2, 2, 2, 2, 2),
        optimum=0.0787768209,
        solution=(1.191127, 1.362603, 1.472818, 1.635017, 1.679081),
        other_kkt=(13.9668249, 27.4520041, 27.5219615, 86.5275397),
    ),
    define(
        "HS80",
        lambda x1, x2, x3, x4, x5: jnp.exp(x1 * x2 * x3 * x4 * x5),
        equality=_hs78_family,
        x_lb=-_HS80_BOX,
        x_ub=_HS80_BOX,
        x0=(-2, 2, 2, -1, -1),
        optimum=0.0539498478,
        solution=_HS78_SOLUTION,
        other_kkt=(0.43885122, 1.0),
    ),
    define(
        "HS81",
        lambda x1, x2, x3, x4, x5: jnp.exp(x1 * x2 * x3 * x4 * x5) - 0.5 * (x1**3 + x2**3 + 1) ** 2,
        equality=_hs78_family,
        x_lb=-_HS80_BOX,
        x_ub=_HS80_BOX,
        x0=(-2, 2, 2, -1, -1),
        optimum=0.0539498478,
        solution=_HS78_SOLUTION,
        other_kkt=(0.43885122, 1.0),
        note="problem 80 with a negative penalty, which vanishes on the constraints",
    ),
    define(
        "HS83",
        lambda x1, x2, x3, x4, x5: (
            5.3578547 * x3**2 + 0.8356891 * x1 * x5 + 37.293239 * x1 - 40792.141
        ),
        inequality=lambda x1, x2, x3, x4, x5: (
            85.334407 + 0.0056858 * x2 * x5 + 0.0006262 * x1 * x4 - 0.0022053 * x3 * x5,
            80.51249 + 0.0071317 * x2 * x5 + 0.0029955 * x1 * x2 + 0.0021813 * x3**2,
            9.300961 + 0.0047026 * x3 * x5 + 0.0012547 * x1 * x3 + 0.0019085 * x3 * x4,
        ),
        g_lb=(0, 90, 20),
        g_ub=(92, 110, 25),
        x_lb=(78, 33, 27, 27, 27),
        x_ub=(102, 45, 45, 45, 45),
        x0=(78, 33, 27, 27, 27),
        optimum=-30665.53867,
        solution=(78, 33, 29.99526, 45, 36.77581),
    ),
    define(
        "HS84",
        _hs84,
        inequality=lambda x1, x2, x3, x4, x5: (
            x1 * (-145421.402 + 2931.1506 * x2 - 40.427932 * x3 + 5106.192 * x4 + 15711.36 * x5),
            x1
            * (-155011.1084 + 4360.53352 * x2 + 12.9492344 * x3 + 10236.884 * x4 + 13176.786 * x5),
            x1
            * (-326669.5104 + 7390.68412 * x2 - 27.8986976 * x3 + 16643.076 * x4 + 30988.146 * x5),
        ),
        g_ub=(294000, 294000, 277200),
        x_lb=(0, 1.2, 20, 9, 6.5),
        x_ub=(1000, 2.4, 60, 9.3, 7),
        x0=(2.52, 2, 37.5, 9.25, 6.8),
        optimum=-5280335.133,
    ),
    define(
        "HS85",
        lambda *x: _hs85_process(*x)[0],
        inequality=lambda *x: _hs85_process(*x)[1],
        g_lb=(0, *_HS85_LOWER, 0, 0, 0),
        g_ub=(INF, *_HS85_UPPER, INF, INF, INF),
        x_lb=(704.4148, 68.6, 0, 193, 25),
        x_ub=(906.3855, 288.88, 134.75, 287.0966, 84.1988),
        x0=(900, 80, 115, 267, 27),
        optimum=-1.90515526,
        solution=(705.1745, 68.6, 102.9, 282.3249, 37.58412),
        note="the optimum of CEC 2006, g16; the book prints -1.90513375",
    ),
    define(
        "HS86",
        lambda x: COLVILLE_E @ x + x @ COLVILLE_C @ x + COLVILLE_D @ x**3,
        inequality=lambda x: COLVILLE_A @ x - COLVILLE_B,
        x_lb=0,
        x0=(0, 0, 0, 0, 1),
        optimum=-32.34867897,
        of_components=False,
    ),
]
