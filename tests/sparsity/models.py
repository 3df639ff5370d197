"""Models as users write them: partial differential equations, optimal control, least squares."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_rng = np.random.default_rng(7)


# ------------------------------------------------------------------ partial differential equations


def heat_1d(u):
    u = jnp.pad(u, 1)
    return u[2:] - 2 * u[1:-1] + u[:-2]


def heat_2d(u):
    p = jnp.pad(u, 1)
    return p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u


def heat_3d(u):
    result = -6.0 * u
    for axis in range(3):
        for shift in (-1, 1):
            result = result + jnp.roll(u, shift, axis)
    return result


def _periodic_laplacian(z):
    return sum(jnp.roll(z, s, a) for s in (-1, 1) for a in (0, 1)) - 4 * z


def brusselator(w):
    u, v = w
    du, dv = 0.1 * _periodic_laplacian(u), 0.1 * _periodic_laplacian(v)
    return jnp.stack([1 + u**2 * v - 4.4 * u + du, 3.4 * u - u**2 * v + dv])


def reaction_diffusion(u):
    return jnp.roll(u, 1) - 2 * u + jnp.roll(u, -1) + u * (1 - u)


def burgers_upwind(u):
    left, right = jnp.roll(u, 1), jnp.roll(u, -1)
    return -u * jnp.where(u > 0, u - left, right - u)


def variable_coefficient(u):
    c = np.linspace(1.0, 2.0, u.size + 1)
    flux = c[1:-1] * (u[1:] - u[:-1])
    return jnp.concatenate([flux, jnp.zeros(1)]) - jnp.concatenate([jnp.zeros(1), flux])


def lotka_lattice(w):
    x, y = w.reshape(2, -1)
    return jnp.concatenate([x * (1.1 - 0.4 * y), y * (0.1 * x - 0.4)])


def bratu(u):
    return heat_2d(u) + jnp.exp(u)


def wave_symplectic(w):
    q, p = w[: w.size // 2], w[w.size // 2 :]
    p = p + 0.1 * heat_1d(q)
    return jnp.concatenate([q + 0.1 * p, p])


# ------------------------------------------------------------------------------- optimal control

_MASS, _ARM, _DRAG, _GRAVITY = 0.8, 0.17, 0.016, 9.81
_INERTIA = np.array([4.5e-3, 5.0e-3, 8.9e-3])


def quadrotor(x, thrust):
    """Rigid body with four rotors: position, velocity, quaternion, body rates."""
    velocity, (w, i, j, k), (p, q, r) = x[3:6], x[6:10], x[10:13]
    axis = 2 * jnp.stack([i * k + w * j, j * k - w * i, 0.5 - i * i - j * j])
    acceleration = axis * jnp.sum(thrust) / _MASS - jnp.array([0, 0, _GRAVITY])
    vector = [w * p + j * r - k * q, w * q - i * r + k * p, w * r + i * q - j * p]
    spin = jnp.stack([-i * p - j * q - k * r, *vector]) / 2
    a, b, c, d = thrust
    torque = jnp.stack([_ARM * (b - d), _ARM * (c - a), _DRAG * (a - b + c - d)])
    angular = (torque - jnp.cross(x[10:13], _INERTIA * x[10:13])) / _INERTIA
    return jnp.concatenate([velocity, acceleration, spin, angular])


def rk4(f, x, u, h=0.02):
    k1 = f(x, u)
    k2 = f(x + h / 2 * k1, u)
    k3 = f(x + h / 2 * k2, u)
    k4 = f(x + h * k3, u)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def cart_pole(x, u):
    _, angle, speed, rate = x
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    below = 1.0 + 0.1 * sin**2
    force = u[0]
    return jnp.stack(
        [
            speed,
            rate,
            (force + 0.1 * sin * (0.5 * rate**2 + 9.81 * cos)) / below,
            (-force * cos - 0.05 * rate**2 * cos * sin - 10.791 * sin) / (0.5 * below),
        ]
    )


def shooting(f, nx, nu, stages, z):
    xs = z[: (stages + 1) * nx].reshape(stages + 1, nx)
    us = z[(stages + 1) * nx :].reshape(stages, nu)
    return (jax.vmap(partial(rk4, f))(xs[:-1], us) - xs[1:]).reshape(-1)


def shooting_scan(f, nx, nu, stages, z):
    xs = z[: (stages + 1) * nx].reshape(stages + 1, nx)
    us = z[(stages + 1) * nx :].reshape(stages, nu)

    def body(_, inputs):
        x, u, following = inputs
        return None, rk4(f, x, u) - following

    return lax.scan(body, None, (xs[:-1], us, xs[1:]))[1]


quadrotor_shooting = partial(shooting, quadrotor, 13, 4, 2)
quadrotor_scan = partial(shooting_scan, quadrotor, 13, 4, 2)
cart_pole_shooting = partial(shooting, cart_pole, 4, 1, 8)


def cart_pole_lagrangian(z):
    multipliers = jnp.arange(1.0, 33.0)
    return 0.5 * jnp.sum(z**2) + multipliers @ cart_pole_shooting(z)


def hermite_simpson(z):
    xs, us = z[:36].reshape(9, 4), z[36:].reshape(9, 1)
    f = jax.vmap(cart_pole)(xs, us)
    middle = 0.5 * (xs[1:] + xs[:-1]) + 0.0125 * (f[:-1] - f[1:])
    at_middle = jax.vmap(cart_pole)(middle, 0.5 * (us[1:] + us[:-1]))
    return (xs[1:] - xs[:-1] - 0.1 / 6 * (f[:-1] + 4 * at_middle + f[1:])).reshape(-1)


def single_shooting(us):
    def body(x, u):
        x = rk4(cart_pole, x, u[None], 0.1)
        return x, x

    return lax.scan(body, jnp.array([0.0, 0.1, 0.2, 0.3]), us)[1]


def soft_constraints(z):
    x, slack = z[:10], z[10:]
    return jnp.concatenate([x**2 - slack, slack])


# ---------------------------------------------------------------------------- optimisation tests


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def broyden_banded(x):
    n = x.size
    padded = jnp.pad(x, (5, 1))
    windows = jnp.stack([padded[k : k + n] for k in (0, 1, 2, 3, 4, 6)])
    return x * (2 + 5 * x**2) + 1 - jnp.sum(windows * (1 + windows), 0)


def arrow_head(x):
    return jnp.concatenate([jnp.sum(x)[None], x[1:] * x[0] + x[1:] ** 2])


def minimal_surface(z):
    return jnp.sum(jnp.sqrt(1 + (z[1:, 1:] - z[:-1, :-1]) ** 2 + (z[1:, :-1] - z[:-1, 1:]) ** 2))


_EDGES = _rng.integers(0, 30, (2, 50))


def graph_energy(x):
    return jnp.sum((x[_EDGES[0]] - x[_EDGES[1]]) ** 4)


def springs(x):
    x = x.reshape(-1, 2)
    a, b = np.arange(9), np.arange(1, 10)
    d = x[b] - x[a]
    length = jnp.sqrt(1 + jnp.sum(d**2, axis=1, keepdims=True))
    force = d * (1 - 1 / length)
    return jnp.zeros_like(x).at[a].add(force).at[b].add(-force).reshape(-1)
