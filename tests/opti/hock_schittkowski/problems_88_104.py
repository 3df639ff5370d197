"""Problems 88 to 104 of the Hock-Schittkowski collection; the package gives the source.

The collection has no problem 94.
"""

import jax.numpy as jnp
import numpy as np

from tests.opti.hock_schittkowski.problem import Problem, define

INF = np.inf


def _hs88_frequencies() -> np.ndarray:
    """The first 30 positive roots of mu tan(mu) = 1, by the fixed point of its arc tangent."""
    mu = np.ones(30)
    for _ in range(100):
        mu = np.pi * np.arange(30) + np.arctan(1 / mu)
    return mu


_MU = _hs88_frequencies()
_HS88_A = 2 * np.sin(_MU) / (_MU + np.sin(_MU) * np.cos(_MU))
_HS88_LINEAR = 2 * np.sin(_MU) / _MU**3 - 2 * np.cos(_MU) / _MU**2
_SUM, _DIFFERENCE = _MU[:, None] + _MU, _MU[:, None] - _MU
_HS88_QUADRATIC = np.sin(_SUM) / _SUM + np.sinc(_DIFFERENCE / np.pi)


def _heat_source(number: int) -> Problem:
    """Problems 88 to 92: the switching times of a heat source, n = 2, ..., 6."""
    n = number - 86
    tail = np.triu(np.ones((n, n)))
    sign = np.array([1.0, *(2 * (-1) ** i for i in range(1, n))])

    def error(x):
        decay = jnp.exp(-(tail @ x**2)[:, None] * _MU**2)
        weights = -_HS88_A * (sign @ decay + (-1) ** n)
        return weights @ _HS88_QUADRATIC @ weights / 2 - weights @ _HS88_LINEAR + 2 / 15

    return define(
        f"HS{number}",
        residuals=lambda x: x,
        inequality=lambda x: jnp.stack([1e-4 - error(x)]),
        x0=[0.5 * (-1) ** i for i in range(n)],
        optimum=1.36265681,
        note="(1.0743, -0.4566, 0, ...) up to signs; at x = 0, infeasible, g's gradient is zero",
        of_components=False,
    )


def _hs93_volumes(x1, x2, x3, x4):
    """The products that the objective and the second constraint of problem 93 share."""
    return x1 * x4 * (x1 + x2 + x3), x2 * x3 * (x1 + 1.57 * x2 + x4)


def _hs93(x1, x2, x3, x4, x5, x6):
    core, winding = _hs93_volumes(x1, x2, x3, x4)
    return 0.0204 * core + 0.0187 * winding + 0.0607 * core * x5**2 + 0.0437 * winding * x6**2


def _hs93_constraints(x1, x2, x3, x4, x5, x6):
    core, winding = _hs93_volumes(x1, x2, x3, x4)
    return (
        1e-3 * x1 * x2 * x3 * x4 * x5 * x6 - 2.07,
        1 - 6.2e-4 * core * x5**2 - 5.8e-4 * winding * x6**2,
    )


def _hs95_family(name: str, limits: tuple[float, ...], **answer) -> Problem:
    """Problems 95 to 98, with the lower limits of their four constraints."""

    def constraints(x1, x2, x3, x4, x5, x6):
        return (
            17.1 * x1 + 38.2 * x2 + 204.2 * x3 + 212.3 * x4 + 623.4 * x5 + 1495.5 * x6
            - 169 * x1 * x3 - 3580 * x3 * x5 - 3810 * x4 * x5 - 18500 * x4 * x6
            - 24300 * x5 * x6,
            17.9 * x1 + 36.8 * x2 + 113.9 * x3 + 169.7 * x4 + 337.8 * x5 + 1385.2 * x6
            - 139 * x1 * x3 - 2450 * x4 * x5 - 16600 * x4 * x6 - 17200 * x5 * x6,
            -273 * x2 - 70 * x4 - 819 * x5 + 26000 * x4 * x5,
            159.9 * x1 - 311 * x2 + 587 * x4 + 391 * x5 + 2198 * x6 - 14000 * x1 * x6,
        )  # fmt: skip

    return define(
        name,
        lambda x1, x2, x3, x4, x5, x6: (
            4.3 * x1 + 31.8 * x2 + 63.3 * x3 + 15.8 * x4 + 68.5 * x5 + 4.7 * x6
        ),
        inequality=constraints,
        g_lb=limits,
        x_lb=0,
        x_ub=(0.31, 0.046, 0.068, 0.042, 0.028, 0.0134),
        x0=(0, 0, 0, 0, 0, 0),
        **answer,
    )


def _hs99_flight(x) -> tuple:
    """Range, height and vertical speed of a rocket after seven stages at the angles x."""
    distance, height, speed = 0.0, 0.0, 0.0
    thrusts = (50, 50, 75, 75, 75, 100, 100)
    durations = (25, 25, 50, 50, 50, 90, 90)
    for angle, thrust, duration in zip(x, thrusts, durations, strict=True):
        acceleration = thrust * jnp.sin(angle) - 32
        distance = distance + thrust * duration * jnp.cos(angle)
        height = height + duration * speed + 0.5 * duration**2 * acceleration
        speed = speed + duration * acceleration
    return distance, height, speed


def _hs101_family(name: str, a: float, x7_lb: float, optimum: float) -> Problem:
    """Problems 101 to 103: a geometric programme with the exponent a."""

    def cost(x1, x2, x3, x4, x5, x6, x7):
        return (
            10 * x1 * x4**2 * x7**a / (x2 * x6**3)
            + 15 * x3 * x4 / (x1 * x2**2 * x5 * jnp.sqrt(x7))
            + 20 * x2 * x6 / (x1**2 * x4 * x5**2)
            + 25 * x1**2 * x2**2 * jnp.sqrt(x5) * x7 / (x3 * x6**2)
        )

    def constraints(x1, x2, x3, x4, x5, x6, x7):
        return (
            1
            - 0.5 * jnp.sqrt(x1) * x7 / (x3 * x6**2)
            - 0.7 * x1**3 * x2 * x6 * jnp.sqrt(x7) / x3**2
            - 0.2 * x3 * x6 ** (2 / 3) * x7**0.25 / (x2 * jnp.sqrt(x4)),
            1
            - 1.3 * x2 * x6 / (jnp.sqrt(x1) * x3 * x5)
            - 0.8 * x3 * x6**2 / (x4 * x5)
            - 3.1 * jnp.sqrt(x2) * x6 ** (1 / 3) / (x1 * x4**2 * x5),
            1
            - 2 * x1 * x5 * x7 ** (1 / 3) / (x3**1.5 * x6)
            - 0.1 * x2 * x5 / (jnp.sqrt(x3) * x6 * jnp.sqrt(x7))
            - x2 * jnp.sqrt(x3) * x5 / x1
            - 0.65 * x3 * x5 * x7 / (x2**2 * x6),
            1
            - 0.2 * x2 * jnp.sqrt(x5) * x7 ** (1 / 3) / (x1**2 * x4)
            - 0.3 * jnp.sqrt(x1) * x2**2 * x3 * x4 ** (1 / 3) * x7**0.25 / x5 ** (2 / 3)
            - 0.4 * x3 * x5 * x7**0.75 / (x1**3 * x2**2)
            - 0.5 * x4 * jnp.sqrt(x7) / x3**2,
            cost(x1, x2, x3, x4, x5, x6, x7),
        )

    return define(
        name,
        cost,
        inequality=constraints,
        g_lb=(0, 0, 0, 0, 100),
        g_ub=(INF, INF, INF, INF, 3000),
        x_lb=(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, x7_lb),
        x_ub=10,
        x0=(6, 6, 6, 6, 6, 6, 6),
        optimum=optimum,
    )


def _hs104(x1, x2, x3, x4, x5, x6, x7, x8):
    return 0.4 * (x1 / x7) ** 0.67 + 0.4 * (x2 / x8) ** 0.67 + 10 - x1 - x2


def _hs104_constraints(x1, x2, x3, x4, x5, x6, x7, x8):
    return (
        1 - 0.0588 * x5 * x7 - 0.1 * x1,
        1 - 0.0588 * x6 * x8 - 0.1 * x1 - 0.1 * x2,
        1 - 4 * x3 / x5 - 2 / (x3**0.71 * x5) - 0.0588 * x7 / x3**1.3,
        1 - 4 * x4 / x6 - 2 / (x4**0.71 * x6) - 0.0588 * x8 / x4**1.3,
        _hs104(x1, x2, x3, x4, x5, x6, x7, x8),
    )


PROBLEMS: list[Problem] = [
    *[_heat_source(number) for number in range(88, 93)],
    define(
        "HS93",
        _hs93,
        inequality=_hs93_constraints,
        x_lb=0,
        x0=(5.54, 4.4, 12.02, 11.82, 0.702, 0.852),
        optimum=135.075961,
        solution=(5.332666, 4.656744, 10.43299, 12.08230, 0.7526074, 0.87865084),
        note="transformer design",
    ),
    _hs95_family("HS95", (4.97, -1.88, -29.08, -78.02), optimum=0.015619514),
    _hs95_family("HS96", (4.97, -1.88, -69.08, -118.02), optimum=0.015619514),
    _hs95_family(
        "HS97", (32.97, 25.12, -29.08, -78.02), optimum=3.1358091, other_kkt=(4.07124071,)
    ),
    _hs95_family(
        "HS98", (32.97, 25.12, -124.08, -173.02), optimum=3.1358091, other_kkt=(4.07124071,)
    ),
    define(
        "HS99",
        lambda x: -(_hs99_flight(x)[0] ** 2),
        equality=lambda x: jnp.stack([_hs99_flight(x)[1] - 1e5, _hs99_flight(x)[2] - 1e3]),
        x_lb=0,
        x_ub=1.58,
        x0=np.full(7, 0.5),
        optimum=-831079892.0,
        solution=(0.5424603, 0.5290159, 0.5084506, 0.4802693, 0.4512352, 0.4091878, 0.3527847),
        note="the objective is of the order 1e9",
        of_components=False,
    ),
    define(
        "HS100",
        lambda x1, x2, x3, x4, x5, x6, x7: (
            (x1 - 10) ** 2
            + 5 * (x2 - 12) ** 2
            + x3**4
            + 3 * (x4 - 11) ** 2
            + 10 * x5**6
            + 7 * x6**2
            + x7**4
            - 4 * x6 * x7
            - 10 * x6
            - 8 * x7
        ),
        inequality=lambda x1, x2, x3, x4, x5, x6, x7: (
            127 - 2 * x1**2 - 3 * x2**4 - x3 - 4 * x4**2 - 5 * x5,
            282 - 7 * x1 - 3 * x2 - 10 * x3**2 - x4 + x5,
            196 - 23 * x1 - x2**2 - 6 * x6**2 + 8 * x7,
            -4 * x1**2 - x2**2 + 3 * x1 * x2 - 2 * x3**2 - 5 * x6 + 11 * x7,
        ),
        x0=(1, 2, 0, 4, 0, 1, 1),
        optimum=680.6300573,
        solution=(2.330499, 1.951372, -0.4775414, 4.365726, -0.6244870, 1.038131, 1.594227),
    ),
    _hs101_family("HS101", -0.25, 0.01, 1809.76476),
    _hs101_family("HS102", 0.125, 0.01, 911.880571),
    _hs101_family("HS103", 0.5, 0.01, 543.667958),
    define(
        "HS104",
        _hs104,
        inequality=_hs104_constraints,
        g_lb=(0, 0, 0, 0, 1),
        g_ub=(INF, INF, INF, INF, 4.2),
        x_lb=0.1,
        x_ub=10,
        x0=(6, 3, 0.4, 0.2, 6, 6, 1, 0.5),
        optimum=3.9511634396,
    ),
]
