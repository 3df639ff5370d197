"""A quadrotor step: exported as C++, called from Python, compared with JAX.

Run it with ``python examples/quadrotor.py [directory for the C++ files]``.
"""

import sys
import tempfile
import timeit

import jax
import jax.numpy as jnp
import numpy as np

import anvil_jax as av

MASS, ARM, DRAG, GRAVITY = 0.8, 0.17, 0.016, 9.81
INERTIA = np.array([4.5e-3, 5.0e-3, 8.9e-3])


def derivative(x, thrust):
    """Rigid body with four rotors; x: position, velocity, quaternion (w, x, y, z), body rates."""
    velocity, (w, i, j, k), (p, q, r) = x[3:6], x[6:10], x[10:13]
    axis = 2 * jnp.stack([i * k + w * j, j * k - w * i, 0.5 - i * i - j * j])
    acceleration = axis * jnp.sum(thrust) / MASS - jnp.array([0, 0, GRAVITY])
    vector = [w * p + j * r - k * q, w * q - i * r + k * p, w * r + i * q - j * p]
    spin = jnp.stack([-i * p - j * q - k * r, *vector]) / 2
    a, b, c, d = thrust
    torque = jnp.stack([ARM * (b - d), ARM * (c - a), DRAG * (a - b + c - d)])
    angular = (torque - jnp.cross(x[10:13], INERTIA * x[10:13])) / INERTIA
    return jnp.concatenate([velocity, acceleration, spin, angular])


def step(x, thrust, h=0.02):
    """One step of the classical Runge-Kutta method; the quaternion keeps its length."""
    k1 = derivative(x, thrust)
    k2 = derivative(x + h / 2 * k1, thrust)
    k3 = derivative(x + h / 2 * k2, thrust)
    k4 = derivative(x + h * k3, thrust)
    x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x.at[6:10].divide(jnp.linalg.norm(x[6:10]))


def microseconds(call):
    """Best time of one call from Python."""
    return min(timeit.repeat(call, number=2000, repeat=7)) / 2000 * 1e6


if __name__ == "__main__":
    native = av.NumericalFunction("step", step, (av.Arg(13), av.Arg(4)))
    path = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="quadrotor-")
    files = av.export(native, module="quadrotor", path=path, self_test=True)
    print(f"exported   {', '.join(file.name for file in files)} to {path}")
    rng = np.random.default_rng(0)
    x, thrust = rng.normal(size=13), rng.uniform(1, 3, size=4)
    with jax.enable_x64(True):
        jitted = jax.jit(step)
        error = np.max(np.abs(native(x, thrust) / np.asarray(jitted(x, thrust)) - 1))
        print(f"agreement  {error:.1e} maximum relative difference from JAX")
        print(f"native     {microseconds(lambda: native(x, thrust)):.2f} us per call")
        print(f"jax.jit    {microseconds(lambda: jitted(x, thrust)):.2f} us per call")
